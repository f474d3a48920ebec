"""Weights that others saved are read in any shards, and what is no weights is called what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pathasst.core.checkpoints import read_state
from pathasst.core.errors import BadInput


class Whole(torch.nn.Linear):
    """Saved as a program's own object."""


def test_what_is_no_weights_is_called_what_it_is(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(4000)}, tmp_path / "cut.pt")
    whole = (tmp_path / "cut.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.save(Whole(2, 2), tmp_path / "model.pt")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "lfs.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    (tmp_path / "page.pt").write_text("<!DOCTYPE html><title>Denied</title>")
    for name, words in (
        ("cut", "cut off"),
        ("model", "state_dict"),
        ("empty", "is empty"),
        ("lfs", "git lfs pull"),
        ("page", "web page"),
    ):
        with pytest.raises(BadInput, match=words) as raised:
            read_state(tmp_path / f"{name}.pt")
        assert "arbitrary code" not in str(raised.value) and "trust" not in str(raised.value)


def test_shards_of_torch_files_are_read_and_a_missing_one_is_named(tmp_path: Path) -> None:
    for name in "ab":
        torch.save({name: torch.ones(2)}, tmp_path / f"pytorch_model-{name}.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {n: f"pytorch_model-{n}.bin" for n in "ab"}}))
    assert sorted(read_state(index)) == ["a", "b"]
    (tmp_path / "pytorch_model-b.bin").unlink()
    with pytest.raises(BadInput, match=r"pytorch_model-b\.bin is not beside it"):
        read_state(index)
