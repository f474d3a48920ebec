"""lbc_generate: is the asked class recognised, how far are the pictures from real ones, are they copies, how long does one take.

    PATHASST_DATA=… python benchmarks/tools_generate.py [--model FOLDER] [--each 40] [--sheet out.png]

The judge of the class is our own lbc_classify; beside its rate on drawn cells stands its rate on the held-out real ones (test
split of the classifier's recipe, unseen by both). Fréchet distance: 64 principal components of EfficientNet-Lite0's features
(ImageNet weights), drawn or training cells against held-out cells, equal numbers. Copies: distance of thumbnails to the
nearest training cell in all eight positions; the held-out cells' own distances say what is usual.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np

from pathasst import recipes
from pathasst.classifier import Classifier, ClassifierConfig, Item
from pathasst.classifier.augment import squash
from pathasst.classifier.items import read_picture
from pathasst.classifier.model import build, start_from
from pathasst.intervals import wilson
from pathasst.tools.generate.data import recipe_cells
from pathasst.tools.generate.describe import Attributes, Limits, attributes, measure, words
from pathasst.tools.generate.judge import Space, frechet, nearest
from pathasst.tools.generate.network import Generator
from pathasst.tools.lbc_classify import BETHESDA, LbcClassify


def eyes() -> Classifier:
    """EfficientNet-Lite0 as ImageNet left it."""
    config = ClassifierConfig(classes=("a", "b"), size=128)
    network = build(config)
    start_from(network, "efficientnet-lite0")
    return Classifier(network, config)


def rates(name: str, pictures: np.ndarray, labels: list[str]) -> None:
    """How often the classifier says the label, per class and on the mean of the classes."""
    found = LbcClassify().probabilities(list(pictures), BETHESDA).argmax(1)
    parts, shares = [], []
    for k, label in enumerate(BETHESDA):
        mine = np.array([one == label for one in labels])
        if mine.any():
            share = wilson(int((found[mine] == k).sum()), int(mine.sum()))
            shares.append(share.value)
            parts.append(f"{label} {share.value:.2f} ({share.low:.2f}–{share.high:.2f}, n {mine.sum()})")
    print(f"recognised, {name}: mean of classes {np.mean(shares):.2f}; " + "; ".join(parts))


def obedience(drawn: Generator, each: int) -> None:
    """Whether a larger, darker nucleus comes out larger and darker, measured as on the training cells."""
    limits = Limits(**drawn.config.limits)
    for field, low, high in (("area", {"enlargement": 1.0}, {"enlargement": 4.0}), ("darkness", {"dark": False}, {"dark": True})):
        values = []
        for said in (low, high):
            cells = drawn.draw([words(Attributes("LSIL", **said))] * each, seed=99)
            found = [measure(c) for c in cells]
            values.append(float(np.median([getattr(m, field) for m in found if m] or [np.nan])))
        print(f"asked {low} → median {field} {values[0]:.3f}; asked {high} → {values[1]:.3f} (normal area {limits.normal_area})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="lbc-generator-embedded")
    parser.add_argument("--each", type=int, default=40, help="drawn pictures a class")
    parser.add_argument("--sheet", default="")
    given = parser.parse_args()
    _, split = recipe_cells(str(recipes.recipe_path("generator", "embedded")), Path(os.environ["PATHASST_DATA"]))
    drawn = Generator.load(given.model)
    size, limits = drawn.config.size, Limits(**drawn.config.limits)

    def pixels(items: list[Item]) -> np.ndarray:
        return np.stack([squash(read_picture(i), size) for i in items])

    train, test = pixels(split["train"]), pixels(split["test"])
    rng = np.random.default_rng(0)
    pictures, labels = [], []
    seconds = time.perf_counter()
    for k, label in enumerate(BETHESDA):
        # Sentences as real cells have them: the attributes of training cells of that class.
        cells = [i for i in split["train"] if i.label == label]
        said = [attributes(label, measure(read_picture(cells[int(rng.integers(len(cells)))])), limits) for _ in range(given.each)]
        pictures.append(drawn.draw([words(s) for s in said], seed=1000 * k))
        labels += [label] * given.each
    seconds = (time.perf_counter() - seconds) / len(labels)
    made = np.concatenate(pictures)
    if given.sheet:
        from PIL import Image

        rows = [np.hstack(p[:12]) for p in pictures]
        Image.fromarray(np.vstack(rows)).resize((12 * 96, len(rows) * 96)).save(given.sheet)
    counts = f"{len(made)} drawn, {len(test)} held-out, {len(train)} training cells"
    print(f"{counts}; {seconds:.2f} s a picture, {given.each} at a time")
    rates("drawn", made, labels)
    rates("held-out real", test, [i.label for i in split["test"]])
    see = eyes()
    n = min(len(made), len(test))
    space = Space(see.features(list(train)))
    real = space(see.features(list(test)))[:n]
    mix = rng.choice(len(train), n, replace=False)
    # Drawn cells in the held-out cells' mixture of classes, so that the distance is not one of mixtures.
    held = [i.label for i in split["test"]][:n]
    chosen = [int(rng.choice([j for j, one in enumerate(labels) if one == label])) for label in held]
    print(f"Fréchet distance to {n} held-out cells: drawn {frechet(space(see.features(list(made[chosen]))), real):.2f}, ", end="")
    print(f"real training cells {frechet(space(see.features(list(train[mix]))), real):.2f}, ", end="")
    noise = rng.integers(0, 255, (n, size, size, 3)).astype(np.uint8)
    print(f"noise {frechet(space(see.features(list(noise))), real):.2f}")
    ours, usual = nearest(made, train)[0], nearest(test, train)[0]
    limit = np.quantile(usual, 0.01)
    print(
        f"nearest training cell: drawn median {np.median(ours):.3f} least {ours.min():.3f}; held-out {np.median(usual):.3f}, ",
        end="",
    )
    print(f"{usual.min():.3f}; drawn below the held-out cells' 1 % quantile ({limit:.3f}): {(ours < limit).mean():.3f}")
    obedience(drawn, given.each)


if __name__ == "__main__":
    main()
