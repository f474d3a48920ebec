"""lbc_detect on the recipe's test split: AP, F1 and counts of abnormal cervical cells, beside boxing every labelled cell.

    PATHASST_DATA=… python benchmarks/tools_lbc_detect.py [--model FOLDER]

The baseline is given all cells' exact boxes, normal ones too, and calls each abnormal: what finding cells without judging them
would reach at the best.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
from measured import command_line, save

from pathasst.core import recipes
from pathasst.nn.detector.boxes import Boxes
from pathasst.nn.detector.data import Labelled, gather
from pathasst.nn.detector.evaluate import evaluate
from pathasst.nn.detector.settings import DetectorTraining
from pathasst.nn.detector.train import score, truths
from pathasst.tools.lbc_detect import LbcDetect


def every_cell(picture: Labelled) -> Boxes:
    """All labelled cells, equally sure, of the first class."""
    n = len(picture.boxes)
    return Boxes(picture.boxes, np.ones(n, np.float32), np.zeros(n, np.int64))


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__)
    parser.add_argument("--model", help="a folder of other weights")
    given = parser.parse_args()
    recipe = DetectorTraining.load(recipes.recipe_path("lbc_detect", "embedded")).rooted(Path(os.environ["PATHASST_DATA"]))
    pictures = gather(recipe.data, recipe.model.classes)["test"]
    tool = LbcDetect(given.model) if given.model else LbcDetect()
    tool.detector.reader.bf16 = False  # type: ignore[attr-defined] # float32: the same table on every machine
    found = score(tool.detector, pictures)
    print(f"{tool.version()}, {len(pictures)} test fields\n\n{found.table()}")
    names = {i: recipe.model.classes[i] for i in recipe.model.reported}
    blind = evaluate([every_cell(p) for p in pictures], truths(pictures, recipe.model), names, 0.5).any_class
    print(f"\nevery labelled cell boxed and called abnormal: AP@0.5 {blind.ap50}, F1 {blind.f1}")
    save(given.json, asdict(found) | {"every cell boxed": asdict(blind)})


if __name__ == "__main__":
    main()
