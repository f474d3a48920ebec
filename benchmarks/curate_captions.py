"""Caption splitting against hand-made splits: letters exactly right, and token F1, beside the plain regex approach.

    PATHASST_DATA=… python benchmarks/curate_captions.py

Letters: share of figures whose set of panel letters is exactly the gold one (case ignored). Token F1: bag of words of each panel
against its gold sub-caption; a letter on one side alone counts 0; mean over a figure's letters, then over figures. Intervals:
95 % bootstrap over figures. "letters in the caption" leaves out figures whose caption does not hold all gold letters (nothing can
be read there); "printed letters not counted" takes the panel's own letter out of both sides, since the gold mostly keeps it as a
word and the paper's prompt has it dropped. The last lines say how far any splitter of text alone can come, and how many gold rows
are no part of their caption.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from measured import command_line, save

from pathasst.core.statistics import Interval, mean_interval
from pathasst.curate.captions.split import split
from pathasst.curate.captions.verify import is_verbatim
from pathasst.evaluate.curation import gold_captions, words_f1

Splitter = Callable[[str, list[str]], dict[str, str]]
Gold = list[tuple[str, dict[str, str]]]


def load(data: Path, name: str) -> Gold:
    """(caption, letter → gold sub-caption) of each figure."""
    return list(gold_captions(data / "subcaptions" / f"{name}.json").values())


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


def names_all(caption: str, gold: dict[str, str]) -> bool:
    """Whether the caption holds every gold label as a word of its own, or in a range."""
    alone = {x.upper() for x in re.findall(r"(?<![A-Za-z])([A-Za-z])(?![a-z])", caption)}
    for a, b in re.findall(r"(?<![A-Za-z])([A-Za-z])\)?\s*[-–—]\s*\(?([A-Za-z])(?![a-z])", caption):
        alone |= {chr(c) for c in range(ord(a.upper()), ord(b.upper()) + 1)}
    return set(gold) <= alone | set(re.findall(r"(?<![\d.])\d+(?![\d.])", caption))


def without(letter: str, text: str) -> str:
    """A sub-caption without the printed letter of its own panel: "(A) Tumour" → "Tumour"."""
    return re.sub(rf"(?i)(?<!\w)\(?{re.escape(letter)}\)?(?!\w)[.:,]?", " ", text)


def score(splitter: Splitter, gold: Gold, *, named: bool = False, lettered: bool = True) -> dict[str, Interval | float | int]:
    """Letters and token F1 with their intervals, share of verbatim sub-captions, n. `lettered`: printed letters are words."""
    exact, f1, verbatim = [], [], []
    for caption, wanted in gold:
        if named and not names_all(caption, wanted):
            continue
        found = splitter(caption, list(wanted))
        exact.append(set(found) == set(wanted))
        each = []
        for x in set(found) | set(wanted):
            pair = found.get(x, ""), wanted.get(x, "")
            each.append(words_f1(*(pair if lettered else (without(x, t) for t in pair))))
        f1.append(sum(each) / len(each))
        verbatim += [is_verbatim(t, caption) for t in found.values()]
    return {
        "letters": mean_interval(exact),
        "f1": mean_interval(f1),
        "verbatim": sum(verbatim) / max(1, len(verbatim)),
        "n": len(f1),
    }


def main() -> None:
    """Print the table as Markdown, and what the gold allows."""
    parser = command_line(__doc__)
    kept: dict[str, dict[str, object]] = {}
    given = parser.parse_args()
    data = Path(os.environ["PATHASST_DATA"])
    print("| set | splitter | n | letters exact | token F1 | verbatim | captions/s |\n|---|---|---|---|---|---|---|")
    for name in ("prostate", "panelseg"):
        gold = load(data, name)
        runs = [
            ("plain regex", regex, gold, {}),
            ("grammar", grammar, gold, {}),
            ("grammar, letters in the caption", grammar, gold, {"named": True}),
            ("the same, printed letters not counted", grammar, gold, {"named": True, "lettered": False}),
            ("grammar + letters of the picture", with_picture, gold, {}),
        ]
        for label, splitter, rows, how in runs:
            started = time.process_time()
            s = score(splitter, rows, **how)
            kept.setdefault(name, {})[label] = s
            speed = s["n"] / (time.process_time() - started)
            print(f"| {name} | {label} | {s['n']} | {s['letters']} | {s['f1']} | {s['verbatim']:.3f} | {speed:.0f} |")
    for name in ("prostate", "panelseg"):
        gold = load(data, name)
        named = sum(names_all(caption, wanted) for caption, wanted in gold)
        strange = sum(not is_verbatim(text, caption) for caption, wanted in gold for text in wanted.values())
        total = sum(len(wanted) for _, wanted in gold)
        print(f"{name}: gold letters stand in {named} of {len(gold)} captions; {strange} of {total} gold rows are not verbatim")
    save(given.json, kept)


if __name__ == "__main__":
    main()
