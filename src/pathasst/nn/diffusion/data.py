"""What a generator learns from: the cells of a classifier's recipe, or image + text in Hugging Face's imagefolder layout."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pathasst.core import recipes
from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.tables import lines_of
from pathasst.nn.classifier import ClassifierItem, ClassifierTraining, split_items
from pathasst.nn.classifier.items import parts, read_source
from pathasst.nn.diffusion.training import GeneratorTraining


def recipe_cells(
    recipe: str, root: Path, changes: Iterable[str] = (), **settings: Any
) -> tuple[GeneratorTraining, dict[str, list[ClassifierItem]]]:
    """A recipe's settings and its cells by split. `split` names the classifier recipe whose sources and split are taken, `data`
    those of its sources that show single cells: what the classifier was tested on, the generator has not seen either.

    `changes` are texts `name=value`, `settings` values of single settings. Raises BadSettings for a recipe without the two.
    """
    own = GeneratorTraining.load(recipe, changes, **settings)
    if not own.split or not own.data:
        raise BadSettings(
            f"{recipe}: the generator's recipe needs `split` (a classifier's recipe) and `data` (names of its sources)."
        )
    name = own.split
    file = name if name.endswith((".yaml", ".yml")) else str(recipes.recipes_dir() / "embedded" / f"{name}.yaml")
    classifier = ClassifierTraining.load(file).rooted(root)
    items = [item for source in classifier.data for item in read_source(source)]
    split = parts(split_items(items, classifier.val, classifier.test, classifier.seed))
    return own, {k: [i for i in v if i.source in own.data] for k, v in split.items()}


def image_texts(folder: Path) -> tuple[list[ClassifierItem], list[str]]:
    """Pictures and their sentences: `metadata.jsonl` or `metadata.csv` in the folder with `file_name` and `text` in each row,
    and `split` (train, val) where there is one.

    Raises BadDataset when neither file is there or a row lacks one of them.
    """
    rows = _rows(folder)
    if not rows or any(not r.get("file_name") or not r.get("text") for r in rows):
        raise BadDataset(f"{folder}: metadata needs file_name and text in every row.")
    items = [ClassifierItem(folder / r["file_name"], "cell", r["file_name"], r.get("split") or "train") for r in rows]
    return items, [str(r["text"]) for r in rows]


def _rows(folder: Path) -> list[dict[str, Any]]:
    lines, table = folder / "metadata.jsonl", folder / "metadata.csv"
    try:
        if lines.is_file():
            return [json.loads(line) for line in lines_of(lines.read_text(encoding="utf-8")) if line.strip()]
        with table.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError) as error:
        raise BadDataset(f"{folder} holds no readable metadata.jsonl or metadata.csv: {error}") from error
