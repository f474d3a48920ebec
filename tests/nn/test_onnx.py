from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pathasst.core.errors import MissingWeights
from pathasst.nn.onnx import cached_onnx, open_session


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATHASST_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "model" / name).write_text("one")
    return tmp_path / "model"


def test_a_file_is_written_once_for_each_content_and_stamp(folder: Path) -> None:
    written: list[Path] = []

    def write(_: Path, file: Path) -> None:
        written.append(file)
        file.write_text("network")
        file.with_suffix(".text.onnx").write_text("beside it")

    first = cached_onnx(folder, write)
    assert cached_onnx(folder, write) == first and len(written) == 1
    assert sorted(p.name for p in first.parent.iterdir()) == [first.name, first.with_suffix(".text.onnx").name]
    assert cached_onnx(folder, write, stamp="other text tower") != first
    (folder / "config.json").write_text("two")
    assert cached_onnx(folder, write) != first and len(written) == 3


def test_a_writing_that_fails_leaves_nothing(folder: Path) -> None:
    def write(_: Path, file: Path) -> None:
        file.write_text("half")
        raise ValueError("no such layer")

    with pytest.raises(ValueError, match="no such layer"):
        cached_onnx(folder, write)
    assert list((folder.parent / "cache" / "onnx").iterdir()) == []
    (folder / "config.json").unlink()
    with pytest.raises(MissingWeights, match=r"has no config\.json"):
        cached_onnx(folder, write)


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_session_runs_on_as_many_threads_as_asked(tmp_path: Path, threads: int) -> None:
    import torch

    torch.onnx.export(
        torch.nn.ReLU(), (torch.zeros(3),), str(tmp_path / "relu.onnx"), dynamo=False, input_names=["x"], output_names=["y"]
    )
    session = open_session(tmp_path / "relu.onnx", threads)
    assert session.get_session_options().intra_op_num_threads == threads
    assert session.run(None, {"x": np.array([-1, 0, 2], np.float32)})[0].tolist() == [0, 0, 2]
