"""What a small model says about results stands only where the results say it too."""

from __future__ import annotations

import pytest

from pathasst.assistant.brains.result_check import QUOTED_CHARACTERS, grounded
from pathasst.core.records import NOTICE, ToolCall, Turn

COUNTED = "130 tumour cells: 3 Ki67-positive, 127 negative; Ki67 index 2.3 %."
FOUND = "[PMID 11] Ki67 in prostate cancer (2020). High expression went with relapse.\n[PMID 22] Other title (2021). Other words."


def after(*results: tuple[str, str]) -> list[Turn]:
    return [
        Turn(role="user", content="What did 99 people ask before?"),
        Turn(role="tool", tool="ki67_cells", content="An index of 50 % for the question before."),
        Turn(role="user", content="What fraction is Ki67 positive?"),
        Turn(role="assistant", tool_calls=[ToolCall(name=name) for name, _ in results]),
        *(Turn(role="tool", tool=name, content=text, warnings=["odd stain."], notice=NOTICE) for name, text in results),
    ]


@pytest.mark.parametrize(
    "said",
    [
        "The Ki67 index is 2.3 %: 3 of 130 cells are positive.",
        "2.3 %",
        "The fraction of positive tumour cells is 2.3 %.",
    ],
)
def test_what_the_results_say_stands(said: str) -> None:
    assert grounded(said, after(("ki67_cells", COUNTED))) == said


@pytest.mark.parametrize(
    "said",
    [
        "The index is 3.2 %.",  # a digit changed
        "The index is 50 %.",  # of an older result
        "The index is 2.3 % of the yellow.",  # a new word
        "The tumour is malignant and aggressive, 2.3 %.",  # new findings
        "",
    ],
)
def test_what_strays_is_replaced_by_the_tools_own_words(said: str) -> None:
    shown = grounded(said, after(("ki67_cells", COUNTED)))
    assert shown.startswith("ki67_cells: 130 tumour cells: 3 Ki67-positive")
    assert shown.endswith("2.3 %. Warning: odd stain.")  # what the tool doubts is said, the notice stands below every answer
    assert "50" not in shown


def test_an_answer_from_the_literature_names_an_abstract() -> None:
    turns = after(("papers_search", FOUND))
    assert grounded("High expression went with relapse [PMID 11].", turns) == "High expression went with relapse [PMID 11]."
    for said in ("High expression went with relapse.", "High expression went with relapse [PMID 33]."):
        assert grounded(said, turns).splitlines() == ["The nearest abstracts say:", *(f"- {line}" for line in FOUND.splitlines())]


def test_what_it_says_of_an_abstract_stands_in_that_abstract() -> None:
    turns = after(("papers_search", FOUND))
    kept = "Ki67 in prostate cancer: high expression went with relapse [PMID 11]."
    assert grounded(kept, turns) == kept
    for invented in (
        "Ki67 in cancer is relapse: expression was high in prostate [PMID 11].",  # their words, another order
        "High expression went with relapse. Other expression went with cancer [PMID 11].",  # of two abstracts
    ):
        assert grounded(invented, turns).startswith("The nearest abstracts say:")


def test_long_results_are_cut_and_several_quoted_one_by_one() -> None:
    shown = grounded("", after(("a", "word " * 400), ("b", "Short."))).splitlines()
    assert len(shown) == 2
    assert len(shown[0]) <= QUOTED_CHARACTERS + 5
    assert shown[1] == "b: Short. Warning: odd stain."


def test_without_results_the_words_stand() -> None:
    assert grounded("Hello 7.", [Turn(role="user", content="Hi")]) == "Hello 7."
