"""A GGUF model in this process, through llama.cpp: it answers on a loopback port that only this process is told of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pathasst.core import weights
from pathasst.core.errors import MissingPackage, MissingWeights

CONTEXT = 4096


def start(model: str, *, parallel: int = 1, context: int = CONTEXT, threads: int = 0) -> tuple[Any, str]:
    """The running engine, to be kept as long as it is used, and its base URL.

    `model`: a GGUF file, or the id of a registered model; `context`: tokens each of `parallel` conversations may hold;
    `threads`: 0 = every core.
    Raises MissingPackage without llama.cpp, MissingWeights without a file.
    """
    try:
        import xllamacpp
    except ImportError:
        raise MissingPackage("a model in this process needs llama.cpp: pip install 'pathasst[llamacpp]'") from None
    params = xllamacpp.CommonParams()
    params.model.path = str(_file(model))
    params.n_ctx = context * parallel
    params.n_parallel = parallel
    if threads:
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.port = 0
    params.verbosity = 0
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or len(os.sched_getaffinity(0))
    engine = xllamacpp.Server(params)
    return engine, f"{engine.listening_address.rstrip('/')}/v1"


def _file(model: str) -> Path:
    path = Path(model)
    if path.suffix == ".gguf":
        if path.is_file():
            return path
        raise MissingWeights(f"{model} does not exist.")
    found = sorted(weights.path(model).glob("*.gguf"))
    if not found:
        raise MissingWeights(f"{model} holds no GGUF file; name one that does (pathasst models list).")
    return found[0]
