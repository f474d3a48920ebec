"""A GGUF model in this process, through llama.cpp: it answers on a loopback port that only this process is told of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pathasst.core import weights
from pathasst.core.errors import BadSettings, MissingPackage, MissingWeights

CONTEXT = 4096
THREADS = "PATHASST_THREADS"


def start(
    model: str, *, vision: Path | None = None, parallel: int = 1, context: int = CONTEXT, threads: int = 0, key: str = ""
) -> tuple[Any, str]:
    """The running engine, to be kept as long as it is used, and its base URL, which ends in `/v1`.

    `model`: a GGUF file, or the id of a registered model; `vision`: the file of its tower and projector (mmproj); `context`:
    tokens each of `parallel` conversations may hold; `threads`: see `thread_count`; `key`: what a request must carry.
    Raises MissingPackage without llama.cpp, MissingWeights without a file, RuntimeError for a file that llama.cpp refuses.
    """
    try:
        import xllamacpp
    except ImportError:
        raise MissingPackage("a model in this process needs llama.cpp: pip install 'pathasst[llamacpp]'") from None
    params = xllamacpp.CommonParams()
    params.model.path = str(_file(model))
    params.n_ctx, params.n_parallel = context * parallel, parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = thread_count(threads)
    params.hostnames, params.port, params.verbosity = ["127.0.0.1"], 0, 0
    if vision is not None:
        params.mmproj.path, params.mmproj_use_gpu, params.warmup = str(vision), False, False
    if key:
        params.api_keys = [key]
    engine = xllamacpp.Server(params)
    return engine, f"{engine.listening_address.rstrip('/')}/v1"


def thread_count(threads: int = 0) -> int:
    """How many threads llama.cpp gets: what is asked for, else `$PATHASST_THREADS`, else `$OMP_NUM_THREADS`, else one less than
    the cores that this process may use.

    llama.cpp's threads wait for each other at every layer, so one core taken by somebody else slows all of them: with both of two
    cores on a busy machine it ran at a twelfth of its speed on one. Raises BadSettings for a variable that is no number.
    """
    for name in (THREADS, "OMP_NUM_THREADS"):
        if threads:
            break
        value = os.environ.get(name, "").partition(",")[0].strip()
        if value and not value.isdigit():
            raise BadSettings(f"${name} must be a number of threads, not {value!r}.")
        threads = int(value or 0)
    return threads or max(1, len(os.sched_getaffinity(0)) - 1)


def reads_lark() -> bool:
    """Whether the installed llama.cpp holds a text to llguidance's grammars."""
    import xllamacpp

    return str(xllamacpp.json_schema_to_grammar("{}")).startswith("%llguidance")


def _file(model: str) -> Path:
    path = Path(model)
    if path.suffix == ".gguf":
        if path.is_file():
            return path
        raise MissingWeights(f"{model} does not exist.")
    ggufs = sorted(weights.path(model).glob("*.gguf"))
    if not ggufs:
        raise MissingWeights(f"{model} holds no GGUF file; name one that does (pathasst models list).")
    return ggufs[0]
