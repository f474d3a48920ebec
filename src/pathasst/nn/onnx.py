"""A trained network as an ONNX file, written once for each content of its weights, and run by ONNX Runtime. Knows no network."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core import weights
from pathasst.core.errors import BadInput, MissingWeights
from pathasst.core.files import sha256_of
from pathasst.core.hardware import onnx_providers

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = "1"
"""Part of a file's name: raised when what is written changes."""


def open_session(file: Path, threads: int = 1) -> InferenceSession:
    """An ONNX file, ready to run on one thread, as workers share the cores; 0: on all of them."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    return onnxruntime.InferenceSession(str(file), options, providers=onnx_providers())


def open_foreign(file: Path, threads: int = 1) -> InferenceSession:
    """As `open_session`, of a detector that somebody else exported. Raises MissingWeights, and BadInput for what is no model."""
    from onnxruntime.capi import onnxruntime_pybind11_state as ort

    if not file.is_file():
        raise MissingWeights(f"{file} is not there; export the detector to ONNX and give its path.")
    try:
        return open_session(file, threads)
    except (ort.Fail, ort.InvalidArgument, ort.InvalidGraph, ort.InvalidProtobuf, ort.NotImplemented, RuntimeError) as error:
        raise BadInput(f"{file} is not a usable ONNX model: {error}") from error


def cached_onnx(
    folder: Path,
    write: Callable[[Path, Path], None],
    files: Sequence[str] = ("model.safetensors", "config.json"),
    stamp: str = "",
) -> Path:
    """The ONNX file of a model's folder, made by `write(folder, file)` (with others beside it) if not there yet.

    Its name is the hash of `files`, and of `stamp`: the versions of other weights that go into it. Raises MissingWeights where
    one of `files` is not in the folder.
    """
    digest = hashlib.sha256(f"{FORMAT}{stamp}".encode())
    for name in files:
        if not (folder / name).is_file():
            raise MissingWeights(f"{folder} has no {name}: give a folder that `pathasst train` made.")
        digest.update(sha256_of(folder / name).encode())
    target = weights.cache_dir() / "onnx" / f"{digest.hexdigest()[:16]}.onnx"
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
            write(folder, Path(temporary) / target.name)
            for file in sorted(Path(temporary).iterdir(), key=lambda f: f.name == target.name):  # what lies beside it first
                file.replace(target.parent / file.name)
    return target
