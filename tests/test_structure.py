"""What a reader may count on: files and functions that fit."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
FILES = {p: p.read_text(encoding="utf-8") for folder in ("src", "tests", "benchmarks") for p in (ROOT / folder).rglob("*.py")}


def test_no_file_is_longer_than_400_lines() -> None:
    assert len(FILES) > 300
    assert [str(p) for p, text in FILES.items() if len(text.splitlines()) > 400] == []


def test_no_function_is_longer_than_60_lines() -> None:
    source = {p: text for p, text in FILES.items() if p.is_relative_to(ROOT / "src")}
    functions = [(p, n) for p, text in source.items() for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    assert [f"{p.name}: {f.name}" for p, f in functions if (f.end_lineno or 0) - f.lineno >= 60] == []
