"""A model's words while they are made, checked before they are shown: the same checks as the finished answer goes through.

Knows `citations` and `untrusted`. Words are shown a sentence at a time, since a reference or a link can only be judged whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pathasst.assistant import citations, sanitize
from pathasst.core.records import Hit

_END = re.compile(r"[.!?][\"')\]]*\s+|\n+")
_HELD = re.compile(
    r"\[[^\]]*$|\([^)]*$|<[^>]*$|!$|\b(?:PMIDs?|PubMed)\b(?:[\d\s,;:#=№./&|\-]|\band\b|\bor\b|PMIDs?|PubMed|\bIDs?\b)*$",
    re.IGNORECASE,
)  # what may yet become a link, a mark or a (longer) list of references
_LONGEST = 400  # characters held back at most, should no sentence end


@dataclass(slots=True)
class Speech:
    """One reply in the making. `library`: PMID → abstracts retrieved so far."""

    library: Mapping[str, Hit]
    written: str = ""
    shown: str = ""

    def add(self, piece: str) -> str:
        """The words that can be shown now that `piece` has come; empty while a sentence is open."""
        self.written += piece
        ends = [m.end() for m in _END.finditer(self.written)]
        end = ends[-1] if ends else 0
        if len(self.written) - end > _LONGEST:
            end = self.written.rfind(" ", end) + 1
        safe = self.written[:end]
        if held := _HELD.search(safe):
            safe = safe[: held.start()]
        return self._show(safe)

    def close(self) -> str:
        """The rest."""
        return self._show(self.written)

    def _show(self, text: str) -> str:
        checked = checked_text(text, self.library).strip()  # blanks between sentences come with the next one
        if not checked.startswith(self.shown):
            return ""  # the check changed its mind about what is shown already: the finished answer says it right
        new, self.shown = checked[len(self.shown) :], checked
        return new


def checked_text(text: str, library: Mapping[str, Hit]) -> str:
    """A model's text with references checked and links taken apart, as the answer holds it."""
    return citations.check(sanitize.without_links(sanitize.plain(text)), library).text
