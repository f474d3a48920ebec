"""Tool results as the real tools would write them, with drawn numbers, and the words that answers are made of.

Knows each tool's arguments and the numbers it reports; runs no tool (`tools` lies to the right of this room). A result is a dict
of slots for the tool's `results`, `answers` and `follow_ups` wordings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

Facts = dict[str, str]

BETHESDA = {
    "NILM": "negative for intraepithelial lesion or malignancy",
    "ASC-US": "atypical squamous cells of undetermined significance",
    "LSIL": "low-grade squamous intraepithelial lesion",
    "ASC-H": "atypical squamous cells, cannot exclude HSIL",
    "HSIL": "high-grade squamous intraepithelial lesion",
    "SCC": "squamous cell carcinoma",
}
HER2_MEANING = {"0": "negative", "1+": "negative, or HER2-low", "2+": "equivocal", "3+": "positive"}
FEW = 100  # cells, as the Ki67 tool counts them
OUTSIDE = (
    " Warning: most of the brown lies outside of nuclei, as in a membrane or cytoplasm stain; if this is not a Ki67 stain, the "
    "index means nothing."
)
WHITE = ("neutrophil", "lymphocyte", "monocyte", "eosinophil", "basophil")


def draw(tool: str, arguments: Mapping[str, Any], rng: Random, expected: str = "") -> Facts:
    """The slots of a plausible result. `expected` is the picture's own class where the pair tells it.

    A tool without a recipe here gives no slots; its wordings then use none.
    """
    maker = _MAKERS.get(tool)
    return maker(arguments, rng, expected) if maker else {}


def _counts(arguments: Mapping[str, Any], rng: Random, expected: str) -> Facts:
    total = rng.choice([rng.randint(4, FEW), rng.randint(FEW, 400), rng.randint(100, 1800)])
    positive = round(total * rng.betavariate(0.8, 1.4))
    percent = 100 * positive / total
    level = "low" if percent < 10 else "intermediate" if percent < 30 else "high"
    facts = {"index": f"{percent:.1f}", "positive": str(positive), "negative": str(total - positive), "total": str(total)}
    few = total < FEW
    warned = rng.random() < 0.05
    caution = " The index is uncertain, since so few cells were counted." if few else ""
    if warned:
        caution = " But most of the brown lies outside of nuclei: if this is no Ki67 stain, the index means nothing."
    return {
        **facts,
        "level": level,
        "dense": _density(arguments, rng),
        "few": f" Fewer than {FEW} cells: the index is uncertain." if few else "",
        "warning": OUTSIDE if warned else "",
        "caution": caution,
    }


def _density(arguments: Mapping[str, Any], rng: Random) -> str:
    return f" Density {rng.randint(300, 9000)} cells/mm²." if arguments.get("um_per_px") else ""


def _her2(arguments: Mapping[str, Any], rng: Random, expected: str) -> Facts:
    total = rng.randint(18, 900)
    shares = [rng.random() ** 2 for _ in range(4)]
    counts = [int(total * w / sum(shares)) for w in shares]
    counts[0] += total - sum(counts)
    score = "3+" if counts[3] > 0.1 * total else "2+" if counts[2] > 0.1 * total else "1+" if counts[1] > 0.1 * total else "0"
    parts = {f"c{i}": str(c) for i, c in enumerate(counts)} | {f"p{i}": f"{100 * c / total:.0f}" for i, c in enumerate(counts)}
    return {
        **parts,
        "total": str(total),
        "score": score,
        "meaning": HER2_MEANING[score],
        "dense": _density(arguments, rng),
    }


def _classify(arguments: Mapping[str, Any], rng: Random, expected: str) -> Facts:
    first = expected if expected in BETHESDA else rng.choice(list(BETHESDA))
    second = rng.choice([c for c in BETHESDA if c != first])
    p = rng.uniform(0.42, 0.99)
    abnormal = "No, NILM means that nothing abnormal was found." if first == "NILM" else f"Yes, {first} is an abnormal finding."
    return {
        "class": first,
        "class_name": BETHESDA[first],
        "p": f"{p:.2f}",
        "second": second,
        "p2": f"{rng.uniform(0, 1 - p):.2f}",
        "abnormal": abnormal,
    }


def _detect(arguments: Mapping[str, Any], rng: Random, expected: str) -> Facts:
    abnormal = [c for c in BETHESDA if c != "NILM"]
    first = expected if expected in abnormal else rng.choice(abnormal)
    classes = [first, *rng.sample([c for c in abnormal if c != first], rng.choice([0, 0, 1, 1, 2]))]
    counts = {c: rng.randint(1, 14) for c in classes}
    parts = ", ".join(f"{n} {c}" for c, n in counts.items())
    return {"n": str(sum(counts.values())), "parts": parts, "class": first, "class_n": str(counts[first])}


def _blood(arguments: Mapping[str, Any], rng: Random, expected: str) -> Facts:
    wbc, rbc, plt = rng.choice([0, 1, 1, 2, 3, 5, 8, 13]), rng.randint(3, 420), rng.randint(0, 40)
    facts = {"wbc": str(wbc), "rbc": str(rbc), "plt": str(plt), "total": str(wbc + rbc + plt), "types": "none"}
    if arguments.get("white_cell_types") and wbc:
        kinds = rng.choices(WHITE, weights=[50, 30, 8, 8, 4], k=wbc)
        facts["types"] = ", ".join(f"{kinds.count(k)} {k}{'s' if kinds.count(k) > 1 else ''}" for k in dict.fromkeys(kinds))
    return facts


def _segment(arguments: Mapping[str, Any], rng: Random, expected: str) -> Facts:
    n, median = rng.randint(2, 160), rng.randint(60, 9000)
    return {"n": str(n), "median": str(median), "px": str(rng.randint(80, 60000)), "area": f"{rng.uniform(0.2, 75):.2f}"}


def _generate(arguments: Mapping[str, Any], rng: Random, expected: str) -> Facts:
    parts = [str(arguments["cell_class"])]
    if arguments.get("nuclear_enlargement"):
        parts.append(f"nucleus enlarged {arguments['nuclear_enlargement']:g} times")
    features = {
        "irregular_nucleus": "irregular nucleus",
        "hyperchromasia": "hyperchromasia",
        "koilocytic_cytoplasm": "koilocytic cytoplasm",
    }
    parts += [text for name, text in features.items() if arguments.get(name)]
    return {"description": ", ".join(parts), "n": str(arguments.get("count", 1))}


_MAKERS: dict[str, Callable[[Mapping[str, Any], Random, str], Facts]] = {
    "ki67_cells": _counts,
    "pdl1_cells": _counts,
    "her2_cells": _her2,
    "lbc_classify": _classify,
    "lbc_detect": _detect,
    "blood_cells": _blood,
    "segment": _segment,
    "lbc_generate": _generate,
}
