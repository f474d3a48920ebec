from __future__ import annotations

from pathlib import Path

import yaml

from pathasst.instruct.measure import user_templates
from pathasst.instruct.wordings import Template, Wordings
from pathasst.tools.registry import CLASSES, tool_class

FRESH = yaml.safe_load((Path(__file__).parents[2] / "benchmarks" / "instruct_fresh.yaml").read_text())


def test_the_fresh_requests_are_no_wording_of_ours_and_their_arguments_fit() -> None:
    templates = [Template(t) for part in ("train", "test") for t in user_templates(Wordings(), part)]
    ours = {e.lower().rstrip(".?!") for t in templates for e in t.expansions()}
    assert len({text for text, _, _ in FRESH}) == len(FRESH) == 96
    for text, tool, arguments in FRESH:
        assert text.lower().rstrip(".?!") not in ours
        if tool:
            known = {"query": "tumour"} if tool == "papers_search" else {}
            tool_class(tool).arguments.model_validate({**known, **arguments})
    assert {tool for _, tool, _ in FRESH} == {*CLASSES, ""}
