"""Splitting a caption: each panel's own words, the words of all, in the caption's order (paper, PathCap step 2).

Knows text alone: `grammar` finds the markers, `assign_text` gives out the words. Every word that is given out stands in the
source, in the source's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pathasst.curate.captions import sublabels
from pathasst.curate.captions.assign_text import assign_text, join
from pathasst.curate.captions.grammar import best_chain
from pathasst.curate.captions.positions import split_positions

MOST_CHARACTERS = 20_000
"""A longer caption is not split: the search for its panels takes time with the square of its length."""


@dataclass(frozen=True, slots=True)
class SubCaption:
    """One panel's words."""

    letter: (
        str  # A, B …, A1, A-II …, I, II …, 1, 2 …; a place (LEFT, TOP RIGHT) where the caption names places; empty for the whole
    )
    text: str  # shared words folded in
    own: str = ""  # its own words alone
    shared: str = ""


def split(caption: str, letters: Sequence[str] = ()) -> list[SubCaption]:
    """The sub-captions of a caption in order of letters; one with the letter "" when it names no panels.

    `letters`: those printed in the picture, when surely known. They settle doubtful cases, and the panels they name are the ones
    that come back: a letter that the caption does not explain gets the words shared by all, one that is not printed is left out.
    """
    caption = caption.strip()
    hint = tuple(dict.fromkeys(x.upper() for x in letters if x))
    if len(caption) > MOST_CHARACTERS:
        return [SubCaption(x, caption, "", caption) for x in hint] if len(hint) > 1 else [SubCaption("", caption, caption, "")]
    caption = sublabels.remarks_out(caption)
    plain = sublabels.plain(caption, apart=not hint)
    chain = best_chain(plain.text, hint)
    if chain is None and len(hint) > 1:
        return [SubCaption(x, caption, "", caption) for x in hint]
    if chain is None:
        parts = split_positions(caption)
        if parts:
            return [SubCaption(p.name, join([p.lead, p.own, p.tail]), p.own, join([p.lead, p.tail])) for p in parts]
        return [SubCaption("", caption, caption, "")]
    words, everyone = assign_text(plain.text, chain), chain.letters
    words.caption = caption  # places in the one are places in the other
    parts_of_markers = [
        SubCaption(
            plain.names.get(x, x.upper()),
            words.of(x),
            words.common(everyone, shared=False, letter=x),
            words.common(everyone, shared=True, letter=x),
        )
        for x in everyone
        if not hint or x.upper() in hint or len(hint) < 2
    ]
    common = parts_of_markers[0].shared if parts_of_markers else ""
    return parts_of_markers + [SubCaption(x, common, "", common) for x in hint if x not in everyone and common]
