"""Training the select model on labelled pictures: `pathasst train select`.

Input is a folder of folders (`pathology/…`, `other/…`) or a table with the columns image, label and, where copies of one
original exist, group; the split never cuts through a group. Knows `pathasst.nn.classifier`, which trains and calibrates; this
module adds the publishers' page as augmentation (both classes pass through the same frames, letters, JPEG and montage, so that
none of these can become the answer) and the threshold.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pathasst.core.errors import BadSettings
from pathasst.core.statistics import f1_interval
from pathasst.curate.augment import Augment
from pathasst.curate.select import CLASSES, Selector
from pathasst.nn.classifier import ClassifierItem, ClassifierTraining, read_items, split_items

if TYPE_CHECKING:
    import numpy as np

NAMES = {
    **dict.fromkeys(("pathology", "1", "true", "yes"), "pathology"),
    **dict.fromkeys(("other", "0", "false", "no", "non-pathology"), "other"),
}
MAX_SIDE = 320  # px; pictures are kept in memory at this size at most


class SelectTraining(ClassifierTraining):
    """How the select model is trained: as any classifier."""

    room: ClassVar[str] = "select"


def read_samples(path: Path | str, settings: SelectTraining | None = None) -> list[ClassifierItem]:
    """Labelled pictures of a table or of a folder of folders, with their split.

    Raises BadSettings when a label is unknown, BadDataset when a class is missing.
    """
    settings, items = settings or SelectTraining(), read_items(Path(path))
    if unknown := sorted({i.label for i in items if i.label.lower() not in NAMES}):
        raise BadSettings(f"{path}: label {unknown[0]!r} is unknown; use pathology or other.")
    items = [replace(i, label=NAMES[i.label.lower()]) for i in items]
    return split_items(items, settings.val, settings.test, settings.seed)


def load_pictures(items: Sequence[ClassifierItem]) -> list[np.ndarray]:
    """The pictures as H×W×3 uint8 RGB, shrunk to `MAX_SIDE` px at most. Raises BadInput for one that cannot be read."""
    import cv2

    from pathasst.nn.classifier.items import read_picture

    pictures = []
    for item in items:
        picture = read_picture(item)
        scale = MAX_SIDE / max(picture.shape[:2])
        if scale < 1:
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        pictures.append(picture)
    return pictures


def train(
    items: Sequence[ClassifierItem],
    out: Path | str,
    settings: SelectTraining | None = None,
    log: Callable[[dict[str, Any]], None] | None = None,
    *,
    quick: bool = False,
) -> dict[str, Any]:
    """Train, calibrate, choose the threshold on the split val, write what `Selector.load` reads, return the test scores.

    `quick`: only the last layer is fitted, on the pretrained network's features; two minutes of one core. Else an interrupted
    training resumes. The scores hold F1 with its 95 % interval by group, and right/all of each source.
    """
    from pathasst.nn import classifier

    settings, out = settings or SelectTraining(), Path(out)
    settings = settings.replace(classes=CLASSES)
    items = split_items(items, settings.val, settings.test, settings.seed)
    parts = {name: [i for i in items if i.split == name] for name in ("train", "val", "test")}
    if not all({i.label for i in part} == set(CLASSES) for part in parts.values()):
        raise BadSettings("each of train, val and test needs pictures of both classes; add pictures or groups.")
    training = parts["train"]
    augment = Augment(load_pictures(training), [(i.label, i.source) for i in training])
    if quick:
        fit_head(settings, parts, augment, out)
    else:
        classifier.train(settings, items, out, augment=augment, log=log)
    (out / "threshold.json").unlink(missing_ok=True)
    threshold = choose_threshold(Selector.load(out), parts["val"])
    (out / "threshold.json").write_text(json.dumps({"threshold": threshold}) + "\n", encoding="utf-8")
    scores = evaluate(Selector.load(out), parts["test"])
    scores |= {f"n_{name}": len(part) for name, part in parts.items()}
    (out / "test.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    return scores


def fit_head(settings: SelectTraining, parts: Mapping[str, list[ClassifierItem]], augment: Augment, out: Path) -> None:
    """A logistic regression on the pretrained network's features as its last layer; training pictures are seen plain and varied.

    The strength of its penalty is the one of least log loss on the split val; the temperature follows there.
    """
    import numpy as np
    import torch
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.preprocessing import StandardScaler

    from pathasst.nn.classifier import Classifier
    from pathasst.nn.classifier.model import build, start_from
    from pathasst.nn.classifier.training import temperature

    classifier = Classifier(build(settings.config(CLASSES)), settings.config(CLASSES))
    start_from(classifier.network, settings.start)
    training, val = parts["train"], parts["val"]
    varied = [augment(np.random.default_rng((settings.seed, n)), n) for n in range(len(training))]
    features = classifier.features([*augment.pictures, *varied])
    val_features = classifier.features(load_pictures(val))
    labels, val_labels = (np.array([i.label == "pathology" for i in part], int) for part in (training, val))
    counts = Counter((i.label, i.source) for i in training)
    weight = np.tile([counts[i.label, i.source] ** -settings.balance for i in training], 2)
    scaler = StandardScaler().fit(features)
    fits = [
        LogisticRegression(C=c, max_iter=300).fit(
            scaler.transform(features), np.tile(labels, 2), weight * len(weight) / weight.sum()
        )
        for c in (1e-4, 1e-3, 1e-2)
    ]
    best = min(fits, key=lambda f: log_loss(val_labels, f.predict_proba(scaler.transform(val_features))))
    slope = best.coef_[0] / scaler.scale_
    head = classifier.network.get_classifier()
    with torch.no_grad():
        head.weight.zero_()[1] = torch.tensor(slope)
        head.bias.zero_()[1] = float(best.intercept_[0] - (slope * scaler.mean_).sum())
    classifier.config = classifier.config.replace(temperature=temperature(classifier, val))
    classifier.save(out)


def choose_threshold(selector: Selector, items: Sequence[ClassifierItem]) -> float:
    """The probability of best F1 on some pictures; of equals the middle one, so that what is rare does not decide."""
    import numpy as np

    labels = np.array([i.label == "pathology" for i in items])
    scores = selector.score(load_pictures(items))
    grid = np.linspace(0.05, 0.95, 91)
    f1 = np.array([2 * (labels & (scores >= t)).sum() / max(1, labels.sum() + (scores >= t).sum()) for t in grid])
    return round(float(np.median(grid[f1 >= f1.max() - 1e-9])), 3)


def evaluate(selector: Selector, items: Sequence[ClassifierItem]) -> dict[str, Any]:
    """F1 (pathology) with a 95 % interval bootstrapped by group, precision, recall, and right/all per source."""
    import numpy as np

    labels = np.array([i.label == "pathology" for i in items])
    positive = selector.score(load_pictures(items)) >= selector.threshold
    counts = np.stack([labels & positive, ~labels & positive, labels & ~positive], axis=1)
    f1 = f1_interval(counts, [i.group for i in items])
    sources: dict[str, list[int]] = {}
    for item, hit in zip(items, positive == labels, strict=True):
        entry = sources.setdefault(f"{item.label}/{item.source}", [0, 0])
        entry[0] += int(hit)
        entry[1] += 1
    true = int((labels & positive).sum())
    return {
        "f1": f1.value,
        "f1_interval": (f1.low, f1.high),
        "precision": true / max(int(positive.sum()), 1),
        "recall": true / max(int(labels.sum()), 1),
        "n": len(items),
        "per_source": {k: f"{v[0]}/{v[1]}" for k, v in sorted(sources.items())},
    }
