"""36 requests with the calls they ought to lead to, carried through the loop over HTTP against the real tools' declarations.

The model is scripted, so this measures no choice of tool (`evaluate` does that): it shows that every right call reaches its tool
unchanged, on the right picture, and that right arguments are never "repaired".
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assistant_parts import ChatServer, call, message

from pathasst.assistant import ask
from pathasst.core.records import Picture, ToolResult
from pathasst.imaging.pictures import encode_png
from pathasst.tools.protocol import Registry
from pathasst.tools.registry import all_classes

REQUESTS = json.loads((Path(__file__).parent / "requests.json").read_text(encoding="utf-8"))
MAKES_PICTURES = ("ki67_cells", "her2_cells", "lbc_generate")


def declared(seen: list[tuple[str, Any]]) -> Registry:
    """The real tools with their own names, cards and arguments; running one only notes what it was given."""
    registry = Registry()
    for cls in all_classes():

        def run(self: Any, arguments: Any, image: Any) -> ToolResult:
            seen.append((self.name, arguments))
            made = (
                [Picture(name="made", image=encode_png(np.zeros((40, 40, 3), np.uint8)))] if self.name in MAKES_PICTURES else []
            )
            return ToolResult(name=self.name, text="done", pictures=made)

        registry.add(
            type(
                cls.__name__,
                (cls,),
                {"run": run, "weights": (), "missing": lambda self: [], "version": lambda self: "declared@1"},
            )()
        )
    return registry


@pytest.mark.parametrize("row", REQUESTS, ids=lambda row: row["request"][:40])
def test_right_calls_reach_their_tools_unchanged(row: dict[str, Any], chat_server: ChatServer) -> None:
    rounds = row.get("turns") or ([row["calls"]] if row["calls"] else [])
    script = [message("", *(call(name, **given) for name, given in calls)) for calls in rounds] + [message("Done.")]
    chat_server.answer = lambda body: (200, script.pop(0))
    seen: list[tuple[str, Any]] = []
    image = np.full((64, 64, 3), 200, np.uint8) if row["picture"] else None
    answer = ask(image, row["request"], brain=f"{chat_server.url}#scripted", registry=declared(seen))
    expected = [(name, given) for calls in rounds for name, given in calls]
    assert [s.call.name for s in answer.steps] == [name for name, _ in expected]
    assert not [s.result.error for s in answer.steps if s.result.error]
    assert not [r for s in answer.steps for r in s.repairs]
    for (name, arguments), (wanted, given) in zip(seen, expected, strict=True):
        model = type(arguments)
        assert name == wanted
        assert arguments == model.model_validate({k: v for k, v in given.items() if k != "image"})
    for step, (_, given) in zip(answer.steps, expected, strict=True):
        if "image" in given:
            assert step.image == given["image"]
    offered = {t["function"]["name"] for t in chat_server.requests[0]["tools"]}
    assert offered == {cls.name for cls in all_classes()}


def test_the_table_covers_every_tool_and_none() -> None:
    rounds = [row.get("turns") or [row["calls"]] for row in REQUESTS]
    named = {name for calls in rounds for turn in calls for name, _ in turn}
    assert named == {cls.name for cls in all_classes()}
    assert len(REQUESTS) >= 30
    assert sum(not any(calls) for calls in rounds) >= 5
