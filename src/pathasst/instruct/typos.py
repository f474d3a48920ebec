"""Slips of the keyboard: what hurried people type. Changes the literal words of a template, never a slot's value."""

from __future__ import annotations

from random import Random

from pathasst.instruct.wordings import capital

KEEP = 4  # shorter words are left alone

SHORT = {"please": "pls", "you": "u", "are": "r", "and": "&", "the": "teh", "with": "w/", "patient": "pt", "because": "bc"}


class Typist:
    """A way of typing, drawn once a request: careful, lower-case, or sloppy.

    `sloppy` is the chance that a word of more than four letters gets a slip.
    """

    def __init__(self, rng: Random, share: float) -> None:
        self.rng = rng
        place = rng.random()
        self.lower = place < share
        self.sloppy = 0.12 if place < share / 2 else 0.0

    def __call__(self, text: str) -> str:
        """`text`: a literal stretch of a template."""
        if not self.lower:
            return text
        words = [self._slip(w) for w in text.lower().split(" ")]
        return " ".join(words)

    def finish(self, text: str) -> str:
        """The whole request: a hurried one loses its last point, and sometimes its question mark."""
        if not self.lower:
            return text
        return text.rstrip(".?!") if self.rng.random() < 0.6 else text

    def sentence(self, text: str) -> str:
        """As `finish`; what is typed with care begins with a capital."""
        return self.finish(text if self.lower else capital(text))

    def _slip(self, word: str) -> str:
        if not self.sloppy:
            return word
        if word in SHORT:
            return SHORT[word] if self.rng.random() < 0.4 else word
        if len(word) <= KEEP or not word.isalpha() or self.rng.random() > self.sloppy:
            return word
        i = self.rng.randrange(1, len(word) - 1)
        kind = self.rng.randrange(3)
        if kind == 0:
            return word[:i] + word[i + 1 :]
        if kind == 1:
            return word[:i] + word[i] + word[i:]
        return word[: i - 1] + word[i] + word[i - 1] + word[i + 1 :] if i > 1 else word
