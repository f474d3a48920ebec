"""Freed memory goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOLES = """
from pathlib import Path
from pathasst.core.malloc import give_back, keep_few_arenas

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

keep_few_arenas()
blocks = [bytes(1000) for _ in range(100_000)]
blocks = blocks[-1:]  # the last one keeps all below it from going back by itself
before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps and gives back like this")
def test_what_is_free_goes_back() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 50_000_000
