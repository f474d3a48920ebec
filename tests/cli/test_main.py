"""The command line answers at once and fails in sentences."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "transformers", "daft", "faiss", "pyarrow", "PIL", "numpy", "lxml")


def pathasst(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pathasst.cli.main", *args], capture_output=True, text=True, check=False, cwd=cwd
    )


def test_help_imports_nothing_heavy() -> None:
    script = f"import sys, pathasst.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def commands(*path: str) -> list[tuple[str, ...]]:
    import click
    import typer.main

    from pathasst.cli.main import app

    def walk(command: object, name: tuple[str, ...]) -> list[tuple[str, ...]]:
        children = getattr(command, "commands", {})
        return [name, *(p for n, c in children.items() for p in walk(c, (*name, n)))]

    del click
    return walk(typer.main.get_command(app), ())


@pytest.mark.parametrize("command", commands(), ids=lambda c: " ".join(c) or "pathasst")
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    from typer.testing import CliRunner

    from pathasst.cli.main import app

    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert len(result.output.split()) > 8


def test_errors_are_one_message_without_a_traceback(tmp_path: Path) -> None:
    run = pathasst("dataset", "validate", str(tmp_path))
    assert run.returncode == 1
    assert "manifest.json is missing" in run.stderr
    assert "Traceback" not in run.stderr
