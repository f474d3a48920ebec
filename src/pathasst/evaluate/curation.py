"""Curation against hand-made gold: captions split, panels cut, letters read. Knows the `curate` room and `detector`'s measures.

Letters are right when a figure's set of panel letters is exactly the gold one. Token F1 compares bags of words of each panel's
sub-caption; a letter on one side alone counts 0; mean over a figure's letters.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadDataset
from pathasst.core.statistics import mean_interval
from pathasst.evaluate.sets import find, public_sets
from pathasst.evaluate.table import Table


def evaluate(root: Path | None) -> Table:
    """Every measure whose gold is under `root`. Raises BadDataset when none is."""
    columns = ["what", "set", "figures", "measure", "value"]
    table = Table(id="curation", title="Curation: captions and panels", columns=columns, section="Step 2", seed=0)
    missing = []
    for id, measure in (("subcaptions", _all_captions), ("figures", _panels)):
        try:
            measure(table, find(root, id))
        except BadDataset as error:
            missing.append(str(error))
    if not table.rows:
        raise BadDataset("\n".join(missing))
    table.notes += ["95 % intervals, bootstrap by figure (panels: by article).", *missing]
    return table


def gold_captions(path: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Figure → (caption, letter → gold sub-caption). Raises BadDataset for another form."""
    try:
        rows: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        by_figure = {}
        for name, row in rows.items():
            gold: dict[str, str] = {}
            for panel in row["panels"]:
                letter = str(panel["label"]).upper()
                gold[letter] = f"{gold.get(letter, '')} {panel['caption'] or ''}".strip()
            by_figure[name] = (str(row["caption"]), gold)
        return by_figure
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadDataset(f"{path}: expected {public_sets()['subcaptions'].layout}; got {error!r}") from error


def gold_figures(folder: Path) -> list[dict[str, Any]]:
    """The rows of figures.json, each with image, panel_boxes and perhaps labels. Raises BadDataset for another form."""
    path = folder / "figures.json"
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        for row in rows:
            if any(len(box) != 4 for box in row["panel_boxes"]) or not (folder / "figures" / row["image"]).is_file():
                raise ValueError(f"{row['image']} has no picture, or a box that is not x1 y1 x2 y2")
    except (ValueError, KeyError, TypeError) as error:
        raise BadDataset(f"{path}: expected {public_sets()['figures'].layout}; got {error!r}") from error
    return rows


def words_f1(a: str, b: str) -> float:
    """F1 of two bags of words, lower case, without normalising articles: sub-captions are to be verbatim."""
    left, right = (Counter(re.findall(r"\w+", t.lower())) for t in (a, b))
    both = sum((left & right).values())
    return 2 * both / (sum(left.values()) + sum(right.values())) if both else 0.0


def _all_captions(table: Table, folder: Path) -> None:
    for path in sorted(folder.glob("*.json")):
        _captions(table, path)


def _captions(table: Table, path: Path) -> None:
    from pathasst.curate.captions.split import split
    from pathasst.curate.captions.verify import is_verbatim

    exact, f1, verbatim = [], [], []
    for name, (caption, gold) in gold_captions(path).items():
        captions = {s.letter: s.text for s in split(caption) if s.letter}
        exact.append(float(set(captions) == set(gold)))
        letters = set(captions) | set(gold)
        f1.append(sum(words_f1(captions.get(x, ""), gold.get(x, "")) for x in letters) / max(1, len(letters)))
        verbatim.append(float(all(is_verbatim(t, caption) for t in captions.values())))
        item = {"id": name, "cluster": name, "part": f"captions, {path.stem}", "score": exact[-1]}
        table.items.append(item | {"asked": caption, "wanted": sorted(gold), "said": sorted(captions)})
    for measure, values in (("letters exact", exact), ("token F1", f1), ("verbatim", verbatim)):
        table.add("captions", path.stem, len(values), measure, mean_interval(values))


def _panels(table: Table, folder: Path) -> None:
    import numpy as np

    from pathasst.curate.letters import LetterReader
    from pathasst.curate.panels import CutDetector
    from pathasst.evaluate.asking import bar
    from pathasst.imaging.pictures import load
    from pathasst.nn.detector.boxes import Boxes, iou_matrix
    from pathasst.nn.detector.evaluate import Truth
    from pathasst.nn.detector.evaluate import evaluate as measure

    rows = gold_figures(folder)
    detector, reader = CutDetector(), LetterReader()
    predicted, truth, exact, articles, read, printed = [], [], [], [], 0, 0
    with bar("panels", len(rows)) as progress:
        for row in rows:
            picture = load((folder / "figures" / row["image"]).read_bytes())
            panels, small = detector.cut(picture)
            boxes = np.array([p.box for p in panels], np.float32).reshape(-1, 4)
            gold = np.array(row["panel_boxes"], np.float32).reshape(-1, 4)
            # equal scores are ranked by size: a small leftover is the likelier mistake
            areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
            ranked = np.array([p.score for p in panels], np.float32) + 1e-6 * np.argsort(np.argsort(areas))
            predicted.append(Boxes(boxes, ranked.astype(np.float32), np.zeros(len(boxes), np.int64)))
            truth.append(Truth(gold, np.zeros(len(gold), np.int64)))
            overlap = iou_matrix(boxes, gold)
            exact.append(float(len(boxes) == len(gold) and bool((overlap.max(0, initial=0) >= 0.5).all())))
            articles.append(str(row.get("pmcid", row["image"])))
            if row.get("labels"):
                labels = {str(x).upper() for x in row["labels"]}
                read, printed = read + len(labels & set(reader(picture, panels, small))), printed + len(labels)
            table.items.append({"id": row["image"], "cluster": articles[-1], "part": "panels, exact", "score": exact[-1]})
            progress(1)
    scores = measure(predicted, truth, {0: "panel"}, 0.5)
    table.add("panels", folder.name, len(rows), "mAP@0.5", scores.map50)
    table.add("panels", folder.name, len(rows), "figures exact", mean_interval(exact, articles))
    if printed:
        from pathasst.core.statistics import wilson

        table.add("letters", folder.name, len(rows), f"read, of {printed} printed", wilson(read, printed))
