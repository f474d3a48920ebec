"""Zooming in the loop: the model asks for a region, looks at it in its next turn, and reads what the whole was too coarse for."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
from assistant_parts import ChatServer, Scaled, ScriptedBrain, call, message, say
from PIL import Image

from pathasst.assistant import BrainSettings, ask, open_brain
from pathasst.assistant.answering import registry_for
from pathasst.assistant.brains.local import LocalBrain
from pathasst.assistant.brains.messages import to_messages
from pathasst.assistant.grounding import Grounding
from pathasst.assistant.images import PictureInput
from pathasst.core.records import Attachment, ToolCall, Turn
from pathasst.tools.protocol import Registry
from pathasst.tools.zoom import Zoom

BOX = [0.5, 0.25, 0.625, 0.375]


@pytest.fixture
def zooming() -> Registry:
    registry = Registry()
    registry.add(Zoom())
    registry.add(Scaled())
    return registry


@pytest.fixture
def grating() -> np.ndarray:
    """Lines of one pixel, black and white, in a corner of a large grey field: reduced they are grey, too."""
    field = np.full((1300, 2600, 3), 128, np.uint8)
    field[350:450, 1330:1600, :] = (np.arange(270) % 2 * 255)[None, :, None]
    return field


def pictures(body: dict[str, Any]) -> list[np.ndarray]:
    """What a server's request shows its model, in order."""
    parts = [p for m in body["messages"] if isinstance(m["content"], list) for p in m["content"] if p["type"] == "image_url"]
    data = (base64.b64decode(p["image_url"]["url"].partition(",")[2]) for p in parts)
    return [np.asarray(Image.open(io.BytesIO(one)).convert("RGB")) for one in data]


def reader(body: dict[str, Any]) -> tuple[int, Any]:
    """A model that says whether it sees lines in the latest picture, and zooms in once where it sees none."""
    latest = pictures(body)[-1].astype(int)
    if (np.abs(np.diff(latest[..., 0], axis=1)) > 200).mean() > 0.3:
        return 200, message("Lines.")
    calls = [m for m in body["messages"] if m["role"] == "tool"]
    return (200, message("Nothing.")) if calls else (200, message("", call("zoom", box=BOX)))


def test_a_detail_that_the_whole_does_not_show_is_read_in_its_region(
    chat_server: ChatServer, grating: np.ndarray, zooming: Registry
) -> None:
    chat_server.answer = reader
    seeing = BrainSettings(kind="openai", url=chat_server.url, model="vl", grounded=False)
    answer = ask(PictureInput(grating, um_per_px=0.25), "What is there?", brain=open_brain(seeing), registry=zooming)
    assert answer.text.startswith("Lines.") and answer.calls == [ToolCall(name="zoom", arguments={"box": BOX}, id="call_0")]
    first, second = chat_server.requests
    assert [p.shape for p in pictures(first)] == [(1024, 2048, 3)]  # reduced, as it is sent
    assert [p.shape for p in pictures(second)] == [(1024, 2048, 3), (163, 325, 3)]
    assert [m["role"] for m in second["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert second["messages"][-1]["content"][0]["text"] == "image2, which zoom made:"
    region = answer.pictures[1]
    assert (region.by, region.um_per_px, region.visible) == ("zoom", 0.25, True)

    chat_server.answer = lambda body: (200, message("Yes, lines."))  # the conversation goes on with both pictures
    ask(None, "Are you sure?", answer, open_brain(seeing), zooming)
    assert [p.shape for p in pictures(chat_server.requests[-1])] == [(1024, 2048, 3), (163, 325, 3)]
    ask(None, "And you?", answer, open_brain(f"{chat_server.url}#text,blind"), zooming)
    assert pictures(chat_server.requests[-1]) == []  # one that does not see reads the names
    assert "image2 (zoom)" in str(chat_server.requests[-1]["messages"])


def test_several_regions_of_one_reply_follow_all_its_results(grating: np.ndarray, zooming: Registry) -> None:
    zooms = [call("zoom", box=[0, 0, 0.5, 0.5]), call("zoom", box=[2, 2, 3, 3]), call("zoom", box=[0.5, 0.5, 1, 1])]
    brain = ScriptedBrain([say("", *zooms), say("Done.")])
    ask(grating, "Look.", brain=brain, registry=zooming)
    turns, images, _ = brain.given[1]
    assert [t.content.count("<image>") for t in turns] == [1, 0, 1, 0, 1] and len(images) == 3
    messages = to_messages(turns, images)
    assert [m["role"] for m in messages[1:]] == ["user", "assistant", "tool", "tool", "tool", "user"]
    assert [p["text"] for p in messages[-1]["content"] if p["type"] == "text"][::2] == [
        "image2, which zoom made:",
        "image3, which zoom made:",
    ]


def test_a_region_is_measured_at_the_pictures_scale(grating: np.ndarray, zooming: Registry) -> None:
    brain = ScriptedBrain([say("", call("zoom", box=BOX)), say("", call("scaled", image="image2")), say("Done.")])
    answer = ask(PictureInput(grating, um_per_px=0.25), "Measure it.", brain=brain, registry=zooming)
    assert answer.results[1].numbers == {"um_per_px": 0.25}


def test_our_own_model_gets_the_region_in_the_tools_turn() -> None:
    class Reader:
        """A model that keeps what it is given."""

        turns: Any = None

        def prompt_ids(self, turns: Any, images: int, tools: Any) -> list[int]:
            return []

        def stream(self, turns: Any, images: Any, tools: Any, **how: Any) -> Any:
            self.turns, self.images = turns, images
            yield Turn(role="assistant", content="Lines.")

    model: Any = Reader()
    turns = [
        Turn(role="user", content="<image>\nWhat is there?"),
        Turn(role="assistant", tool_calls=[ToolCall(name="zoom", id="c1")]),
        Turn(role="tool", tool="zoom", content="<image>\nThe region.", attachments=[Attachment(handle="image2", name="zoom")]),
    ]
    LocalBrain(model, "mine@1").reply(turns, [b"whole", b"part"], [Zoom.spec()])
    assert [t.content for t in model.turns][::2] == ["<image>\nWhat is there?", "<image>\nThe region."]
    assert model.images == [b"whole", b"part"]


def test_who_sees_and_writes_by_itself_may_zoom_and_nobody_else() -> None:
    def offered(**kind: Any) -> set[str]:
        return set(registry_for(ScriptedBrain([], **kind)).tools)

    assert "zoom" in offered() and "look" not in offered()
    assert "zoom" not in offered(sees=False)
    assert "zoom" not in offered(grounding=Grounding.COMPOSED)
