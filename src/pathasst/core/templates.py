"""The small language of wordings: `[a|b|]` chooses one of several, `{slot}` is filled by the caller. Knows text alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from pathasst.core.errors import BadSettings

_SLOT = re.compile(r"\{(\w+)\}")
_INNER = re.compile(r"\[([^\[\]]*)\]")

Noise = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Template:
    """One wording. `key` is its text, so equal wordings are one template wherever they stand."""

    text: str

    def fill(self, rng: Random, slots: Mapping[str, str], noise: Noise | None = None) -> str:
        """Choose the alternatives, fill the slots, tidy. `noise` sees the literal words only, never what fills a slot.

        Raises BadSettings for a slot nobody fills.
        """
        parts = self.parts(rng)
        for i in range(1, len(parts), 2):
            if parts[i] not in slots:
                raise BadSettings(f"the wording {self.text!r} uses {{{parts[i]}}}, which nothing fills here.")
        literal = [noise(p) if noise else p for p in parts[0::2]]
        filled = [slots[p] for p in parts[1::2]]
        return tidy("".join(a + b for a, b in zip(literal, [*filled, ""], strict=True)))

    def parts(self, rng: Random) -> list[str]:
        """One choice of the alternatives: literal words at even places, names of slots at odd ones."""
        text = self.text
        while match := _INNER.search(text):
            text = text[: match.start()] + rng.choice(match.group(1).split("|")) + text[match.end() :]
        return _SLOT.split(text)

    def slots(self) -> set[str]:
        return set(_SLOT.findall(self.text))

    def variants(self) -> int:
        """How many different texts the alternatives give, slots aside."""
        return len(self.expansions())

    def expansions(self) -> list[str]:
        """Every choice of alternatives, slots left in place."""
        match = _INNER.search(self.text)
        if not match:
            return [tidy(self.text)]
        texts = (self.text[: match.start()] + option + self.text[match.end() :] for option in match.group(1).split("|"))
        return sorted({e for text in texts for e in Template(text).expansions()})


def tidy(text: str) -> str:
    """Single spaces, none before punctuation, a capital at the start of a word-like text, and `an` before a vowel."""
    text = re.sub(r"\s+", " ", text).strip()
    text = re.sub(r" ([?.,;:!](\s|$))", r"\1", text)
    text = re.sub(r"\b(a) (?=[aeiouAEIOU](?!ne|ni|ri|ro))", r"an ", text)
    return re.sub(r"\.\.$", ".", text)
