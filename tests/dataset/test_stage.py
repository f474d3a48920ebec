"""A stage ends with the same bytes however it was run: in one go, killed and resumed, in two processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from pathasst import dataset
from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.records import Pair
from pathasst.dataset import Unit

sys.path.insert(0, str(Path(__file__).parent))
from stage_work import UNITS, copied, failing, run, work


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_rows_drops_and_manifest(tmp_path: Path) -> None:
    manifest = run(tmp_path)
    assert manifest.rows == 48
    assert manifest.dropped == {"odd": 12}
    assert manifest.shards[0].drops[0] == {"id": "00000-3", "reason": "odd", "detail": "third item"}
    assert dataset.validate(tmp_path, Pair) == []
    assert [p.pair_id for p in dataset.read(tmp_path, Pair)][:5] == ["00000-0", "00000-1", "00000-2", "00000-4", "00001-0"]


def test_two_processes_give_identical_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    run(tmp_path / "one")
    run(tmp_path / "two", workers=2)
    assert content(tmp_path / "one") == content(tmp_path / "two")


def test_two_processes_wait_for_no_import_of_ray(tmp_path: Path) -> None:
    script = f"import stage_work as s, sys; from pathlib import Path; s.run(Path({str(tmp_path)!r}), workers=2); "
    script += "s.run(Path(sys.argv[1]), workers=2); print('ray' in sys.modules)"
    arguments = [sys.executable, "-c", script, str(tmp_path / "again")]
    done = subprocess.run(arguments, env=_env(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_ray_gives_identical_bytes(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    run(tmp_path / "one")
    start = "import ray; ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)"
    run_on_ray = f"s.run(Path({str(tmp_path / 'ray')!r}), workers=2, runner='ray')"
    script = f"{start}; import stage_work as s; from pathlib import Path; {run_on_ray}"
    subprocess.run(
        [sys.executable, "-c", script], check=True, env=_env(RAY_worker_niceness="0"), timeout=600, capture_output=True
    )
    ray, one = content(tmp_path / "ray"), content(tmp_path / "one")
    assert ray == one


def test_killed_run_resumes_to_identical_bytes(tmp_path: Path) -> None:
    run(tmp_path / "whole")
    killed = tmp_path / "killed"
    script = f"import stage_work as s; from pathlib import Path; s.run(Path({str(killed)!r}), seconds=0.05)"
    process = subprocess.Popen([sys.executable, "-c", script], env=_env())
    deadline = time.monotonic() + 60
    while len(list(killed.glob("0*.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    finished = {p.name: p.stat().st_mtime_ns for p in killed.glob("*.json")}
    assert 3 <= len(finished) < len(UNITS), "the kill must fall in the middle"
    run(killed)
    assert content(killed) == content(tmp_path / "whole")
    assert {n: (killed / n).stat().st_mtime_ns for n in finished} == finished, "finished shards are never redone"


def test_changed_input_or_settings_redo_only_what_they_touch(tmp_path: Path) -> None:
    run(tmp_path)
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.parquet")}
    run(tmp_path, [Unit("00000", stamp="2"), *UNITS[1:]])
    after = {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("*.parquet")}
    assert {n for n in before if before[n] != after[n]} == {"00000.parquet"}


def empty(unit: Unit) -> Iterator[dataset.Dropped]:
    yield dataset.Dropped(unit.key, "unreadable-file", "no XML")


def test_a_run_that_gives_no_row_leaves_the_dataset_as_it_was(tmp_path: Path) -> None:
    run(tmp_path)
    before = content(tmp_path)
    with pytest.raises(
        BadInput, match=r"not one row came of this run \(12 × unreadable-file, such as 00000\).*stays as it is, with its 48 rows"
    ):
        dataset.run_stage(tmp_path, stage="test", record=Pair, units=UNITS, work=empty, settings={"a": 1}, progress=False)
    with pytest.raises(BadInput, match="nothing in the input"):
        run(tmp_path, [])
    assert content(tmp_path) == before
    dataset.run_stage(tmp_path / "first", stage="test", record=Pair, units=UNITS, work=empty, settings={"a": 1}, progress=False)
    assert run(tmp_path / "first").rows == 48, "an empty dataset protects nothing"


def dies(unit: Unit) -> Iterator[Pair]:
    if unit.key == UNITS[2].key:
        raise KeyboardInterrupt
    yield from work(unit)  # type: ignore[misc]


def test_a_run_that_dies_leaves_the_dataset_readable_and_goes_on_where_it_died(tmp_path: Path) -> None:
    run(tmp_path / "new", [replace(u, stamp="2") for u in UNITS])
    run(tmp_path / "old")
    before = {p.name: p.read_bytes() for p in (tmp_path / "old").iterdir()}
    changed = [replace(u, stamp="2") for u in UNITS]
    with pytest.raises(KeyboardInterrupt):
        dataset.run_stage(tmp_path / "old", stage="test", record=Pair, units=changed, work=dies, progress=False)
    assert {p.name: p.read_bytes() for p in (tmp_path / "old").iterdir() if p.is_file()} == before
    assert dataset.validate(tmp_path / "old", Pair) == []
    aside = tmp_path / "old" / ".next"
    assert sorted(p.name for p in aside.glob("*.parquet")) == ["00000.parquet", "00001.parquet"]
    written = (aside / "00001.parquet").stat().st_mtime_ns
    run(tmp_path / "old", changed)
    assert (tmp_path / "old" / "00001.parquet").stat().st_mtime_ns == written
    assert content(tmp_path / "old") == content(tmp_path / "new")


def test_what_a_run_that_died_wrote_for_other_settings_is_never_mixed_in(tmp_path: Path) -> None:
    run(tmp_path)
    before = content(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        other = [replace(u, stamp="2") for u in UNITS]
        dataset.run_stage(tmp_path, stage="test", record=Pair, units=other, work=dies, progress=False)
    run(tmp_path)
    assert content(tmp_path) == before


def test_a_move_that_was_cut_short_is_ended_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = [replace(u, stamp="2") for u in UNITS]
    run(tmp_path / "old")
    run(tmp_path / "new", changed)
    moved: list[str] = []
    rename = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if self.parent.name == ".next" and target.parent == tmp_path / "old":
            moved.append(self.name)
            if len(moved) == 5:
                raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", cut)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "old", changed)
    run(tmp_path / "old", changed)
    assert content(tmp_path / "old") == content(tmp_path / "new")


def test_fewer_units_sweep_the_old_shards(tmp_path: Path) -> None:
    run(tmp_path)
    assert run(tmp_path, UNITS[:2]).rows == 8
    assert sorted(p.name for p in tmp_path.glob("*.parquet")) == ["00000.parquet", "00001.parquet"]


def test_bad_unit_costs_itself_alone_and_is_tried_again(tmp_path: Path) -> None:
    def make(bad: str) -> dataset.Manifest:
        work = partial(failing, bad=bad)
        return dataset.run_stage(tmp_path, stage="t", record=Pair, units=UNITS, work=work, progress=False)

    manifest = make("00004")
    assert manifest.rows == 11
    assert [s.failed for s in manifest.failures] == ["truncated XML"]
    assert "truncated XML" in dataset.validate(tmp_path, Pair)[0]
    assert make("").rows == 12


@pytest.mark.parametrize(("more", "message"), [({"runner": "spark"}, "runner"), ({"units": [*UNITS, UNITS[0]]}, "share a key")])
def test_bad_settings(tmp_path: Path, more: dict, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        dataset.run_stage(tmp_path, **{"stage": "t", "record": Pair, "units": UNITS, "work": work, **more})


def _env(**more: str) -> dict[str, str]:
    path = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), **more}


@pytest.mark.skipif(os.name != "posix", reason="rights of POSIX")
def test_colleagues_may_read_what_a_stage_wrote(tmp_path: Path) -> None:
    """As far as the user's mask lets them."""
    before = os.umask(0o027)
    try:
        run(tmp_path)
    finally:
        os.umask(before)
    assert {p.stat().st_mode & 0o777 for p in tmp_path.iterdir() if p.is_file()} == {0o640}


def test_what_a_killed_run_left_is_removed_before_the_next_begins(tmp_path: Path) -> None:
    for stray in (".writing-abc/00000.parquet", ".manifest.json.0a1b2c3d", ".00000.json.deadbeef"):
        (tmp_path / stray).parent.mkdir(exist_ok=True)
        (tmp_path / stray).write_bytes(b"half")
    (tmp_path / ".gitignore").write_text("*")
    run(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == [".gitignore"]


def test_a_damaged_shard_costs_itself_in_the_next_stage(tmp_path: Path) -> None:
    run(tmp_path / "first")
    shard = tmp_path / "first" / "00003.parquet"
    shard.write_bytes(shard.read_bytes()[:-200])
    manifest = dataset.run_stage(
        tmp_path / "second",
        stage="copy",
        record=Pair,
        units=dataset.units_of_dataset(tmp_path / "first"),
        work=copied,
        progress=False,
    )
    assert manifest.rows == 44
    assert ["00003.parquet is missing or damaged" in s.failed for s in manifest.failures] == [True]
    with pytest.raises(BadDataset, match=r"00003\.parquet"):
        list(dataset.read(tmp_path / "first", Pair))
