"""What the floor of relevance costs: PubMedQA's expert questions over real abstracts without titles, by `search` and by `find`.

    PATHASST_DATA=… python benchmarks/papers_floor.py [--out FOLDER] [--json FILE]

Words alone, so the index is made in a minute. `search` gives nearest neighbours of anything; `find` is what the command, the page
and the API give a person. Printed: R@1 and R@10 with 95 % intervals (Wilson), and how many questions come back with nothing.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from measured import command_line, save
from papers_quality import load

from pathasst.core import weights
from pathasst.core.statistics import wilson
from pathasst.papers import BuildSettings, PaperIndex, build, versions


def main() -> None:
    """Build, ask both ways, print."""
    options = command_line(__doc__)
    options.add_argument("--out", type=Path, default=weights.cache_dir() / "papers" / "floor")
    chosen = options.parse_args()
    rows, questions = load(Path(os.environ["PATHASST_DATA"]))
    home, source = chosen.out / "index", chosen.out / "no_titles.jsonl"
    if not versions.exists(home):
        chosen.out.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps({"pmid": r["pmid"], "abstract": r["abstract"]}) for r in rows)
        source.write_text("\n".join(lines) + "\n", encoding="utf-8")
        build([source], home, BuildSettings(make_vectors=False))
    index = PaperIndex.open(home)
    print(index.describe(), "· titles left out")
    ways = {"search": lambda q: index.search(q, 10, "words"), "find": lambda q: index.find(q, 10, "words").hits}
    result: dict[str, dict[str, object]] = {}
    for name, way in ways.items():
        started = time.perf_counter()
        places = [[hit.pmid for hit in way(q["question"])] for q in questions.values()]
        n = len(places)
        first = sum(ids[:1] == [pmid] for ids, pmid in zip(places, questions, strict=True))
        among = sum(pmid in ids for ids, pmid in zip(places, questions, strict=True))
        result[name] = {
            "n": n,
            "R@1": [first / n, *wilson(first, n)],
            "R@10": [among / n, *wilson(among, n)],
            "nothing": sum(not ids for ids in places),
            "ms": 1000 * (time.perf_counter() - started) / n,
        }
        print(name, result[name])
    save(chosen.json, result)


if __name__ == "__main__":
    main()
