"""Conversations → samples, and the table of vision features they point into.

The tower is frozen in both phases, so each picture passes it once; the table is kept on disk and only new pictures are computed.
Knows records, the chat template and the tower; knows no training loop.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.core.files import write_atomic
from pathasst.core.records import IMAGE, Conversation, ToolSpec
from pathasst.dataset import Dropped
from pathasst.instruct.subsets import in_phase2
from pathasst.mllm.chat import render
from pathasst.mllm.model import Parts, features
from pathasst.mllm.pack import Sample

if TYPE_CHECKING:
    import torch

BATCH = 32  # pictures that pass the tower at once
CHOOSE = "choose"  # kind of the samples that `cut_after_call` makes
NOT_OFFERED = "not_offered"  # scenario of a conversation about a tool that is missing from its list


@dataclass(slots=True)
class FeatureTable:
    """Patch tokens of every picture, float16 images × patches × width, by the picture's MD5.

    With a `file`, rows are written as they are computed and read through a memory map: an interrupted run keeps them, and the
    processes of one machine share them. Beside it `<file>.keys` holds the tower's key, then a row's MD5 a line.
    """

    file: Path | None = None
    rows: dict[str, int] = field(default_factory=dict)
    blocks: list[torch.Tensor] = field(default_factory=list)  # without a file
    waiting: list[bytes] = field(default_factory=list)
    computed: int = 0  # how many passed the tower in this run

    @classmethod
    def open(cls, file: Path, parts: Parts, *, write: bool = True) -> FeatureTable:
        """The table at `file`, as far as the same tower computed it. `write` off: another process writes it."""
        table, tower, count = cls(file), tower_key(parts), 0
        lines = table._keys.read_text(encoding="utf-8").split() if table._keys.is_file() and file.is_file() else [""]
        row_bytes = 2 * parts.image_tokens * parts.model.config.vision_config.hidden_size
        if lines[0] == tower:
            complete = [k for k in lines[1:] if len(k) == 32]  # a kill may have cut the last
            count = min(len(complete), file.stat().st_size // row_bytes)
            table.rows = {k: n for n, k in enumerate(complete[:count])}
        if write:
            with file.open("ab") as rows:
                rows.truncate(count * row_bytes)
            write_atomic(table._keys, "".join(f"{line}\n" for line in (tower, *table.rows)).encode())
        return table

    def add(self, image: bytes, parts: Parts) -> int:
        """The row of a picture; it passes the tower once. Raises BadInput for an unreadable one."""
        key = hashlib.md5(image, usedforsecurity=False).hexdigest()
        if key not in self.rows:
            _check(image)
            self.rows[key] = len(self.rows)
            self.waiting.append(image)
            if len(self.waiting) >= BATCH:
                self.flush(parts)
        return self.rows[key]

    def flush(self, parts: Parts) -> None:
        """Send the waiting pictures through the tower, on the device where it is."""
        if not self.waiting:
            return
        block = features(parts, self.waiting).half().cpu().contiguous()
        if self.file is None:
            self.blocks.append(block)
        else:
            with self.file.open("ab") as rows:
                rows.write(block.numpy().tobytes())
            keys = list(self.rows)[-len(self.waiting) :]
            with self._keys.open("a", encoding="utf-8") as names:
                names.write("".join(f"{key}\n" for key in keys))
        self.computed += len(self.waiting)
        self.waiting = []

    def tensor(self, parts: Parts) -> torch.Tensor:
        """The whole table; of a file, a map of it that is read where it is used."""
        import torch

        self.flush(parts)
        shape = (len(self.rows), parts.image_tokens, parts.model.config.vision_config.hidden_size)
        if not self.rows:
            return torch.zeros(shape, dtype=torch.float16)
        if self.file is not None:
            return torch.from_numpy(np.memmap(self.file, np.float16, "c", shape=shape))
        self.blocks = [torch.cat(self.blocks)]
        return self.blocks[0]

    @property
    def _keys(self) -> Path:
        assert self.file is not None
        return self.file.with_name(f"{self.file.name}.keys")


def tower_key(parts: Parts) -> str:
    """Changes when the tower's weights or the layer that is read change."""
    digest = hashlib.sha256(str(parts.model.config.vision_feature_layer).encode())
    for name, tensor in sorted(parts.model.model.vision_tower.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.float().sum(dim=tuple(range(tensor.dim() - 1))).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def samples_of(
    conversations: Iterable[Conversation],
    parts: Parts,
    table: FeatureTable,
    specs: Mapping[str, ToolSpec],
    *,
    max_length: int = 2048,
    tool_lists: Sequence[tuple[str, ...]] = (),
) -> tuple[list[Sample], list[Dropped]]:
    """Conversations as training samples. One that cannot be used is returned as `Dropped` and costs nothing else.

    With `tool_lists`, a conversation whose calls are all on one of these lists, and whose list leaves out nothing on purpose, is
    shown under that list instead of its own (see `common_lists`).
    """
    samples, dropped = [], []
    for conversation in conversations:
        try:
            samples.append(_sample(conversation, parts, table, specs, max_length, tool_lists))
        except BadInput as error:
            dropped.append(Dropped(conversation.conversation_id, "unusable", str(error)))
    return samples, dropped


def _sample(
    conversation: Conversation,
    parts: Parts,
    table: FeatureTable,
    specs: Mapping[str, ToolSpec],
    max_length: int,
    tool_lists: Sequence[tuple[str, ...]],
) -> Sample:
    names = regrouped(conversation, tool_lists)
    if unknown := [n for n in names if n not in specs]:
        raise BadInput(f"{conversation.conversation_id}: offers {', '.join(unknown)}, which no tool is called.")
    rendered = render(
        conversation.turns,
        parts.tokenizer,
        parts.template,
        tools=[specs[n] for n in names],
        images=len(conversation.images),
        image_tokens=parts.image_tokens,
        max_length=max_length,
        name=conversation.conversation_id,
    )
    if not any(rendered.mask):
        raise BadInput(f"{conversation.conversation_id}: the assistant says nothing.")
    places = rendered.ids.count(parts.tokenizer.convert_tokens_to_ids(IMAGE)) // max(parts.image_tokens, 1)
    images = tuple(table.add(image, parts) for image in conversation.images[:places])
    ids, mask = np.array(rendered.ids, np.int32), np.array(rendered.mask, bool)
    opening = rendered.opening if images else 0
    paper = conversation.kind == CHOOSE or in_phase2(conversation)
    return Sample(conversation.conversation_id, ids, mask, rendered.prefix, images, conversation.kind, paper, opening)


def cut_after_call(conversation: Conversation) -> Conversation:
    """A tool conversation up to its last call: what choosing a tool is learned from, without the results that follow."""
    calls = [n for n, turn in enumerate(conversation.turns) if turn.tool_calls]
    end = calls[-1] + 1 if calls else len(conversation.turns)
    return replace(conversation, kind=CHOOSE, turns=conversation.turns[:end])


def common_lists(specs: Mapping[str, ToolSpec], count: int, seed: int) -> list[tuple[str, ...]]:
    """`count` lists of tools in random order: a third with every tool, the others with four or more. Few lists, so that packed
    rows can share them; many enough, that a model learns to read them.
    """
    draw = random.Random(seed)
    names = list(specs)
    lists = []
    for n in range(count):
        size = len(names) if n % 3 == 0 else draw.randint(min(4, len(names)), len(names))
        lists.append(tuple(draw.sample(names, size)))
    return lists


def regrouped(conversation: Conversation, tool_lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The list of tools a conversation is shown with: a common one that fits it, or its own.

    One fits that holds the tools it calls and none that it is refused. Which of them depends on its first picture, so that
    conversations about one picture share it too. A conversation without a scenario, which `instruct` did not draw, keeps its own.
    """
    called_tools = {c.name for t in conversation.turns for c in t.tool_calls}
    missing = {conversation.tool} if conversation.scenario == NOT_OFFERED else set()
    by = conversation.images[0] if conversation.images else conversation.conversation_id.encode()
    first = int(hashlib.md5(by, usedforsecurity=False).hexdigest(), 16) % max(1, len(tool_lists))
    candidates = [n for n in [*tool_lists[first:], *tool_lists[:first]] if called_tools <= set(n) and not missing & set(n)]
    return candidates[0] if candidates and conversation.scenario else tuple(conversation.tools)


def _check(image: bytes) -> None:
    from pathasst.imaging.pictures import read

    read(image, name="its picture")
