"""The learning rate over a training."""

import pytest

from pathasst.training.schedule import rate


@pytest.mark.parametrize(
    ("progress", "warmup", "hold", "factor"),
    [
        (0.0, 0.1, 0.0, 0.0),
        (0.05, 0.1, 0.0, 0.5),
        (0.1, 0.1, 0.0, 1.0),
        (0.55, 0.1, 0.0, 0.5),
        (1.0, 0.1, 0.0, 0.0),
        (1.3, 0.1, 0.0, 0.0),
        (0.4, 0.1, 0.5, 1.0),
        (0.75, 0.1, 0.5, 0.5),
        (0.0, 0.0, 0.0, 1.0),
    ],
)
def test_rate(progress: float, warmup: float, hold: float, factor: float) -> None:
    assert rate(progress, warmup, hold) == pytest.approx(factor)
