"""What the shipped router decides on a request: calls, or none and why."""

from __future__ import annotations

import pytest

from pathasst.core import weights
from pathasst.core.records import ToolCall, Turn
from pathasst.router import Reason, Route, Router
from pathasst.tools.registry import all_specs

pytestmark = pytest.mark.skipif(not weights.present("e5-small"), reason="e5-small is not fetched (make models)")


@pytest.fixture(scope="module")
def router() -> Router:
    return Router.load("router-embedded")


def test_calls_come_with_their_arguments(router: Router) -> None:
    route = router.route("Ki67 index at 0.25 um per pixel, and score HER2, please.", all_specs())
    assert route.reason is Reason.CALLS
    assert {c.name: c.arguments for c in route.calls} == {"ki67_cells": {"um_per_px": 0.25}, "her2_cells": {"um_per_px": 0.25}}
    assert set(route.tools) == {"ki67_cells", "her2_cells"} and 0.5 <= route.confidence <= 1


def test_without_a_picture_the_tool_is_named_and_not_called(router: Router) -> None:
    route = router.route("Give me the Ki67 percentage.", all_specs(), pictures=0)
    assert (route.reason, route.calls, route.tools) == (Reason.NEEDS_PICTURE, (), ("ki67_cells",))
    assert router.route("Find papers on tumour budding.", all_specs(), pictures=0).reason is Reason.CALLS


def test_a_tool_that_is_not_on_offer_is_named_and_not_replaced(router: Router) -> None:
    others = [s for s in all_specs() if s.name != "ki67_cells"]
    route = router.route("Give me the Ki67 percentage.", others)
    assert (route.reason, route.calls, route.tools) == (Reason.NOT_OFFERED, (), ("ki67_cells",))


def test_once_more_takes_the_earlier_arguments(router: Router) -> None:
    call = ToolCall(name="ki67_cells", arguments={"um_per_px": 0.25, "min_score": 0.3})
    turns = [Turn(role="user", content="Ki67?"), Turn(role="assistant", tool_calls=[call])]
    route = router.route("Again with a minimum score of 0.8.", all_specs(), turns=turns)
    assert [(c.name, c.arguments) for c in route.calls] == [("ki67_cells", {"um_per_px": 0.25, "min_score": 0.8})]


def test_talk_gets_no_call(router: Router) -> None:
    route = router.route("Thank you!", all_specs())
    assert isinstance(route, Route) and not route.calls and not route.tools and route.confidence > 0.5
