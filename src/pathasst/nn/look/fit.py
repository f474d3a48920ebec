"""Fitting a look: features of the labelled pictures once, then linear heads and a distance in closed form or nearly so.

Everything that is reported or chosen (temperature, least probability, limit of the distance) comes from grouped five-fold
cross-validation: no case stands on both sides. The heads that are kept are then fitted on all pictures.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from scipy.special import softmax

from pathasst.core.errors import BadDataset
from pathasst.core.settings import Field, Settings
from pathasst.nn.components import standardise
from pathasst.nn.look.model import Looker, distance, early, standardised
from pathasst.nn.multiscale import WIDTHS

WIDE = 2 * sum(WIDTHS)  # means and deviations of all depths


class LookSource(Settings):
    """One labelled set: a table, or the files that a pattern finds."""

    name: str = Field(description="of the set; reported by it")
    table: str = Field("", description="CSV with a column `file` (or `image`), below the data folder")
    files: str = Field("", description="pattern of files below the data folder, in place of a table")
    group: str = Field("", description="column that names case, slide or original; empty: each file by itself")
    answers: dict[str, str] = Field({}, description="question → class, of every picture")
    columns: dict[str, dict[str, str]] = Field({}, description="question → `column` and value → class; other values: no answer")
    most: int = Field(0, ge=0, description="at most so many pictures, drawn by the seed; 0: all")


class LookSettings(Settings):
    """How a look is fitted."""

    room: ClassVar[str] = "look"

    questions: dict[str, tuple[str, ...]] = Field(description="question → classes")
    unstated: dict[str, tuple[str, ...]] = Field({}, description="question → classes that are no statement, such as `another`")
    data: tuple[LookSource, ...]
    components: int = Field(128, ge=2, description="principal components that the heads read")
    directions: int = Field(64, ge=2, description="principal directions of the distance")
    strength: float = Field(0.01, gt=0, description="C of the logistic regression")
    precision: dict[str, float] = Field({}, description="question → share of its statements that must be right; default 0.9")
    judged: dict[str, tuple[str, ...]] = Field({}, description="question → sources that calibrate it; default: all")
    alike: int = Field(100, ge=1, description="pictures that a source counts for in the distance, if it has fewer")
    refused: float = Field(0.05, gt=0, lt=1, description="share of the training pictures that lie beyond the limit")
    folds: int = Field(5, ge=2)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LookItem:
    """A picture with the answers that are known of it."""

    file: Path
    source: str
    group: str
    answers: dict[str, str]


def read_items(settings: LookSettings, data: Path) -> list[LookItem]:
    """Every picture of the sources that are here. Raises BadDataset when none is."""
    items: list[LookItem] = []
    for source in settings.data:
        rows = _of_table(source, data) if source.table else _of_files(source, data)
        random.Random(settings.seed).shuffle(rows)
        items += rows[: source.most or None]
    if not items:
        raise BadDataset(f"{data} holds none of the sets {', '.join(s.name for s in settings.data)}.")
    return items


def _of_files(source: LookSource, data: Path) -> list[LookItem]:
    return [LookItem(f, source.name, f"{source.name}:{f.name}", source.answers) for f in sorted(data.glob(source.files))]


def _of_table(source: LookSource, data: Path) -> list[LookItem]:
    table = data / source.table
    if not table.is_file():
        return []
    items = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            name = row.get("file") or row["image"]
            answers = dict(source.answers)
            for question, values in source.columns.items():
                if answer := values.get(row[values["column"]]):
                    answers[question] = answer
            items[name] = LookItem(
                table.parent / name, source.name, f"{source.name}:{row[source.group or next(iter(row))]}", answers
            )
    return list(items.values())


def features_of(items: Sequence[LookItem], say: Callable[[str], None] = lambda line: None) -> np.ndarray:
    """float16 [n, 6192]: the features of every picture, some 40 a second on a core."""
    from pathasst.imaging.pictures import load
    from pathasst.nn.multiscale import pooled

    parts = []
    for start in range(0, len(items), 32):
        parts.append(pooled([load(i.file) for i in items[start : start + 32]]).astype(np.float16))
        if start % 320 == 0:
            say(f"{start} of {len(items)} pictures seen")
    return np.concatenate(parts)


def fit(settings: LookSettings, items: Sequence[LookItem], features: np.ndarray) -> tuple[Looker, dict[str, Any]]:
    """The look, and its scores in cross-validation. `features`: [n, 6192], of the items in order."""
    from sklearn.model_selection import GroupKFold

    groups, sources = np.array([i.group for i in items]), np.array([i.source for i in items])
    truth = _truth(settings, items)
    logits = {q: np.zeros((len(items), len(classes))) for q, classes in settings.questions.items()}
    distances = np.zeros(len(items))
    for train, test in GroupKFold(settings.folds, shuffle=True, random_state=settings.seed).split(groups, groups=groups):
        tensors = _fit(settings, features[train], {q: t[train] for q, t in truth.items()}, groups[train], sources[train])
        normal = standardised(features[test], tensors)
        distances[test] = distance(normal, tensors)
        all_logits, start = normal @ tensors["heads"].T + tensors["bias"], 0
        for q, classes in settings.questions.items():
            logits[q][test] = all_logits[:, start : start + len(classes)]
            start += len(classes)
    even = _alike(sources, settings)
    limit, far = (float(np.quantile(distances[even], 1 - share)) for share in (settings.refused, settings.refused / 5))
    scores: dict[str, Any] = {"pictures": len(items), "groups": len(set(groups)), "refused": float((distances > limit).mean())}
    for name, edge in (("refused of", limit), ("far of", far)):
        scores[name] = {str(s): round(float((distances[sources == s] > edge).mean()), 3) for s in sorted(set(sources))}
    questions = {}
    for q, classes in settings.questions.items():
        labelled = (truth[q] >= 0) & np.isin(sources, settings.judged.get(q) or sorted(set(sources)))
        questions[q], scores[q] = _calibrated(settings, q, classes, logits[q][labelled], truth[q][labelled], groups[labelled])
    tensors = tensors_of(settings, items, features)
    return Looker(tensors, {"questions": questions, "limit": limit, "far": far}), scores


def tensors_of(settings: LookSettings, items: Sequence[LookItem], features: np.ndarray) -> dict[str, np.ndarray]:
    """Heads and distance of a look that knows these pictures. `features`: [n, 6192], of the items in order."""
    groups, sources = np.array([i.group for i in items]), np.array([i.source for i in items])
    return _fit(settings, features, _truth(settings, items), groups, sources)


def _truth(settings: LookSettings, items: Sequence[LookItem]) -> dict[str, np.ndarray]:
    return {q: np.array([_place(i, q, classes) for i in items]) for q, classes in settings.questions.items()}


def _place(item: LookItem, question: str, classes: Sequence[str]) -> int:
    answer = item.answers.get(question, "")
    return classes.index(answer) if answer in classes else -1


def _alike(sources: np.ndarray, settings: LookSettings) -> np.ndarray:
    """Rows, those of small sources again and again: ten cores are no strangers because there are two thousand patches."""
    rows = [np.flatnonzero(sources == s) for s in sorted(set(sources.tolist()))]
    return np.concatenate([np.resize(r, max(len(r), settings.alike)) for r in rows])


def _fit(
    settings: LookSettings, features: np.ndarray, truth: dict[str, np.ndarray], groups: np.ndarray, sources: np.ndarray
) -> dict[str, np.ndarray]:
    """Standardisation, directions of the distance, and one row of `heads` a class, all of [4128] standardised features."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    wide: np.ndarray = features[:, :WIDE].astype(np.float32)
    mean, deviation, normal = standardise(wide)
    tensors = {"mean": mean, "deviation": deviation}
    even = early(normal)[_alike(sources, settings)]
    near = PCA(settings.directions, random_state=settings.seed).fit(even)
    tensors |= {"centre": near.mean_, "directions": near.components_, "variances": near.explained_variance_}
    centred = even - near.mean_
    outside = (centred**2).sum(1) - ((centred @ near.components_.T) ** 2).sum(1)
    tensors["outside"] = np.array(outside.mean() / centred.shape[1])
    main = PCA(settings.components, random_state=settings.seed).fit(normal)
    back = main.components_ / np.sqrt(main.explained_variance_)[:, None]
    coordinates = (normal - main.mean_) @ back.T
    rows, biases = [], []
    for q, classes in settings.questions.items():
        labelled = truth[q] >= 0
        weights = _weights(truth[q][labelled], groups[labelled])
        head = LogisticRegression(C=settings.strength, max_iter=300).fit(coordinates[labelled], truth[q][labelled], weights)
        coefficients = np.zeros((len(classes), settings.components))
        bias = np.full(len(classes), -20.0)
        two = len(head.classes_) == 2
        coefficients[head.classes_] = np.concatenate([-head.coef_, head.coef_]) / 2 if two else head.coef_
        bias[head.classes_] = np.concatenate([-head.intercept_, head.intercept_]) / 2 if two else head.intercept_
        rows.append(coefficients @ back)
        biases.append(bias - rows[-1] @ main.mean_)
    return tensors | {"heads": np.concatenate(rows), "bias": np.concatenate(biases)}


def _weights(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Every class counts as its number of groups' root, every group of a class alike: mean 1."""
    pairs = list(zip(labels.tolist(), groups.tolist(), strict=True))
    sizes, cases = Counter(pairs), Counter(label for label, _ in set(pairs))
    raw = np.array([1 / (sizes[p] * cases[p[0]] ** 0.5) for p in pairs])
    return raw * len(raw) / raw.sum()  # type: ignore[no-any-return]


def _calibrated(
    settings: LookSettings, question: str, classes: Sequence[str], logits: np.ndarray, truth: np.ndarray, groups: np.ndarray
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Temperature by least log loss, the least probability at which statements are right often enough, and the scores."""
    grid = np.geomspace(0.2, 8, 80)
    losses = [-np.log(softmax(logits / t, axis=1)[np.arange(len(truth)), truth] + 1e-9).mean() for t in grid]
    temperature = float(grid[int(np.argmin(losses))])
    odds = softmax(logits / temperature, axis=1)
    predicted, best = odds.argmax(1), odds.max(1)
    right = predicted == truth
    unstated = settings.unstated.get(question, ())
    stated = ~np.isin(predicted, [classes.index(c) for c in unstated])
    least = 1.01
    for level in np.linspace(0.3, 0.99, 70):
        answered = stated & (best >= level)
        if answered.sum() >= 20 and right[answered].mean() >= settings.precision.get(question, 0.9):
            least = float(level)
            break
    answered = stated & (best >= least)
    entry = {"classes": list(classes), "temperature": temperature, "least": least, "unstated": list(unstated)}
    cases = sorted(set(groups))
    votes = [(odds[groups == g].mean(0).argmax(), Counter(truth[groups == g].tolist()).most_common(1)[0][0]) for g in cases]
    half = np.argsort(-np.where(stated, best, 0))[: len(best) // 2]
    return entry, {
        "n": len(truth),
        "accuracy": float(right.mean()),
        "balanced": float(np.mean([right[truth == c].mean() for c in sorted(set(truth.tolist()))])),
        "groups": len(cases),
        "accuracy of groups": float(np.mean([a == b for a, b in votes])),
        "majority": max(Counter(truth.tolist()).values()) / len(truth),
        "ece": expected_calibration_error(best, right),
        "least": least,
        "stated": float(answered.mean()),
        "right of stated": float(right[answered].mean()) if answered.any() else None,
        "right of the surer half": float(right[half].mean()),
    }


def expected_calibration_error(probability: np.ndarray, right: np.ndarray, bins: int = 10) -> float:
    """Mean gap between probability and share right, over equal bins, weighted by their pictures."""
    place = np.minimum((probability * bins).astype(int), bins - 1)
    gaps = [abs(probability[place == b].mean() - right[place == b].mean()) * (place == b).mean() for b in set(place.tolist())]
    return float(sum(gaps))
