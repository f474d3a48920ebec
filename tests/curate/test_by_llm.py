from __future__ import annotations

from typing import Any

import pytest

from pathasst.core.errors import BadInput, OverBudget, Unreachable
from pathasst.curate.captions import by_llm

CAPTION = "Kidney. (A) Glomeruli. (B) Tubules."


class Scripted:
    """A language model that gives one answer."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.system = answer, ""

    def json(self, prompt, model, *, system=""):
        self.system = system
        if isinstance(self.answer, Exception):
            raise self.answer
        return model.model_validate(self.answer)


def panels(**texts: str) -> dict[str, Any]:
    return {"panels": [{"letter": k, "caption": v} for k, v in texts.items()]}


def test_a_verbatim_answer_is_used():
    parts, by = by_llm.split(Scripted(panels(A="Kidney. Glomeruli.", B="Kidney. Tubules.")), CAPTION)
    assert by == "llm"
    assert [p.text for p in parts] == ["Kidney. Glomeruli.", "Kidney. Tubules."]


@pytest.mark.parametrize(
    "answer",
    [
        panels(A="Kidney with necrosis.", B="Kidney. Tubules."),
        panels(A="Glomeruli Kidney"),
        {"panels": [{"letter": "A", "caption": "Kidney."}, {"letter": "A", "caption": "Tubules."}]},
        BadInput("no JSON came"),
    ],
)
def test_an_answer_that_adds_moves_or_fails_falls_back_to_the_grammar(answer):
    parts, by = by_llm.split(Scripted(answer), CAPTION)
    assert by.startswith("grammar")
    assert [p.letter for p in parts] == ["A", "B"]


@pytest.mark.parametrize("error", [Unreachable("no server"), OverBudget("1.00 spent")])
def test_a_server_that_is_gone_stops_the_run_instead_of_passing_for_the_grammar(error):
    with pytest.raises(type(error)):
        by_llm.split(Scripted(error), CAPTION)
    with pytest.raises(type(error)):
        by_llm.refine(Scripted(error), CAPTION)


def test_refinement_is_checked_too():
    caption = "Tumour cells, no necrosis (×400)."
    assert by_llm.refine(Scripted({"caption": "Tumour cells, no necrosis."}), caption)[1] == "llm"
    refined, by = by_llm.refine(Scripted({"caption": "Tumour cells with mitoses."}), caption)
    assert by.startswith("rule (new")
    assert refined.text == "Tumour cells, no necrosis."


def test_prompts_of_the_user_replace_the_packaged_ones(tmp_path):
    (tmp_path / "split.txt").write_text("Mine.")
    model = Scripted({"panels": []})
    by_llm.split(model, CAPTION, prompts=tmp_path)
    assert model.system == "Mine."
    by_llm.refine(model := Scripted({"caption": "Kidney."}), CAPTION, prompts=tmp_path)
    assert "Add nothing" in model.system
