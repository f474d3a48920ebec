"""One question of a public set, whatever its kind, and how it is put to a brain. Knows no layout and no brain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pathasst.core.errors import BadInput
from pathasst.evaluate.answers import is_closed

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
CHOICE, CLOSED, OPEN = "choice", "closed", "open"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionItem:
    """A question with its answer. `choices` are texts without letters; empty: yes/no or open, by the answer."""

    id: str
    question: str
    answer: str  # of a choice its text
    choices: tuple[str, ...] = ()
    pictures: tuple[Path | bytes, ...] = ()
    cluster: str = ""  # questions about one picture share it
    subset: str = ""

    @property
    def kind(self) -> str:
        """`choice`, `closed` (yes or no) or `open`."""
        return CHOICE if self.choices else (CLOSED if is_closed(self.answer) else OPEN)

    def images(self) -> list[bytes]:
        """The encoded pictures. Raises BadInput when a file is gone."""
        try:
            return [p if isinstance(p, bytes) else p.read_bytes() for p in self.pictures]
        except OSError as error:
            raise BadInput(f"{error.filename}: {error.strerror}") from error

    def prompt(self, order: Sequence[int]) -> str:
        """The question, with the choices in this order behind letters."""
        if not self.choices:
            return f"{self.question}\nAnswer yes or no." if self.kind == CLOSED else self.question
        lines = [f"{LETTERS[n]}. {self.choices[c]}" for n, c in enumerate(order)]
        return "\n".join([self.question, *lines, "Answer with the letter of the right option."])

    def orders(self, count: int, seed: int) -> list[list[int]]:
        """`count` orders of the choices, the set's own first; never one twice where there are enough. Others: one, empty."""
        if not self.choices:
            return [[]]
        own = list(range(len(self.choices)))
        orders, rng = [own], Random(f"{seed} {self.id}")
        for _ in range(100 * count):
            if len(orders) >= count:
                break
            sample = rng.sample(own, len(own))
            if sample not in orders:
                orders.append(sample)
        return orders
