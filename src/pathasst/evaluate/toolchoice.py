"""Tool choice: does a brain call the right tools, with the right arguments, and none where none is wanted?

Knows the requests of `requests.yaml` (written by hand, never trained on) and the brain protocol; runs no tool. A request's first
turn is judged. `look`, the eyes of a brain that has none, is no specialist tool and does not count as a call.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from pathasst.assistant.brains.settings import Brain
from pathasst.core.errors import BadSettings
from pathasst.core.records import IMAGE, Attachment, ImageBytes, ToolCall, ToolSpec, Turn
from pathasst.core.statistics import f1_interval, mean_interval, sums_interval
from pathasst.core.tables import lines_of
from pathasst.evaluate.asking import Prompt, ask_all, bar
from pathasst.evaluate.predictions import Predictions, Share, Value
from pathasst.evaluate.table import Table

KINDS = {
    "ki67": "bcdata_ki67/images",
    "membrane": "pdl1_tma/images",
    "cytology": "mendeley_lbc/images",
    "blood": "bccd/images",
    "tissue": "lc25000/colon",
}
"""Kinds of pictures that requests come with, and where samples of them lie under $PATHASST_DATA."""
NOT_COUNTED = "look"
NONE = ("none", "unable")
RIGHT = "right tools, or rightly none"
COLUMNS = ["requests", "n", RIGHT, "precision", "recall", "F1 of names", "arguments right", "false calls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRequest:
    """One request: words, kind of picture, and the calls that are right."""

    id: str
    group: str
    number: int = 0  # within its group, from 1 on: which picture of its kind it comes with
    say: str
    kind: str  # of picture, or "none"
    expected: tuple[str, ...]  # names of tools, in any order
    arguments: dict[str, Any] = field(default_factory=dict)  # what the words fix, of the one wanted call
    before: tuple[Turn, ...] = ()
    kind_before: str = "none"


def load_requests(path: Path | None = None) -> list[ToolRequest]:
    """The requests of a file of this form; ours by default. Raises BadSettings for a file of another form, or none."""
    import yaml

    from pathasst.core import yaml_text

    try:
        groups = yaml_text.load((path or files(__package__) / "requests.yaml").read_text(encoding="utf-8"))
        before = groups.pop("after", {})
        return [
            _request(group, n, node, item, before) for group, node in groups.items() for n, item in enumerate(node["requests"], 1)
        ]
    except (KeyError, TypeError, AttributeError, OSError, ValueError, yaml.YAMLError) as error:
        raise BadSettings(f"{path or 'requests.yaml'} is no file of requests: {error!r}") from error


def texts_of(path: Path | None = None) -> list[str]:
    """The words of the requests of a file: of this form, or JSONL with the words of each as `say`. Raises BadSettings."""
    if path is None or path.suffix != ".jsonl":
        return [r.say for r in load_requests(path)]
    try:
        return [str(json.loads(line)["say"]) for line in lines_of(path.read_text(encoding="utf-8")) if line.strip()]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSettings(f"{path} is no file of requests: {error!r}") from error


def draw(requests: Sequence[ToolRequest], limit: int, seed: int) -> list[ToolRequest]:
    """About `limit` of the requests, the same share of every group and at least one of each; 0: all."""
    if not limit or limit >= len(requests):
        return list(requests)
    groups: dict[str, list[ToolRequest]] = {}
    for request in requests:
        groups.setdefault(request.group, []).append(request)
    ids = set()
    for name, group in groups.items():
        count = max(1, round(limit * len(group) / len(requests)))
        ids |= {r.id for r in Random(f"{seed} {name}").sample(group, count)}
    return [r for r in requests if r.id in ids]


def _request(group: str, number: int, node: dict[str, Any], item: Any, before: dict[str, Any]) -> ToolRequest:
    entry: dict[str, Any] = {"say": item} if isinstance(item, str) else item
    tools = entry.get("calls", [] if group in NONE else [group])
    earlier = before[entry["after"]] if "after" in entry else None
    turns: tuple[Turn, ...] = ()
    if earlier:
        call = ToolCall(name=earlier["call"]["name"], arguments=earlier["call"]["arguments"], id="call_1")
        turns = (
            Turn(role="user", content=earlier["say"]),
            Turn(role="assistant", tool_calls=[call]),
            Turn(role="tool", content=earlier["result"], tool=call.name),
            Turn(role="assistant", content=earlier["answer"]),
        )
    return ToolRequest(
        id=f"{group}/{number}",
        group=group,
        number=number,
        say=entry["say"],
        kind=entry.get("picture", node["picture"]),
        expected=tuple(tools),
        arguments=entry.get("args", {}),
        before=turns,
        kind_before=earlier["picture"] if earlier else "none",
    )


def pictures(folder: Path | None = None) -> dict[str, list[ImageBytes]]:
    """Up to eight encoded pictures of each kind: from `folder`/<kind>/, else $PATHASST_DATA, else one that skimage ships.

    Raises BadSettings for a folder without a picture of any kind.
    """
    root = folder or Path(os.environ.get("PATHASST_DATA") or "-")
    by_group = {}
    for kind, place in KINDS.items():
        here = root / kind if folder else root / place
        paths = sorted(p for p in here.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")) if here.is_dir() else []
        by_group[kind] = [p.read_bytes() for p in paths[:: max(1, len(paths) // 8)][:8]]
    if folder and not any(by_group.values()):
        raise BadSettings(f"{folder} holds no pictures; it should have folders of them called {', '.join(KINDS)}.")
    return {kind: some or [_shipped()] for kind, some in by_group.items()}


def _shipped() -> bytes:
    import io

    from PIL import Image
    from skimage import data

    out = io.BytesIO()
    Image.fromarray(data.immunohistochemistry()).save(out, "PNG")
    return out.getvalue()


def ask(
    brain: Brain,
    requests: Sequence[ToolRequest],
    tools: Sequence[ToolSpec],
    pictures: dict[str, list[ImageBytes]],
    predictions: Predictions,
) -> list[Value]:
    """The brain's first turn for each request (see `ask_all`)."""
    replies = [_prompt(brain, r, list(tools), pictures) for r in requests]
    with bar("tool choice", len(replies)) as progress:
        return ask_all(brain, replies, predictions, batch=8, progress=progress)


def _prompt(brain: Brain, request: ToolRequest, tools: list[ToolSpec], pictures: dict[str, list[ImageBytes]]) -> Prompt:
    turns, images = [], []
    for turn, kind in ((request.before[:1], request.kind_before), ((Turn(role="user", content=request.say),), request.kind)):
        for one in turn:
            has = kind != "none"
            if has and brain.sees:
                images.append(pictures[kind][request.number % len(pictures[kind])])
            mark = f"{IMAGE}\n" if has and brain.sees else ""
            attached = [Attachment(handle="image1")] if has else []
            turns.append(Turn(role="user", content=f"{mark}{one.content}", attachments=attached))
        if turn == request.before[:1]:
            turns += request.before[1:]
    return turns, images, tools


def judge(request: ToolRequest, value: Value) -> dict[str, Any]:
    """Right or wrong, with counts of names: hits, called without need, missed."""
    counts = Counter(name for name, _ in value["calls"] if name != NOT_COUNTED)
    expected = Counter(request.expected)
    hits = sum((counts & expected).values())
    return {
        "right": counts == expected,
        "counts": (hits, sum(counts.values()) - hits, sum(expected.values()) - hits),
        "arguments": _arguments_right(request, value) if request.arguments else None,
    }


def _arguments_right(request: ToolRequest, value: Value) -> bool:
    name = request.expected[0]
    actual = next((arguments for tool, arguments in value["calls"] if tool == name), None)
    return actual is not None and all(
        same_argument(key, expected, actual.get(key)) for key, expected in request.arguments.items()
    )


def same_argument(key: str, expected: Any, actual: Any) -> bool:
    """Whether an argument has the value that a request fixes: numbers by value, a query by the words that it must have."""
    if key == "query":
        words = str(actual or "").lower()
        return all(word in words for word in str(expected).lower().split())
    try:
        return bool(np.array_equal(np.asarray(expected, float), np.asarray(actual, float)))
    except (TypeError, ValueError):
        return bool(actual == expected)


def evaluate(
    brain: Brain,
    cache: Path,
    *,
    tools: Sequence[ToolSpec] | None = None,
    requests: Path | None = None,
    folder: Path | None = None,
    limit: int = 0,
    seed: int = 0,
    share: Share = (0, 1),
) -> Table:
    """Precision, recall, arguments right and false-call rate, in all and by group. Each request is its own cluster.

    `limit`: at most about so many requests, the same share of every group (0: all).
    """
    from pathasst.tools.registry import all_specs

    offered = list(all_specs() if tools is None else tools)
    if not brain.sees:
        from pathasst.tools.look import Look

        offered.append(Look.spec())
    drawn_requests = draw(load_requests(requests), limit, seed)
    values = ask(brain, drawn_requests, offered, pictures(folder), Predictions(cache, "tools", share))
    verdicts = [judge(r, v) for r, v in zip(drawn_requests, values, strict=True)]
    table = Table(id="tools", title=f"Tool choice: {brain.name}", columns=COLUMNS, section="Tool Augmented MLLM Inference")
    groups = list(dict.fromkeys(r.group for r in drawn_requests))
    for name in ["all", *groups]:
        rows = [n for n, r in enumerate(drawn_requests) if name in ("all", r.group)]
        table.add(name, len(rows), *_scores([drawn_requests[n] for n in rows], [verdicts[n] for n in rows]))
    table.items = [_item(brain.name, r, v, j) for r, v, j in zip(drawn_requests, values, verdicts, strict=True)]
    shipped = "skimage's immunohistochemistry picture for every request"
    real = folder or ("samples of $PATHASST_DATA" if os.environ.get("PATHASST_DATA") else shipped)
    table.notes.append(f"Requests written by hand, never trained on; pictures: {real}. 95 % intervals, bootstrap by request.")
    return table


def _item(model: str, request: ToolRequest, value: Value, scores: dict[str, Any]) -> dict[str, Any]:
    """What is kept of a request, for paired comparison and for the report's list of mistakes."""
    where = {"model": model, "id": request.id, "cluster": request.id, "part": request.group}
    what = {"asked": request.say, "wanted": list(request.expected), "said": value["said"], "calls": value["calls"]}
    return where | what | {"score": float(scores["right"])}


def _scores(requests: Sequence[ToolRequest], verdicts: Sequence[dict[str, Any]]) -> list[Any]:
    counts = np.array([v["counts"] for v in verdicts], float)
    free = [float(v["counts"][1] > 0) for r, v in zip(requests, verdicts, strict=True) if not r.expected]
    arguments = [float(v["arguments"]) for v in verdicts if v["arguments"] is not None]
    some = any(r.expected for r in requests)

    def share(other: int) -> Any:
        return sums_interval(lambda s: s[:, 0] / np.maximum(s[:, 0] + s[:, other], 1), counts) if some else None

    return [
        mean_interval([float(v["right"]) for v in verdicts]),
        share(1),
        share(2),
        f1_interval(counts) if some else None,
        mean_interval(arguments) if arguments else None,
        mean_interval(free) if free else None,
    ]
