from __future__ import annotations

import pytest

from pathasst.wsi.plans import TilePlan


@pytest.mark.parametrize("um_per_px", [0.25, 0.2500000001, 0.249, 0.2545, 0.5])
def test_the_same_tiles_at_another_scale_are_never_larger_for_the_network(um_per_px: float) -> None:
    plan = TilePlan(0.25, 1024, 96).near(um_per_px)
    brought_back = plan.size * plan.um_per_px / 0.25
    assert brought_back <= 1024.001 and brought_back > 1021
    assert plan.um_per_px == um_per_px
