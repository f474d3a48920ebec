"""Caption splitting against hand-made splits: letters exactly right, and token F1, beside the plain regex approach.

    PATHASST_DATA=… python benchmarks/curate_captions.py

Letters: share of figures whose set of panel letters is exactly the gold one (case ignored). Token F1: bag of words of each panel
against its gold sub-caption; a letter on one side alone counts 0; mean over a figure's letters, then over figures. Intervals:
95 % bootstrap over figures. "named" leaves out figures whose caption does not hold all gold letters (nothing can be read there).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pathasst.curate.captions.split import split
from pathasst.curate.captions.verify import is_verbatim

Splitter = Callable[[str, list[str]], dict[str, str]]


def load(data: Path, name: str) -> list[tuple[str, dict[str, str]]]:
    """(caption, letter → gold sub-caption) of each figure."""
    rows = []
    for entry in json.loads((data / "subcaptions" / f"{name}.json").read_text()).values():
        gold: dict[str, str] = {}
        for panel in entry["panels"]:
            letter = str(panel["label"]).upper()
            gold[letter] = f"{gold.get(letter, '')} {panel['caption'] or ''}".strip()
        rows.append((entry["caption"], gold))
    return rows


def grammar(caption: str, letters: list[str]) -> dict[str, str]:
    """The caption grammar, from the text alone."""
    return {s.letter: s.text for s in split(caption) if s.letter}


def with_picture(caption: str, letters: list[str]) -> dict[str, str]:
    """The caption grammar, told which letters are printed in the picture (here: the gold ones)."""
    return {s.letter: s.text for s in split(caption, letters) if s.letter}


def regex(caption: str, letters: list[str]) -> dict[str, str]:
    """The plain approach: "(a)" or "A)" or "A." starts a panel, words before the first belong to all."""
    marks = list(re.finditer(r"(?:(?<=^)|(?<=[\s.;,]))(?:\(([A-Za-z])\)|([A-Za-z])\)|([A-Z])[.:](?=\s))", caption))
    found: dict[str, str] = {}
    for here, following in zip(marks, [*marks[1:], None], strict=False):
        letter = next(g for g in here.groups() if g).upper()
        end = following.start() if following else len(caption)
        found.setdefault(letter, f"{caption[: marks[0].start()]} {caption[here.end() : end]}")
    return found if len(found) > 1 else {}


def token_f1(a: str, b: str) -> float:
    """F1 of two bags of words."""
    left, right = (Counter(re.findall(r"\w+", t.lower())) for t in (a, b))
    both = sum((left & right).values())
    return 2 * both / (sum(left.values()) + sum(right.values())) if both else 0.0


def names_all(caption: str, gold: dict[str, str]) -> bool:
    """Whether the caption holds every gold letter as a word of its own, or in a range."""
    alone = {x.upper() for x in re.findall(r"(?<![A-Za-z])([A-Za-z])(?![a-z])", caption)}
    for a, b in re.findall(r"(?<![A-Za-z])([A-Za-z])\)?\s*[-–—]\s*\(?([A-Za-z])(?![a-z])", caption):
        alone |= {chr(c) for c in range(ord(a.upper()), ord(b.upper()) + 1)}
    return set(gold) <= alone


def score(splitter: Splitter, gold: list[tuple[str, dict[str, str]]], *, named: bool = False) -> dict[str, float]:
    """Letters, token F1 (with half-widths of their 95 % intervals), share of verbatim sub-captions, n."""
    exact, f1, verbatim = [], [], []
    for caption, wanted in gold:
        if named and not names_all(caption, wanted):
            continue
        found = splitter(caption, list(wanted))
        exact.append(set(found) == set(wanted))
        each = [token_f1(found.get(x, ""), wanted.get(x, "")) for x in set(found) | set(wanted)]
        f1.append(sum(each) / len(each))
        verbatim += [is_verbatim(t, caption) for t in found.values()]
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(f1), (1000, len(f1)))
    spread = [np.percentile(np.asarray(v, float)[draws].mean(axis=1), [2.5, 97.5]) for v in (exact, f1)]
    return {
        "letters": float(np.mean(exact)),
        "letters_low": spread[0][0],
        "letters_high": spread[0][1],
        "f1": float(np.mean(f1)),
        "f1_low": spread[1][0],
        "f1_high": spread[1][1],
        "verbatim": float(np.mean(verbatim)),
        "n": len(f1),
    }


def main() -> None:
    """Print the table as Markdown."""
    data = Path(os.environ["PATHASST_DATA"])
    print(
        "| set | splitter | n | letters exact (95 %) | token F1 (95 %) | verbatim | captions/s |\n|---|---|---|---|---|---|---|"
    )
    for name in ("prostate", "panelseg"):
        gold = load(data, name)
        runs = [("plain regex", regex, False), ("grammar", grammar, False), ("grammar, letters in the caption", grammar, True)]
        for label, splitter, named in [*runs, ("grammar + letters of the picture", with_picture, False)]:
            started = time.process_time()
            s = score(splitter, gold, named=named)
            speed = s["n"] / (time.process_time() - started)
            letters = f"{s['letters']:.3f} ({s['letters_low']:.3f}–{s['letters_high']:.3f})"
            f1 = f"{s['f1']:.3f} ({s['f1_low']:.3f}–{s['f1_high']:.3f})"
            print(f"| {name} | {label} | {s['n']} | {letters} | {f1} | {s['verbatim']:.3f} | {speed:.0f} |")


if __name__ == "__main__":
    main()
