"""Making, extending and shrinking an index: `build`, `add`, `delete`, `compact`. Each publishes a new version or changes nothing.

Where vectors are missing, a version without them is published first, so that words serve while they are made.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pathasst.core.errors import BadInput, BadSettings, MissingWeights
from pathasst.core.files import fingerprint, write_atomic
from pathasst.core.jats_text import plain_scripts
from pathasst.core.records import Abstract, from_row
from pathasst.core.settings import Field, Settings
from pathasst.papers import versions
from pathasst.papers.clusters import ClusterSettings
from pathasst.papers.documents import key_of_id
from pathasst.papers.embed import join_text, key_of
from pathasst.papers.ingest import Living, ingest, living
from pathasst.papers.segment import IndexSegment, write_segment
from pathasst.papers.sources import find_files, parts_of
from pathasst.papers.vectors import VectorStore
from pathasst.papers.versions import SEGMENTS, VERSIONS, SegmentInfo, Version
from pathasst.papers.words import write_words

WORDS = "words"
EXAMPLES = 5  # of what was left out, named for each reason
Say = Callable[[str], None]


class BuildSettings(Settings):
    """How an index is made."""

    room: ClassVar[str] = "papers"

    embedder: Literal["minilm", "pubmedbert", "medcpt"] = Field(default="minilm", description="Network of the vectors.")
    clusters: ClusterSettings = ClusterSettings()
    workers: int = Field(default=2, ge=1, description="Processes that read and embed.")
    runner: Literal["native", "ray"] = Field(default="native", description="ray: the processes of a cluster.")
    make_vectors: bool = Field(default=True, description="False: only vectors that are there already.")
    vectors_home: Path | None = Field(default=None, description="Folder of the vectors. None: the package's cache.")


def build(paths: Iterable[Path | str], home: Path, settings: BuildSettings | None = None, say: Say = print) -> Version:
    """Make the index in `home` from files of abstracts, replacing the one that is there when it is done.

    Raises BadSettings when there is nothing to read, or nothing in the files could be read (the index then stays as it was),
    BadDataset when another process is writing.
    """
    settings = settings or BuildSettings()
    files = find_files(paths)
    with versions.writing(home):
        plan = _Plan.read(files, home / "ingest", settings, say)
        base = _Base.nothing(home)
        return _publish_twice(home, base, plan, settings, say)


def add(paths: Iterable[Path | str], home: Path, settings: BuildSettings | None = None, say: Say = print) -> Version:
    """Add files to the index, without rebuilding: new records become a segment of their own, older ones of the same id and those
    that the files delete disappear. Raises as `build`, and BadSettings when the index has another embedder.
    """
    files = find_files(paths)
    with versions.writing(home):
        base = _Base.of(home)
        settings = settings or BuildSettings(embedder=base.version.embedder)
        if settings.embedder != base.version.embedder:
            raise BadSettings(f"this index has vectors of {base.version.embedder}, not {settings.embedder}; build it anew.")
        stamps = fingerprint({str(f.resolve()): [f.stat().st_size, f.stat().st_mtime_ns] for f in files})
        plan = _Plan.read(files, home / "added" / stamps, settings, say)
        return _publish_twice(home, base, plan, settings, say)


def delete(ids: Sequence[str], home: Path, say: Say = print) -> Version:
    """Take abstracts out of the index by PMID. Ids that are not in it are told and passed over."""
    with versions.writing(home):
        base = _Base.of(home)
        keys = np.array([key_of_id(id) for id in ids], np.uint64)
        there = np.isin(keys, base.keys_among(keys))
        if unknown := [id for id, present in zip(ids, there, strict=True) if not present]:
            say(f"not in the index: {', '.join(unknown[:20])}{' …' if len(unknown) > 20 else ''}")
        return _publish(home, base, None, keys[there])


def compact(home: Path, settings: BuildSettings | None = None) -> Version:
    """Write all living abstracts into one segment again, after many additions. Vectors are kept, nothing is embedded."""
    with versions.writing(home):
        base = _Base.of(home)
        settings = settings or BuildSettings(embedder=base.version.embedder)
        segments = base.open_segments()
        live = [s.live() for s in segments]
        has_vector = np.concatenate(
            [np.arange(len(s))[m] < s.vectors for s, m in zip(segments, live, strict=True)] or [np.zeros(0, bool)]
        )
        codes = [s.clusters.codes[m[: s.vectors]] for s, m in zip(segments, live, strict=True) if s.clusters is not None]
        together = np.concatenate(codes) if codes else np.zeros((0, 1), np.int8)
        name = _segment(home, base.number, _live_batches(segments, live), has_vector, together, settings.clusters)
        return _publish(home, _Base(home, base.version, replaced=True), name, np.zeros(0, np.uint64))


def _live_batches(segments: Sequence[IndexSegment], live: Sequence[NDArray[np.bool_]]) -> Iterator[pa.RecordBatch]:
    for segment, mask in zip(segments, live, strict=True):
        start = 0
        for batch in segment.documents.batches():
            yield batch.filter(pa.array(mask[start : start + len(batch)]))
            start += len(batch)


@dataclass
class _Base:
    """What a new version begins with."""

    home: Path
    version: Version
    fresh: bool = False  # nothing of the current version is used
    replaced: bool = False  # the segments are replaced by a new one that holds the same abstracts

    @classmethod
    def of(cls, home: Path) -> _Base:
        return cls(home, versions.current(home))

    @classmethod
    def nothing(cls, home: Path) -> _Base:
        version = versions.current(home) if versions.exists(home) else Version(number=0, created="", embedder="")
        return cls(home, version, fresh=True)

    @property
    def number(self) -> int:
        return self.version.number + 1

    def open_segments(self) -> list[IndexSegment]:
        return [] if self.fresh else open_segments(self.home, self.version)

    def keys_among(self, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
        present = [keys[s.find(keys) >= 0] for s in self.open_segments()]
        return np.concatenate(present) if present else keys[:0]


@dataclass
class _Plan:
    """What the files hold, and which of it has vectors."""

    files: list[Path]
    living: Living
    keys: NDArray[np.int64]  # of the texts
    lengths: NDArray[np.int32]  # of the texts, in characters
    store: VectorStore | None
    settings: BuildSettings

    @classmethod
    def read(cls, files: list[Path], out: Path, settings: BuildSettings, say: Say) -> _Plan:
        workers = min(settings.workers, sum(parts_of(files)))
        number = f"{len(files)} file{'s'[: len(files) != 1]}"
        try:
            manifest = ingest(files, out, workers=workers, runner=settings.runner)
        except BadInput as error:  # the records of the earlier build stay, so that it can be extended or repeated at once
            raise BadSettings(f"no abstract was read from {number}; the index is as it was. {error}") from error
        for reason, count in sorted(manifest.dropped.items()):
            names = [d["id"] for s in manifest.shards for d in s.drops if d["reason"] == reason]
            say(f"  {count} × {reason}: {', '.join(names[:EXAMPLES])}{' …' if count > EXAMPLES else ''}")
        for failure in manifest.failures:
            say(f"  {failure.failed}")
        alive = living(out)
        if not manifest.rows and not len(alive.deleted):
            reasons = "; ".join(
                [*(f"{n} × {r}" for r, n in manifest.dropped.most_common()), *(f.failed for f in manifest.failures)]
            )
            raise BadSettings(f"no abstract was read from {number} ({reasons or 'no record in them'}); the index is as it was.")
        say(f"{manifest.rows} records read, {len(alive)} current ones with an abstract ({alive.empty} have none).")
        try:
            store = VectorStore(settings.embedder, home=settings.vectors_home)
        except MissingWeights as error:
            say(f"Words only: {error}")
            store = None
        keys, lengths = _keys_and_lengths(alive, store)
        return cls(files, alive, keys, lengths, store, settings)

    def vectors(self) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
        if self.store is None:
            return np.zeros(len(self.keys), np.bool_), np.zeros((0, 1), np.int8)
        return self.store.find(self.keys)

    def make_missing(self, missing: NDArray[np.bool_]) -> None:
        """Embed what has no vector; rows of like length share a batch."""
        if self.store is None:
            return
        to_make = []
        for number, path in enumerate(self.living.paths):
            rows = np.flatnonzero(missing & (self.living.shards == number))
            if len(rows):
                rows = rows[np.argsort(self.lengths[rows], kind="stable")]
                to_make.append((path, self.living.rows[rows], self.keys[rows]))
        self.store.make(to_make, workers=self.settings.workers, runner=self.settings.runner)


def _keys_and_lengths(alive: Living, store: VectorStore | None) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Of every living text, its key and its characters; one shard of texts is in memory at a time.

    A text whose vector was made when super- and subscripts were still read as plain letters keeps that vector.
    """
    keys, lengths = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
    for batch in alive.batches(["title", "abstract"]):
        texts = [join_text(row["title"], row["abstract"]) for row in batch.to_pylist()]
        exact = np.array([key_of(t) for t in texts], np.int64)
        if store is not None:
            for row in np.flatnonzero(~store.has(exact)):
                plain = np.array([key_of(plain_scripts(texts[row]))], np.int64)
                if store.has(plain)[0]:
                    exact[row] = plain[0]
        keys.append(exact)
        lengths.append(np.array([len(t) for t in texts], np.int32))
    return np.concatenate(keys), np.concatenate(lengths)


def _publish_twice(home: Path, base: _Base, plan: _Plan, settings: BuildSettings, say: Say) -> Version:
    has_vector, codes = plan.vectors()
    missing = int((~has_vector).sum())
    waits = bool(missing) and settings.make_vectors and plan.store is not None
    version = None
    if waits:
        version = _version_of_plan(home, base, plan, has_vector, codes, base.number)
        say(f"Search by words is ready; {missing} vectors are now made, which are kept for ever.")
        plan.make_missing(~has_vector)
        has_vector, codes = plan.vectors()
    return _version_of_plan(home, base, plan, has_vector, codes, version.number + 1 if version else base.number)


def _version_of_plan(
    home: Path, base: _Base, plan: _Plan, has_vector: NDArray[np.bool_], codes: NDArray[np.int8], number: int
) -> Version:
    name = _segment(home, number, plan.living.batches(), has_vector, codes, plan.settings.clusters)
    return _publish(home, base, name, np.concatenate([plan.living.keys, plan.living.deleted]), plan, number)


def _segment(
    home: Path,
    number: int,
    batches: Iterable[pa.RecordBatch],
    has_vector: NDArray[np.bool_],
    codes: NDArray[np.int8],
    settings: ClusterSettings,
) -> str:
    name = f"s{number:06d}"
    with versions.building(home, name, SEGMENTS) as folder:
        write_segment(folder, batches, has_vector, codes, settings)
    return name


def _publish(
    home: Path, base: _Base, new: str | None, removed: NDArray[np.uint64], plan: _Plan | None = None, number: int = 0
) -> Version:
    """Write and publish the version after `base`: its segments less the keys in `removed`, and the new segment."""
    number = number or base.number
    version = Version(
        number=number,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        embedder=plan.settings.embedder if plan else base.version.embedder,
        embedder_version=(plan.store.version if plan.store else "") if plan else base.version.embedder_version,
        sources=[*([] if base.fresh else base.version.sources), *([f.name for f in plan.files] if plan else [])],
    )
    with versions.building(home, f"v{number:06d}", VERSIONS) as folder:
        segments = [] if base.fresh or base.replaced else _carry_over(base, removed, folder)
        fresh = [_describe(home, new)] if new else []
        previous = None if base.fresh else versions.version_folder(home, base.version.number) / WORDS
        rows = _rows(home, new) if new and not base.replaced else iter(())
        write_words(folder / WORDS, rows, previous=previous, delete=[] if base.fresh else removed.tolist())
        version = version.model_copy(update={"segments": [*segments, *fresh], "files": versions.listing(folder)})
        write_atomic(folder / versions.RECORD, version.model_dump_json(indent=1).encode())
    versions.publish(home, number)
    return version


def _carry_over(base: _Base, removed: NDArray[np.uint64], folder: Path) -> list[SegmentInfo]:
    segments = []
    for info, segment in zip(base.version.segments, base.open_segments(), strict=True):
        rows = segment.find(removed.tolist())
        deleted = np.union1d(segment.deleted, rows[rows >= 0])
        if len(deleted) < len(segment):
            np.save(folder / f"deleted-{info.name}.npy", deleted)
            segments.append(info.model_copy(update={"deleted": len(deleted)}))
    return segments


def _describe(home: Path, name: str) -> SegmentInfo:
    folder = home / SEGMENTS / name
    segment = IndexSegment(folder)
    return SegmentInfo(name=name, rows=len(segment), vectors=segment.vectors, files=versions.listing(folder))


def _rows(home: Path, name: str) -> Iterator[tuple[int, Abstract]]:
    for batch in IndexSegment(home / SEGMENTS / name).documents.batches():
        for row in batch.to_pylist():
            abstract = from_row(Abstract, row)
            yield key_of_id(abstract.pmid), abstract


def open_segments(home: Path, version: Version) -> list[IndexSegment]:
    """The segments of a version, each with what is deleted of it."""
    folder = versions.version_folder(home, version.number)
    opened = []
    for info in version.segments:
        path = folder / f"deleted-{info.name}.npy"
        opened.append(IndexSegment(home / SEGMENTS / info.name, np.load(path) if path.is_file() else None))
    return opened
