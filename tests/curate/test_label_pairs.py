from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pathasst.core.errors import BadSettings
from pathasst.core.recipes import recipes_dir
from pathasst.core.records import Pair
from pathasst.curate.label_pairs import captions_of, compose, split_of
from pathasst.curate.label_sets import LabelRecipe, read_items
from pathasst.dataset import read, validate

RECIPE = {
    "seed": 1,
    "max_side": 64,
    "templates": {
        "histology": {
            "short": ["{name}", "An image of {name}"],
            "long": ["A stained section of {name} in which a reader can clearly see {shows}."],
        }
    },
    "concepts": {
        "tumor": {"names": ["tumor", "carcinoma"], "shows": ["crowded dark nuclei of very different sizes"]},
        "normal": {"names": ["normal tissue"], "shows": ["regular glands with small basal nuclei"]},
        "tissue": {"names": ["tissue"]},
    },
    "sets": [
        {
            **{"id": "patches", "kind": "image", "table": "patches/labels.csv", "group": "original", "modality": "histology"},
            **{"title": "Patches", "licence": "CC0-1.0", "captions": 3},
            "classes": {"t": ["tumor", "tissue"], "n": ["normal", "tissue"]},
        },
        {
            **{"id": "cells", "kind": "cell", "table": "cells/labels.csv", "modality": "histology", "side": 20},
            **{"title": "Cells", "licence": "CC0-1.0", "captions": 2, "per_image": 2},
            "classes": {"p": ["tumor"]},
        },
        {
            **{"id": "fields", "kind": "field", "table": "cells/labels.csv", "modality": "histology", "captions": 1},
            **{"title": "Fields", "licence": "CC0-1.0"},
            "counts": {"label": ["tissue"], "sentence": "A field with {p} positive of {all} marked cells."},
        },
    ],
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    for name in ("patches", "cells"):
        (root / name).mkdir()
    chance = np.random.default_rng(0)
    with (root / "patches" / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label", "original"])
        for n in range(20):
            Image.fromarray(chance.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(root / "patches" / f"{n}.png")
            writer.writerow([f"{n}.png", "tn"[n % 2], f"original-{n // 4}"])
        writer.writerow(["gone.png", "t", "original-9"])
    Image.fromarray(chance.integers(0, 255, (100, 120, 3), dtype=np.uint8)).save(root / "cells" / "a.png")
    with (root / "cells" / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["image", "x", "y", "label"], *[["a.png", 10 * n, 50, "pq"[n > 3]] for n in range(6)]])
    return root


@pytest.fixture
def recipe(tmp_path: Path) -> LabelRecipe:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    return LabelRecipe.load(path)


def test_compose_writes_sound_pairs(recipe: LabelRecipe, data: Path, tmp_path: Path) -> None:
    manifest = compose(recipe, data, tmp_path / "out")
    assert validate(tmp_path / "out", Pair) == [] and manifest.dropped == {"unreadable": 1}
    pairs = list(read(tmp_path / "out", Pair))
    patches = [p for p in pairs if p.label.startswith("patches/")]
    assert len(patches) == 20 * 3 and {p.source.kind for p in patches} == {"labels"}
    splits: dict[str, set[str]] = {}
    for p in patches:
        splits.setdefault(p.group, set()).add(p.split)
        assert p.concept in recipe.true_of()[p.label]
    assert all(len(s) == 1 for s in splits.values())
    assert any(len(p.caption.split()) > 12 for p in patches)
    assert len({(p.md5, p.caption) for p in patches}) == len(patches)


def test_cells_are_cut_inside_and_limited(recipe: LabelRecipe, data: Path, tmp_path: Path) -> None:
    compose(recipe, data, tmp_path / "out", only=["cells"])
    pairs = list(read(tmp_path / "out", Pair))
    assert len({p.md5 for p in pairs}) == 2 and {(p.width, p.height) for p in pairs} == {(20, 20)}


def test_fields_count_what_was_marked(recipe: LabelRecipe, data: Path, tmp_path: Path) -> None:
    compose(recipe, data, tmp_path / "out", only=["fields"])
    pairs = list(read(tmp_path / "out", Pair))
    assert pairs[0].caption == "A field with 4 positive of 6 marked cells." and pairs[0].concept == ""
    assert {p.label for p in pairs} == {"fields/field"} and max(pairs[0].width, pairs[0].height) == 64


def test_a_missing_set_fails_alone(recipe: LabelRecipe, data: Path, tmp_path: Path) -> None:
    gone = recipe.model_copy(update={"sets": [recipe.sets[1], recipe.sets[0].model_copy(update={"table": "none/labels.csv"})]})
    manifest = compose(gone, data, tmp_path / "out")
    assert [f.unit for f in manifest.failures] == ["patches-000"] and "is missing" in manifest.failures[0].failed
    assert manifest.rows == 4


def test_the_same_recipe_gives_the_same_bytes(recipe: LabelRecipe, data: Path, tmp_path: Path) -> None:
    one, two = (compose(recipe, data, tmp_path / n) for n in "ab")
    assert [s.sha256 for s in one.shards] == [s.sha256 for s in two.shards]


def test_captions_are_different_and_mostly_specific(recipe: LabelRecipe) -> None:
    made = captions_of(recipe, recipe.sets[0].model_copy(update={"captions": 5}), ["tumor", "tissue"], random.Random(0))
    assert len({c for c, _ in made}) == 5 and Counter(c for _, c in made).most_common(1)[0][0] == "tumor"


def test_splits_follow_the_shares_and_the_group_alone() -> None:
    counts = Counter(split_of(f"g{n}", {"val": 0.1, "test": 0.2}, 3) for n in range(3000))
    assert counts["test"] == pytest.approx(600, abs=80) and counts["val"] == pytest.approx(300, abs=60)
    assert split_of("g1", {"val": 0.1, "test": 0.2}, 3) == split_of("g1", {"val": 0.1, "test": 0.2}, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sets": [{**RECIPE["sets"][0], "classes": {"t": ["unheard of"]}}]}, "not defined"),
        ({"sets": [{**RECIPE["sets"][0], "modality": "x-ray"}]}, "no templates"),
        ({"colour": 3}, "Extra inputs"),
    ],
)
def test_slips_in_a_recipe_are_named(tmp_path: Path, change: dict, message: str) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({**RECIPE, **change}))
    with pytest.raises(BadSettings, match=message):
        LabelRecipe.load(tmp_path / "r.yaml")


def test_unknown_set(recipe: LabelRecipe, data: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="no set nothing"):
        compose(recipe, data, tmp_path / "out", only=["nothing"])


@pytest.mark.real
def test_every_set_of_the_shipped_recipe_is_read(real_data: Path) -> None:
    recipe = LabelRecipe.load(recipes_dir() / "embedded" / "clip_labels.yaml")
    sizes = {one.id: len(read_items(one, real_data)) for one in recipe.sets}
    assert min(sizes.values()) > 0 and sizes["lc25000"] == 1212 and sizes["pbc_blood"] == 80


@pytest.mark.real
def test_atlas_pictures_get_their_heading(real_data: Path, tmp_path: Path) -> None:
    recipe = LabelRecipe.load(recipes_dir() / "embedded" / "clip_labels.yaml")
    compose(recipe, real_data, tmp_path, only=["book_atlas"])
    pairs = list(read(tmp_path, Pair))
    assert len(pairs) > 80 and {p.source.kind for p in pairs} == {"book"}
    assert any("olon" in p.caption for p in pairs) and not any(p.caption[0].isdigit() for p in pairs)
