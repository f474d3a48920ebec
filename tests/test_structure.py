"""The shape of the code as a report: `pytest tests/test_structure.py -s`. Only the 95th percentile is held; size is a symptom."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SOURCE = {p: p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py")}


def summary(what: str, sizes: list[int]) -> float:
    """Print median, 95th percentile and largest, and give the 95th percentile."""
    median, high = np.percentile(sizes, (50, 95))
    print(f"{what}: {len(sizes)}, median {median:.0f} lines, 95th percentile {high:.0f}, largest {max(sizes)}")
    return float(high)


def test_most_files_and_functions_can_be_read_in_one_sitting() -> None:
    assert len(SOURCE) > 300
    functions = [n for text in SOURCE.values() for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    assert summary("files", [len(text.splitlines()) for text in SOURCE.values()]) < 350
    assert summary("functions", [(f.end_lineno or 0) - f.lineno + 1 for f in functions]) < 50


@pytest.mark.parametrize("target", ["demo", "test", "lint", "types", "docs", "wheel", "models", "audit"])
def test_make_knows_how_to_begin_with_nothing(target: str, tmp_path: Path) -> None:
    """As on a fresh machine, where nothing is installed yet."""
    plan = subprocess.run(
        ["make", "--dry-run", f"VENV={tmp_path}/venv", target], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert plan.returncode == 0, plan.stderr
    assert "-m venv" in plan.stdout
