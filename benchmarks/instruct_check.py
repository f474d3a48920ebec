"""How well the checker tells grounded sentences from others, on real captions ($PATHASST_DATA/captions). Seed 0.

    PATHASST_DATA=... python benchmarks/instruct_check.py [n]

Kept: sentences of the caption itself. Caught: sentences of another caption; own sentences with one number changed, with one
lexicon term swapped for a sibling, and with a symbol (such as CD31) added. Intervals: bootstrap over captions.
"""

from __future__ import annotations

import gzip
import json
import os
import re
from collections import defaultdict
from pathlib import Path
from random import Random

from measured import command_line, save

from pathasst.core.statistics import Interval
from pathasst.core.text import sentences
from pathasst.instruct.check import faults, mentions_caption, numbers
from pathasst.instruct.lexicon import KINDS, Lexicon, lexicon
from pathasst.instruct.wordings import Wordings


def main() -> None:
    """Print the table."""
    parser = command_line(__doc__)
    parser.add_argument("count", nargs="?", type=int, default=1500, help="captions")
    given = parser.parse_args()
    count, kept = given.count, {}
    words, rng = lexicon(Wordings()), Random(0)
    captions = real_captions(count)
    hits: dict[str, list[list[bool]]] = defaultdict(list)
    for n, caption in enumerate(captions):
        other = captions[(n + len(captions) // 2) % len(captions)]
        own = [s for s in sentences(caption) if not mentions_caption(s)]
        hits["own sentences kept"].append([not faults(s, caption, words) for s in own])
        foreign = [s for s in sentences(other) if len(s.split()) > 4]
        hits["foreign sentences caught"].append([bool(faults(s, caption, words)) for s in foreign])
        for name, change in (("changed number caught", number), ("swapped term caught", term), ("added symbol caught", symbol)):
            changed = [c for s in own if (c := change(s, caption, words, rng))]
            hits[name].append([bool(faults(c, caption, words)) for c in changed])
    print(f"{len(captions)} captions\n")
    print("| | share | sentences | 95 % interval |\n|---|---|---|---|")
    for name, groups in hits.items():
        flat = [h for g in groups for h in g]
        low, high = interval([g for g in groups if g])
        print(f"| {name} | {sum(flat) / len(flat):.3f} | {len(flat)} | {low:.3f}–{high:.3f} |")
        kept[name] = {"share": Interval(sum(flat) / len(flat), low, high), "sentences": len(flat)}
    save(given.json, {"captions": len(captions), **kept})


def real_captions(count: int) -> list[str]:
    """Captions of more than 12 words whose regex hint says pathology."""
    folder = Path(os.environ["PATHASST_DATA"]) / "captions"
    with gzip.open(next(folder.glob("*.gz")), "rt") as file:
        rows = [json.loads(line) for line in file]
    fit = [r["caption"] for r in rows if r["pathology"] and len(r["caption"].split()) > 12]
    return Random(0).sample(fit, min(count, len(fit)))


def number(sentence: str, caption: str, words: Lexicon, rng: Random) -> str:
    """One number replaced by one that the caption lacks."""
    found = numbers(sentence)
    new = str(rng.randint(200, 9999))
    return sentence.replace(rng.choice(found), new, 1) if found and new not in caption else ""


def term(sentence: str, caption: str, words: Lexicon, rng: Random) -> str:
    """One term replaced by a sibling that the caption lacks."""
    found, known = words.find(sentence), words.find(caption)
    for kind in KINDS:
        siblings = words.siblings(kind, known)
        for one in found.terms[kind]:
            if siblings and re.search(rf"\b{re.escape(one)}\b", sentence, re.IGNORECASE):
                return re.sub(rf"\b{re.escape(one)}\b", rng.choice(siblings), sentence, count=1, flags=re.IGNORECASE)
    return ""


def symbol(sentence: str, caption: str, words: Lexicon, rng: Random) -> str:
    """A marker added that the caption lacks."""
    new = rng.choice(["CD31", "CK7", "WT1", "GATA3", "TTF1"])
    return "" if new.lower() in re.sub(r"[\s-]", "", caption.lower()) else f"{sentence.rstrip('.')} with {new}."


def interval(groups: list[list[bool]]) -> tuple[float, float]:
    """Bootstrap over captions, 300 draws, seed 0."""
    rng, shares = Random(0), []
    for _ in range(300):
        drawn = rng.choices(groups, k=len(groups))
        shares.append(sum(map(sum, drawn)) / sum(map(len, drawn)))
    shares.sort()
    return shares[7], shares[292]


if __name__ == "__main__":
    main()
