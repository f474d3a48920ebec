"""Ctrl-C while a command works: one line, exit code 130, nothing half-written, and the same command goes on.

The signal goes to the whole group of processes, as a terminal sends it. Of collect, curate and instruct in one process:
tests/test_line.py; of serve and ask: tests/assistant; while weights are fetched: test_main.py.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.cli.interrupt import INTERRUPTED
from pathasst.cli.main import app
from pathasst.core import weights
from pathasst.core.records import Figure, Pair, Source
from pathasst.core.resources import example_article
from pathasst.dataset import Unit, run_stage
from pathasst.papers import PaperIndex

sys.path.insert(0, str(Path(__file__).parent.parent / "llm"))

from fake_llm import FakeServer

PICTURES = 16
pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")


Start = Callable[[Sequence[str]], Any]


def interrupted(start: Start, command: list[str], at_work: Callable[[], bool]) -> str:
    """Start a command, press Ctrl-C once it is `at_work`; what it said."""
    process = start(command)
    deadline = time.monotonic() + 300
    while not at_work() and process.runs() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.runs(), "it ended before it could be interrupted"
    os.killpg(process.pid, signal.SIGINT)
    status, said = process.ended()
    assert status == 130, said
    assert said.count("Interrupted; finished parts are kept, run the same command to go on.") == 1
    assert "Traceback" not in said
    return said


def again(command: list[str]) -> str:
    """The same command, uninterrupted, in this process; what it printed."""
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_collect_in_several_processes(tmp_path: Path, start: Start) -> None:
    """Daft's engine swallows some interrupts; the command stops all the same."""
    for n in range(40):
        shutil.copytree(example_article(), tmp_path / "articles" / f"a{n}")
        xml = tmp_path / "articles" / f"a{n}" / "article.xml"
        xml.write_text(xml.read_text(encoding="utf-8").replace("example.1", f"example.{n}"), encoding="utf-8")
    out = tmp_path / "figures"
    command = ["collect", "folder", str(tmp_path / "articles"), "--out", str(out), "--per-shard", "1", "--workers", "2"]
    interrupted(start, command, lambda: len(list(out.glob("*.parquet"))) >= 2)
    assert not (out / "manifest.json").exists()
    again(command)
    assert len(list(dataset.read(out, Figure))) == 3 * 40
    assert dataset.validate(out, Figure) == [] and not list(out.glob(".writing-*"))


def pairs(folder: Path) -> Path:
    """Eight pictures of noise with captions."""
    import io

    def one(n: int) -> Pair:
        out = io.BytesIO()
        Image.fromarray(np.random.default_rng(n).integers(0, 255, (64, 64, 3), np.uint8)).save(out, "PNG")
        source = Source(article_id=f"a{n}")
        return Pair(pair_id=f"p{n}", md5=str(n), source=source, image=out.getvalue(), caption=f"Specimen {n}.", split="train")

    run_stage(folder, stage="pairs", record=Pair, units=[Unit("all")], work=lambda _: map(one, range(8)), progress=False)
    return folder


def test_train_clip(tmp_path: Path, start: Start) -> None:
    if not weights.present("minilm"):
        pytest.skip("not fetched: minilm (make models)")
    out = tmp_path / "clip"
    command = ["train", "clip", str(pairs(tmp_path / "pairs")), "--out", str(out), "--recipe", "tutorial"]
    interrupted(start, command, lambda: bool(list(out.glob("checkpoints/step-*"))))
    assert not (out / "model.safetensors").exists()
    again(command)
    assert (out / "model.safetensors").is_file()
    steps = [json.loads(line)["step"] for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert steps == sorted(set(steps)) and steps[-1] == 30, "no step was made twice"


def test_papers_build(tmp_path: Path, start: Start) -> None:
    rows = [{"pmid": str(n), "title": f"Title {n}", "abstract": f"Abstract number {n} on asbestos. " * 20} for n in range(20000)]
    for part in range(4):
        lines = "\n".join(map(json.dumps, rows[part::4]))
        (tmp_path / f"{part}.jsonl").write_text(lines, encoding="utf-8")
    home = tmp_path / "index"
    files = [str(tmp_path / f"{part}.jsonl") for part in range(4)]
    command = ["papers", "build", *files, "--index", str(home), "--no-vectors", "--workers", "1"]
    interrupted(start, command, lambda: bool(list(home.rglob("*.parquet"))))
    assert not (home / "CURRENT").exists(), "no reader opens half an index"
    again(command)
    assert len(PaperIndex.open(home)) == 20000


def test_eval_asks_no_question_twice(tmp_path: Path, start: Start) -> None:
    says = [f"Request number {n}, please." for n in range(40)]
    requests = {"none": {"picture": "none", "requests": says}}
    (tmp_path / "requests.yaml").write_text(json.dumps(requests), encoding="utf-8")
    server, hold = FakeServer(), threading.Event()

    def answer(body: dict) -> str:
        if len(server.requests) > 20:
            hold.wait(60)
        return "No tool is needed."

    server.answer = answer
    out = tmp_path / "out"
    command = ["eval", "tools", "--requests", str(tmp_path / "requests.yaml"), "--out", str(out), "--brain", f"{server.url}#m"]
    try:
        interrupted(start, command, lambda: len(server.requests) > 20)
        assert not (out / "tools.json").exists()
        kept = (out / "predictions" / "tools.jsonl").read_text(encoding="utf-8").splitlines()
        hold.set()
        server.requests.clear()
        again(command)
        assert kept and len(server.requests) == 40 - len(kept)
        assert len(json.loads((out / "tools.json").read_text(encoding="utf-8"))["items"]) == 40
    finally:
        hold.set()
        server.stop()


def test_tools_batch(tmp_path: Path, start: Start) -> None:
    folder, out = tmp_path / "fields", tmp_path / "out"
    folder.mkdir()

    def finished() -> int:
        return len(list(out.glob("*.png.request.json")))  # written last

    for n in range(PICTURES):
        picture = np.random.default_rng(n).integers(100, 255, (128, 128, 3), np.uint8)
        Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2)).save(folder / f"{n:02}.png")  # noise itself is refused
    command = ["tools", "batch", "ki67_cells", str(folder), "--out", str(out)]
    interrupted(start, command, lambda: finished() >= 1)
    done = finished()
    said = again(command)
    assert 0 < done < PICTURES
    assert f"{PICTURES - done} done, {done} done before, 0 not usable" in said
    rows = (out / "results.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == PICTURES + 1


def test_ctrl_c_within_a_destructor_stops_without_a_traceback() -> None:
    """Python prints what is raised there and goes on; the command would run for a minute more."""
    script = (
        "import signal, time; from pathasst.cli import interrupt, main; interrupt.GRACE = 300\n"
        "class Fragile:\n"
        "    def __del__(self): signal.raise_signal(signal.SIGINT)\n"
        "def work():\n"
        "    Fragile()\n"
        "    time.sleep(60)\n"
        "main.app = work\n"
        "main.main()"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert run.returncode == INTERRUPTED and "Traceback" not in run.stderr
    assert run.stderr.count("Interrupted") == 1


def test_a_library_that_swallows_ctrl_c_is_left_after_a_while() -> None:
    script = (
        "import time, threading; from pathasst.cli import interrupt, main; interrupt.GRACE = 0.5\n"
        "def deaf():\n"
        "    print('here', flush=True)\n"
        "    for n in range(600):\n"
        "        try: time.sleep(0.1)\n"
        "        except KeyboardInterrupt: pass\n"
        "main.app = deaf\n"
        "main.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=50)
    assert process.returncode == INTERRUPTED and "Interrupted" in said


def test_a_question_whose_models_still_load_is_left_after_a_while() -> None:
    """Loading looks at no cancel."""
    script = (
        "import sys, time; from pathasst import assistant; from pathasst.cli import interrupt, main; interrupt.GRACE = 0.5\n"
        "def slow(*_, **__):\n"
        "    print('here', flush=True)\n"
        "    time.sleep(60)\n"
        "assistant.ask = slow\n"
        "sys.argv = ['pathasst', 'ask', 'Why?']\n"
        "main.main()"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and any("here" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=50)
    assert process.returncode == INTERRUPTED and "Interrupted" in said
