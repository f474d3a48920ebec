"""Every command of docs/tutorial.md and of the README runs as it stands there.

All run in this process, one after the other: a process each would import torch and load the models anew. What a process of its
own shows (exit codes, signals, a folder without the checkout) is tested in tests/cli and test_wheel.py.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.core import weights
from pathasst.core.records import Conversation, Pair
from pathasst.core.resources import example_article
from pathasst.papers import build_default, ready

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests/llm"))

from fake_llm import FakeServer  # noqa: E402 - a part of other tests

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
    """A folder that holds what the tutorial takes for granted: the example article."""
    if lacking := [id_ for id_ in NEEDED if not weights.present(id_)]:
        pytest.skip(f"not fetched: {', '.join(lacking)} (make models)")
    folder = tmp_path_factory.mktemp("tutorial")
    shutil.copytree(example_article(), folder / "examples" / "article")
    return folder


def run(line: str, folder: Path) -> str:
    """What a `pathasst` line prints in a folder; the test fails where the command does. `${NAME:-default}` is the default."""
    words = shlex.split(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", line))
    with chdir(folder):
        result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, f"{line}\n{result.output[-4000:]}\n{result.exception!r}"
    return result.stdout


@pytest.fixture(scope="module")
def walked(workplace: Path) -> Path:
    """The tutorial, run from its first block to its last, stopping at the first error."""
    lines = commands("docs/tutorial.md", "bash")
    assert len(lines) == len("".join(blocks("docs/tutorial.md", "bash")).splitlines()), "each line is one command"
    for line in lines:
        run(line, workplace)
    return workplace


def test_the_tutorial_ends_with_an_assistant_of_ones_own(walked: Path) -> None:
    from pathasst import dataset

    assert list(dataset.read(walked / "out/pairs", Pair))
    assert list(dataset.read(walked / "out/conversations", Conversation))
    assert (walked / "out/pathclip/model.safetensors").is_file()
    assert (walked / "out/answer/answer.json").is_file()
    assert "ki67_cells" in (walked / "out/shipped/answer.json").read_text(encoding="utf-8")
    assert "R@10" in (walked / "out/eval/retrieval.md").read_text(encoding="utf-8")


PAGES = ("README.md", "docs/tutorial.md")
ELSEWHERE = {
    "pathasst collect pmc": "tests/collect/test_pmc.py",  # reads a bucket on loopback
    "pathasst --install-completion": "tests/cli/test_main.py",  # it would change the tester's shell
    "pathasst serve": "tests/serve/test_serve_command.py",  # a server of its own process
    "pathasst mcp": "tests/serve/test_mcp.py",  # a client talks to it
    "pathasst models pull": "tests/core/test_weights.py",  # 1.1 GB; there a few bytes
    "pathasst train clip …": "docs/tutorial.md",
    "pathasst train mllm …": "docs/tutorial.md",
    "pathasst slide run": "tests/wsi/test_run.py",
    "pathasst eval compare": "tests/evaluate/test_report.py",
    "pathasst train classifier": "tests/cli/test_train_specialists.py",
    "pathasst train detector": "tests/cli/test_train_specialists.py",
    "pathasst train generator": "tests/cli/test_train_specialists.py",
}
"""Commands that run in a test of their own, or on the other page."""


def inline(page: str) -> list[str]:
    """The commands within a page's sentences and tables."""
    text = re.sub(r"^```.*?^```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)
    return list(dict.fromkeys(re.findall(r"`(pathasst [^`]+)`", text)))


def run_here(page: str) -> list[str]:
    """What of a page's commands is to run in this file."""
    lines = [*inline(page), *commands(page, "console"), *commands(page, "")]
    return [line for line in lines if not line.startswith(tuple(ELSEWHERE))]


def test_what_runs_elsewhere_does() -> None:
    for command, place in ELSEWHERE.items():
        words = command.removeprefix("pathasst ").removesuffix(" …").split()
        text = (ROOT / place).read_text(encoding="utf-8")
        assert all(word in text for word in words), f"{place} runs no `{command}`"


@pytest.fixture(scope="module")
def stand_ins(walked: Path) -> Iterator[dict[str, str]]:
    """What stands for the page's placeholders, in the folder where the tutorial was walked."""
    picture = walked / "examples/article/demo-001-g003.jpg"
    shutil.copy(picture, walked / "field.png")
    (walked / "sets").mkdir()
    server = FakeServer()
    requests = {"ARTICLES": "examples", "IMAGE": "field.png", "SETS": "sets", "NAME": "minilm", "…": "What is it?"}
    brain = f"--brain {server.url}#model"
    yield (
        requests
        | {"--brain http://localhost:8000/v1#model": brain, "eval all": f"eval all --limit 1 {brain}"}
        | {"eval tools": f"eval tools --limit 1 {brain}"}
    )
    server.stop()


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in run_here(page)}))
def test_a_command_of_the_pages_runs(walked: Path, stand_ins: dict[str, str], line: str) -> None:
    """After the tutorial, whose results these commands read. Placeholders are filled in; little is asked where much would be."""
    for old, new in stand_ins.items():
        line = line.replace(old, new)
    if line.startswith("pathasst papers search") and not ready():  # as the demo, or `pathasst papers build`, leaves it
        build_default(fetch=True)
    assert run(line, walked).strip()


def test_the_python_of_the_readme_runs(walked: Path, stand_ins: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = blocks("README.md", "python")
    with chdir(walked):
        exec(compile(script, "README.md", "exec"), {"__name__": "__main__"})
    assert "ki67_cells" in capsys.readouterr().out


def test_a_tool_of_ones_own_has_twenty_lines_and_runs() -> None:
    (script,) = blocks("docs/own.md", "python")
    assert len([line for line in script.splitlines() if line.strip()]) <= 20
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert finished.stdout.strip() == "100% of the picture is empty glass.", finished.stderr[-2000:]


@pytest.mark.parametrize("page", ["README.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))])
def test_every_command_that_is_named_exists_with_its_options(page: str) -> None:
    """On every page of the documentation, by the command line's own parser."""
    import shlex

    import typer

    root = typer.main.get_command(app)
    for line in [*inline(page), *(c for language in ("bash", "console", "") for c in commands(page, language))]:
        for one in re.findall(r"pathasst [^;|]+", line.replace("…", "")):
            words = shlex.split(one)[1:]
            command = root
            while words and words[0] in getattr(command, "commands", {}):
                command = command.commands[words.pop(0)]
            is_group = bool(getattr(command, "commands", {})) and not command.invoke_without_command
            assert not (is_group and words and not words[0].startswith("-")), f"{page}: {one!r} names no command"
            known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
            given = {w.split("=")[0] for w in words if w.startswith("--")}
            assert given <= known | {"--help", "--install-completion"}, f"{page}: {one!r} has unknown options"
