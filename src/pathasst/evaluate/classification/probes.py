"""What frozen features hold: linear probe, nearest neighbours, few shots. Knows arrays alone; val chooses settings, never test.

The protocols are those of the field's suites, with scikit-learn's exact solvers where these train by gradient steps:

- linear: THUNDER and eva train one linear layer by Adam and keep the best step on val. Here the same model,
  multinomial logistic regression, is solved exactly, its L2 penalty chosen on val by macro F1. Early stopping makes a difference.
- kNN: cosine, k of `NEIGHBOURS` chosen on val by macro F1.
- SimpleShot (Wang et al. 2019): features centred by the mean of train and scaled to length 1, nearest mean of a class: of all
  of train, and of few pictures a class drawn at random, with mean and spread over the draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from pathasst.core.statistics import Interval
from pathasst.evaluate.classification.metrics import macro_f1

NEIGHBOURS = (1, 3, 5, 10, 20, 30, 40, 50)
PENALTIES = (1e-2, 1e-1, 1.0, 1e1, 1e2, 1e3)
"""scikit-learn's C, the inverse of the penalty."""
SHOTS = (1, 2, 4, 8, 16)


@dataclass(frozen=True, slots=True)
class Features:
    """Unit features float32 [n, d] and class numbers int [n] of one split."""

    vectors: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class Probe:
    """What a probe says of the test split: probabilities float [n, classes], and the setting that val chose."""

    probabilities: np.ndarray
    setting: str


def linear_probe(train: Features, val: Features, test: Features, classes: int) -> Probe:
    """Multinomial logistic regression on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    best, best_score, best_c = None, -1.0, 0.0
    for c in PENALTIES:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c / len(train.labels), max_iter=500))
        model.fit(train.vectors, train.labels)
        score = macro_f1(val.labels, model.predict(val.vectors), classes)
        if score > best_score:
            best, best_score, best_c = model, score, c
    assert best is not None
    probabilities = np.zeros((len(test.labels), classes))
    probabilities[:, best.classes_] = best.predict_proba(test.vectors)
    return Probe(probabilities, f"C = {best_c:g}/n")


def nearest_neighbours(train: Features, val: Features, test: Features, classes: int) -> Probe:
    """k nearest by cosine, votes of equal weight; of equal votes the lower class number wins, as scikit-learn has it."""
    usable = [k for k in NEIGHBOURS if k <= len(train.labels)]
    order_val, order_test = (_nearest(train.vectors, s.vectors, usable[-1]) for s in (val, test))
    scores = [macro_f1(val.labels, _votes(train.labels[order_val[:, :k]], classes).argmax(axis=1), classes) for k in usable]
    k = usable[int(np.argmax(scores))]
    return Probe(_votes(train.labels[order_test[:, :k]], classes) / k, f"k = {k}")


def _nearest(train: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """int [queries, k]: rows of `train`, nearest first."""
    parts = []
    for start in range(0, len(queries), 1024):
        similarity = queries[start : start + 1024] @ train.T
        parts.append(np.argsort(-similarity, axis=1, kind="stable")[:, :k])
    return np.concatenate(parts) if parts else np.zeros((0, k), int)


def _votes(labels: np.ndarray, classes: int) -> np.ndarray:
    votes = np.zeros((len(labels), classes))
    for column in labels.T:
        votes[np.arange(len(labels)), column] += 1
    return votes


def simple_shot(train: Features, test: Features, classes: int) -> Probe:
    """Nearest mean of a class, from all of train; probabilities by the softmax of negative squared distances."""
    centre = train.vectors.mean(axis=0)
    means = _means(_centred(train.vectors, centre), train.labels, classes)
    return Probe(softmax(-_distances(_centred(test.vectors, centre), means), axis=1), "all of train")


def few_shots(
    train: Features, test: Features, classes: int, shots: Sequence[int] = SHOTS, draws: int = 100, seed: int = 0
) -> dict[int, Interval]:
    """Macro F1 by number of shots: mean over the draws, with the middle 95 % of the draws (not an interval of the mean)."""
    rng, results = np.random.default_rng(seed), {}
    of_class = [np.flatnonzero(train.labels == c) for c in range(classes)]
    for count in shots:
        if any(0 < len(rows) < count for rows in of_class):
            break
        scores = []
        for _ in range(draws):
            rows = np.concatenate([rng.choice(r, count, replace=False) for r in of_class if len(r)])
            centre = train.vectors[rows].mean(axis=0)
            means = _means(_centred(train.vectors[rows], centre), train.labels[rows], classes)
            scores.append(macro_f1(test.labels, _distances(_centred(test.vectors, centre), means).argmin(axis=1), classes))
        results[count] = Interval(float(np.mean(scores)), *(float(q) for q in np.percentile(scores, [2.5, 97.5])))
    return results


def _centred(vectors: np.ndarray, centre: np.ndarray) -> np.ndarray:
    centred = vectors - centre
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-9)  # type: ignore[no-any-return]


def _means(vectors: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """float [classes, d]; a class without a picture lies nowhere near."""
    return np.stack(
        [vectors[labels == c].mean(axis=0) if (labels == c).any() else np.full(vectors.shape[1], 1e3) for c in range(classes)]
    )


def _distances(vectors: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances float [n, classes]."""
    return (vectors**2).sum(1)[:, None] - 2 * vectors @ means.T + (means**2).sum(1)[None]  # type: ignore[no-any-return]
