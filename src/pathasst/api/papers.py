"""The literature in Python: search a collection of abstracts."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pathasst.core.records import Hit
    from pathasst.papers import PaperIndex


@lru_cache(maxsize=4)
def open(index: Path | str | None = None) -> PaperIndex:
    """A paper collection: the folder of an index, or the default one, which is built when it is not there (about a minute).

    Raises BadDataset when the folder is no index.

    >>> index = pathasst.papers.open()
    """
    from pathasst.papers import PaperIndex, open_default

    return PaperIndex.open(Path(index)) if index is not None else open_default(build=True)


def search(
    query: str,
    *,
    k: int = 5,
    mode: str = "hybrid",
    since: int | None = None,
    until: int | None = None,
    journals: Sequence[str] = (),
    types: Sequence[str] = (),
    retracted: bool = True,
    index: Path | str | None = None,
) -> list[Hit]:
    """The `k` best abstracts that are about a question or words, each with PMID, title, year, passage and highlights.

    An empty list: no abstract of the collection is about it. `mode`: `hybrid`, `words` or `vectors` (of these the nearest in
    meaning, whatever their words). `since`, `until`: years. `journals`, `types`: only these. `retracted=False` leaves out
    retracted papers. `index`: folder of another collection than the default one.
    Raises BadSettings for a wrong mode, filter or k; BadDataset when there is no collection.

    >>> for hit in pathasst.papers.search("Ki-67 prognosis in breast cancer", k=3): print(hit.pmid, hit.title)
    """
    from pathasst.papers import Filters

    filters = Filters(since=since, until=until, journals=tuple(journals), types=tuple(types), retracted=retracted)
    return open(index).find(query, k, mode, filters).hits


__all__ = ["open", "search"]
