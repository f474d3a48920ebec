"""Picture classifiers: any timm backbone, trained on the user's labels, calibrated, measured. Knows no tool and no stain.

from pathasst.nn.classifier import Classifier, ClassifierTraining, read_items, train
train(ClassifierTraining(minutes=10), read_items(Path("my_cells")), Path("out/cells"))
Classifier.load("out/cells").predict([picture])        # float32 [n, classes]
"""

from typing import Any

from pathasst.nn.classifier.items import ClassifierItem, read_items, split_items
from pathasst.nn.classifier.model import Classifier
from pathasst.nn.classifier.scores import ClassifierScores, evaluate
from pathasst.nn.classifier.settings import ClassifierConfig, ClassifierTraining

__all__ = [
    "Classifier",
    "ClassifierConfig",
    "ClassifierTraining",
    "ClassifierItem",
    "ClassifierScores",
    "evaluate",
    "read_items",
    "split_items",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "train":  # torch is imported only by those who train
        from pathasst.nn.classifier.training import train

        return train
    raise AttributeError(name)
