"""Pairs of answers of which one is preferred, from what people said on the page and from tool calls that failed. Knows no model.

Each pair says where it comes from. A verdict is used only where the question explains itself: the first of its conversation and
without a picture, since the page stores none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pathasst import dataset
from pathasst.core.errors import BadInput
from pathasst.core.files import fingerprint, write_atomic
from pathasst.core.records import IMAGE, Conversation, Turn, to_row
from pathasst.core.tables import lines_of


@dataclass(frozen=True, slots=True)
class Preference:
    """One prompt with a better and a worse turn of the assistant."""

    prompt: Conversation  # its turns end before the assistant's
    chosen: Turn
    rejected: Turn
    source: str  # feedback | call
    ids: tuple[str, str]  # of the feedback entries, or of the conversation and the place of the failed call
    reason: str = ""  # why the rejected turn was rejected


def of_calls(folders: Sequence[Path | str]) -> Iterator[Preference]:
    """Calls that failed, each beside the next one in the same conversation that did not; of the split train."""
    for folder in folders:
        for conversation in dataset.read(folder, Conversation):
            if conversation.split == "train":
                yield from _failed(conversation)


def _failed(conversation: Conversation) -> Iterator[Preference]:
    turns = conversation.turns
    called = [n for n, turn in enumerate(turns) if turn.role == "assistant" and turn.tool_calls]
    for n, place in enumerate(called):
        error = _error(turns, place)
        if not error:
            continue
        after = called[n + 1 :]
        asked = next((m for m in range(place + 1, len(turns)) if turns[m].role == "user"), len(turns))
        better = next((m for m in after if m < asked and not _error(turns, m)), None)
        if better is None or turns[better].tool_calls == turns[place].tool_calls:
            continue
        prompt = turns[:place]
        pictures = sum(turn.content.count(IMAGE) for turn in prompt if turn.role in ("user", "tool"))
        yield Preference(
            replace(conversation, turns=prompt, images=conversation.images[:pictures]),
            chosen=turns[better],
            rejected=turns[place],
            source="call",
            ids=(conversation.conversation_id, str(place)),
            reason=error,
        )


def _error(turns: Sequence[Turn], place: int) -> str:
    """What the tools that turn `place` called said if one of them failed."""
    for turn in turns[place + 1 :]:
        if turn.role != "tool":
            break
        if turn.error:
            return turn.error
    return ""


def of_feedback(file: Path | str) -> tuple[list[Preference], int]:
    """Answers that people called good, each beside one to the same question that they called bad, and how many verdicts could not
    be used. Raises BadInput for a file that holds no feedback."""
    good: dict[str, list[dict[str, str]]] = {}
    bad: dict[str, list[dict[str, str]]] = {}
    left_out = 0
    comments: dict[str, str] = {}
    for number, line in enumerate(lines_of(Path(file).read_text(encoding="utf-8")), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            kind = entry.get("verdict", "")
        except (ValueError, AttributeError) as error:
            raise BadInput(f"{file}: line {number} is no entry of feedback.jsonl.") from error
        if entry.get("about"):
            comments[entry["about"]] = entry.get("comment", "")
        elif kind in ("good", "bad") and entry.get("question") and entry.get("answer") and entry.get("alone"):
            question = " ".join(entry["question"].lower().split())
            (good if kind == "good" else bad).setdefault(question, []).append(entry)
        else:
            left_out += 1
    pairs = []
    for question, entries in good.items():
        worse = [e for e in bad.get(question, []) if e["answer"] != entries[0]["answer"]]
        left_out += len(entries) + len(bad.get(question, [])) - 2 * min(len(entries), len(worse))
        for better, worst in zip(entries, worse, strict=False):
            prompt = Conversation(
                conversation_id=f"feedback:{better['id']}", kind="converse", turns=[Turn(role="user", content=better["question"])]
            )
            chosen, rejected = (Turn(role="assistant", content=e["answer"]) for e in (better, worst))
            pairs.append(
                Preference(prompt, chosen, rejected, "feedback", (better["id"], worst["id"]), comments.get(worst["id"], ""))
            )
    left_out += sum(len(entries) for question, entries in bad.items() if question not in good)
    return pairs, left_out


def fingerprint_of(pairs: Sequence[Preference]) -> str:
    """A hash of all that is learnt from: prompts with their pictures, and both turns."""
    pictures = [[hashlib.sha256(image).hexdigest() for image in pair.prompt.images] for pair in pairs]
    prompts = [to_row(replace(pair.prompt, images=[])) for pair in pairs]
    return fingerprint({"pairs": [[p.ids, _plain(p.chosen), _plain(p.rejected)] for p in pairs], "of": [prompts, pictures]})


def write_provenance(pairs: Sequence[Preference], file: Path) -> None:
    """One JSON line a pair: where it is from, the two turns, and no picture."""
    lines = [
        {
            "source": pair.source,
            "ids": pair.ids,
            "reason": pair.reason,
            "prompt": [turn.content for turn in pair.prompt.turns],
            "chosen": _plain(pair.chosen),
            "rejected": _plain(pair.rejected),
        }
        for pair in pairs
    ]
    write_atomic(file, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode())


def _plain(turn: Turn) -> dict[str, object]:
    return {"content": turn.content, "tool_calls": [asdict(call) for call in turn.tool_calls]}
