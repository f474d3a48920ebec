"""Our measures beside the field's own code in one run, on the same predictions: equal to three decimals or not.

    python benchmarks/eval_peers.py [--json FILE]

Peers, each left out with a word where it is not installed: scikit-learn, torchmetrics (F1, calibration, panoptic quality),
CLIP_benchmark (the zero-shot classifier and its scores), THUNDER (zero-shot, kNN, SimpleShot), pytrec_eval (nDCG, recall),
pingouin (ICC). None is a dependency: `pip install torchmetrics clip-benchmark thunder-bench pytrec_eval-terrier pingouin` into an
environment of its own. Features, masks and ranks are drawn from a seed, so that the run needs no data; with PATHASST_DATA the
nuclei masks are CoNSeP's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from measured import command_line, save
from scipy.special import softmax

from pathasst.evaluate import beir
from pathasst.evaluate.classification import probes
from pathasst.evaluate.classification.metrics import calibration_error, class_scores, macro_f1
from pathasst.evaluate.detection.agreement import agreement
from pathasst.imaging.instances import score_instances
from pathasst.imaging.pictures import read_labels

CLASSES, N, DIMENSIONS = 5, 600, 64
Row = tuple[str, str, float, float]  # measure, peer, ours, theirs


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit features float32 [N, d], class numbers, and unit class vectors that are near their class."""
    rng = np.random.default_rng(0)
    centres = rng.normal(0, 1, (CLASSES, DIMENSIONS))
    truth = rng.integers(0, CLASSES, N)
    features = centres[truth] + rng.normal(0, 2.2, (N, DIMENSIONS))
    prompts = centres + rng.normal(0, 0.5, (CLASSES, DIMENSIONS))
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (features, prompts)]
    return unit[0].astype(np.float32), truth, unit[1].astype(np.float32)


def of_sklearn() -> Iterator[Row]:
    """F1, balanced accuracy, kNN."""
    from sklearn.metrics import balanced_accuracy_score, f1_score
    from sklearn.neighbors import KNeighborsClassifier

    features, truth, prompts = drawn()
    predicted = (features @ prompts.T).argmax(axis=1)
    ours = class_scores(truth, predicted, CLASSES, [str(n) for n in range(N)])
    yield "macro F1", "scikit-learn", ours["macro F1"].value, float(f1_score(truth, predicted, average="macro"))
    yield "weighted F1", "scikit-learn", ours["weighted F1"].value, float(f1_score(truth, predicted, average="weighted"))
    balanced = float(balanced_accuracy_score(truth, predicted))
    yield "balanced accuracy", "scikit-learn", ours["balanced accuracy"].value, balanced
    train, val, test = (probes.Features(features[n::3], truth[n::3]) for n in range(3))
    probe = probes.nearest_neighbours(train, val, test, CLASSES)
    k = int(probe.setting.removeprefix("k = "))
    theirs = KNeighborsClassifier(k, metric="cosine", algorithm="brute").fit(train.vectors, train.labels)
    right = float((probe.probabilities.argmax(axis=1) == test.labels).mean())
    yield f"kNN accuracy, k = {k}", "scikit-learn", right, float(theirs.score(test.vectors, test.labels))


def of_torchmetrics() -> Iterator[Row]:
    """F1, expected calibration error, panoptic quality."""
    import torch
    from torchmetrics.classification import MulticlassCalibrationError, MulticlassF1Score
    from torchmetrics.detection import PanopticQuality

    features, truth, prompts = drawn()
    odds = softmax(20.0 * features @ prompts.T, axis=1)
    tensors = torch.tensor(odds), torch.tensor(truth)
    ours = class_scores(truth, odds.argmax(axis=1), CLASSES, [str(n) for n in range(N)])["macro F1"].value
    yield "macro F1", "torchmetrics", ours, float(MulticlassF1Score(CLASSES, average="macro")(*tensors))
    error = calibration_error(odds, truth, [str(n) for n in range(N)]).value
    yield "ECE, 15 bins", "torchmetrics", error, float(MulticlassCalibrationError(CLASSES, n_bins=15, norm="l1")(*tensors))
    for name, mask, moved in masks():
        one = score_instances(mask, moved)
        metric = PanopticQuality(things={1}, stuffs={0}, return_sq_and_rq=True, return_per_class=True)
        pair = [torch.tensor(np.stack([(m > 0).astype(np.int64), m], axis=-1))[None] for m in (moved, mask)]
        pq, sq, rq = (float(v) for v in metric(*pair)[0])
        for measure, a, b in (("PQ", one.pq, pq), ("SQ", one.sq, sq), ("DQ", one.dq, rq)):
            yield f"{measure}, {name}", "torchmetrics", a, b


def masks() -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Label masks and the same, moved by 2 px with some objects lost."""
    root = Path(os.environ.get("PATHASST_DATA", "-")) / "nuclei_consep/masks"
    paths = sorted(root.glob("*.png"))[:2] if root.is_dir() else []
    drawn_ = np.kron(np.arange(1, 17).reshape(4, 4), np.pad(np.ones((12, 12), int), 2))
    for name, mask in [(p.stem, read_labels(p).astype(np.int64)) for p in paths] or [("squares", drawn_)]:
        yield name, mask, np.where(np.roll(mask, 2, 0) % 5 == 0, 0, np.roll(mask, 2, 0))


def of_clip_benchmark() -> Iterator[Row]:
    """The ensemble of prompts and the scores of its zero-shot classifier, on our features."""
    import torch
    from clip_benchmark.metrics.zeroshot_classification import run_classification, zero_shot_classifier
    from sklearn.metrics import balanced_accuracy_score

    features, truth, prompts = drawn()
    rng = np.random.default_rng(1)
    templates = ["{c} one", "{c} two", "{c} three"]
    table = {t.format(c=str(c)): prompts[c] + rng.normal(0, 0.1, DIMENSIONS) for c in range(CLASSES) for t in templates}
    table = {text: (v / np.linalg.norm(v)).astype(np.float32) for text, v in table.items()}

    class Texts(list[str]):
        def to(self, device: str) -> Texts:
            return self

    class Model:
        def encode_text(self, texts: Texts) -> torch.Tensor:
            return torch.tensor(np.stack([table[t] for t in texts]))

        def encode_image(self, images: torch.Tensor) -> torch.Tensor:
            return images

        def eval(self) -> Model:
            return self

    batches = [(torch.tensor(features[n : n + 100]), torch.tensor(truth[n : n + 100])) for n in range(0, N, 100)]
    names = [str(c) for c in range(CLASSES)]
    classifier = zero_shot_classifier(Model(), Texts, names, templates, "cpu", amp=False)
    logits, target = run_classification(Model(), classifier, batches, "cpu", amp=False)
    predicted = logits.argmax(dim=1)  # its `accuracy` fails with NumPy 2.4; this is what it computes, and its own recall
    accuracy, recall = float((predicted == target).float().mean()), float(balanced_accuracy_score(target, predicted))
    means = np.stack([np.mean([table[t.format(c=c)] for t in templates], axis=0) for c in names])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    ours = class_scores(truth, (features @ means.T).argmax(axis=1), CLASSES, [str(n) for n in range(N)])
    yield "accuracy, ensemble", "CLIP_benchmark", ours["accuracy"].value, accuracy
    yield "balanced accuracy, ensemble", "CLIP_benchmark", ours["balanced accuracy"].value, recall


def of_pytrec_eval() -> Iterator[Row]:
    """nDCG@10 and recall of random ranks with graded judgements."""
    import pytrec_eval

    rng = np.random.default_rng(2)
    judged = {f"q{q}": {f"d{d}": int(rng.integers(0, 4)) for d in rng.choice(300, 12, replace=False)} for q in range(50)}
    ranks = {q: [f"d{d}" for d in rng.permutation(300)[:100]] for q in judged}
    runs = {q: {d: float(100 - n) for n, d in enumerate(ids)} for q, ids in ranks.items()}
    theirs = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "recall.100"}).evaluate(runs)
    for name, ours, key in (
        ("nDCG@10", [beir.ndcg(ranks[q], judged[q]) for q in judged], "ndcg_cut_10"),
        ("R@100", [beir.recall(ranks[q], judged[q], 100) for q in judged], "recall_100"),
    ):
        yield name, "pytrec_eval", float(np.mean(ours)), float(np.mean([theirs[q][key] for q in judged]))


def of_pingouin() -> Iterator[Row]:
    """ICC of two readings with an offset."""
    import pandas as pd
    import pingouin

    rng = np.random.default_rng(3)
    x = rng.uniform(0, 90, 60)
    y = x + 3 + rng.normal(0, 8, 60)
    ours = agreement(x.tolist(), y.tolist())
    long = pd.DataFrame({"field": list(range(60)) * 2, "by": ["a"] * 60 + ["b"] * 60, "index": [*x, *y]})
    theirs = pingouin.intraclass_corr(long, "field", "by", "index").set_index("Type")["ICC"]
    absolute, consistency = (
        next(v for k, v in theirs.items() if k in names) for names in (("ICC2", "ICC(A,1)"), ("ICC3", "ICC(C,1)"))
    )
    yield "ICC(2,1)", "pingouin", ours.icc.value, float(absolute)
    yield "ICC(3,1)", "pingouin", ours.icc_consistency.value, float(consistency)


def of_thunder() -> Iterator[Row]:
    """THUNDER's zero-shot classifier, kNN with its own choice of k, and its SimpleShot on all of train."""
    from thunder.tasks.image_retrieval import topk_retrieval

    def theirs(keys: np.ndarray, labels: np.ndarray, queries: np.ndarray, truth: np.ndarray, k: int = 1) -> float:
        metrics, *_ = topk_retrieval(keys, labels, queries, truth, [k], disable_progress_bar=True, compute_ci=False)
        return float(np.mean(metrics[k]["f1"]["metric_score"]))

    features, truth, prompts = drawn()
    ours = macro_f1(truth, (features @ prompts.T).argmax(axis=1), CLASSES)
    yield "macro F1, zero-shot", "THUNDER", ours, theirs(prompts, np.arange(CLASSES), features, truth)
    train, val, test = (probes.Features(features[n::3], truth[n::3]) for n in range(3))
    probe = probes.nearest_neighbours(train, val, test, CLASSES)
    k = max(probes.NEIGHBOURS, key=lambda k: theirs(train.vectors, train.labels, val.vectors, val.labels, k))
    value = theirs(train.vectors, train.labels, test.vectors, test.labels, k)
    yield f"macro F1, kNN, {probe.setting} and {k}", "THUNDER", _f1(probe, test), value
    centre = train.vectors.mean(axis=0)
    means = np.stack([(train.vectors[train.labels == c] - centre).mean(axis=0) for c in range(CLASSES)])
    value = theirs(means, np.arange(CLASSES), test.vectors - centre, test.labels)
    yield "macro F1, SimpleShot, all of train", "THUNDER", _f1(probes.simple_shot(train, test, CLASSES), test), value


def _f1(probe: probes.Probe, test: probes.Features) -> float:
    return macro_f1(test.labels, probe.probabilities.argmax(axis=1), CLASSES)


PEERS: tuple[Callable[[], Iterator[Row]], ...] = (
    of_sklearn,
    of_torchmetrics,
    of_clip_benchmark,
    of_thunder,
    of_pytrec_eval,
    of_pingouin,
)


def main() -> None:
    """Run every peer that is here and print both numbers."""
    parser = command_line(__doc__)
    given = parser.parse_args()
    rows: list[Row] = []
    for peer in PEERS:
        try:
            rows += list(peer())
        except ImportError as error:
            print(f"{peer.__name__.removeprefix('of_')}: left out, {error}")
    print(f"{'measure':40s} {'peer':16s} {'ours':>8s} {'theirs':>8s}  equal to three decimals")
    for measure, name, ours, theirs in rows:
        print(f"{measure:40s} {name:16s} {ours:8.4f} {theirs:8.4f}  {'yes' if abs(ours - theirs) < 5e-4 else 'NO'}")
    table = {"columns": ["measure", "peer", "ours", "theirs"], "rows": [[m, p, round(a, 4), round(b, 4)] for m, p, a, b in rows]}
    save(given.json, {"table": table})


if __name__ == "__main__":
    main()
