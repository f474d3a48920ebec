"""Exports are read back by the tools they are for."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.cli.main import app
from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.records import Conversation, Pair, Source, ToolCall, Turn
from pathasst.dataset import Unit, to_llava, to_messages, to_webdataset

sys.path.insert(0, str(Path(__file__).parents[1] / "instruct"))
from instruct_samples import write_pairs


def make(folder: Path, kind: type, records: list) -> Path:
    dataset.run_stage(folder, stage="t", record=kind, units=[Unit("00000")], work=lambda _: records, progress=False)
    return folder


def test_webdataset_is_read_by_the_webdataset_library(tmp_path: Path, png: bytes) -> None:
    wds = pytest.importorskip("webdataset")
    by, nc = (Source(article_id="a", licence=code) for code in ("CC-BY-4.0", "CC-BY-NC-4.0"))
    records = [Pair(pair_id=str(n), source=nc if n == 2 else by, image=png, caption=f"caption {n}") for n in range(5)]
    records.append(Pair(pair_id="no picture", source=by, caption="x"))
    tally = to_webdataset(make(tmp_path / "pairs", Pair, records), tmp_path / "wds", licences=["CC-BY-4.0"], rows_per_tar=3)
    assert tally == {"written": 4, "licence": 1, "no picture or caption": 1, "several pictures": 0, "no question or no answer": 0}
    tars = sorted(str(p) for p in (tmp_path / "wds").glob("*.tar"))
    assert len(tars) == 2
    rows = list(wds.WebDataset(tars, shardshuffle=False).decode("pil").to_tuple("png", "txt", "json"))
    assert [r[1] for r in rows] == ["caption 0", "caption 1", "caption 3", "caption 4"]
    assert rows[0][0].size == (8, 8)
    assert rows[0][2]["licence"] == "CC-BY-4.0"


def test_llava_json(tmp_path: Path, png: bytes) -> None:
    turns = [
        Turn(role="system", content="s"),
        Turn(role="user", content="<image>\nHow many?"),
        Turn(role="assistant", tool_calls=[ToolCall(name="ki67_cells"), ToolCall(name="segment")]),
        Turn(role="tool", content="12 positive", tool="ki67_cells"),
        Turn(role="tool", content="3 glands", tool="segment"),
        Turn(role="assistant", content="Twelve."),
        Turn(role="user", content="Thanks."),
    ]
    samples = [
        Conversation(conversation_id="1", kind="invoke", turns=turns, images=[png]),
        Conversation(conversation_id="2", kind="converse", turns=turns[1:6]),
        Conversation(conversation_id="3", kind="converse", turns=turns[1:2]),
        Conversation(conversation_id="4", kind="converse", turns=turns, images=[png, png]),
    ]
    tally = to_llava(make(tmp_path / "c", Conversation, samples), tmp_path / "llava")
    assert (tally["written"], tally["several pictures"], tally["no question or no answer"]) == (2, 1, 1)
    read = read_as_llava(tmp_path / "llava")
    first, second = (json.loads((tmp_path / "llava" / "conversations.json").read_text())[n]["conversations"] for n in (0, 1))
    assert [t["from"] for t in first] == ["human", "gpt", "human", "gpt"]
    assert "ki67_cells" in first[1]["value"]
    assert first[2]["value"].count("<tool_response>") == 2
    assert second[0]["value"] == "How many?"
    assert [size for size, _ in read] == [(8, 8), None]


def read_as_llava(folder: Path) -> list[tuple[tuple[int, int] | None, str]]:
    """(picture's size, prompt) of each sample, by the rules of LLaVA's `LazySupervisedDataset` and its `v1` conversation.

    Only human and gpt speak, human first, by turns; a sample with `image` marks it once, a sample without marks none.
    """
    samples = json.loads((folder / "conversations.json").read_text())
    assert len({s["id"] for s in samples}) == len(samples)
    found = []
    for sample in samples:
        size = None
        if "image" in sample:
            with Image.open(folder / "images" / sample["image"]) as picture:
                size = picture.convert("RGB").size
        lines = sample["conversations"]
        assert len(lines) >= 2
        assert len(lines) % 2 == 0
        assert all(line["from"] == ("human", "gpt")[n % 2] and line["value"].strip() for n, line in enumerate(lines))
        prompt = " ".join(line["value"] for line in lines)
        assert prompt.count("<image>") == int("image" in sample)
        assert "<image>" in lines[0]["value"] or "image" not in sample
        assert "</s>" not in prompt
        found.append((size, prompt))
    return found


def test_pathinstruct_is_read_as_llava_reads(tmp_path: Path) -> None:
    from pathasst.instruct.pipeline import InstructSettings, run
    from pathasst.tools.registry import all_specs

    pairs = write_pairs(tmp_path / "pairs")
    rows = run([pairs], tmp_path / "c", InstructSettings(invoke=600), all_specs(), progress=False).rows
    tally = to_llava(tmp_path / "c", tmp_path / "llava")
    assert tally["written"] == rows
    read = read_as_llava(tmp_path / "llava")
    assert any(prompt.count("<tool_call>") > 1 for _, prompt in read)
    assert {size is None for size, _ in read} == {True, False}


def test_rows_of_the_other_kind_are_refused_and_the_command_takes_what_fits(tmp_path: Path, png: bytes) -> None:
    pairs = make(tmp_path / "pairs", Pair, [Pair(pair_id="1", source=Source(article_id="a"), image=png, caption="x")])
    turns = [Turn(role="user", content="How many?"), Turn(role="assistant", content="Two.")]
    talk = make(tmp_path / "talk", Conversation, [Conversation(conversation_id="1", kind="converse", turns=turns)])
    with pytest.raises(BadSettings, match="holds Conversation rows"):
        to_webdataset(talk, tmp_path / "wds")
    with pytest.raises(BadSettings, match="holds Pair rows"):
        to_llava(pairs, tmp_path / "llava")
    for folder, file in ((pairs, "00000.tar"), (talk, "conversations.json")):
        run = CliRunner().invoke(app, ["dataset", "export", str(folder), "--out", str(tmp_path / folder.name / "out")])
        assert run.exit_code == 0, run.output
        assert (tmp_path / folder.name / "out" / file).is_file()


@pytest.mark.parametrize("export", [to_webdataset, to_llava, to_messages])
def test_an_export_that_fails_leaves_the_earlier_one(export: Any, tmp_path: Path, png: bytes) -> None:
    if export is to_webdataset:
        kind, records = Pair, [Pair(pair_id=str(n), source=Source(article_id="a"), image=png, caption="c") for n in range(3)]
    else:
        turns = [Turn(role="user", content="<image>\nWhat?"), Turn(role="assistant", content="A gland.")]
        kind, records = Conversation, [Conversation(conversation_id="1", kind="describe", turns=turns, images=[png])]
    out, more = tmp_path / "out", {"rows_per_tar": 2} if export is to_webdataset else {}
    export(make(tmp_path / "good", kind, records), out, **more)
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    with pytest.raises(BadInput, match="licence"):
        export(tmp_path / "good", out, licences=["CC0-1.0"])
    shard = make(tmp_path / "damaged", kind, records) / "00000.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(BadDataset):
        export(tmp_path / "damaged", out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before
    assert [p.name for p in tmp_path.glob(".*")] == []
    assert export(tmp_path / "good", out)["written"] == len(records)
    assert export is not to_webdataset or [p.name for p in out.iterdir()] == ["00000.tar"], "tars of a larger export are gone"
