"""Panels, letters and alignment on real figures, and panels on composed ones with touching pictures and dark gutters.

    PATHASST_DATA=… python benchmarks/curate_panels.py [--panels xycut FOLDER] [--composed LABELS.csv] [--similarity ID …]

Boxes of real figures are the PDF's image objects. mAP@0.5: average precision, detections ranked by score, the smaller panel last
among equals. Exact: as many panels as there are, each with IoU ≥ 0.5. Letters: share of the printed ones that were read.
Alignment: share of matched panels whose sub-caption is the one of the panel's printed letter: with the letters read, without
(reading order), and by similarity alone (PathCLIP; letters and order hidden). Caption's letters: whether the split caption names
exactly the printed ones. Panels are cut without and with what the caption says of their number: of composed figures all of it, as
a caption that names each panel would. Composed figures come of the pictures of the test split and of layouts that no training
figure had.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from measured import command_line, save

from pathasst.core.statistics import mean_interval, wilson
from pathasst.curate.align import AlignSettings, align
from pathasst.curate.captions.split import split
from pathasst.curate.compose import Composer, ComposeSettings, read_layouts
from pathasst.curate.detect import load_detector
from pathasst.curate.letters import LetterReader, are_sure
from pathasst.curate.panels import PanelFinder
from pathasst.curate.panels_train import PanelsRecipe, read_pictures
from pathasst.imaging.boxes import iou
from pathasst.imaging.pictures import crop, load

Figures = Iterator[tuple[np.ndarray, list, str, int]]
"""Picture, boxes of its panels, group, and how many panels its caption names."""


def average_precision(ranked: list[tuple[float, float, bool]], positives: int) -> float:
    """Area under the precision–recall curve (all-point), from (score, area, hit)."""
    ranked = sorted(ranked, key=lambda r: (-r[0], -r[1]))
    hits = np.cumsum([r[2] for r in ranked])
    precision = hits / np.arange(1, len(ranked) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = np.concatenate([[0], hits / positives])
    return float((np.diff(recall) * precision).sum())


def score_panels(finder: PanelFinder, figures: Figures, *, told: bool = True) -> dict[str, object]:
    """mAP@0.5, exact figures with interval by group, milliseconds a figure. `told`: the finder knows what the caption names."""
    ranked, exact, groups, positives, spent = [], [], [], 0, 0.0
    for picture, gold, group, named in figures:
        started = time.process_time()
        panels = finder.cut(picture, named if told else 0)[0]
        spent += time.process_time() - started
        used: set[int] = set()
        positives += len(gold)
        for p in panels:
            area = (p.box[2] - p.box[0]) * (p.box[3] - p.box[1])
            best = max(range(len(gold)), key=lambda i: iou(p.box, gold[i]) if i not in used else -1)
            hit = best not in used and iou(p.box, gold[best]) >= 0.5
            used |= {best} if hit else set()
            ranked.append((p.score, area, hit))
        exact.append(len(panels) == len(gold) == len(used))
        groups.append(group)
    return {
        "map50": round(average_precision(ranked, positives), 4),
        "exact": mean_interval(exact, groups),
        "ms": round(1000 * spent / len(exact), 1),
        "n": len(exact),
        "boxes": positives,
    }


def real(data: Path, figures: list[dict]) -> Figures:
    """The figures of `articles`."""
    for figure in figures:
        picture = load((data / "articles" / "figures" / figure["image"]).read_bytes())
        yield picture, figure["panel_boxes"], figure["pmcid"], _named(figure)


def _named(figure: dict) -> int:
    return sum(bool(s.letter) for s in split(figure["caption_jats"]))


def composed(labels: Path, layouts: Path, recipe: PanelsRecipe, count: int, **change: float) -> Figures:
    """Composed figures nobody trained on, of whose panels a caption would name all; `change`: settings of the composer."""
    held = [r for n, r in enumerate(read_layouts(layouts)) if n % 10 == 0]
    settings = recipe.compose.replace(**change)
    composer = Composer(read_pictures(labels, recipe.leave)["test"], held, settings)
    for n in range(count):
        figure = composer(np.random.default_rng((99, n)))
        yield figure.picture, figure.panels, str(n), len(figure.panels)


HARD: dict[str, dict[str, float]] = {
    "all kinds": {},
    "touching": {"touching": 1.0, "single": 0.0},
    "wide white gutters": {"touching": 0.0, "thin": 0.0, "white": 1.0, "black": 0.0, "single": 0.0},
    "grey grounds": {"white": 0.0, "black": 0.0, "touching": 0.0, "single": 0.0},
}


def score_letters(data: Path, figures: list[dict], finder: PanelFinder, models: dict) -> dict[str, object]:
    """Letters read, letters that are not there, and alignment with and without them; `models`: similarity by name."""
    reader = LetterReader()
    read = printed = extra = figures_read = sure = right_of_sure = 0
    named: list[tuple[bool, bool]] = []
    ways = ["letters", "order", *models]
    right = {way: [0, 0, 0] for way in ways}
    for figure in (f for f in figures if f["labels"]):
        picture = load((data / "articles" / "figures" / figure["image"]).read_bytes())
        panels, small = finder.cut(picture, _named(figure))
        letters = reader(picture, panels, small)
        gold = {x.upper() for x in figure["labels"]}
        read, printed, extra = read + len(gold & set(letters)), printed + len(gold), extra + len(set(letters) - gold - {""})
        if len(panels) > 1:
            figures_read, sure = figures_read + 1, sure + are_sure(letters)
            right_of_sure += are_sure(letters) and set(letters) == gold
        parts = [s for s in split(figure["caption_jats"]) if s.letter]
        told = [s for s in split(figure["caption_jats"], letters) if s.letter] if are_sure(letters) else parts
        if len(gold) > 1:
            named.append(({s.letter for s in parts} == gold, {s.letter for s in told} == gold))
        truth = {n: owner(p.box, figure) for n, p in enumerate(panels)}
        if len(panels) < 2 or len(parts) < 2:
            continue
        known = sum(any(s.letter == x for s in parts) for x in truth.values() if x)
        for way in ways:
            seen = [replace(p, letter=x if way == "letters" else "") for p, x in zip(panels, letters, strict=True)]
            model = models.get(way)
            matrix = model([crop(picture, p.box) for p in panels], [s.own for s in parts]) if model else None
            settings = AlignSettings(order=0.0, least=0.0) if model else AlignSettings()
            right[way][2] += known
            for m in align(seen, parts, matrix, settings):
                if truth[m.panel]:
                    right[way][0] += parts[m.caption].letter == truth[m.panel]
                    right[way][1] += 1
    result: dict[str, object] = {"letters read": f"{read}/{printed}", "share": wilson(read, printed), "read but not there": extra}
    result["all of a figure's letters read"] = f"{sure} of {figures_read} figures, {right_of_sure} of them exactly those printed"
    ways_to_name = enumerate(("the caption alone", "caption and picture"))  # the stage does the second
    exact = {way: wilson(sum(x[n] for x in named), len(named)) for n, way in ways_to_name}
    result["captions, letters exact"] = {"n": len(named), **exact}
    for way, (good, matched, known) in right.items():
        result[f"align by {way}"] = f"{good} right of {matched} matched, {known} known: {wilson(good, matched)}"
    return result


def owner(box: tuple[float, ...], figure: dict) -> str:
    """The letter printed nearest below the middle of a panel, as the PDF's text places it; "" when none is near."""
    best, name = 0.35 * max(box[2] - box[0], box[3] - box[1]), ""
    for label in figure["label_boxes"]:
        x, y = (label["box"][0] + label["box"][2]) / 2, (label["box"][1] + label["box"][3]) / 2
        away = abs(x - (box[0] + box[2]) / 2) + abs(y - box[3])
        if away < best:
            best, name = away, label["text"].strip("() ").upper()
    return name


def main() -> None:
    """Print everything as JSON."""
    parser = command_line(__doc__)
    parser.add_argument("--panels", nargs="+", default=["xycut"])
    parser.add_argument("--composed", type=Path, help="labels.csv of curate_select_data.py")
    parser.add_argument("--figures", type=int, default=200, help="composed figures of each kind")
    parser.add_argument("--similarity", nargs="+", default=[], help="PathCLIPs: ids or folders")
    parser.add_argument("--no-letters", action="store_true")
    args = parser.parse_args()
    data, recipe = Path(os.environ["PATHASST_DATA"]), PanelsRecipe.load("embedded")
    assert isinstance(recipe.compose, ComposeSettings)
    figures = json.loads((data / "articles" / "figures.json").read_text())
    models = {}
    for name in args.similarity:
        from pathasst.clip.model import PathCLIPModel

        models[name] = PathCLIPModel.load(name).similarity
    kept: dict[str, object] = {}
    for name in args.panels:
        finder = load_detector(name)
        rows: dict[str, dict[str, object]] = {}
        for told, label in ((True, "as the stage does"), (False, "without the caption")):
            found = {"articles": score_panels(finder, real(data, figures), told=told)}
            for kind, change in HARD.items() if args.composed else ():
                some = composed(args.composed, data / "panel_boxes" / "train.csv", recipe, args.figures, **change)
                found[kind] = score_panels(finder, some, told=told)
                print(name, label, kind, json.dumps(found[kind], default=str), flush=True)
            rows[label] = found
        kept[name] = {**rows["as the stage does"].pop("articles"), **rows}
        print(name, json.dumps(kept[name], default=str), flush=True)
        if not args.no_letters:
            kept["letters"] = letters = score_letters(data, figures, finder, models)
            print(name, json.dumps(letters, indent=1, default=str), flush=True)
    save(args.json, kept)


if __name__ == "__main__":
    main()
