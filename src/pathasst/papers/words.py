"""The word side of the search: BM25 over titles and abstracts, in tantivy. Knows keys and text, no vectors.

A words folder belongs to one version of the index and never changes once published. The next version starts as a copy of hard
links (tantivy's files are immutable, its lists of files are replaced atomically), so adding and deleting cost what is new.
Queries are analysed by the same analyzer as the text and become an "any of these terms" query term by term: there is no query
language, so nothing a person types can be an operator or a syntax error.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadDataset
from pathasst.core.records import Abstract
from pathasst.papers.filters import Filters, year_of

if TYPE_CHECKING:
    import tantivy

ANALYZER = "papers"
MAX_TERMS = 96  # distinct terms of a query that are looked up, its rarest ones
SORT_BYTES = 128 << 20
NO_YEAR = 0


def analyzer() -> tantivy.TextAnalyzer:
    """Words of letters and digits, lower case, without accents, English stop words dropped, English endings cut."""
    from tantivy import Filter, TextAnalyzerBuilder, Tokenizer

    filters = [
        Filter.remove_long(64),
        Filter.lowercase(),
        Filter.ascii_fold(),
        Filter.stopword("english"),
        Filter.stemmer("english"),
    ]
    builder = TextAnalyzerBuilder(Tokenizer.simple())
    for step in filters:
        builder = builder.filter(step)
    return builder.build()


def write_words(
    folder: Path,
    abstracts: Iterable[tuple[int, Abstract]],
    *,
    previous: Path | None = None,
    delete: Iterable[int] = (),
) -> None:
    """Make a words folder of (key, abstract) rows, beginning with what `previous` holds minus the keys in `delete`."""
    import tantivy

    folder.mkdir(parents=True)
    if previous is not None:
        _link_files(previous, folder)
    index = _index(folder)
    writer = index.writer(SORT_BYTES, num_threads=min(2, os.cpu_count() or 1))
    try:
        if removed := list(delete):
            writer.delete_documents_by_query(tantivy.Query.term_set_query(index.schema, "key", removed))
        for key, abstract in abstracts:
            writer.add_document(_document(key, abstract))
        writer.commit()
    finally:
        writer.wait_merging_threads()


class Words:
    """An open words folder."""

    def __init__(self, folder: Path) -> None:
        """Raises BadDataset when the folder cannot be opened."""
        try:
            self._index = _index(folder)
        except ValueError as error:
            raise BadDataset(f"the word index in {folder} cannot be opened ({error}); build the papers again.") from error
        self._schema = self._index.schema
        self._searcher = self._index.searcher()
        self._analyzer = analyzer()

    def __len__(self) -> int:
        return self._searcher.num_docs

    def sequence(self, text: str) -> list[str]:
        """The terms of a text as the index holds them, in order, stop words left out."""
        terms: list[str] = self._analyzer.analyze(text)
        return terms

    def terms(self, text: str) -> list[str]:
        """The distinct terms of a text, in order."""
        return list(dict.fromkeys(self.sequence(text)))

    def rarity(self, term: str) -> float:
        """BM25's inverse document frequency of a term; 0 for one that no text has."""
        import math

        n, f = len(self), self._searcher.doc_freq("text", term)
        return math.log(1 + (n - f + 0.5) / (f + 0.5)) if f else 0.0

    def search(self, query: str, k: int, filters: Filters | None = None) -> list[tuple[int, float]]:
        """The `k` best (key, BM25 score), best first; ties in the order of keys. Any string is a valid query."""
        import tantivy

        terms = self.terms(query)
        if len(terms) > MAX_TERMS:
            terms = sorted(terms, key=self.rarity, reverse=True)[:MAX_TERMS]
        parts = [(tantivy.Occur.Should, tantivy.Query.term_query(self._schema, "text", t, "freq")) for t in terms]
        if not parts or k < 1:
            return []
        query_: Any = tantivy.Query.boolean_query(parts)
        if conditions := self._conditions(filters or Filters()):
            musts = [(tantivy.Occur.Must, tantivy.Query.const_score_query(c, 0.0)) for c in conditions]
            query_ = tantivy.Query.boolean_query([(tantivy.Occur.Must, query_), *musts])
        hits = self._searcher.search(query_, limit=k, count=False).hits
        keys = self._searcher.fast_field_values("key", [address for _, address in hits])
        pairs = [(int(key), float(score)) for key, (score, _) in zip(keys, hits, strict=True) if key is not None]
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))

    def _conditions(self, filters: Filters) -> list[tantivy.Query]:
        from tantivy import FieldType, Query

        conditions = []
        if filters.since is not None or filters.until is not None:
            low, high = filters.since or NO_YEAR + 1, filters.until if filters.until is not None else 9999
            conditions.append(Query.range_query(self._schema, "year", FieldType.Integer, low, high))
        if not filters.retracted:
            conditions.append(Query.term_query(self._schema, "retracted", 0))
        for field, values in (("journal", filters.journals), ("type", filters.types)):
            if values:
                conditions.append(Query.term_set_query(self._schema, field, [v.casefold() for v in values]))
        return conditions


def _schema() -> tantivy.Schema:
    import tantivy

    builder = tantivy.SchemaBuilder()
    builder.add_unsigned_field("key", indexed=True, fast=True)
    builder.add_text_field("text", tokenizer_name=ANALYZER, index_option="freq")
    builder.add_integer_field("year", indexed=True, fast=True)
    builder.add_unsigned_field("retracted", indexed=True)
    builder.add_text_field("journal", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("type", tokenizer_name="raw", index_option="basic")
    return builder.build()


def _index(folder: Path) -> tantivy.Index:
    import tantivy

    index = tantivy.Index(_schema(), str(folder))
    index.register_tokenizer(ANALYZER, analyzer())
    return index


def _document(key: int, abstract: Abstract) -> tantivy.Document:
    import tantivy

    document = tantivy.Document()
    document.add_unsigned("key", key)
    document.add_text("text", f"{abstract.title}\n{abstract.abstract}")
    document.add_integer("year", year_of(abstract.date) or NO_YEAR)
    document.add_unsigned("retracted", int(abstract.retracted))
    document.add_text("journal", abstract.journal.casefold())
    for kind in abstract.types:
        document.add_text("type", kind.casefold())
    return document


def _link_files(source: Path, target: Path) -> None:
    """Give every file a second name; copy where the file system knows no hard links, and the lists of files always."""
    for file in source.iterdir():
        if file.suffix == ".lock":
            continue
        if file.suffix == ".json":
            shutil.copy2(file, target / file.name)
            continue
        try:
            (target / file.name).hardlink_to(file)
        except OSError:
            shutil.copy2(file, target / file.name)
