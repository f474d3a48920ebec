"""Datasets in other tools' formats: WebDataset for OpenCLIP, LLaVA JSON, messages with tools for ms-swift and LLaMA-Factory.

The Parquet shards need no export: Hugging Face `datasets` loads them as they are.

Every export takes `licences`: only rows whose source's licence is listed leave the house. An earlier export in the same folder
stays until the new one is whole; one that would hold no row raises BadInput.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.files import written_aside
from pathasst.core.records import IMAGE, Conversation, Pair, Source, ToolSpec, Turn
from pathasst.dataset.manifest import Manifest
from pathasst.dataset.shards import read

R = TypeVar("R", Pair, Conversation)
SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png", b"GIF": ".gif", b"RIF": ".webp"}


def to_webdataset(
    folder: Path | str, out: Path | str, *, licences: Collection[str] = (), rows_per_tar: int = 1000
) -> dict[str, int]:
    """Pairs as tar shards of `<key>.jpg|png`, `<key>.txt`, `<key>.json`, what `open_clip_train --dataset-type webdataset` reads.

    Returns counts: written, and rows left out for their licence, for having no picture or no caption. Raises BadSettings for a
    dataset of other rows.
    """
    out, tally, tar = Path(out), _tally(), None
    with written_aside(out) as aside:
        try:
            for pair in _allowed(folder, Pair, licences, tally):
                if not pair.image or not pair.caption:
                    tally["no picture or caption"] += 1
                    continue
                if tally["written"] % rows_per_tar == 0:
                    if tar is not None:
                        tar.close()
                    tar = tarfile.open(aside / f"{tally['written'] // rows_per_tar:05d}.tar", "w")  # noqa: SIM115 - closed below
                assert tar is not None
                _add_sample(tar, f"{tally['written']:08d}", pair)
                tally["written"] += 1
        finally:
            if tar is not None:
                tar.close()
        _require_rows(folder, tally)
        existing = {p.name for p in aside.iterdir()}
    for path in out.glob(f"{'[0-9]' * 5}.tar"):  # of an earlier, larger export
        if path.name not in existing:
            path.unlink()
    return tally


def to_llava(folder: Path | str, out: Path | str, *, licences: Collection[str] = ()) -> dict[str, int]:
    """Conversations as `conversations.json` and an `images` folder, the format of LLaVA's `LazySupervisedDataset`.

    That reader knows two speakers who must take turns, human first, and one picture, marked once. So a tool's results become one
    human turn between `<tool_response>` tags, and the system prompt is left to the reader. What cannot be told so is counted.
    Raises BadSettings for a dataset of other rows.
    """
    tally, samples = _tally(), []
    with written_aside(Path(out)) as aside:
        (aside / "images").mkdir()
        for conversation in _allowed(folder, Conversation, licences, tally):
            lines = _llava_turns(conversation.turns, bool(conversation.images))
            sample: dict[str, Any] = {"id": conversation.conversation_id, "conversations": lines}
            if len(conversation.images) > 1:
                tally["several pictures"] += 1
                continue
            if [x["from"] for x in lines[:2]] != ["human", "gpt"]:
                tally["no question or no answer"] += 1
                continue
            if conversation.images:
                name = f"{tally['written']:08d}{suffix_of(conversation.images[0])}"
                (aside / "images" / name).write_bytes(conversation.images[0])
                sample["image"] = name
            samples.append(sample)
            tally["written"] += 1
        _require_rows(folder, tally)
        (aside / "conversations.json").write_text(json.dumps(samples, ensure_ascii=False, indent=1), encoding="utf-8")
    return tally


def to_messages(
    folder: Path | str, out: Path | str, *, licences: Collection[str] = (), specs: Mapping[str, ToolSpec] | None = None
) -> dict[str, int]:
    """Conversations as `messages.jsonl` with an `images` folder: messages, images and tools a line, nothing left out of them.

    A line has OpenAI's roles and `tool_calls`; `tools` holds the schemas of the tools on offer (`specs`, by name). Beside it lie
    `sharegpt.json` with `dataset_info.json`, the entry of LLaMA-Factory, and `swift.jsonl`, whose calls are the messages
    `tool_call` and `tool_response` that ms-swift reads (`swift sft --dataset OUT/swift.jsonl`). Every format keeps the system
    prompt. Raises BadSettings for a dataset of other rows.
    """
    tally, shared = _tally(), []
    with (
        written_aside(Path(out)) as aside,
        (aside / "messages.jsonl").open("w", encoding="utf-8") as plain,
        (aside / "swift.jsonl").open("w", encoding="utf-8") as swift,
    ):
        (aside / "images").mkdir()
        for conversation in _allowed(folder, Conversation, licences, tally):
            if not any(t.role == "assistant" for t in conversation.turns):
                tally["no question or no answer"] += 1
                continue
            names = []
            for number, image in enumerate(conversation.images):
                names.append(f"images/{tally['written']:08d}-{number}{suffix_of(image)}")
                (aside / names[-1]).write_bytes(image)
            tools = [_function(name, specs or {}) for name in conversation.tools]
            about = {"id": conversation.conversation_id, "split": conversation.split, **_about(conversation.source)}
            messages = _messages(conversation.turns)
            line = {"messages": messages, "images": names, **({"tools": tools} if tools else {}), **about}
            plain.write(json.dumps(line, ensure_ascii=False) + "\n")
            line = {"messages": _swift_messages(messages), "images": names, **({"tools": json.dumps(tools)} if tools else {})}
            swift.write(json.dumps(line, ensure_ascii=False) + "\n")
            shared.append(_sharegpt(messages, names, tools))
            tally["written"] += 1
        _require_rows(folder, tally)
        columns = {"messages": "conversations", "images": "images", "system": "system", "tools": "tools"}
        entry = {"file_name": "sharegpt.json", "formatting": "sharegpt", "columns": columns}
        (aside / "sharegpt.json").write_text(json.dumps(shared, ensure_ascii=False, indent=1), encoding="utf-8")
        (aside / "dataset_info.json").write_text(json.dumps({"pathasst": entry}, indent=1), encoding="utf-8")
    return tally


def suffix_of(image: bytes) -> str:
    """The file suffix of encoded picture bytes, by their first bytes; `.bin` when unknown."""
    return SUFFIXES.get(image[:3], ".bin")


def _about(source: Source | None) -> dict[str, Any]:
    """What a line says of where it comes from."""
    return {k: v for k, v in asdict(source).items() if v} if source else {}


def _function(name: str, specs: Mapping[str, ToolSpec]) -> dict[str, Any]:
    """A tool as OpenAI describes one; of a tool that nobody described, the name alone."""
    unknown = ToolSpec(name=name, description="", parameters={"type": "object", "properties": {}})
    return specs.get(name, unknown).as_function()


def _messages(turns: list[Turn]) -> list[dict[str, Any]]:
    """OpenAI's messages; calls without an id get one, so that results name the call that they answer."""
    messages: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    for number, turn in enumerate(turns):
        message: dict[str, Any] = {"role": turn.role, "content": turn.content}
        if turn.thoughts:
            message["reasoning_content"] = turn.thoughts
        if turn.tool_calls:
            message["tool_calls"] = [c.as_function(c.id or f"call_{number}_{n}") for n, c in enumerate(turn.tool_calls)]
            waiting = list(message["tool_calls"])
        if turn.role == "tool":
            call = next((c for c in waiting if c["function"]["name"] == turn.tool), waiting[0] if waiting else None)
            message |= {"name": turn.tool, "tool_call_id": call["id"] if call else ""}
            if call:
                waiting.remove(call)
        messages.append(message)
    return messages


def _swift_messages(messages: list[dict[str, Any]]) -> list[dict[str, str]]:
    """One message a call and a result, in ms-swift's roles."""
    lines: list[dict[str, str]] = []
    for message in messages:
        if message["role"] == "tool":
            lines.append({"role": "tool_response", "content": message["content"]})
            continue
        if message["content"] or not message.get("tool_calls"):
            lines.append({"role": message["role"], "content": message["content"]})
        lines += [{"role": "tool_call", "content": _written_call(c)} for c in message.get("tool_calls", ())]
    return lines


def _sharegpt(messages: list[dict[str, Any]], images: list[str], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """A sample as LLaMA-Factory reads it: speakers by turns, so calls of one message are one list and their results one text."""
    lines: list[dict[str, str]] = []
    system = "\n\n".join(m["content"] for m in messages if m["role"] == "system")
    for message in messages:
        if message["role"] == "system":
            continue
        text, calls = message["content"], message.get("tool_calls", [])
        speaker = {"assistant": "function_call" if calls else "gpt", "tool": "observation"}.get(message["role"], "human")
        if calls:  # the words before a call have no place of their own there
            text = json.dumps([json.loads(_written_call(c)) for c in calls], ensure_ascii=False)
        if lines and lines[-1]["from"] == speaker:
            lines[-1]["value"] += f"\n{text}"
        else:
            lines.append({"from": speaker, "value": text})
    functions = json.dumps([t["function"] for t in tools], ensure_ascii=False) if tools else ""
    return {"conversations": lines, "images": images, "system": system, "tools": functions}


def _written_call(call: dict[str, Any]) -> str:
    function = call["function"]
    return json.dumps({"name": function["name"], "arguments": json.loads(function["arguments"])}, ensure_ascii=False)


def _require_rows(folder: Path | str, tally: dict[str, int]) -> None:
    """Raises BadInput when an export wrote nothing, so that it takes the place of nothing."""
    if not tally["written"]:
        reasons = ", ".join(f"{n} {what}" for what, n in tally.items() if n) or "it is empty"
        raise BadInput(f"no row of {folder} was exported ({reasons}); nothing was written.")


def _tally() -> dict[str, int]:
    return {"written": 0, "licence": 0, "no picture or caption": 0, "several pictures": 0, "no question or no answer": 0}


def _allowed(folder: Path | str, kind: type[R], licences: Collection[str], tally: dict[str, int]) -> Iterator[R]:
    if isinstance(licences, str):
        raise BadSettings("licences is a list of licence codes, such as ['CC-BY-4.0', 'CC0-1.0'].")
    if Path(folder).is_dir() and (rows := Manifest.load(Path(folder)).record) != kind.__name__:
        raise BadSettings(f"{folder} holds {rows} rows: WebDataset is made of Pairs, LLaVA JSON and messages of Conversations.")
    for record in read(folder, kind):
        if licences and (record.source is None or record.source.licence not in licences):
            tally["licence"] += 1
        else:
            yield record


def _add_sample(tar: tarfile.TarFile, key: str, pair: Pair) -> None:
    about = {"pair_id": pair.pair_id, "label": pair.label, "split": pair.split, **asdict(pair.source)}
    parts = {
        suffix_of(pair.image): pair.image,
        ".txt": pair.caption.encode(),
        ".json": json.dumps(about, sort_keys=True).encode(),
    }
    for suffix, content in parts.items():
        info = tarfile.TarInfo(key + suffix)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


def _llava_turns(turns: list[Turn], pictured: bool) -> list[dict[str, str]]:
    """Human and gpt by turns, ending with gpt; the picture's mark opens the first human turn and stands nowhere else."""
    lines: list[dict[str, str]] = []
    for turn in turns:
        if turn.role == "system":
            continue
        calls = [json.dumps({"name": c.name, "arguments": c.arguments}, sort_keys=True) for c in turn.tool_calls]
        text = "\n".join(filter(None, [turn.content.replace(IMAGE, "").strip(), *(f"<tool_call>{c}</tool_call>" for c in calls)]))
        if turn.role == "tool":
            text = f"<tool_response>{text}</tool_response>"
        speaker = "gpt" if turn.role == "assistant" else "human"
        if lines and lines[-1]["from"] == speaker:
            lines[-1]["value"] += f"\n{text}"
        else:
            lines.append({"from": speaker, "value": text})
    if lines and lines[-1]["from"] == "human":
        lines.pop()  # a question without an answer teaches nothing
    if lines and pictured:
        lines[0]["value"] = f"{IMAGE}\n{lines[0]['value']}"
    return lines
