"""lbc_generate: is the asked class recognised, how far are the pictures from real ones, are they copies, how long does one take.

    PATHASST_DATA=… python benchmarks/tools_generate.py [--model FOLDER] [--each 40] [--sheet out.png] [--json FILE]

The judge is our own lbc_classify, which says a cell's grade; beside its rate on drawn cells stands its rate on the held-out real
ones (unseen by the generator, but not by the judge). Fréchet distance: 64 principal components of EfficientNet-Lite0's features
(ImageNet weights), drawn or training cells against held-out cells, equal numbers. Copies: distance of thumbnails to the
nearest training cell in all eight positions; the held-out cells' own distances say what is usual.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from likeness import Space, frechet, nearest
from measured import command_line, save

from pathasst.core import recipes
from pathasst.core.statistics import wilson
from pathasst.imaging.pictures import load
from pathasst.nn.classifier import Classifier, ClassifierConfig, ClassifierItem
from pathasst.nn.classifier.augment import squash
from pathasst.nn.classifier.items import read_picture
from pathasst.nn.classifier.model import build, start_from
from pathasst.nn.diffusion.data import recipe_cells
from pathasst.nn.diffusion.describe import Attributes, GradeLimits, attributes, measure, words
from pathasst.nn.diffusion.network import Generator
from pathasst.tools.lbc_classify import BETHESDA, GRADE_OF, GRADES, LbcClassify
from pathasst.tools.lbc_generate import SYNTHETIC, as_png


def eyes() -> Classifier:
    """EfficientNet-Lite0 as ImageNet left it."""
    config = ClassifierConfig(classes=("a", "b"), size=128)
    network = build(config)
    start_from(network, "efficientnet-lite0")
    return Classifier(network, config)


def rates(name: str, pictures: np.ndarray, labels: list[str]) -> dict[str, Any]:
    """How often the grade of the label is the classifier's likeliest, per class and on the mean of the classes."""
    grades = LbcClassify().predict(list(pictures)).argmax(1)
    parts: list[str] = []
    shares: dict[str, Any] = {}
    for label in BETHESDA:
        mine = np.array([one == label for one in labels])
        if mine.any():
            share = wilson(int((grades[mine] == GRADES.index(GRADE_OF[label])).sum()), int(mine.sum()))
            shares[label] = share
            parts.append(f"{label} {share.value:.2f} ({share.low:.2f}–{share.high:.2f}, n {mine.sum()})")
    mean = float(np.mean([share.value for share in shares.values()]))
    print(f"recognised, {name}: mean of classes {mean:.2f}; " + "; ".join(parts))
    return {"mean of classes": mean, **shares}


def obedience(drawn: Generator, each: int) -> dict[str, Any]:
    """Whether a larger, darker nucleus comes out larger and darker, measured as on the training cells."""
    limits, found_of = GradeLimits(**drawn.config.limits), {}
    for field, low, high in (("area", {"enlargement": 1.0}, {"enlargement": 4.0}), ("darkness", {"dark": False}, {"dark": True})):
        values = []
        for said in (low, high):
            cells = drawn.draw([words(Attributes("LSIL", **said))] * each, seed=99)
            found = [measure(c) for c in cells]
            values.append(float(np.median([getattr(m, field) for m in found if m] or [np.nan])))
        print(f"asked {low} → median {field} {values[0]:.3f}; asked {high} → {values[1]:.3f} (normal area {limits.normal_area})")
        found_of[field] = {"asked for little": values[0], "asked for much": values[1]}
    return found_of


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__)
    parser.add_argument("--model", default="lbc-generator-embedded")
    parser.add_argument("--each", type=int, default=40, help="drawn pictures a class, at least")
    parser.add_argument("--sheet", default="", help="a PNG of drawn cells, marked as synthetic")
    given = parser.parse_args()
    _, split = recipe_cells(str(recipes.recipe_path("generator", "embedded")), Path(os.environ["PATHASST_DATA"]))
    drawn = Generator.load(given.model)
    size, limits = drawn.config.size, GradeLimits(**drawn.config.limits)

    def pixels(items: list[ClassifierItem]) -> np.ndarray:
        return np.stack([squash(read_picture(i), size) for i in items])

    train, test = pixels(split["train"]), pixels(split["test"])
    rng = np.random.default_rng(0)
    pictures, labels = [], []
    seconds = time.perf_counter()
    for k, label in enumerate(BETHESDA):
        # Sentences as real cells have them: the attributes of training cells of that class.
        cells = [i for i in split["train"] if i.label == label]
        n = max(given.each, sum(i.label == label for i in split["test"]))
        said = [attributes(label, measure(read_picture(cells[int(rng.integers(len(cells)))])), limits) for _ in range(n)]
        pictures.append(drawn.draw([words(s) for s in said], seed=1000 * k))
        labels += [label] * n
    seconds = (time.perf_counter() - seconds) / len(labels)
    made = np.concatenate(pictures)
    if given.sheet:
        from PIL import Image
        from PIL.PngImagePlugin import PngInfo

        rows = [np.hstack([load(as_png(cell, {})) for cell in p[:12]]) for p in pictures]  # each with its mark
        told = PngInfo()
        told.add_itxt("Synthetic", SYNTHETIC)
        Image.fromarray(np.vstack(rows)).save(given.sheet, pnginfo=told)
    counts = f"{len(made)} drawn, {len(test)} held-out, {len(train)} training cells"
    print(f"{counts}; {seconds:.2f} s a picture, a class at a time")
    values: dict[str, Any] = {"drawn": len(made), "held-out": len(test), "training": len(train), "seconds a picture": seconds}
    values["recognised, drawn"] = rates("drawn", made, labels)
    values["recognised, held-out"] = rates("held-out real", test, [i.label for i in split["test"]])
    values["Fréchet distance"] = distances(train, test, made, labels, [i.label for i in split["test"]], rng)
    print("Fréchet distance to held-out cells: " + ", ".join(f"{k} {v:.2f}" for k, v in values["Fréchet distance"].items()))
    values["nearest training cell"] = copies(made, train, test, labels)
    print("nearest training cell: " + ", ".join(f"{k} {v:.3f}" for k, v in values["nearest training cell"].items()))
    values["asked features"] = obedience(drawn, given.each)
    save(given.json, values)


def distances(
    train: np.ndarray, test: np.ndarray, made: np.ndarray, labels: list[str], held: list[str], rng: np.random.Generator
) -> dict[str, float]:
    """Fréchet distances to the held-out cells, of as many others; the drawn ones in the held-out cells' mixture of classes."""
    see, n = eyes(), len(test)
    space = Space(see.features(list(train)))
    real = space(see.features(list(test)))
    classes = np.array(labels)
    chosen = np.concatenate([rng.permutation(np.flatnonzero(classes == c))[: held.count(c)] for c in dict.fromkeys(held)])
    mix = rng.choice(len(train), n, replace=n > len(train))
    noise = rng.integers(0, 255, (n, *test.shape[1:])).astype(np.uint8)
    others = {"drawn": made[chosen], "real training cells": train[mix], "noise": noise}
    return {name: frechet(space(see.features(list(pictures))), real) for name, pictures in others.items()}


def copies(made: np.ndarray, train: np.ndarray, test: np.ndarray, labels: list[str]) -> dict[str, float]:
    """Distances to the nearest training cell; what held-out cells have says what is usual."""
    ours, usual = nearest(made, train)[0], nearest(test, train)[0]
    limit, classes = float(np.quantile(usual, 0.01)), np.array(labels)
    shares = {f"{c} nearer": float((ours[classes == c] < limit).mean()) for c in dict.fromkeys(labels)}
    return {
        "drawn, median": float(np.median(ours)),
        "drawn, least": float(ours.min()),
        "held-out, median": float(np.median(usual)),
        "held-out, least": float(usual.min()),
        "held-out, 1 % quantile": limit,
        "drawn nearer than that, share": float((ours < limit).mean()),
        **shares,
    }


if __name__ == "__main__":
    main()
