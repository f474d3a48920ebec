"""The paper index as the assistant sees it: open it, search it. Knows versions, words, vectors; the assistant knows only this.

A search asks the words (BM25) and the vectors (cosine) for their best, and fuses the two: the sum of the scores, each scaled over
its own ranking, or of the reciprocal ranks. The best of them are read, and ordered anew by how much of the query they hold
(`overlap`). Where the vectors or the embedder are missing, words serve alone.
"""

from __future__ import annotations

import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pathasst.core import weights
from pathasst.core.errors import BadDataset, BadSettings, MissingWeights
from pathasst.core.records import Abstract, Hit
from pathasst.core.settings import Field, Settings
from pathasst.papers import versions
from pathasst.papers.build import WORDS, open_segments
from pathasst.papers.documents import key_of_id
from pathasst.papers.embed import Embedder, text_of, version_of
from pathasst.papers.filters import Filters, year_of
from pathasst.papers.highlight import best_sentences
from pathasst.papers.overlap import WORDS as WORDS_OF_READ
from pathasst.papers.overlap import WordOverlap
from pathasst.papers.question import LiteratureQuestion, read_question
from pathasst.papers.relevance import Judged, Relevance
from pathasst.papers.segment import IndexSegment
from pathasst.papers.synonyms import canonical, groups_in
from pathasst.papers.versions import Version
from pathasst.papers.words import Words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MODES = ("hybrid", "words", "vectors")
MAX_QUERY = 4000  # characters of a query that are read
MAX_HITS = 1000

Rerank = Callable[[str, Sequence[Abstract]], Sequence[float]]
"""A query and its candidates → their scores, higher is better: a cross-encoder, for instance."""


class SearchSettings(Settings):
    """How the two rankings are made and fused. Chosen on titles (docs/measured/papers.md), never on the questions reported."""

    depth: int = Field(default=100, ge=1, description="Hits of each side that are fused.")
    fusion: Literal["scores", "ranks"] = Field(default="scores", description="Scaled scores, or reciprocal ranks.")
    constant: float = Field(default=10.0, ge=0, description="Of reciprocal ranks: small = the first ranks count more.")
    words: float = Field(default=0.4, ge=0, le=1, description="Weight of the words; the vectors have the rest.")
    probes: int = Field(default=64, ge=1, description="Clusters visited.")
    read: int = Field(
        default=30, ge=0, description="Best of the fused scores that are read and ordered anew; fusion by ranks reads none."
    )


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a collection has on a query."""

    hits: list[Hit]
    absent: list[str] = field(default_factory=list)  # words of the query that no abstract has, where no abstract is about it
    not_here: list[str] = field(default_factory=list)  # PMIDs asked for that the collection lacks
    about: bool = True  # whether the hits are about the query, or only the nearest

    @property
    def message(self) -> str:
        """What a person should know beside the hits: PMIDs that are not there, that no abstract is about it; else empty."""
        parts = [f"PMID {pmid} is not in this collection." for pmid in self.not_here]
        if not self.about and not self.not_here:
            names = f": none names {', '.join(self.absent)}" if self.absent else ""
            nearest = "clearly about this" if self.hits else "about this"
            parts.append(f"No abstract here is {nearest}{names}.")
            parts += ["These are the nearest."] * bool(self.hits)
        return " ".join(parts)


class PaperIndex:
    """One open version of an index. Reading only; threads may share it. It stays what it was while a newer one is built."""

    def __init__(self, home: Path, settings: SearchSettings | None = None) -> None:
        """Use `open`. Raises BadDataset when there is no index, or it is damaged."""
        self.home = home
        self.settings = settings or SearchSettings()
        self.version, self._segments, self._words = _opened(home)
        self._embedder: Embedder | None = None
        self._lock = threading.Lock()
        self._years: Counter[int] | None = None

    @classmethod
    def open(cls, path: Path | str | None = None, settings: SearchSettings | None = None) -> PaperIndex:
        """The index in `path`; without one, the embedded collection in the cache folder (see `ready` and `build_default`).

        Raises BadDataset with the command that makes it.
        """
        return cls(default_home() if path is None else Path(path), settings)

    def __len__(self) -> int:
        return self.version.abstracts

    def info(self) -> dict[str, Any]:
        """What a person wants to know about it: counts, embedder, version, sources, size."""
        files = [f for s in self.version.segments for f in s.files.values()]
        return {
            "home": str(self.home),
            "version": self.version.number,
            "created": self.version.created,
            "abstracts": len(self),
            "vectors": self.version.vectors,
            "segments": len(self.version.segments),
            "embedder": self.version.embedder_version or "none: words only",
            "megabytes": round(sum(f.bytes for f in [*files, *self.version.files.values()]) / 1e6, 1),
            "sources": self.version.sources,
        }

    def describe(self) -> str:
        """One line for people: how many abstracts and vectors, of which embedder."""
        vectors = f"{self.version.vectors:,} vectors of {self.version.embedder}" if self.version.vectors else "words only"
        return f"{len(self):,} abstracts, {vectors}"

    def search(
        self,
        query: str,
        k: int = 5,
        mode: str = "hybrid",
        filters: Filters | dict[str, Any] | None = None,
        rerank: Rerank | None = None,
    ) -> list[Hit]:
        """The `k` best abstracts, best first, each with its best sentences. Any string is valid; an empty one finds nothing.

        `mode`: hybrid | words | vectors. `filters`: since, until, journals, types, retracted (see `Filters`).
        `Hit.score` is the fused score, BM25 or the cosine, by mode. Raises BadSettings for an unknown mode, filter or k;
        MissingWeights when vectors alone are asked for without their embedder.
        """
        if mode not in MODES:
            raise BadSettings(f"mode {mode!r} is unknown; choose {', '.join(MODES)}.")
        if not 1 <= k <= MAX_HITS:
            raise BadSettings(f"k must be from 1 to {MAX_HITS}.")
        narrowed = Filters.of(filters)
        text = clean_query(query)
        ranked = self.rank(text, k if rerank is None else max(k, 50), mode, narrowed) if text else []
        hits = [(a, score) for key, score in ranked if (a := self._abstract(key)) is not None]
        if rerank is not None and hits:
            scores = rerank(text, [a for a, _ in hits])
            hits = sorted(((a, float(s)) for (a, _), s in zip(hits, scores, strict=True)), key=lambda f: -f[1])
        return [self._hit(text, abstract, score) for abstract, score in hits[:k]]

    def rank(self, text: str, k: int, mode: str = "hybrid", filters: Filters | None = None) -> list[tuple[int, float]]:
        """(key, score) of the best `k`, best first: what `search` shows, without reading the abstracts."""
        filters = filters or Filters()
        depth = max(k, self.settings.depth)
        if mode == "words":
            return self._words.search(expanded(text), k, filters)
        try:
            query = self._vector(canonical(text))
        except MissingWeights:
            if mode == "vectors":
                raise
            return self._words.search(expanded(text), k, filters)
        near = self._nearest(query, depth, filters) if query is not None else []
        if mode == "vectors":
            return near[:k]
        words = self._words.search(expanded(text), depth, filters)
        fused = self._fuse(words, near, depth, self.settings.words)
        if self.settings.read and self.settings.fusion == "scores" and near:
            fused = self._read(text, fused, dict(self._fuse(words, near, depth, WORDS_OF_READ)))
        return fused[:k]

    def find(
        self,
        query: str,
        k: int = 5,
        mode: str = "hybrid",
        filters: Filters | dict[str, Any] | None = None,
        rerank: Rerank | None = None,
    ) -> SearchResult:
        """What the collection has on a person's query: at most `k` abstracts that are about it, or that there are none.

        `search` has nearest neighbours for everything. Here those below the floor of relevance are left out (see `relevance`).
        Where that leaves none, the nearest stay and `SearchResult.about` is False, unless most of the query is named by no
        abstract at all. PMIDs in the query are looked up. Raises as `search`.
        """
        question = read_question(clean_query(query))
        if question.pmids:
            looked_up = {pmid: self.hit(pmid, question.text) for pmid in question.pmids}
            here = [hit for hit in looked_up.values() if hit is not None]
            return SearchResult(here, not_here=[pmid for pmid, hit in looked_up.items() if hit is None], about=bool(here))
        wide = min(max(4 * k, 20), MAX_HITS) if 1 <= k <= MAX_HITS else k  # a wrong `k` is for `search` to refuse
        nearest = self.search(query, wide, mode, filters, rerank)
        if hits := [hit for hit, _ in self._about(question, nearest)][:k]:
            return SearchResult(nearest[:k] if mode == "vectors" else hits)
        relevance = Relevance(question, self._words)
        return SearchResult([] if relevance.hopeless else nearest[:k], relevance.absent(), about=False)

    def about(self, question: LiteratureQuestion, k: int = 5, filters: Filters | None = None) -> list[tuple[Hit, Judged]]:
        """At most `k` abstracts that are about the question, best first, with how much of it each holds; none is an answer."""
        return self._about(question, self.search(question.text, max(4 * k, 20), filters=filters))[:k]

    def _about(self, question: LiteratureQuestion, hits: Sequence[Hit]) -> list[tuple[Hit, Judged]]:
        judge = Relevance(question, self._words)
        judged = [(hit, judge(f"{hit.title}\n{hit.passage}")) for hit in hits] if question.concepts else []
        return [(hit, relevance) for hit, relevance in judged if relevance.about]

    def absent(self, question: LiteratureQuestion) -> list[str]:
        """What of a question no abstract of the collection names at all."""
        return Relevance(question, self._words).absent()

    def years(self) -> dict[int, int]:
        """Year → abstracts of it; read once."""
        with self._lock:
            if self._years is None:
                self._years = Counter()
                for segment in self._segments:
                    self._years.update(segment.years())
            return dict(self._years)

    def collection(self) -> str:
        """What the collection is, for people: how many abstracts, and of which years nine of ten are."""
        return f"{len(self):,} abstracts{spans(self.years())}"

    def get(self, pmid: str) -> Abstract | None:
        """The abstract of an id, None when it is not in the index."""
        return self._abstract(key_of_id(pmid))

    def hit(self, pmid: str, query: str = "") -> Hit | None:
        """The abstract of an id as a hit, its sentences chosen for a query; None when it is not in the index."""
        abstract = self.get(pmid)
        return None if abstract is None else self._hit(query, abstract, 1.0)

    def _read(self, text: str, fused: list[tuple[int, float]], scores: dict[int, float]) -> list[tuple[int, float]]:
        """The first of `fused` by `scores` and by what they hold of the query, the others after them."""
        overlap, groups = WordOverlap(canonical(text), self._words), [group for group, _ in groups_in(text)]
        keys = [key for key, _ in fused[: self.settings.read]]
        texts = [(key, canonical(text_of(a), groups)) for key in keys if (a := self._abstract(key)) is not None]
        read = sorted(((key, overlap(words, scores[key])) for key, words in texts), key=lambda item: (-item[1], item[0]))
        last = read[-1][1] if read else 0.0
        return [*read, *((key, last * score) for key, score in fused[self.settings.read :])]

    def _fuse(
        self, words: list[tuple[int, float]], near: list[tuple[int, float]], depth: int, share: float
    ) -> list[tuple[int, float]]:
        """The weighted sum of both rankings, each of at most `depth`; `share`: weight of the words."""
        scores: dict[int, float] = {}
        for ranking, weight in ((words, share), (near, 1 - share)):
            shares = scaled(ranking, depth) if self.settings.fusion == "scores" else self._reciprocal(ranking)
            for (key, _), share in zip(ranking, shares, strict=True):
                scores[key] = scores.get(key, 0.0) + weight * share
        return sorted(scores.items(), key=lambda item: (-item[1], item[0]))

    def _reciprocal(self, ranking: Sequence[tuple[int, float]]) -> list[float]:
        return [1 / (self.settings.constant + rank) for rank in range(1, len(ranking) + 1)]

    def _nearest(self, query: NDArray[np.float32], k: int, filters: Filters) -> list[tuple[int, float]]:
        neighbours = [(key, c) for s in self._segments for key, c, _ in s.nearest(query, k, filters, self.settings.probes)]
        return sorted(neighbours, key=lambda item: (-item[1], item[0]))[:k]

    def _vector(self, text: str) -> NDArray[np.float32] | None:
        """The query's vector; None when the index has none to compare with. Raises MissingWeights, also for other weights."""
        if not self.version.vectors:
            return None
        with self._lock:
            if self._embedder is None:
                here = version_of(self.version.embedder)
                if here != self.version.embedder_version:
                    raise MissingWeights(
                        f"the index has vectors of {self.version.embedder_version}, but {here} is here; "
                        "build it anew: pathasst papers build"
                    )
                self._embedder = Embedder(self.version.embedder)
            vector: NDArray[np.float32] = self._embedder.queries([text])[0]
            return vector

    def _abstract(self, key: int) -> Abstract | None:
        for segment in self._segments:
            row = int(segment.find([key])[0])
            if row >= 0:
                return segment.abstract(row)
        return None

    def _hit(self, query: str, abstract: Abstract, score: float) -> Hit:
        return Hit(
            pmid=abstract.pmid,
            title=abstract.title,
            passage=abstract.abstract,
            year=year_of(abstract.date),
            journal=abstract.journal,
            score=round(score, 6),
            highlights=best_sentences(query, abstract.abstract, self._words),
            retracted=abstract.retracted,
        )


def _opened(home: Path) -> tuple[Version, list[IndexSegment], Words]:
    """The current version's parts; once more when a writer replaced it, and swept it away, while it was being opened."""
    for attempt in range(5):
        version = versions.current(home)
        try:
            return version, open_segments(home, version), Words(versions.version_folder(home, version.number) / WORDS)
        except (BadDataset, OSError):
            if attempt == 4 or versions.current(home).number == version.number:
                raise
    raise AssertionError


def scaled(ranking: Sequence[tuple[int, float]], depth: int) -> list[float]:
    """The scores of a ranking, best first, from 1 at its best to 0 at its `depth`-th; to 0 itself when the ranking is shorter."""
    if not ranking:
        return []
    best, last = ranking[0][1], ranking[-1][1]
    low = last if len(ranking) >= depth else min(0.0, last)
    return [(score - low) / max(best - low, 1e-9) for _, score in ranking]


def clean_query(query: str) -> str:
    """A query as it is searched: control characters out, white space single, at most MAX_QUERY characters."""
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Cf", "Co", "Cn") else c for c in query[: 4 * MAX_QUERY])
    return " ".join(unicodedata.normalize("NFKC", text)[:MAX_QUERY].split())


def expanded(query: str) -> str:
    """A query with the other names of what it names, for a search by words."""
    names = [name for group, _ in groups_in(query) for name in (group.name, *group.tokens())]
    return " ".join([query, *dict.fromkeys(names)])


def spans(years: Mapping[int, int], share: float = 0.9) -> str:
    """` of 1976–2021, 98 % of them of 1977–1979 and 2020–2021`: the years of `share` of the abstracts; empty without any."""
    if not years:
        return ""
    years_in: list[int] = []
    total, covered = sum(years.values()), 0
    for year, count in sorted(years.items(), key=lambda item: -item[1]):
        if covered >= share * total:
            break
        covered, years_in = covered + count, [*years_in, year]
    runs: list[list[int]] = []
    for year in sorted(years_in):
        if runs and year == runs[-1][-1] + 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    named = [f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    first_to_last = f" of {min(years)}–{max(years)}" if min(years) < max(years) else f" of {min(years)}"
    if len(runs) > 4 or len(years_in) == len(years):
        return first_to_last
    listed = f"{', '.join(named[:-1])}{' and ' * (len(named) > 1)}{named[-1]}"
    return f"{first_to_last}, {100 * covered / total:.0f} % of them of {listed}"


def default_home() -> Path:
    """Where the embedded collection's index lies."""
    return weights.cache_dir() / "papers" / "embedded"
