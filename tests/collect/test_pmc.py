import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pmc_bucket import BUCKET, STAINED, Faults, add_inventory, article, proxy, s3_server, sample_bucket
from typer.testing import CliRunner

from pathasst import dataset
from pathasst.cli.main import app
from pathasst.collect.pmc import Rules
from pathasst.collect.pmc_collect import collect_pmc, estimate
from pathasst.collect.pmc_find import inventory
from pathasst.collect.stores import StoreSettings
from pathasst.core.errors import BadSettings
from pathasst.core.records import Figure

ALL = [f"PMC{n}" for n in range(1, 8)]


@pytest.fixture(scope="module")
def objects() -> dict[str, bytes]:
    return sample_bucket()


@pytest.fixture(scope="module")
def bucket(objects):
    with s3_server(objects) as address:
        yield address


@pytest.fixture(autouse=True)
def anonymous(monkeypatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def fast(address: str, **options) -> StoreSettings:
    return StoreSettings(address=address, **{"rate": 2000.0, "back_off": 0.01, **options})


def mirror(objects: dict[str, bytes], folder: Path) -> Path:
    for key, content in objects.items():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(content)
    return folder


def rows(out: Path) -> list[Figure]:
    return list(dataset.read(out, Figure))


def collect(articles, out, store, **options):
    return collect_pmc(articles, out, store=store, progress=False, **options)


def test_only_what_is_wanted_is_fetched(bucket, tmp_path) -> None:
    faults = Faults()
    with proxy(bucket.removesuffix(f"/{BUCKET}"), faults) as address:
        manifest = collect(ALL, tmp_path, fast(f"{address}/{BUCKET}"))
    found = rows(tmp_path)
    assert [f.figure_id for f in found] == ["PMC1.1/f1", "PMC2.2/f1", "PMC2.2/f2"]  # the newest version, stained figures only
    assert all(f.width == 60 and f.image and f.source.licence == "CC-BY-4.0" for f in found)  # the .jpg, not its .gif preview
    assert dict(manifest.dropped) == {"triage": 2, "retracted": 1, "licence": 1, "unreadable-article": 2, "no-picture": 1}
    pictures = [path for _, path, _ in faults.seen if path.endswith((".jpg", ".gif"))]
    assert sorted(pictures) == [
        f"/{BUCKET}/{i}" for i in ("PMC1.1/a-g1.jpg", "PMC2.2/a-g1.jpg", "PMC2.2/a-g2.jpg", "PMC6.1/a-g1.jpg")
    ]
    assert not any("PMC3.1/" in path or "PMC4.1/" in path for _, path, _ in faults.seen)  # retracted, NC: metadata alone


def test_bucket_mirror_and_signed_s3_give_the_same(bucket, objects, tmp_path, monkeypatch) -> None:
    folder = mirror(objects, tmp_path / "mirror")
    sums = []
    for name, settings in (("http", fast(bucket)), ("folder", fast(str(folder)))):
        sums.append([s.sha256 for s in collect(ALL, tmp_path / name, settings).shards])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    signed = fast(f"s3://{BUCKET}", endpoint=bucket.removesuffix(f"/{BUCKET}"))
    sums.append([s.sha256 for s in collect(ALL, tmp_path / "s3", signed).shards])
    assert sums[0] == sums[1] == sums[2]


@pytest.mark.parametrize("fault", ["503", "429 0", "slow", "cut", "wrong"])
def test_passing_faults_cost_nothing(bucket, tmp_path, fault: str) -> None:
    faults = Faults(("metadata/PMC1", fault, 1), ("PMC1.1.xml", fault, 1), ("a-g1.jpg", fault, 2))
    with proxy(bucket.removesuffix(f"/{BUCKET}"), faults) as address:
        manifest = collect(["PMC1.1"], tmp_path, fast(f"{address}/{BUCKET}", timeout=0.3))
    assert [f.figure_id for f in rows(tmp_path)] == ["PMC1.1/f1"]
    assert dict(manifest.dropped) == {"triage": 1}
    assert [f for _, _, f in faults.seen].count(fault) == 4


def test_retry_after_is_waited_for(bucket, tmp_path) -> None:
    faults = Faults(("metadata/PMC1", "429 1", 1))
    with proxy(bucket.removesuffix(f"/{BUCKET}"), faults) as address:
        collect(["PMC1.1"], tmp_path, fast(f"{address}/{BUCKET}"))
    times = [at for at, path, _ in faults.seen if "metadata/PMC1" in path]
    assert times[1] - times[0] >= 1.0


def test_what_stays_unreachable_costs_its_article_and_is_tried_again(bucket, tmp_path) -> None:
    for fault in ("503", "cut", "wrong"):
        out = tmp_path / fault
        faults = Faults(("PMC2.2/a-g2.jpg", fault, 99))
        with proxy(bucket.removesuffix(f"/{BUCKET}"), faults) as address:
            store = fast(f"{address}/{BUCKET}", attempts=3)
            first = collect(["PMC1.1", "PMC2.2"], out, store)
            assert dict(first.dropped) == {"triage": 1, "unreachable": 1}
            assert [f.figure_id for f in rows(out)] == ["PMC1.1/f1"]
            faults.orders.clear()
            faults.seen.clear()
            second = collect(["PMC1.1", "PMC2.2"], out, store)
        assert dict(second.dropped) == {"triage": 1}
        assert [f.figure_id for f in rows(out)] == ["PMC1.1/f1", "PMC2.2/f1", "PMC2.2/f2"]
        assert not any("PMC1.1/" in path for _, path, _ in faults.seen)  # what was there is not fetched again
        assert dataset.validate(out, Figure) == []


def test_new_articles_and_newer_versions_are_added(objects, tmp_path) -> None:
    store = fast(str(mirror(objects, tmp_path / "mirror")))
    out = tmp_path / "out"
    collect(["PMC2.1"], out, store)
    assert [f.source.version for f in rows(out)] == [1]
    collect(["PMC1", "PMC2"], out, store)
    assert sorted(f.figure_id for f in rows(out)) == ["PMC1.1/f1", "PMC2.2/f1", "PMC2.2/f2"]
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.parquet")}
    collect(["PMC1", "PMC2"], out, store)
    assert {p.name: p.stat().st_mtime_ns for p in out.glob("*.parquet")} == before


def test_rules(objects, tmp_path) -> None:
    store = fast(str(mirror(objects, tmp_path / "mirror")))
    manifest = collect(ALL, tmp_path / "a", store, rules=Rules(licence="research", retracted=True, triage=False))
    assert {f.source.pmcid for f in rows(tmp_path / "a")} == {"PMC1", "PMC2", "PMC3", "PMC4"}
    assert all(f.source.retracted == (f.source.pmcid == "PMC3") for f in rows(tmp_path / "a"))
    assert "triage" not in manifest.dropped
    with pytest.raises(BadSettings, match="licence policy"):
        collect(ALL, tmp_path / "b", store, rules=Rules(licence="mine"))


def test_an_article_that_is_not_there_is_reported(objects, tmp_path) -> None:
    manifest = collect(["PMC999"], tmp_path / "out", fast(str(mirror(objects, tmp_path / "mirror"))))
    assert manifest.rows == 0 and dict(manifest.dropped) == {"unreadable-article": 1}


def test_inventory_finds_the_newest_versions_and_what_changed(bucket) -> None:
    store = fast(bucket).open()
    assert list(inventory(store)) == ["PMC1.1", "PMC2.2", "PMC3.1", "PMC4.1", "PMC5.1", "PMC6.1", "PMC7.1"]
    assert list(inventory(store, since="2026-08-30")) == ["PMC1.1", "PMC2.2"]
    assert list(inventory(store, since="2026-09-01")) == ["PMC2.2"]


def test_dry_run_counts_without_fetching_pictures(bucket, objects) -> None:
    faults = Faults()
    with proxy(bucket.removesuffix(f"/{BUCKET}"), faults) as address:
        cost = estimate(["PMC1", "PMC2"], store=fast(f"{address}/{BUCKET}"), rules=Rules())
    assert (cost.planned, cost.sampled, cost.passing, cost.figures, cost.worth_fetching) == (2, 2, 1.0, 2.0, 1.5)
    wanted = ["PMC1.1/PMC1.1.xml", "PMC1.1/a-g1.jpg", "PMC2.2/PMC2.2.xml", "PMC2.2/a-g1.jpg", "PMC2.2/a-g2.jpg"]
    assert cost.bytes == sum(len(objects[k]) for k in wanted) / 2
    assert cost.bytes_without_triage > cost.bytes
    assert cost.requests == (4 + 5) / 2  # version, metadata, XML and the wanted pictures
    assert not any(path.endswith(".jpg") for _, path, _ in faults.seen)


def test_the_rate_is_kept(bucket, tmp_path) -> None:
    faults = Faults()
    with proxy(bucket.removesuffix(f"/{BUCKET}"), faults) as address:
        collect(["PMC1.1", "PMC2.2"], tmp_path, fast(f"{address}/{BUCKET}", rate=20.0))
    times = sorted(at for at, _, _ in faults.seen)
    assert (len(times) - 1) / (times[-1] - times[0]) < 24


def test_two_processes_give_the_same(objects, tmp_path) -> None:
    store = fast(str(mirror(objects, tmp_path / "mirror")))
    one = collect(ALL, tmp_path / "one", store, per_shard=2)
    two = collect(ALL, tmp_path / "two", store, per_shard=2, workers=2)
    assert [s.sha256 for s in one.shards] == [s.sha256 for s in two.shards]


def test_killed_anywhere_it_goes_on_and_ends_the_same(tmp_path) -> None:
    many: dict[str, bytes] = {}
    for n in range(1, 41):
        article(many, f"PMC{n}.1", (STAINED,))
    folder = mirror(many, tmp_path / "mirror")
    ids = [f"PMC{n}" for n in range(1, 41)]
    whole = collect(ids, tmp_path / "whole", fast(str(folder)), per_shard=4)
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "pathasst.cli.main", "collect", "pmc", "--store", str(folder), "--out", str(out)]
    (tmp_path / "ids.txt").write_text("\n".join(ids))
    process = subprocess.Popen([*command, "--ids", str(tmp_path / "ids.txt"), "--per-shard", "4"], stderr=subprocess.DEVNULL)
    while process.poll() is None and len(list(out.glob("*.parquet"))) < 3:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL) if process.poll() is None else None
    process.wait()
    again = collect(ids, out, fast(str(folder)), per_shard=4)
    assert [s.sha256 for s in again.shards] == [s.sha256 for s in whole.shards]
    assert dataset.validate(out, Figure) == []


def test_command_dry_run_and_collect(objects, tmp_path) -> None:
    store = str(mirror(objects, tmp_path / "mirror"))
    common = ["collect", "pmc", "--store", store, "--inventory"]
    dry = CliRunner().invoke(app, [*common, "--dry-run"])
    assert dry.exit_code == 0 and "7 articles" in dry.output and "hours" in dry.output
    done = CliRunner().invoke(app, [*common, "--since", "2026-08-30", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0 and "3 figures" in done.output
    assert CliRunner().invoke(app, ["collect", "pmc", "--store", store, "--out", "x"]).exit_code != 0  # which articles?


def test_inventory_that_changes_adds_only_the_change(objects, tmp_path) -> None:
    local = dict(objects)
    folder = mirror(local, tmp_path / "mirror")
    store = fast(str(folder))
    collect(inventory(store.open()), tmp_path / "out", store)
    article(local, "PMC8.1")
    add_inventory(local, {"PMC8.1": "2026-09-05"})
    mirror(local, folder)
    manifest = collect(inventory(store.open(), since="2026-09-04"), tmp_path / "out", store)
    assert "PMC8.1/f1" in {f.figure_id for f in rows(tmp_path / "out")} and len(manifest.shards) == 2
    assert json.loads((tmp_path / "out/plan.json").read_text())["shards"]["000001"]["articles"] == ["PMC8.1"]
