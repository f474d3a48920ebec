"""Labelled pictures as laboratories keep them: the label that is meant, and what is left out said."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from pathasst.core.errors import BadDataset
from pathasst.imaging.pictures import encode_png
from pathasst.nn.classifier.items import read_items

PICTURE = encode_png(np.zeros((9, 9, 3), np.uint8))


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PICTURE)
    return folder


def test_train_and_test_are_splits_and_no_classes(tmp_path: Path) -> None:
    items = read_items(put(tmp_path, "train/benign/a.png", "train/cancer/b.png", "valid/cancer/c.png", "Test/benign/d.png"))
    assert sorted((i.split, i.label) for i in items) == [
        ("test", "benign"), ("train", "benign"), ("train", "cancer"), ("val", "cancer"),
    ]  # fmt: skip


def test_what_programs_leave_beside_the_pictures_is_no_class(tmp_path: Path) -> None:
    put(tmp_path, "benign/a.png", "benign/._a.png", "cancer/b.png", ".ipynb_checkpoints/a.png", "__MACOSX/benign/._a.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [i.label for i in read_items(tmp_path)] == ["benign", "cancer"]
    put(tmp_path, "c.png")
    with pytest.warns(UserWarning, match="1 in no class's folder"):
        read_items(tmp_path)


def test_an_odd_row_costs_itself(tmp_path: Path) -> None:
    put(tmp_path, "a.png", "b.png")
    rows = [
        "filename,class,xmin,ymin,xmax,ymax",
        "a.png,x,1,2,3,4",
        "b.png",
        "b.png,y,1,two,3,4",
        "b.png,y",
        "gone.png,y",
        "b.png,y",
    ]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    with pytest.warns(UserWarning) as warned:
        items = read_items(tmp_path / "t.csv")
    assert [(i.label, i.box) for i in items] == [("x", (1, 2, 3, 4)), ("y", None)]
    says = str(warned[0].message)
    for part in ("4 pictures", "1 in rows", "1 without a label", "1 that are not there", "1 listed twice"):
        assert part in says
    (tmp_path / "t.csv").write_text("path,label\ngone.png,x\nnone.png,y\n")
    with pytest.raises(BadDataset, match="2 that are not there"):
        read_items(tmp_path / "t.csv")
