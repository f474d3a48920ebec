"""Running a stage: units of input in, one shard each out, resumable after any kill.

Daft is the engine: the units are a column of a Daft frame and the work is a function over it, so the same plan runs in this
process (`workers=1`), in several processes on this machine, or on a Ray cluster (`runner="ray"`). Since a unit's shard depends
on nothing but the unit and the settings, all of them give identical bytes.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.files import fingerprint, sha256_of, write_atomic
from pathasst.dataset.manifest import MANIFEST, Manifest, ShardStats
from pathasst.dataset.shards import write_parquet

MAX_LISTED_DROPS = 100_000
MAX_REASONS = 5  # of what was left out, named in an error
NEXT = ".next"
"""Folder in a finished dataset where a later run writes its shards until they take the place of the earlier ones."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What a stage's work yields for an item it does not keep. `reason` is a short, countable word."""

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """One piece of input. `stamp` changes when its content does, so that only changed units are redone."""

    key: str
    paths: list[str] = field(default_factory=list)
    stamp: str = ""


Work = Callable[[Unit], Iterable[Any]]


def units_of_files(files: Sequence[Path], per_unit: int = 16) -> list[Unit]:
    """Group files into units, stamped by name, size and modification time."""
    groups = [files[i : i + per_unit] for i in range(0, len(files), per_unit)]
    return [
        Unit(f"{n:05d}", [str(f) for f in group], fingerprint({str(f): [f.stat().st_size, f.stat().st_mtime_ns] for f in group}))
        for n, group in enumerate(groups)
    ]


def units_of_dataset(folder: Path | str) -> list[Unit]:
    """One unit per shard of a finished dataset, stamped by the shard's sha256."""
    folder = Path(folder)
    return [Unit(Path(s.shard).stem, [str(folder / s.shard)], s.sha256) for s in Manifest.load(folder).shards]


def run_stage(
    out: Path | str,
    *,
    stage: str,
    record: type,
    units: Sequence[Unit],
    work: Work,
    settings: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    workers: int = 1,
    runner: str = "native",
    progress: bool = True,
) -> Manifest:
    """Make the dataset `out` from `units` and return its manifest.

    `work(unit)` yields records of type `record`, and a `Dropped` for each item it leaves out; with `workers > 1` it must be
    picklable (a module-level function, a `functools.partial` or an instance with `__call__`). A `BadInput` out of `work`, or a
    `BadDataset` (a damaged shard of the stage before), fails that unit alone: it is recorded and tried again in the next run.
    Finished shards of the same inputs and settings are kept.

    A dataset that is there already stays as it is, and readable, until the run is done: new shards are written aside and moved in
    at the end, all of them.

    Raises BadSettings for an unknown runner or two units of one key, BadInput when not one row came of a run over a dataset that
    holds rows; that dataset then stays.
    """
    if runner not in ("native", "ray"):
        raise BadSettings(f"runner {runner!r} is unknown; choose native or ray.")
    if len({u.key for u in units}) < len(units):
        raise BadSettings(f"stage {stage}: two units share a key.")
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    _sweep_half_written(out)
    _finish_move(out)
    earlier = _rows_of(out)
    plain = dict(settings or {})
    base = {"stage": stage, "record": record.__name__, "settings": plain}
    task = _Task(str(out / NEXT if earlier else out), record, work, base)
    done = {u.key: s for u in units if (s := task.finished(u, out))}
    if earlier:
        (out / NEXT).mkdir(exist_ok=True)
        aside = {u.key: s for u in units if u.key not in done and (s := task.finished(u, out / NEXT))}
        _sweep(out / NEXT, {s.shard for s in aside.values()})
        _sweep_half_written(out / NEXT)
        done |= aside
    todo = [u for u in units if u.key not in done]
    with _Progress(stage, len(units), len(done), visible=progress) as advance:
        for stats in _engine(task, todo, workers, runner):
            done[stats.unit] = stats
            advance(stats.rows)
    manifest = Manifest(
        stage=stage,
        record=record.__name__,
        version=importlib.metadata.version("pathasst"),
        settings=plain,
        inputs=list(inputs),
        shards=[done[u.key] for u in units],
    )
    if earlier and not manifest.rows:
        shutil.rmtree(out / NEXT, ignore_errors=True)
        raise BadInput(
            f"{stage}: not one row came of this run ({_reasons(manifest)}), so {out} stays as it is, with its {earlier} rows. "
            "If an empty result is what you want, remove that folder or choose another --out."
        )
    if earlier:
        manifest.save(out / NEXT)
        _finish_move(out)
    else:
        manifest.save(out)
    _sweep(out, {s.shard for s in manifest.shards})
    return manifest


@dataclass(frozen=True)
class _Task:
    """All a worker needs to turn one unit into one shard."""

    out: str
    record: type
    work: Work
    base: dict[str, Any]

    def fingerprint(self, unit: Unit) -> str:
        return fingerprint({**self.base, "unit": unit.key, "stamp": unit.stamp})

    def finished(self, unit: Unit, folder: Path) -> ShardStats | None:
        """The stats of the unit's shard in `folder`, if it is whole and up to date."""
        try:
            stats = ShardStats.model_validate_json((folder / f"{unit.key}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        shard = folder / stats.shard
        complete = shard.is_file() and shard.stat().st_size == stats.bytes
        return stats if complete and not stats.failed and stats.fingerprint == self.fingerprint(unit) else None

    def run(self, unit: Unit) -> ShardStats:
        out, shard = Path(self.out), f"{unit.key}.parquet"
        drops: list[Dropped] = []
        failed = ""
        with tempfile.TemporaryDirectory(dir=out, prefix=".writing-") as temporary:
            path = Path(temporary) / shard
            try:
                rows = write_parquet(path, self.record, self._records(unit, drops))
            except (BadInput, BadDataset) as error:
                failed, drops = str(error), []
                rows = write_parquet(path, self.record, ())
            stats = ShardStats(
                shard=shard,
                unit=unit.key,
                fingerprint=self.fingerprint(unit),
                rows=rows,
                bytes=path.stat().st_size,
                sha256=sha256_of(path),
                dropped=_tally(drops),
                failed=failed,
                drops=[{"id": d.id, "reason": d.reason, "detail": d.detail} for d in drops[:MAX_LISTED_DROPS]],
            )
            path.replace(out / shard)
        write_atomic(out / f"{unit.key}.json", stats.model_dump_json().encode())
        return stats

    def _records(self, unit: Unit, drops: list[Dropped]) -> Iterator[Any]:
        for item in self.work(unit):
            if isinstance(item, Dropped):
                drops.append(item)
            else:
                yield item


def _engine(task: _Task, units: Sequence[Unit], workers: int, runner: str) -> Iterator[ShardStats]:
    if not units:
        return
    if runner == "native" and workers <= 1:
        for unit in units:
            yield task.run(unit)
        return
    yield from _daft(task, units, workers, runner)


def _daft(task: _Task, units: Sequence[Unit], workers: int, runner: str) -> Iterator[ShardStats]:
    by_key = {u.key: u for u in units}
    for stats in spread(lambda key: task.run(by_key[key]).model_dump_json(), list(by_key), workers, runner):
        yield ShardStats.model_validate_json(stats)


def spread(work: Callable[[str], str], keys: Sequence[str], workers: int, runner: str = "native") -> Iterator[str]:
    """`work` of every key in processes of their own, here or on the Ray cluster (a Daft plan); results in the order they finish.

    Raises BadSettings when this process already runs Daft on another runner; an error out of `work` ends it.
    """
    import os

    os.environ.setdefault("DAFT_PROGRESS_BAR", "0")
    import daft
    from daft.exceptions import DaftCoreException

    if runner == "ray":
        daft.set_runner_ray(noop_if_initialized=True)
    else:
        with suppress(DaftCoreException):  # set before; unset, Daft would import Ray to see whether there is a cluster (a second)
            daft.set_runner_native()
    if daft.get_or_create_runner().name != runner:
        raise BadSettings(f"this process already runs Daft on another runner than {runner}; start a new process.")

    @daft.cls(max_concurrency=workers, use_process=True)
    class Worker:
        def __init__(self) -> None:
            self.work = work

        @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=1)
        def __call__(self, some: daft.Series) -> list[str]:
            return [self.work(key) for key in some.to_pylist()]

    worker: Any = Worker()
    frame = daft.from_pydict({"key": list(keys)})
    frame = frame.into_batches(1) if runner == "native" else frame.into_partitions(len(keys))
    for row in frame.select(worker(daft.col("key")).alias("result")).iter_rows():
        yield row["result"]


def _tally(drops: Iterable[Dropped]) -> dict[str, int]:
    tally: dict[str, int] = {}
    for drop in drops:
        tally[drop.reason] = tally.get(drop.reason, 0) + 1
    return tally


def _rows_of(out: Path) -> int:
    """Rows of the dataset that is there; 0 without a readable one."""
    try:
        return Manifest.load(out).rows
    except BadDataset:
        return 0


def _reasons(manifest: Manifest) -> str:
    """Why there is no row: each reason with its number and its first item, then the units that failed."""
    first = {d["reason"]: d["id"] for s in reversed(manifest.shards) for d in reversed(s.drops)}
    reasons = [f"{n} × {reason}, such as {first.get(reason, '?')}" for reason, n in manifest.dropped.most_common()]
    reasons += [shard.failed for shard in manifest.failures]
    return "; ".join(reasons[:MAX_REASONS]) or "nothing in the input"


def _finish_move(out: Path) -> None:
    """Move the shards that lie aside into the dataset, if their run came to its end: only then a manifest lies with them. Where
    the move was cut short, the next run ends it.
    """
    aside = out / NEXT
    if not (aside / MANIFEST).is_file():
        return
    for path in sorted(aside.iterdir(), key=lambda p: p.name == MANIFEST):  # the manifest last
        path.replace(out / path.name)
    aside.rmdir()


def _sweep_half_written(out: Path) -> None:
    """Remove what a killed run left: `.writing-…` folders and the `.NAME.hex` files of `write_atomic`."""
    for path in out.glob(".writing-*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in out.glob(f".*.{'[0-9a-f]' * 8}"):
        path.unlink(missing_ok=True)


def _sweep(out: Path, shards: set[str]) -> None:
    """Remove shards of an earlier plan."""
    for path in out.glob("*.parquet"):
        if path.name not in shards:
            path.unlink()
            path.with_suffix(".json").unlink(missing_ok=True)


class _Progress:
    """A bar on a terminal, a line every ten seconds elsewhere, nothing when not visible."""

    def __init__(self, stage: str, total: int, done: int, *, visible: bool) -> None:
        self.stage, self.total, self.done, self.visible, self.rows = stage, total, done, visible, 0
        self.bar: Any = None
        self.last = time.monotonic()

    def __enter__(self) -> Callable[[int], None]:
        if self.visible:
            from rich.console import Console
            from rich.progress import Progress, TextColumn

            console = Console(stderr=True)
            if console.is_terminal:
                self.bar = Progress(*Progress.get_default_columns(), TextColumn("{task.fields[rows]} rows"), console=console)
                self.bar.start()
                self.id = self.bar.add_task(self.stage, total=self.total, completed=self.done, rows=0)
            if self.done:
                console.print(f"{self.stage}: {self.done} of {self.total} shards are already there")
            self.console = console
        return self._advance

    def _advance(self, rows: int) -> None:
        self.done, self.rows = self.done + 1, self.rows + rows
        if self.bar is not None:
            self.bar.update(self.id, completed=self.done, rows=self.rows)
        elif self.visible and time.monotonic() - self.last > 10:
            self.last = time.monotonic()
            self.console.print(f"{self.stage}: {self.done}/{self.total} shards, {self.rows} rows")

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()
