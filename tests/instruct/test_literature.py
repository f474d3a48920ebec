from __future__ import annotations

import gzip
import json
import lzma
import re
from pathlib import Path
from random import Random

import pytest

from pathasst.core.errors import BadSettings
from pathasst.core.records import Hit
from pathasst.instruct.literature import Literature, query_of, result_text
from pathasst.instruct.wordings import Wordings

LINE = re.compile(r"\[PMID \d+\] .+ \(\d{4}\)\. .+")


ABSTRACT = (
    "BACKGROUND: Little is known. METHODS: We treated many. CONCLUSIONS: Treatment with compound{} improved the overall survival."
)


def rows(count: int) -> list[dict[str, str]]:
    return [
        {
            "pmid": str(10_000_000 + n),
            "title": f"Treatment of disease{n} with compound{n} in adults" + ("?" if n % 2 else "."),
            "abstract": ABSTRACT.format(n),
        }
        for n in range(count)
    ]


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".jsonl.xz"])
def test_real_abstracts_are_read_and_none_is_in_two_splits(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"abstracts{ending}"
    text = "\n".join(json.dumps(r) for r in rows(900))
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "wt") as file:
        file.write(text)
    literature = Literature(Wordings(), str(path))
    pmids = {s: {r["pmid"] for r in literature.real[s]} for s in literature.real}
    assert sum(map(len, pmids.values())) == 900
    assert all(pmids.values())
    cases = [literature.draw(Random(n), "train") for n in range(300)]
    real = [c for c in cases if "compound" in c.query]
    assert len(real) > 150
    for case in real:
        assert {h.pmid for h in case.hits} <= pmids["train"]
        assert case.finding in case.hits[0].passage
        assert bool(case.question) != bool(case.topic) or case.question.endswith("?")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_invented_case_holds_together(split: str) -> None:
    literature = Literature(Wordings())
    for n in range(200):
        case = literature.draw(Random(n), split)
        assert case.finding in case.hits[0].passage
        assert bool(case.question) != bool(case.topic)
        said = {w.lower() for w in re.findall(r"[\w+\-'/]+", case.question or case.topic)}
        assert case.query
        assert {w.lower() for w in case.query.split()} <= said
        assert len({h.pmid for h in case.hits}) == len(case.hits)


def test_test_diseases_are_not_in_train() -> None:
    node = Wordings().load("literature")
    for name in ("disease", "marker", "treatment", "outcome"):
        assert not set(node[name]["train"]) & set(node[name]["test"])


def test_the_result_has_one_line_a_hit_and_says_when_there_is_none() -> None:
    hits = [Hit(pmid=str(n), title=f"Title {n}", passage="Words.", year=2001) for n in (1, 2)]
    lines = result_text(hits, "x").splitlines()
    assert len(lines) == 2
    assert all(LINE.fullmatch(line) for line in lines)
    assert "liver" in result_text([], "liver")


@pytest.mark.parametrize(
    ("question", "query"),
    [
        ("Does Ki67 predict survival in breast cancer?", "Ki67 predict survival breast cancer"),
        ("the role of PD-L1 in the lung", "PD-L1 lung"),
        ("cancer and cancer", "cancer"),
    ],
)
def test_query_of(question: str, query: str) -> None:
    assert query_of(question) == query


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("not json\n")
    with pytest.raises(BadSettings, match=r"x\.jsonl"):
        Literature(Wordings(), str(path))
