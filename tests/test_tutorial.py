"""Every command of docs/tutorial.md and of the README runs as it stands there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pathasst import weights
from pathasst.cli.main import app
from pathasst.examples import example_article
from pathasst.records import Conversation, Pair

ROOT = Path(__file__).parent.parent
NEEDED = ("minilm", "smollm2-135m", "pathclip-embedded", "pathasst-embedded", "ki67-embedded")


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)


def commands(page: str, language: str) -> list[str]:
    """The `pathasst` lines of a page's blocks, comments cut off."""
    lines = [line.split("  #")[0].strip() for block in blocks(page, language) for line in block.splitlines()]
    return [line for line in lines if line.startswith("pathasst ")]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the tutorial takes for granted: the example article and the command."""
    if lacking := [id_ for id_ in NEEDED if not weights.present(id_)]:
        pytest.skip(f"not fetched: {', '.join(lacking)} (make models)")
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(example_article(), folder / "examples" / "article")
    (folder / "bin").mkdir()
    command = folder / "bin" / "pathasst"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m pathasst.cli.main "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def walked(workplace: Path) -> Path:
    """The tutorial, run from its first block to its last, stopping at the first error."""
    script = "set -eu\n" + "\n".join(blocks("docs/tutorial.md", "bash"))
    environment = {**os.environ, "PATH": f"{workplace / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(["bash", "-c", script], cwd=workplace, env=environment, capture_output=True, text=True, timeout=800)
    assert run.returncode == 0, run.stdout[-1500:] + run.stderr[-2500:]
    (workplace / "printed.txt").write_text(run.stdout, encoding="utf-8")
    return workplace


def test_the_tutorial_ends_with_an_assistant_of_ones_own(walked: Path) -> None:
    from pathasst import dataset

    assert list(dataset.read(walked / "out/pairs", Pair))
    assert list(dataset.read(walked / "out/conversations", Conversation))
    assert (walked / "out/pathclip/model.safetensors").is_file()
    assert (walked / "out/answer/answer.json").is_file()
    assert "ki67_cells" in (walked / "out/shipped/answer.json").read_text(encoding="utf-8")
    assert "R@10" in (walked / "out/eval/retrieval.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
@pytest.mark.parametrize("language", ["bash", "console", ""])
def test_every_command_that_is_named_exists_with_its_options(page: str, language: str) -> None:
    """Commands that need a network, a server or a long time are checked against the command line's own parser."""
    import shlex

    import typer

    root = typer.main.get_command(app)
    for line in commands(page, language):
        words = shlex.split(line.replace("…", "").replace("|| true", ""))[1:]
        command = root
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        given = {w.split("=")[0] for w in words if w.startswith("--")}
        assert not getattr(command, "commands", {}) or not words, f"{page}: {line!r} names no command"
        assert given <= known, f"{page}: {line!r} has unknown options {sorted(given - known)}"
