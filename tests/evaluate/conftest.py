"""Lets the tests of this folder import their shared parts, and the language server of `tests/llm`."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "llm")]
