"""lbc_classify on the recipe's test split: macro and weighted F1 per source, with 95 % intervals by original or field.

    PATHASST_DATA=… python benchmarks/tools_lbc.py [--model FOLDER]

Fields (Mendeley LBC) are judged among NILM, LSIL, HSIL, SCC, as the tool does; cells (CRIC) among all six. The baseline is a
colour histogram (8 bins a channel) with logistic regression on the same training pictures: what can be had without looking at
shapes.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
from measured import save

from pathasst.core import recipes
from pathasst.nn import heads
from pathasst.nn.classifier import Classifier, ClassifierItem, ClassifierScores, ClassifierTraining, evaluate, split_items
from pathasst.nn.classifier.items import parts, read_picture, read_source
from pathasst.tools.lbc_classify import BETHESDA, FIELDS, WEIGHTS


def histogram(picture: np.ndarray) -> np.ndarray:
    """24 numbers."""
    return np.concatenate([np.histogram(picture[..., c], 8, (0, 256))[0] / picture[..., c].size for c in range(3)])


def baseline(train: list[ClassifierItem], test: list[ClassifierItem]) -> np.ndarray:
    """Probabilities [n, six classes] of the baseline."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    model.fit([histogram(read_picture(i)) for i in train], [BETHESDA.index(i.label) for i in train])
    found = np.zeros((len(test), len(BETHESDA)))
    found[:, model.classes_] = model.predict_proba([histogram(read_picture(i)) for i in test])
    return found


KEPT: dict[str, dict[str, object]] = {}


def show(name: str, scores: ClassifierScores) -> None:
    """One line of the table, and the classes."""
    spans = {"macro F1": scores.macro_f1, "weighted F1": scores.weighted_f1, "accuracy": scores.accuracy}
    KEPT[name] = {"n": scores.n, "groups": scores.groups, **spans, "ECE": scores.ece}
    print(
        f"{name:34s} n {scores.n:4d} groups {scores.groups:4d}  macro F1 {scores.macro_f1}  weighted F1 {scores.weighted_f1}",
        end="",
    )
    print(f"  accuracy {scores.accuracy}  ECE {scores.ece:.3f}")
    for label, v in scores.per_class.items():
        if v["n"]:
            print(f"    {label:7s} n {v['n']:4d}  precision {v['precision']:.2f}  recall {v['recall']:.2f}  F1 {v['f1']:.2f}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=WEIGHTS)
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    given = parser.parse_args()
    recipe = recipes.recipe_path("lbc", "embedded")
    settings = ClassifierTraining.load(recipe).rooted(Path(os.environ["PATHASST_DATA"]))
    items = split_items([i for s in settings.data for i in read_source(s)], settings.val, settings.test, settings.seed)
    split, model = parts(items), Classifier.load(given.model)
    for source, classes in (("mendeley", heads.load(FIELDS).classes), ("cric", BETHESDA)):
        train, test = ([i for i in split[name] if i.source == source] for name in ("train", "test"))
        labels, groups = [BETHESDA.index(i.label) for i in test], [i.group for i in test]
        found = np.concatenate([model.predict([read_picture(i) for i in test[n : n + 64]]) for n in range(0, len(test), 64)])
        found = found * np.isin(BETHESDA, classes)
        show(f"{source}, model", evaluate(found / found.sum(1, keepdims=True), labels, BETHESDA, groups))
        show(f"{source}, colour histogram", evaluate(baseline(train, test), labels, BETHESDA, groups))
    save(given.json, KEPT)


if __name__ == "__main__":
    main()
