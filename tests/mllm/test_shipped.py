"""The shipped model: it loads, looks, and calls tools. How well it does so is measured in its card, not here."""

from __future__ import annotations

import io

import pytest

from pathasst.core import weights
from pathasst.core.records import Turn
from pathasst.mllm import PathAsstModel
from pathasst.tools.registry import all_specs

from .conftest import BLANK, picture

NEEDED = ("pathasst-embedded", "pathclip-embedded", "smollm2-135m")
pytestmark = pytest.mark.skipif(not all(map(weights.present, NEEDED)), reason="pathasst models pull smollm2-135m")


@pytest.fixture(scope="module")
def assistant() -> PathAsstModel:
    return PathAsstModel.load("pathasst-embedded")


@pytest.fixture(scope="module")
def slide() -> bytes:
    import skimage.data
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(skimage.data.immunohistochemistry()).save(out, "PNG")
    return out.getvalue()


def test_the_answer_changes_with_the_picture(assistant, slide):
    ask = [Turn(role="user", content="<image>\nWhat does this picture show?")]
    seen, blind = (assistant.reply(ask, [p], max_new_tokens=30).content for p in (slide, picture(BLANK)))
    assert seen
    assert seen != blind


def test_the_demos_questions_choose_tools(assistant, slide):
    asked = {
        "What fraction of the nuclei is Ki67 positive?": "ki67_cells",
        "What does the literature say about Ki-67 expression and prognosis in cancer?": "papers_search",
    }
    specs = [s for s in all_specs() if s.name in ("ki67_cells", "segment", "papers_search")]
    for question, name in asked.items():
        turn = assistant.reply([Turn(role="user", content=f"<image>\n{question}")], [slide], specs, max_new_tokens=60)
        assert [c.name for c in turn.tool_calls] == [name]
