"""Names of the same gene, antibody, drug or disease, as abstracts spell them. Knows `synonyms.yaml`; no index."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

_GAP = r"[-\s]?"
_SHORT = 5  # letters of an abbreviation that may be a common word in small letters


@dataclass(frozen=True, slots=True)
class SynonymGroup:
    """One thing. `name`: as searches write it; `names`: every spelling, the first included."""

    name: str
    names: tuple[str, ...]
    pattern: re.Pattern[str]  # as people type it, in any case
    printed: re.Pattern[str]  # as abstracts print it: abbreviations of capitals in capitals (GIST is no gist)

    def within(self, text: str) -> bool:
        """Whether an abstract holds one of the names."""
        return self.printed.search(text) is not None

    def tokens(self) -> list[str]:
        """Names of one word with letters, which a word index can look up without finding their parts elsewhere."""
        return [n for n in self.names if n.isalnum() and len(n) > 2]


@lru_cache(maxsize=1)
def groups() -> tuple[SynonymGroup, ...]:
    """All groups, in the file's order."""
    from pathasst.core import yaml_text

    rows: list[list[str]] = yaml_text.load(files(__package__).joinpath("synonyms.yaml").read_text(encoding="utf-8"))["groups"]
    return tuple(SynonymGroup(row[0], tuple(row), _pattern(row), _pattern(row, capitals=True)) for row in rows)


def groups_in(text: str) -> list[tuple[SynonymGroup, tuple[int, int]]]:
    """The groups that a text names and where, in its order; of names that overlap the longest."""
    matches = [(g, m.span()) for g in groups() for m in g.pattern.finditer(text)]
    matches.sort(key=lambda item: (item[1][0] - item[1][1], item[1][0]))
    best: list[tuple[SynonymGroup, tuple[int, int]]] = []
    for group, (start, end) in matches:
        if all(end <= a or b <= start for _, (a, b) in best):
            best.append((group, (start, end)))
    return sorted(best, key=lambda item: item[1])


def canonical(text: str, of: Sequence[SynonymGroup] | None = None) -> str:
    """The text with every name of a group replaced by the group's first: in a query, or in an abstract by the groups `of`."""
    if of is not None:
        for group in of:
            text = group.printed.sub(group.name, text)
        return text
    parts, end_of_last = [], 0
    for group, (start, end) in groups_in(text):
        parts += [text[end_of_last:start], group.name]
        end_of_last = end
    return "".join([*parts, text[end_of_last:]])


def _pattern(names: Sequence[str], *, capitals: bool = False) -> re.Pattern[str]:
    spelled = {_GAP.join(map(re.escape, re.split(r"[-\s]+", n))): n for n in names}
    chinese = [s for s in spelled if re.search(r"[\u4e00-\u9fff]", s)]
    latin = sorted((s for s in spelled if s not in chinese), key=len, reverse=True)
    latin = [s if capitals and spelled[s].isupper() and len(spelled[s]) <= _SHORT else f"(?i:{s})" for s in latin]
    return re.compile("|".join([rf"(?<![^\W_])(?:{'|'.join(latin)})(?![^\W_])", *chinese]))
