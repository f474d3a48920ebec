"""Exports are read back by the tools they are for."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from pathasst import dataset
from pathasst.dataset import Unit, to_llava, to_webdataset
from pathasst.records import Conversation, Pair, Source, ToolCall, Turn


def make(folder: Path, kind: type, records: list) -> Path:
    dataset.run_stage(folder, stage="t", record=kind, units=[Unit("00000")], work=lambda _: records, progress=False)
    return folder


def test_webdataset_is_read_by_the_webdataset_library(tmp_path: Path, png: bytes) -> None:
    wds = pytest.importorskip("webdataset")
    by, nc = (Source(article_id="a", licence=code) for code in ("CC-BY-4.0", "CC-BY-NC-4.0"))
    records = [Pair(pair_id=str(n), source=nc if n == 2 else by, image=png, caption=f"caption {n}") for n in range(5)]
    records.append(Pair(pair_id="no picture", source=by, caption="x"))
    tally = to_webdataset(make(tmp_path / "pairs", Pair, records), tmp_path / "wds", licences=["CC-BY-4.0"], rows_per_tar=3)
    assert tally == {"written": 4, "licence": 1, "no picture or caption": 1, "several pictures": 0}
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
        Turn(role="assistant", tool_calls=[ToolCall(name="ki67_cells")]),
        Turn(role="tool", content="12 positive", tool="ki67_cells"),
        Turn(role="assistant", content="Twelve."),
    ]
    samples = [
        Conversation(conversation_id="1", kind="invoke", turns=turns, images=[png]),
        Conversation(conversation_id="2", kind="converse", turns=turns[1:2]),
    ]
    to_llava(make(tmp_path / "c", Conversation, samples), tmp_path / "llava")
    first, second = json.loads((tmp_path / "llava" / "conversations.json").read_text())
    assert [t["from"] for t in first["conversations"]] == ["human", "gpt", "human", "gpt"]
    assert "ki67_cells" in first["conversations"][1]["value"]
    assert Image.open(io.BytesIO((tmp_path / "llava" / "images" / first["image"]).read_bytes())).size == (8, 8)
    assert "image" not in second
