from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from instruct_samples import article, some_pairs, write_pairs
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.cli.main import app
from pathasst.core.errors import BadSettings
from pathasst.core.records import Conversation, Source
from pathasst.instruct.pipeline import InstructSettings, run
from pathasst.tools.registry import all_specs

SETTINGS = InstructSettings(invoke=40)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.parquet"))}


def test_pairs_become_conversations_and_drops_are_counted(pairs: Path, tmp_path: Path) -> None:
    manifest = run([pairs], tmp_path / "out", SETTINGS, all_specs(), progress=False)
    made = list(dataset.read(tmp_path / "out", Conversation))
    kinds = {k: sum(c.kind == k for c in made) for k in ("describe", "converse", "invoke")}
    assert kinds == {"describe": 32, "converse": 32, "invoke": 40}
    assert manifest.dropped == {"short-caption": 1}
    assert dataset.validate(tmp_path / "out", Conversation) == []
    by_id = {p.pair_id: p for p in some_pairs()}
    for c in made:
        if c.kind != "invoke":
            pair = by_id[c.pair_id]
            assert (c.split, c.source, c.images, c.caption) == (pair.split, pair.source, [pair.image], pair.caption)
        assert c.group or not c.images
    assert len({c.conversation_id for c in made}) == len(made)


def test_no_specs_no_tool_conversations(pairs: Path, tmp_path: Path) -> None:
    run([pairs], tmp_path / "out", SETTINGS, progress=False)
    assert {c.kind for c in dataset.read(tmp_path / "out", Conversation)} == {"describe", "converse"}


def test_two_workers_give_the_same_bytes(pairs: Path, tmp_path: Path) -> None:
    run([pairs], tmp_path / "one", SETTINGS, all_specs(), progress=False)
    run([pairs], tmp_path / "two", SETTINGS, all_specs(), workers=2, progress=False)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_a_killed_run_goes_on_to_the_same_bytes(pairs: Path, tmp_path: Path) -> None:
    run([pairs], tmp_path / "whole", InstructSettings(invoke=600), all_specs(), progress=False)
    script = textwrap.dedent(
        f"""
        from pathasst.instruct.pipeline import InstructSettings, run
        from pathasst.tools.registry import all_specs
        run([{str(pairs)!r}], {str(tmp_path / "out")!r}, InstructSettings(invoke=600), all_specs(), progress=False)
        """
    )
    process = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("*.json")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "manifest.json").exists()
    run([pairs], tmp_path / "out", InstructSettings(invoke=600), all_specs(), progress=False)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")
    assert dataset.validate(tmp_path / "out", Conversation) == []


def test_a_second_run_redoes_nothing_and_changed_settings_redo_all(pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run([pairs], out, SETTINGS, all_specs(), progress=False)
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.parquet")}
    run([pairs], out, SETTINGS, all_specs(), progress=False)
    assert before == {p.name: p.stat().st_mtime_ns for p in out.glob("*.parquet")}
    run([pairs], out, InstructSettings(invoke=40, seed=1), all_specs(), progress=False)
    assert all(before[p.name] != p.stat().st_mtime_ns for p in out.glob("*.parquet"))


def test_several_pair_datasets_go_into_one(pairs: Path, tmp_path: Path) -> None:
    other = write_pairs(tmp_path / "more", [article(77)], shards=1)
    run([pairs, other], tmp_path / "out", InstructSettings(invoke=0), progress=False)
    assert "PMC77/F1:1" in {c.pair_id for c in dataset.read(tmp_path / "out", Conversation)}


@pytest.mark.parametrize(("words", "kind", "kept"), [(12, "article", 0), (13, "article", 2), (12, "book", 0), (3, "labels", 2)])
def test_captions_must_exceed_twelve_words(tmp_path: Path, words: int, kind: str, kept: int) -> None:
    caption = " ".join(["Colon", "with", "necrosis", *["and", "glands"] * 5][:words])
    pair = article(1, caption, source=Source(article_id="x", kind=kind))
    folder = write_pairs(tmp_path / "pairs", [pair], shards=1)
    assert run([folder], tmp_path / "out", InstructSettings(invoke=0), progress=False).rows == kept


def test_several_descriptions_have_ids_and_wordings_of_their_own(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "pairs", [article(1)], shards=1)
    run([folder], tmp_path / "out", InstructSettings(invoke=0, descriptions=4, conversations=0), progress=False)
    made = list(dataset.read(tmp_path / "out", Conversation))
    assert len({c.conversation_id for c in made}) == 4
    assert len({c.turns[0].content for c in made}) > 1


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"turns": 0}, "turns"),
        ({"invoke": -1}, "invoke"),
        ({"abstracts": "/nowhere.jsonl"}, "nowhere"),
        ({"wordings": "/nowhere"}, "nowhere"),
        ({"llm_writes": ["poems"]}, "poems"),
        ({"llm": {"preset": "nobody"}}, "nobody"),
        ({"llm": {"modell": "x"}}, "modell"),
    ],
)
def test_wrong_settings_are_refused(values: dict[str, object], words: str) -> None:
    with pytest.raises(BadSettings, match=words):
        InstructSettings(**values)  # type: ignore[arg-type]


@pytest.mark.parametrize("recipe", ["embedded", "paper"])
def test_the_recipes_load(recipe: str) -> None:
    settings = InstructSettings.load(recipe)
    assert settings.min_words == 12
    assert bool(settings.llm) == (recipe == "paper")  # where the paper's conversations are ChatGPT's, templates are not silently


def test_the_command(pairs: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["instruct", str(pairs), "--out", str(tmp_path / "out"), "--invoke", "9"])
    assert result.exit_code == 0, result.output
    assert "73 conversations" in result.output
    assert "1 × short-caption" in result.output


def test_the_process_id_is_not_part_of_the_data(pairs: Path, tmp_path: Path) -> None:
    arguments = f"[{str(pairs)!r}], {str(tmp_path / 'b')!r}, InstructSettings(), progress=False"
    code = f"from pathasst.instruct.pipeline import InstructSettings, run; run({arguments})"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONHASHSEED": "7"})
    run([pairs], tmp_path / "a", InstructSettings(), progress=False)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
