"""Zero-shot of a PathCLIP beside chance, a colour-histogram baseline and the same model before training, on one split.

python benchmarks/clip_zeroshot.py --pairs out/pairs-labels --model pathclip-embedded [--train-splits train val] [--out table.md]

The baseline is logistic regression on a joint RGB histogram (4×4×4) plus mean and deviation of each channel: it sees labelled
training pictures of the very set, which a zero-shot classifier does not. Chance is the expected macro F1 of guessing classes at
random with equal odds. Intervals: 95 %, bootstrap over originals (1000 draws, seed 0).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pathasst.clip import zeroshot as zs
from pathasst.clip.build import build
from pathasst.clip.model import PathCLIP, to_square
from pathasst.clip.scores import class_scores


def histogram(example: zs.Example) -> np.ndarray:
    """Joint RGB histogram, mean and deviation: float [70]."""
    pixels = np.asarray(to_square(example.picture(), 128)).reshape(-1, 3)
    bins = (pixels // 64).astype(int) @ np.array([16, 4, 1])
    share = np.bincount(bins, minlength=64) / len(pixels)
    return np.concatenate([share, pixels.mean(axis=0) / 255, pixels.std(axis=0) / 255])


def baseline(task: zs.Task, train: list[zs.Example], test: list[zs.Example]) -> zs.ClassScores:
    """Scores of logistic regression on histograms, fitted on `train`."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    model.fit([histogram(e) for e in train], [e.label for e in train])
    said = model.predict([histogram(e) for e in test])
    return class_scores([e.label for e in test], said, len(task.classes), [e.cluster for e in test])


def chance(task: zs.Task, test: list[zs.Example]) -> float:
    """Mean macro F1 of 20 random guesses."""
    guesses = np.random.default_rng(0)
    truth = [e.label for e in test]
    runs = [
        class_scores(truth, guesses.integers(0, len(task.classes), len(truth)), len(task.classes)).macro_f1.value
        for _ in range(20)
    ]
    return float(np.mean(runs))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--model", default="pathclip-embedded")
    parser.add_argument("--tasks", default="recipes/embedded/clip_zeroshot.yaml")
    parser.add_argument("--train-splits", nargs="+", default=["train", "val"])
    parser.add_argument("--test-splits", nargs="+", default=["test"])
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--out")
    options = parser.parse_args()

    import torch

    clip = PathCLIP.load(options.model)
    torch.manual_seed(0)
    fresh = PathCLIP(build(clip.config), clip.config)
    test_pairs, train_pairs = (zs.labelled(options.pairs, s) for s in (options.test_splits, options.train_splits))
    overlap = set(options.test_splits) & set(options.train_splits)  # leave-one-dataset-out: no fair histogram baseline
    lines = [
        "| task | n (originals) | single prompt | ensemble | colour histogram | untrained | chance |",
        "|---|---|---|---|---|---|---|",
    ]
    for task in zs.load_tasks(options.tasks).values():
        test = zs.examples_of_pairs(test_pairs, task)
        if not test or (options.only and task.name not in options.only):
            continue
        features = clip.encode_image(e.picture() for e in test)
        single = zs.run(clip, task, test, features=features).scores
        many = zs.run(clip, task, test, ensemble=True, features=features).scores
        before = zs.run(fresh, task, test).scores
        colour = "–" if overlap else baseline(task, zs.examples_of_pairs(train_pairs, task), test).macro_f1
        cells = [single.macro_f1, many.macro_f1, colour, before.macro_f1, f"{chance(task, test):.3f}"]
        lines.append(f"| {task.name} | {single.n} ({single.clusters}) | " + " | ".join(str(c) for c in cells) + " |")
        print(lines[-1], flush=True)
    if options.out:
        Path(options.out).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
