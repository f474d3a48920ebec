"""Conversations → samples, and the table of vision features they point into.

The tower is frozen in both phases, so each picture passes it once; the table is kept on disk and only new pictures are computed.
Knows records, the chat template and the tower; knows no training loop.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.core.files import write_atomic
from pathasst.core.records import IMAGE, Conversation, ToolSpec
from pathasst.dataset import Dropped
from pathasst.instruct.subsets import in_phase2
from pathasst.mllm.chat import render
from pathasst.mllm.layouts import tile_count, token_count
from pathasst.mllm.model import Parts, features
from pathasst.mllm.pack import PicturePlace, Sample

if TYPE_CHECKING:
    import torch

BATCH = 32  # squares that pass the tower at once
CHOOSE = "choose"  # kind of the samples that `cut_after_call` makes
NOT_OFFERED = "not_offered"  # scenario of a conversation about a tool that is missing from its list


@dataclass(slots=True)
class FeatureTable:
    """Patch tokens of every picture, float16 squares × patches × width, by the picture's MD5.

    With a `file`, squares are written as they are computed and read through a memory map: an interrupted run keeps them, and the
    processes of one machine share them. Beside it `<file>.keys` holds the tower's key, then a line for each picture: its MD5,
    squares, height and width.
    """

    file: Path | None = None
    numbers: dict[str, int] = field(default_factory=dict)  # MD5 of a picture → its number
    places: list[PicturePlace] = field(default_factory=list)  # by number
    blocks: list[torch.Tensor] = field(default_factory=list)  # without a file
    waiting: list[bytes] = field(default_factory=list)
    computed: int = 0  # how many passed the tower in this run

    @classmethod
    def open(cls, file: Path, parts: Parts, *, write: bool = True) -> FeatureTable:
        """The table at `file`, as far as the same tower computed it. `write` off: another process writes it."""
        table, tower = cls(file), tower_key(parts)
        lines = table._keys.read_text(encoding="utf-8").splitlines() if table._keys.is_file() and file.is_file() else [""]
        row_bytes = 2 * math.prod(parts.feature_shape)
        if lines[0] == tower:
            complete = file.stat().st_size // row_bytes
            for line in lines[1:]:
                key, *numbers = line.split()
                if len(key) != 32 or len(numbers) != 3:  # a kill cut it off
                    break
                squares, height, width = map(int, numbers)
                if table._squares + squares > complete:
                    break
                table._enter(key, squares, height, width)
        if write:
            with file.open("ab") as rows:
                rows.truncate(table._squares * row_bytes)
            text = "".join(f"{line}\n" for line in (tower, *map(table._line, table.numbers)))
            write_atomic(table._keys, text.encode())
        return table

    def add(self, image: bytes, parts: Parts) -> int:
        """The number of a picture; it passes the tower once. Raises BadInput for an unreadable one."""
        from pathasst.imaging.pictures import read

        key = _key(image)
        if key not in self.numbers:
            height, width = read(image, name="its picture").pixels.shape[:2]
            self._enter(key, tile_count(parts.model.config, height, width), height, width)
            self.waiting.append(image)
            if sum(self.places[self.numbers[_key(i)]].squares for i in self.waiting) >= BATCH:
                self.flush(parts)
        return self.numbers[key]

    def tokens(self, image: bytes, parts: Parts) -> int:
        """How many a picture takes in a conversation."""
        place = self.places[self.add(image, parts)]
        return token_count(parts.model, place.height, place.width)

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
            with self._keys.open("a", encoding="utf-8") as lines:
                lines.write("".join(f"{self._line(_key(image))}\n" for image in self.waiting))
        self.computed += len(self.waiting)
        self.waiting = []

    def tensor(self, parts: Parts) -> torch.Tensor:
        """The whole table; of a file, a map of it that is read where it is used."""
        import torch

        self.flush(parts)
        shape = (self._squares, *parts.feature_shape)
        if not self.numbers:
            return torch.zeros(shape, dtype=torch.float16)
        if self.file is not None:
            return torch.from_numpy(np.memmap(self.file, np.float16, "c", shape=shape))
        self.blocks = [torch.cat(self.blocks)]
        return self.blocks[0]

    def _enter(self, key: str, squares: int, height: int, width: int) -> None:
        self.numbers[key] = len(self.places)
        self.places.append(PicturePlace(self._squares, squares, height, width))

    def _line(self, key: str) -> str:
        place = self.places[self.numbers[key]]
        return f"{key} {place.squares} {place.height} {place.width}"

    @property
    def _squares(self) -> int:
        return self.places[-1].first + self.places[-1].squares if self.places else 0

    @property
    def _keys(self) -> Path:
        assert self.file is not None
        return self.file.with_name(f"{self.file.name}.keys")


def _key(image: bytes) -> str:
    return hashlib.md5(image, usedforsecurity=False).hexdigest()


def tower_key(parts: Parts) -> str:
    """Changes when the tower's weights, the layer that is read or the cut into tiles change."""
    config = parts.model.config
    about = (config.model_type, config.vision_feature_layer, getattr(config, "image_grid_pinpoints", None))
    digest = hashlib.sha256(str(about).encode())
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
    counts = [table.tokens(image, parts) for image in conversation.images]
    rendered = render(
        conversation.turns,
        parts.tokenizer,
        parts.template,
        tools=[specs[n] for n in names],
        images=len(conversation.images),
        image_tokens=counts,
        max_length=max_length,
        name=conversation.conversation_id,
    )
    if not any(rendered.mask):
        raise BadInput(f"{conversation.conversation_id}: the assistant says nothing.")
    left = rendered.ids.count(parts.tokenizer.convert_tokens_to_ids(IMAGE))
    complete = sum(total <= left for total in accumulate(counts))  # the others' turns were cut off
    images = tuple(table.add(image, parts) for image in conversation.images[:complete])
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
