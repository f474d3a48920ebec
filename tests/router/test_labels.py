"""What training data says about arguments: which are choices, which stand in the words, and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pathasst.core.records import ToolCall, Turn
from pathasst.router.examples import Examples
from pathasst.router.infer import spans_of
from pathasst.router.items import RequestItem, items_of
from pathasst.router.labels import choice_vector, learnable, located, tagged
from pathasst.router.settings import RouterConfig, RouterTraining

from .test_router import conversation


def item(text: str, tools: tuple[str, ...] = ("t",), arguments: Any = (), before: tuple[str, ...] = ()) -> RequestItem:
    return RequestItem(text, tools, "train", "single", text, before, arguments)


def test_arguments_come_with_their_call_unless_the_words_do_not_hold_them() -> None:
    call = ToolCall(name="t", arguments={"points": [[1, 2]], "on": True, "q": "x y"})
    turns = (Turn(role="user", content="Do."), Turn(role="assistant", tool_calls=[call]))
    (one,) = items_of([conversation("single", *turns)])
    assert one.arguments == (("t.points", ((1, 2),)), ("t.on", True), ("t.q", "x y"))
    (again,) = items_of([conversation("repeat", *turns)])
    (refused,) = items_of([conversation("not_offered", turns[0], Turn(role="assistant", content="No."), tool="t")])
    assert again.arguments is refused.arguments is None


def test_few_values_are_choices_and_many_are_looked_for() -> None:
    items = [
        item(f"q{n}", arguments=(("t.query", f"word {n}"), ("t.kind", "ab"[n % 2]), ("t.on", True), ("t.k", n)))
        for n in range(20)
    ]
    items += [item("p", arguments=(("t.point", (1, 2)), ("t.um_per_px", 0.5))), item("none", arguments=None)]
    assert learnable(items) == (("t.kind=a", "t.kind=b", "t.on=true"), ("t.k", "t.query"))
    assert choice_vector(items[1], ("t.kind=a", "t.kind=b", "t.on=true")).tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("value", "text", "spelled"),
    [
        ("Ki67 survival", "Does Ki67 alone or Ki67 with grade tell survival?", "Ki67 with grade tell survival"),
        ("HER2", "HER2-low, her2?", "HER2"),
        (3, "Ki67: three papers, 3 refs", "three"),
        (0.4, "threshold 0.4.", "0.4"),
        ("absent", "nothing here", None),
        (5, "Ki67 5+", None),
    ],
)
def test_where_a_value_stands(value: Any, text: str, spelled: str | None) -> None:
    where = located(value, text)
    assert (text[slice(*where)] if where else None) == spelled


def test_tags_lie_on_the_tokens_of_a_value_and_are_read_back() -> None:
    one = item("Papers on cell death", arguments=(("t.query", "cell death"),))
    places = [(0, 0), (0, 4), (4, 6), (7, 9), (10, 14), (15, 20), (0, 0)]
    tags = tagged(one, ("t.k", "t.query"), places)
    assert tags[:, 1].tolist() == [False, False, False, False, True, True, False]
    assert not tags[:, 0].any()
    assert spans_of(tags[:, 1], places, one.text) == [(10, 20)]
    assert spans_of(np.array([0, 0, 0.9, 0, 0, 0, 0]), places, one.text) == [(0, 6)]  # whole words
    far = [(n, n + 1) for n in range(0, 20, 2)]
    assert spans_of(np.array([1, 0, 0, 1, 0, 0, 0, 0, 1, 1]), far, "a b c d e f g h i j") == [(0, 7), (16, 19)]


class Stub:
    """States of texts: one token a character, its code in every value."""

    def of(self, text: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
        places = [(0, 0), *((n, n + 1) for n in range(len(text))), (0, 0)]
        return np.array([[ord(c)] for c in f"[{text}]"], np.float16), places


def test_two_requests_are_joined_with_all_that_belongs_to_them() -> None:
    items = [item("a b", ("t",), (("t.q", "b"),)), item("c d", ("u",), None)]
    config = RouterConfig(classes=("t", "u"), spans=("t.q",), choices=("t.on=true",))
    settings = RouterTraining(joined=0.99, later=0.0, word_dropout=0.0, batch=2)
    examples = Examples(items, Stub(), config, settings)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    varied = [examples.varied(0, rng) for _ in range(40)]
    by_text = {"".join(chr(int(c)) for c in e.tokens[:, 0]): e for e in varied}
    assert set(by_text) >= {"[a ba b]", "[a bc d]"}
    both = by_text["[a bc d]"]
    assert (both.tools.tolist(), both.has_arguments) == ([1, 1], False)
    assert by_text["[a ba b]"].tags[:, 0].tolist() == [c == "b" for c in "[a ba b]"]
    assert len(both.tags) == len(both.tokens)
