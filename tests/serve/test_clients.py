"""The libraries by which programs ask an OpenAI-compatible server, as their users write them.

Their versions of `openai` exclude each other, so each may live in an environment of its own: `make clients` makes them, and
`PATHASST_CLIENTS` names further interpreters. What is not installed is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from assistant_parts import CountDark
from server_parts import RuleBrain, Running, data_url, running

from pathasst.assistant.brains.settings import ReplyOptions
from pathasst.imaging.pictures import encode_png
from pathasst.tools.protocol import Registry

HERE = Path(__file__).parent
ENVIRONMENTS = (HERE.parents[1] / "out").glob("clients-*/bin/python")
PYTHONS = [sys.executable, *filter(None, os.environ.get("PATHASST_CLIENTS", "").split(os.pathsep)), *map(str, ENVIRONMENTS)]


class Tolerant(RuleBrain):
    """Takes the settings of decoding that LlamaIndex sends unasked, as the embedded assistant does: nothing is sampled."""

    def with_options(self, options: ReplyOptions) -> Tolerant:
        return self


def interpreter(package: str) -> str:
    for python in PYTHONS:
        probe = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({package!r}) is None)"
        if subprocess.run([python, "-c", probe], check=False).returncode == 0:
            return python
    pytest.skip(f"{package} is not installed: make clients")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    registry = Registry()
    registry.add(CountDark())
    with running(tmp_path_factory.mktemp("clients"), registry, Tolerant()) as made:
        yield made


@pytest.mark.parametrize(
    ("package", "script"),
    [
        ("langchain_openai", "langchain_client"),
        ("litellm", "litellm_client"),
        ("llama_index", "llamaindex_client"),
        ("instructor", "instructor_client"),
    ],
)
def test_a_client_is_served(package: str, script: str, server: Running, spots: np.ndarray) -> None:
    python = interpreter(package)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OPENAI_API_KEY")}
    command = [python, str(HERE / "clients" / f"{script}.py"), server.v1, data_url(encode_png(spots))]
    ran = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0 and ran.stdout.strip().endswith("ok"), ran.stdout + ran.stderr
