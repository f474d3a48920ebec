"""Curation as a stage: figures → candidates, shard by shard, then duplicates and leakage across all shards → pairs (PathCap).

Knows `dataset.run_stage` and the steps. `run` is the whole of it; the candidates stay in `<out>/candidates`, so that a second
run, or one with other evaluation sets, starts from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadSettings
from pathasst.core.files import fingerprint
from pathasst.core.records import Mark, Pair
from pathasst.curate.curator import Curator, Similarity
from pathasst.curate.detect import load_detector
from pathasst.curate.leakage import Encoder, Leak, index_of, require_sources
from pathasst.curate.quality import duplicates
from pathasst.curate.select import Selector
from pathasst.curate.settings import CurateSettings
from pathasst.dataset import Dropped, Manifest, Unit, read, run_stage, shard_paths, units_of_dataset
from pathasst.imaging.pictures import load

CANDIDATES = "candidates"


def run(
    figures: Path | str,
    out: Path | str,
    settings: CurateSettings | None = None,
    *,
    similarity: Similarity | None = None,
    encoder: Encoder | None = None,
    workers: int = 1,
    runner: str = "native",
    progress: bool = True,
) -> Manifest:
    """Figures (a dataset folder) → pairs in `out`; returns the manifest of the pairs.

    `similarity` gives cosines of pictures and texts and must be picklable for `workers > 1`; without it letters and order align.
    `encoder` gives embeddings of pictures, for the third test of leakage.
    Raises BadSettings for settings that cannot be met, MissingWeights when the select model is not here, BadDataset for `figures`
    that are no finished dataset.
    """
    settings, out = settings or CurateSettings(), Path(out)
    manifest = Manifest.load(Path(figures))
    if manifest.record != "Figure":
        raise BadSettings(f"{figures} holds {manifest.record} rows; curate needs Figures, as `pathasst collect` makes them.")
    require_sources(settings.leakage)
    curator = Curator(settings, similarity)
    if settings.captions == "llm":
        _ = curator.language  # settings that cannot be met are refused before any work
    plain = {**settings.plain(), "select_version": _select_version(settings), "similarity_version": _version_of(similarity)}
    plain["panels_version"] = load_detector(settings.panels).version
    candidates = run_stage(
        out / CANDIDATES,
        stage="curate-candidates",
        record=Pair,
        units=units_of_dataset(figures),
        work=curator,
        settings=plain,
        inputs=[str(figures)],
        workers=workers,
        runner=runner,
        progress=progress,
    )
    return _across(out, settings, plain, candidates, encoder, workers=workers, runner=runner, progress=progress)


def _across(
    out: Path, settings: CurateSettings, plain: dict[str, Any], candidates: Manifest, encoder: Encoder | None, **how: Any
) -> Manifest:
    """The second pass: repeats of earlier pictures and leaks into evaluation sets go, wherever they lie.

    On one machine it runs in this process: copying shards costs less than starting workers.
    """
    how["workers"] = 1 if how["runner"] == "native" else how["workers"]
    repeats = duplicates(_hashes(out / CANDIDATES), settings.quality.duplicate_bits) if settings.quality.duplicate_bits else {}
    encoder = encoder if settings.leak_cosine else None
    leaks = find_leaks(out / CANDIDATES, settings.leakage, encoder, settings.leak_cosine) if settings.leakage else {}
    units = []
    for unit in units_of_dataset(out / CANDIDATES):
        mine = {r.pair_id for r in read(unit.paths[0], Pair, columns=_LIGHT)}
        decision = {
            "repeats": {k: v for k, v in repeats.items() if k in mine},
            "leaks": {k: str(v) for k, v in leaks.items() if k in mine},
        }
        units.append(replace(unit, stamp=fingerprint({"content": unit.stamp, **decision})))
    return run_stage(
        out,
        stage="curate",
        record=Pair,
        units=units,
        work=Sieve(repeats, leaks, settings.exclude_leaks, settings.exclude_alike),
        settings=plain,
        inputs=candidates.inputs,
        **how,
    )


_LIGHT = ("pair_id", "source", "phash", "trail")


@dataclass(frozen=True)
class Sieve:
    """Passes candidates on, but for repeats and, when asked, leaks. Picklable."""

    repeats: Mapping[str, str] = field(default_factory=dict)
    leaks: Mapping[str, list[Leak]] = field(default_factory=dict)
    exclude: bool = True
    exclude_alike: bool = False

    def __call__(self, unit: Unit) -> Iterator[Pair | Dropped]:
        for path in unit.paths:
            for pair in read(path, Pair):
                leak = self.leaks.get(pair.pair_id)
                sure = leak and (self.exclude_alike or any(x.by != "embedding" for x in leak))
                if pair.pair_id in self.repeats:
                    yield Dropped(pair.pair_id, "duplicate", self.repeats[pair.pair_id])
                elif leak and sure and self.exclude:
                    yield Dropped(pair.pair_id, "leak", f"{leak[0].by} {leak[0].score}: {leak[0].name}")
                elif leak:
                    marks = [Mark(step="leakage", by=x.by, score=x.score, note=x.name) for x in leak]
                    yield replace(pair, trail=[*pair.trail, *marks])
                else:
                    yield pair


def _hashes(folder: Path) -> Iterator[tuple[str, int]]:
    for path in shard_paths(folder):
        for pair in read(path, Pair, columns=_LIGHT):
            if pair.phash:
                yield pair.pair_id, int(pair.phash, 16)


def find_leaks(
    pairs: Path | str, sources: tuple[str, ...] | list[str], encoder: Encoder | None = None, cosine: float = 0.98
) -> dict[str, list[Leak]]:
    """Pairs that repeat something in the evaluation sets `sources`, by pair id. `leakage.index_of` says what a source may be."""
    index = index_of(list(sources), encoder=encoder, cosine=cosine)
    leaks_by_pair = {}
    for pair in read(pairs, Pair):
        leaks = index.check(load(pair.image) if pair.image else None, pair.original or pair.caption)
        if leaks:
            leaks_by_pair[pair.pair_id] = leaks
    return leaks_by_pair


def _select_version(settings: CurateSettings) -> str:
    """Which classifier will judge; raises MissingWeights, and brings it to its quick form, before any work is started."""
    return Selector.load(settings.select).version if settings.select else ""


def _version_of(similarity: Similarity | None) -> str:
    return "" if similarity is None else str(getattr(similarity, "version", type(similarity).__name__))
