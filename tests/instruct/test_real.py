from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random

import pytest
from instruct_samples import article

from pathasst.core.errors import BadInput
from pathasst.instruct.check import faults, mentions_caption
from pathasst.instruct.converse import exchanges
from pathasst.instruct.describe import describe
from pathasst.instruct.lexicon import lexicon
from pathasst.instruct.literature import Literature
from pathasst.instruct.wordings import Wordings

WORDINGS = Wordings()


@pytest.mark.real
def test_real_captions_give_grounded_conversations(real_data: Path) -> None:
    with gzip.open(next((real_data / "captions").glob("*.gz")), "rt") as file:
        captions = [r["caption"] for r in map(json.loads, file) if r["pathology"]][:400]
    described = asked = 0
    for n, caption in enumerate(captions):
        pair = article(n, caption)
        try:
            answer = describe(pair, Random(n), WORDINGS).turns[1].content
        except BadInput:
            continue
        described += 1
        assert not mentions_caption(answer)
        assert answer[-1] in ".!?"
        for e in exchanges(pair, Random(n), WORDINGS, 4):
            asked += 1
            assert faults(e.answer, caption, lexicon(WORDINGS), allow=e.allow) == []
    assert described > 120
    assert asked > 150


@pytest.mark.real
def test_real_abstracts_hold_their_findings(real_data: Path) -> None:
    literature = Literature(WORDINGS, str(real_data / "abstracts" / "pubmed_abstracts.jsonl.xz"))
    assert len(literature.real["train"]) > 2000
    for n in range(300):
        case = literature.draw(Random(n), "test")
        assert case.finding in case.hits[0].passage
        assert len(case.query.split()) >= 2
