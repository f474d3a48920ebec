"""What a laboratory already has, in the forms of others: every row is taken, or counted with a reason."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from pathasst.cli.main import app
from pathasst.collect.own import import_dataset, stage
from pathasst.core.errors import BadSettings
from pathasst.core.records import Conversation, Figure, Pair, Source, ToolCall, ToolSpec, Turn
from pathasst.dataset import Manifest, Unit, read, run_stage, to_llava, to_messages, to_webdataset


def jpeg(grey: int = 120) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((40, 60, 3), grey, np.uint8)).save(out, "JPEG")
    return out.getvalue()


def put(folder: Path, *names: str) -> Path:
    """Pictures of these names, each of another grey."""
    for n, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(20 + 10 * n))
    return folder


def taken(source: Path, out: Path, **options: Any) -> tuple[list[Any], Counter[str]]:
    manifest = import_dataset(source, out, progress=False, **options)
    kind = {"Pair": Pair, "Figure": Figure, "Conversation": Conversation}[manifest.record]
    return list(read(out, kind)), manifest.dropped


TABLES = {
    "open_clip": ("p.csv", "filepath,title\na.jpg,H&E of a gland\nb.jpg,\"CD3, in a node\"\n", "utf-8"),
    "semicolon, BOM": ("p.csv", "\ufeffImage;Caption\na.jpg;H&E of a gland\nb.jpg;CD3, in a node\n", "utf-8"),
    "UTF-16 TSV": ("p.tsv", "FILE_NAME\tTEXT\na.jpg\tH&E of a gland\nb.jpg\tCD3, in a node\n", "utf-16"),
    "Windows": ("p.csv", "image_path,caption\r\nC:\\data\\a.jpg,H&E of a gland\r\nD:\\b.jpg,\"CD3, in a node\"\r\n", "cp1252"),
    "Quilt-1M": (
        "quilt_1M_lookup.csv",
        ",caption,image_path,subset,split\n0,H&E of a gland,a.jpg,quilt,train\n1,\"CD3, in a node\",b.jpg,quilt,val\n",
        "utf-8",
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", TABLES)
def test_tables(tmp_path: Path, form: str) -> None:
    name, text, encoding = TABLES[form]
    put(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / name).write_bytes(text.encode(encoding))
    pairs, dropped = taken(tmp_path / name, tmp_path / "out", licence="CC-BY-4.0")
    assert [p.caption for p in pairs] == ["H&E of a gland", "CD3, in a node"]
    assert (pairs[0].width, pairs[0].height) == (60, 40)
    assert pairs[0].image == (tmp_path / "images/a.jpg").read_bytes()
    assert {p.source.licence for p in pairs} == {"CC-BY-4.0"}
    assert pairs[0].trail[0].step == "import"
    assert name in pairs[0].trail[0].note
    assert not dropped
    if form == "Quilt-1M":
        assert [p.split for p in pairs] == ["train", "val"]


def test_every_row_is_taken_or_counted(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg", "b.jpg", "x/c.jpg", "y/c.jpg")
    (tmp_path / "broken.jpg").write_bytes(jpeg()[:300])
    (tmp_path / "secret").mkdir()
    rows = [
        ("a.jpg", "one"), ("a.jpg", "two"), ("a.jpg", "one"), ("b.jpg", ""), ("none.jpg", "three"), ("broken.jpg", "four"),
        ("c.jpg", "five"), ("x/c.jpg", "six"), ("", "seven"), ("https://example.org/d.jpg", "eight"),
        ("../../etc/passwd", "nine"),
    ]  # fmt: skip
    (tmp_path / "p.csv").write_text("image,caption\n" + "".join(f"{a},{b}\n" for a, b in rows))
    pairs, dropped = taken(tmp_path / "p.csv", tmp_path / "out")
    assert [p.caption for p in pairs] == ["one", "two", "six"]
    assert dropped == {"duplicate": 1, "no-caption": 1, "no-picture": 5, "bad-picture": 1}
    assert len(pairs) + sum(dropped.values()) == len(rows)
    assert len({p.pair_id for p in pairs}) == 3
    assert pairs[0].group == pairs[1].group != pairs[2].group  # one picture stays in one split


def test_pictures_are_not_read_outside_of_their_folders(tmp_path: Path) -> None:
    put(tmp_path, "other/private.jpg", "set/a.jpg")
    (tmp_path / "set/link.jpg").symlink_to(tmp_path / "other/private.jpg")
    rows = [str(tmp_path / "other/private.jpg"), "../other/private.jpg", "link.jpg", str(tmp_path / "set/a.jpg")]
    (tmp_path / "set/p.csv").write_text("image,caption\n" + "".join(f"{r},words\n" for r in rows))
    pairs, dropped = taken(tmp_path / "set/p.csv", tmp_path / "out")
    assert len(pairs) == 1
    assert dropped == {"no-picture": 3}
    pairs, dropped = taken(tmp_path / "set/p.csv", tmp_path / "out2", pictures=tmp_path / "other")
    assert len({p.md5 for p in pairs}) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [("name,words\na.jpg,x\n", "picture and of the caption among name, words"), ("image,words\na.jpg,x\n", "--caption COLUMN")],
)
def test_unknown_columns_are_named(tmp_path: Path, text: str, says: str) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(BadSettings, match=says):
        import_dataset(tmp_path / "p.csv", tmp_path / "out", progress=False)
    pairs, _ = taken(tmp_path / "p.csv", tmp_path / "out", picture=text.split(",")[0], caption="words")
    assert [p.caption for p in pairs] == ["x"]


PAIRS_JSON: dict[str, Any] = {
    "list": [{"image": "a.jpg", "caption": "gland"}, {"image": "b.jpg", "caption": "node"}],
    "PMC-OA": [{"image": "a.jpg", "caption": "gland", "pmcid": "PMC212319"}, {"image": "b.jpg", "caption": "node"}],
    "ARCH": {"0": {"figure_id": "00", "letter": "A", "caption": "gland", "uuid": "a"},
             "1": {"figure_id": "00", "letter": "B", "caption": "node", "uuid": "b"}},
    "by name": {"a.jpg": "gland", "b.jpg": "node"},
    "wrapped": {"info": {}, "data": [{"image": "a.jpg", "caption": ["gland"]}, {"image": "b.jpg", "caption": "node"}]},
    "COCO": {"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
             "annotations": [{"id": 7, "image_id": 1, "caption": "gland"}, {"id": 8, "image_id": 2, "caption": "node"}]},
}  # fmt: skip


@pytest.mark.parametrize("form", PAIRS_JSON)
def test_json_of_pairs(tmp_path: Path, form: str) -> None:
    put(tmp_path, "images/a.jpg", "images/b.jpg")
    (tmp_path / "captions.json").write_text(json.dumps(PAIRS_JSON[form]))
    pairs, dropped = taken(tmp_path, tmp_path / "out")
    assert [p.caption for p in pairs] == ["gland", "node"]
    assert not dropped
    assert pairs[0].source.pmcid == ("PMC212319" if form == "PMC-OA" else "")


def test_pathgen_tiles(tmp_path: Path) -> None:
    put(tmp_path, "tiles/TCGA-1_100_200.jpg")
    rows = [{"wsi_id": "TCGA-1.svs", "file_id": "f", "position": [100, y], "caption": "gland"} for y in (200, 300)]
    (tmp_path / "PathGen-1.6M.json").write_text(json.dumps(rows))
    pairs, dropped = taken(tmp_path / "PathGen-1.6M.json", tmp_path / "out")
    assert [p.group for p in pairs] == ["TCGA-1.svs"]  # tiles of one slide stay in one split
    assert dropped == {"no-picture": 1}


def test_a_folder_with_texts_beside_the_pictures(tmp_path: Path) -> None:
    put(tmp_path / "set", "a.jpg", "b.JPG", "deep/c.png", "d.jpg", "e.jpg")
    texts = {
        "a.txt": "gland",
        "b.caption": "node",
        "deep/c.json": '{"caption": "duct", "label": "x"}',
        "e.jpg.txt": "vein",
        "f.txt": "y",
    }
    for name, text in texts.items():
        (tmp_path / "set" / name).write_text(text)
    pairs, dropped = taken(tmp_path / "set", tmp_path / "out")
    assert {p.caption: p.label for p in pairs} == {"gland": "", "node": "", "duct": "x", "vein": ""}
    assert dropped == {"no-caption": 1, "no-picture": 1}


def test_an_image_folder_of_hugging_face(tmp_path: Path) -> None:
    put(tmp_path / "set", "train/a.jpg", "test/b.jpg")
    for split, name in (("train", "a.jpg"), ("test", "b.jpg")):
        (tmp_path / "set" / split / "metadata.jsonl").write_text(json.dumps({"file_name": name, "text": "words"}))
    pairs, _ = taken(tmp_path / "set", tmp_path / "out")
    assert sorted(p.split for p in pairs) == ["test", "train"]
    assert len({p.pair_id for p in pairs}) == 2


def tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def test_webdataset_with_the_articles_of_biomedica(tmp_path: Path) -> None:
    about = {"article_accession_id": "PMC123", "article_license": "CC BY-NC", "article_title": "T", "caption": "not this"}
    members = {
        "s/1.jpg": jpeg(10),
        "s/1.txt": b"gland",
        "s/1.json": json.dumps(about).encode(),
        "s/2.jpg": jpeg(20),
        "s/3.txt": b"x",
    }
    tar(tmp_path / "0.tgz", members)
    pairs, dropped = taken(tmp_path / "0.tgz", tmp_path / "out")
    assert [(p.caption, p.source.pmcid, p.source.licence, p.source.title) for p in pairs] == [
        ("gland", "PMC123", "CC-BY-NC", "T")
    ]
    assert dropped == {"no-caption": 1, "no-picture": 1}


def test_a_tar_that_was_cut_off_keeps_what_it_holds(tmp_path: Path) -> None:
    whole = tar(tmp_path / "0.tar", {f"{n}.{s}": c for n in range(4) for s, c in (("jpg", jpeg(n)), ("txt", b"gland"))})
    whole.write_bytes(whole.read_bytes()[:3000])
    (tmp_path / "1.tar").write_bytes(b"no tar")
    pairs, dropped = taken(tmp_path, tmp_path / "out")
    assert len(pairs) >= 1
    assert dropped["unreadable-row"] + dropped["unreadable-file"] == 2


def test_parquet_of_hugging_face(tmp_path: Path) -> None:
    rows = [{"image": {"bytes": jpeg(n), "path": f"{n}.jpg"}, "caption": f"gland {n}", "pmid": 100 + n} for n in range(3)]
    rows.append({"image": None, "caption": "gland", "pmid": 1})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "validation-00000-of-00001.parquet")
    (tmp_path / "train-00000.parquet").write_bytes(b"PAR1 broken")
    pairs, dropped = taken(tmp_path, tmp_path / "out")
    assert [(p.caption, p.source.pmid, p.split) for p in pairs] == [(f"gland {n}", str(100 + n), "val") for n in range(3)]
    assert dropped == {"no-picture": 1, "unreadable-file": 1}


HUMAN, GPT = {"from": "human", "value": "Stain?"}, {"from": "gpt", "value": "H&E."}
USER, ASSISTANT = {"role": "user", "content": "<image>Stain?"}, {"role": "assistant", "content": "H&E."}
PARTS = [{"type": "image", "image": "a.jpg"}, {"type": "text", "text": "Stain?"}]
CHATS: dict[str, Any] = {
    "LLaVA": {"id": "1", "image": "a.jpg", "conversations": [{"from": "human", "value": "<image>\nStain?"}, GPT]},
    "PathInstruct": {"image_path": "images/a.jpg", "conversation": [HUMAN, GPT]},
    "messages": {"messages": [USER, ASSISTANT], "images": ["a.jpg"]},
    "parts": {
        "messages": [{"role": "user", "content": PARTS}, {"role": "assistant", "content": [{"type": "text", "text": "H&E."}]}]
    },
    "thoughts": {"messages": [USER, {"role": "assistant", "content": "<think>pink</think>H&E."}], "images": [{"path": "a.jpg"}]},
    "query": {"query": "<img>a.jpg</img>Stain?", "response": "H&E.", "images": ["a.jpg"]},
    "unanswered end": {"image": "a.jpg", "messages": [USER, ASSISTANT, {"role": "user", "content": "Thanks"}]},
    "JSON in text": {"image": "a.jpg", "conversations": json.dumps([HUMAN, GPT])},
}


@pytest.mark.parametrize("form", CHATS)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_conversations(tmp_path: Path, form: str, suffix: str) -> None:
    put(tmp_path, "images/a.jpg")
    text = json.dumps(CHATS[form])
    (tmp_path / f"chat{suffix}").write_text(f"[{text}]" if suffix == ".json" else f"{text}\n\n")
    [chat], dropped = taken(tmp_path / f"chat{suffix}", tmp_path / "out")
    assert [t.role for t in chat.turns] == ["user", "assistant"]
    assert chat.turns[0].content.replace("\n", "") == "<image>Stain?"
    assert (chat.turns[1].content, chat.turns[1].thoughts) == ("H&E.", "pink" if form == "thoughts" else "")
    assert chat.images == [(tmp_path / "images/a.jpg").read_bytes()]
    assert not dropped


def test_conversations_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    ask, say = {"role": "user", "content": "Stain?"}, {"role": "assistant", "content": "H&E."}
    rows: list[Any] = [
        {"messages": [ask, say]},
        {"messages": [ask, say]},  # again
        {"messages": [ask]},
        {"messages": [{"role": "robot", "content": "x"}, say]},
        {"messages": [ask, say], "images": ["none.jpg"]},
        {"messages": [{"role": "user", "content": "<image><image>Stain?"}, say], "images": ["a.jpg"]},
        {"messages": [ask, say], "videos": ["a.mp4"]},
        {"messages": [ask, {"role": "assistant", "content": ""}]},
        {"image": "a.jpg", "caption": "a pair among conversations"},
        ["no object"],
    ]
    text = "".join(json.dumps(r) + "\n" for r in rows) + "{broken\n"
    (tmp_path / "c.jsonl").write_text(text)
    chats, dropped = taken(tmp_path / "c.jsonl", tmp_path / "out")
    assert len(chats) == 1
    assert sum(dropped.values()) == len(rows)
    assert dropped == {
        "duplicate": 1, "unreadable-conversation": 3, "no-picture": 1, "marks-and-pictures-differ": 1, "other-medium": 1,
        "other-kind": 1, "unreadable-row": 2,
    }  # fmt: skip


def chats_with_tools(folder: Path) -> Path:
    turns = [
        Turn(role="system", content="Be brief."),
        Turn(role="user", content="<image>\nHow many?"),
        Turn(
            role="assistant",
            content="",
            tool_calls=[ToolCall(name="ki67_cells", arguments={"threshold": 0.5}), ToolCall(name="segment")],
        ),
        Turn(role="tool", content="12 positive", tool="ki67_cells"),
        Turn(role="tool", content="3 glands", tool="segment"),
        Turn(role="assistant", content="Twelve.", thoughts="I counted."),
    ]
    source = Source(article_id="PMC1", pmcid="PMC1", licence="CC-BY-4.0")
    chat = Conversation(
        conversation_id="1", kind="invoke", turns=turns, images=[jpeg()], tools=["ki67_cells", "segment"], source=source
    )
    run_stage(folder, stage="t", record=Conversation, units=[Unit("0")], work=lambda _: [chat], progress=False)
    return folder


def plain(chat: Conversation) -> list[tuple[str, str, list[tuple[str, dict[str, Any]]], str]]:
    return [(t.role, t.content, [(c.name, c.arguments) for c in t.tool_calls], t.tool) for t in chat.turns]


@pytest.mark.parametrize("file", ["messages.jsonl", "swift.jsonl", "sharegpt.json"])
def test_conversations_go_out_and_come_back(tmp_path: Path, file: str) -> None:
    folder = chats_with_tools(tmp_path / "chats")
    spec = ToolSpec(
        name="segment", description="Finds glands.", parameters={"type": "object", "properties": {"n": {"type": "integer"}}}
    )
    tally = to_messages(folder, tmp_path / "export", specs={"segment": spec})
    assert tally["written"] == 1
    [before] = read(folder, Conversation)
    [after], dropped = taken(tmp_path / "export" / file, tmp_path / "back")
    turns = plain(before)
    if file == "sharegpt.json":  # its speakers take turns: the results of two calls are one text
        turns[3:5] = [("tool", "12 positive\n3 glands", [], "ki67_cells")]
    assert plain(after) == turns
    assert after.images == before.images
    assert after.tools == before.tools
    assert not dropped
    if file == "messages.jsonl":
        assert after.source.pmcid == "PMC1"
        assert after.source.licence == "CC-BY-4.0"
        assert after.turns[-1].thoughts == "I counted."
        line = json.loads((tmp_path / "export" / file).read_text())
        assert line["tools"][1]["function"]["parameters"] == spec.parameters
        assert line["messages"][3]["tool_call_id"] == line["messages"][2]["tool_calls"][0]["id"]


def test_llava_goes_out_and_comes_back(tmp_path: Path) -> None:
    folder = chats_with_tools(tmp_path / "chats")
    to_llava(folder, tmp_path / "export")
    [before] = read(folder, Conversation)
    [after], dropped = taken(tmp_path / "export/conversations.json", tmp_path / "back")
    assert plain(after) == plain(before)[1:]  # LLaVA's own reader gives the system prompt
    assert not dropped


def test_webdataset_goes_out_and_comes_back(tmp_path: Path) -> None:
    source = Source(article_id="PMC7", pmcid="PMC7", licence="CC-BY-4.0", journal="J")
    pairs = [
        Pair(pair_id=f"p{n}", source=source, image=jpeg(n * 9), caption=f"gland {n}", label="x", split="val") for n in range(3)
    ]
    run_stage(tmp_path / "pairs", stage="t", record=Pair, units=[Unit("0")], work=lambda _: pairs, progress=False)
    to_webdataset(tmp_path / "pairs", tmp_path / "wds", rows_per_tar=2)
    back, dropped = taken(tmp_path / "wds", tmp_path / "back")
    assert [(p.caption, p.label, p.split, p.source.licence, p.source.journal) for p in back] == [
        (p.caption, p.label, p.split, p.source.licence, p.source.journal) for p in pairs
    ]
    assert [p.image for p in back] == [p.image for p in pairs]
    assert not dropped


def test_our_own_parquet_comes_back(tmp_path: Path) -> None:
    folder = chats_with_tools(tmp_path / "chats")
    pairs = [Pair(pair_id=f"p{n}", source=Source(article_id="a"), image=jpeg(n * 9), caption=f"gland {n}") for n in range(3)]
    run_stage(tmp_path / "pairs", stage="t", record=Pair, units=[Unit("0")], work=lambda _: pairs, progress=False)
    back, dropped = taken(tmp_path / "pairs/0.parquet", tmp_path / "back")
    assert [p.caption for p in back] == [p.caption for p in pairs]
    assert not dropped
    assert Manifest.load(folder).rows == 1


def test_figures_for_curation(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "p.csv").write_text("image,caption,pmcid\na.jpg,(A) Gland. (B) Node.,123\n")
    [figure], _ = taken(tmp_path / "p.csv", tmp_path / "out", kind="figures")
    assert (figure.caption, figure.source.article_id) == ("(A) Gland. (B) Node.", "PMC123")


def test_rows_beyond_one_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pathasst.collect.own.stage.ROWS", 4)
    put(tmp_path, "a.jpg")
    (tmp_path / "p.csv").write_text("id,image,caption\n" + "".join(f"same,a.jpg,gland {n}\n" for n in range(11)))
    pairs, dropped = taken(tmp_path / "p.csv", tmp_path / "out")
    assert [p.caption for p in pairs] == [f"gland {n}" for n in range(11)]
    assert len({p.pair_id for p in pairs}) == 11
    assert len(Manifest.load(tmp_path / "out").shards) == 3
    assert not dropped


@pytest.mark.parametrize("files", [{}, {"a.pdf": b"%PDF"}, {"a.csv": b"image,caption\n", "b.json": b"[]"}])
def test_what_cannot_be_read_is_an_error(tmp_path: Path, files: dict[str, bytes]) -> None:
    (tmp_path / "set").mkdir()
    for name, content in files.items():
        (tmp_path / "set" / name).write_bytes(content)
    with pytest.raises(BadSettings):
        import_dataset(tmp_path / "set", tmp_path / "out", progress=False)


def test_the_command(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    (tmp_path / "p.csv").write_text("filepath,title\na.jpg,gland\nb.jpg,node\n")
    result = CliRunner().invoke(app, ["dataset", "import", str(tmp_path / "p.csv"), "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert "1 Pair rows" in result.output
    assert "left out: 1 no-picture" in result.output
    (tmp_path / "q.csv").write_text("filepath,title\nb.jpg,node\n")
    result = CliRunner().invoke(app, ["dataset", "import", str(tmp_path / "q.csv"), "--out", str(tmp_path / "out2")])
    assert result.exit_code != 0


def test_empty_cells_of_other_programs_are_no_captions(tmp_path):
    put(tmp_path / "set", "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "set/p.csv").write_text("image,caption\na.jpg,nan\nb.jpg,NULL\nc.jpg,Nanterre gland\n")
    pairs, dropped = taken(tmp_path / "set", tmp_path / "out")
    assert len(pairs) == 1 and dropped == {"no-caption": 2}


def test_pictures_with_several_texts_by_their_names(tmp_path):
    put(tmp_path / "set", "a.jpg", "b.jpg")
    (tmp_path / "set/p.json").write_text(json.dumps({"a.jpg": "Gland", "b.jpg": ["Node", "A node"]}))
    pairs, dropped = taken(tmp_path / "set", tmp_path / "out")
    assert [p.caption for p in pairs] == ["Gland", "Node", "A node"] and not dropped


def test_a_spreadsheet_is_not_passed_over_in_silence(tmp_path):
    put(tmp_path / "set", "a.jpg")
    (tmp_path / "set/captions.xlsx").write_bytes(b"PK")
    for source in (tmp_path / "set", tmp_path / "set/captions.xlsx"):
        with pytest.raises(BadSettings, match="save it as CSV"):
            import_dataset(source, tmp_path / "out", progress=False)


def test_a_large_table_is_read_once_and_not_for_each_shard(tmp_path, monkeypatch):
    put(tmp_path / "set", *(f"{n}.jpg" for n in range(7)))
    (tmp_path / "set/p.csv").write_text("image,caption\n" + "".join(f"{n}.jpg,Gland {n}\n" for n in range(7)))
    monkeypatch.setattr(stage, "ROWS", 2)
    opened = []
    reader = stage.reader_of("table")
    monkeypatch.setattr(stage, "reader_of", lambda form: lambda path: opened.append(path) or reader(path))
    pairs, dropped = taken(tmp_path / "set", tmp_path / "out")
    assert [p.caption for p in pairs] == [f"Gland {n}" for n in range(7)] and not dropped
    assert len(Manifest.load(tmp_path / "out").shards) == 4
    assert len(opened) <= 4  # its kind, its columns, its rows counted, its rows read: none of them once a shard


def written(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


A, B = jpeg(10), jpeg(90)
BASE64 = base64.b64encode(A).decode()
ANSWER = {"role": "assistant", "content": "H&E."}


def row(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"


def part(url: str) -> str:
    asked = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "Stain?"}]
    return row({"messages": [{"role": "user", "content": asked}, ANSWER]})


GIVEN_PAIRS: dict[str, tuple[dict[str, bytes | str], list[tuple[str, bytes]]]] = {
    "a row with the line separators that JSON may hold": (
        {"a.jpg": A, "x.jsonl": row({"image": "a.jpg", "caption": "A\u2028gland\x85here"})},
        [("A gland here", A)],
    ),
    "pictures as base64": ({"x.jsonl": row({"image": BASE64, "caption": "gland"})}, [("gland", A)]),
    "Excel's first line": ({"a.jpg": A, "x.csv": 'sep=;\r\nimage;caption\r\na.jpg;"pink; round"\r\n'}, [("pink; round", A)]),
    "gzipped": ({"a.jpg": A, "x.csv.gz": gzip.compress(b"image,caption\na.jpg,gland\n")}, [("gland", A)]),
    "parts of a set by their names": (
        {"i/a.png": A, "x.json": json.dumps({"train": [{"image_path": ["i/a.png"], "report": "gland"}], "val": [], "test": []})},
        [("gland", A)],
    ),
    "lists as Python writes them": (
        {"a.jpg": A, "x.csv": "image,text\na.jpg,\"['gland', 'node']\"\n"},
        [("gland", A), ("node", A)],
    ),
    "tables beside their own pictures": (
        {
            **{"test/a.jpg": A, "test/metadata.csv": "file_name,text\na.jpg,test\n"},
            **{"train/a.jpg": B, "train/metadata.csv": "file_name,text\na.jpg,train\n"},
        },
        [("test", A), ("train", B)],
    ),
    "texts in a folder of their own": (
        {"images/x/a.jpg": A, "images/x/b.jpg": B, "captions/x/a.txt": "gland", "captions/x/b.txt": "node"},
        [("gland", A), ("node", B)],
    ),
}


@pytest.mark.parametrize("form", GIVEN_PAIRS)
def test_pairs_as_the_world_writes_them(tmp_path: Path, form: str) -> None:
    files, right = GIVEN_PAIRS[form]
    pairs, dropped = taken(written(tmp_path / "set", files), tmp_path / "out")
    assert sorted((p.caption, p.image) for p in pairs) == right
    assert not dropped


GIVEN_CHATS: dict[str, tuple[dict[str, bytes | str], str]] = {
    "OpenAI's data: address": ({"x.jsonl": part(f"data:image/jpeg;base64,{BASE64}")}, "<image>\nStain?"),
    "a file: address": ({"i/a b.jpg": A, "x.jsonl": part("file:///data/i/a%20b.jpg")}, "<image>\nStain?"),
    "VLMEvalKit": (
        {"x.tsv": f"index\timage\tquestion\tA\tB\tanswer\n1\t{BASE64}\tStain?\tH&E\tPAS\tA\n"},
        "<image>\nStain?\nA. H&E\nB. PAS",
    ),
    "VQA-RAD": (
        {"a.jpg": A, "x.json": json.dumps([{"image_name": "a.jpg", "question": "Stain?", "answer": "H&E."}])},
        "<image>\nStain?",
    ),
    "PMC-VQA": (
        {"f/a.jpg": A, "x.csv": "Figure_path,Question,Choice A,Choice B,Answer\na.jpg,Stain?, A:H&E, B:PAS,H&E.\n"},
        "<image>\nStain?\nA. H&E\nB. PAS",
    ),
    "The Cauldron": (
        {"a.jpg": A, "x.jsonl": row({"images": ["a.jpg"], "texts": [{"user": "Stain?", "assistant": "H&E."}]})},
        "<image>\nStain?",
    ),
    "pictures in a table's list": (
        {"a.jpg": A, "x.csv": 'query,response,images\nStain?,H&E.,"[""a.jpg""]"\n'},
        "<image>\nStain?",
    ),
}


@pytest.mark.parametrize("form", GIVEN_CHATS)
def test_conversations_as_the_world_writes_them(tmp_path: Path, form: str) -> None:
    files, question = GIVEN_CHATS[form]
    [chat], dropped = taken(written(tmp_path / "set", files), tmp_path / "out")
    assert [t.content for t in chat.turns] == [question, "A" if form == "VLMEvalKit" else "H&E."]
    assert chat.images == [A]
    assert not dropped


def test_a_conversation_never_loses_its_picture_in_silence(tmp_path: Path) -> None:
    rows = [{"img_name": f"{n}.jpg", "question": "Stain?", "answer": n} for n in range(2)]
    written(tmp_path / "set", {"0.jpg": A, "x.json": json.dumps(rows)})
    [chat], dropped = taken(tmp_path / "set", tmp_path / "out")
    assert (chat.images, chat.turns[1].content, dropped) == ([A], "0", {"no-picture": 1})
    written(tmp_path / "own", {"0.jpg": A, "x.json": json.dumps([{"scan": "0.jpg", "question": "Stain?", "answer": "H&E"}])})
    [chat], dropped = taken(tmp_path / "own", tmp_path / "out2", picture="scan")
    assert (chat.images, dict(dropped)) == ([A], {})


def test_a_picture_of_another_folder_is_another_picture(tmp_path: Path) -> None:
    files = {"p1/0.jpg": A, "x.csv": "image,caption\n/data/p1/0.jpg,one\n/data/p2/0.jpg,two\n0.jpg,three\n"}
    pairs, dropped = taken(written(tmp_path / "set", files), tmp_path / "out")
    assert [p.caption for p in pairs] == ["one", "three"]
    assert dropped == {"no-picture": 1}
    pairs, dropped = taken(tmp_path / "set", tmp_path / "out2", pictures=tmp_path / "set/p1")  # a folder of the folder
    assert [p.caption for p in pairs] == ["one", "three"]


def test_numbers_beside_a_picture_are_no_caption(tmp_path: Path) -> None:
    files = {"images/a.jpg": A, "labels/a.txt": "0 0.5 0.5 0.1 0.1\n", "images/b.jpg": B, "images/b.txt": "1 0.5 0.5 0.1 0.1\n"}
    pairs, dropped = taken(written(tmp_path / "set", files), tmp_path / "out")
    assert not pairs and dropped == {"no-caption": 2}


def test_tars_of_macos_with_masks_and_conversations(tmp_path: Path) -> None:
    tar(tmp_path / "mac.tar", {"./._1.jpg": b"x", "./1.jpg": A, "./._1.txt": b"x", "./1.txt": b"gland"})
    tar(tmp_path / "masks.tar", {"1.jpg": A, "1.mask.png": B, "1.txt": b"gland"})
    for name in ("mac.tar", "masks.tar"):
        [pair], dropped = taken(tmp_path / name, tmp_path / f"out-{name}")
        assert (pair.caption, pair.image, dict(dropped)) == ("gland", A, {})
    tar(tmp_path / "chat.tar", {"1.jpg": A, "1.json": json.dumps([HUMAN, GPT]).encode()})
    [chat], dropped = taken(tmp_path / "chat.tar", tmp_path / "out")
    assert (chat.images, chat.turns[1].content, dict(dropped)) == ([A], "H&E.", {})


def test_what_hugging_face_saves_to_disk(tmp_path: Path) -> None:
    features = datasets.Features(
        {"image": datasets.Image(), "caption": datasets.Value("string"), "label": datasets.ClassLabel(names=["benign", "cancer"])}
    )
    rows = {"image": [{"bytes": A, "path": None}, {"bytes": B, "path": None}], "caption": ["gland", "node"], "label": [0, 1]}
    part = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(str(tmp_path / "disk"))
    part.to_parquet(str(tmp_path / "validation.parquet"))
    pairs, dropped = taken(tmp_path / "disk", tmp_path / "out")
    assert [(p.split, p.label, p.image) for p in pairs] == [
        (s, label, i) for s in ("test", "train") for label, i in (("benign", A), ("cancer", B))
    ]
    assert not dropped
    pairs, _ = taken(tmp_path / "validation.parquet", tmp_path / "out2")
    assert [(p.split, p.label) for p in pairs] == [("val", "benign"), ("val", "cancer")]


def test_why_nothing_can_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text("{image: a.jpg}\n")
    with pytest.raises(BadSettings, match="line 1: no JSON"):
        import_dataset(tmp_path / "x.jsonl", tmp_path / "out", progress=False)
