"""What collecting costs per article, and that every runner gives the same bytes.

    PATHASST_DATA=<samples> python benchmarks/collect_scale.py [--no-ray]

The sample articles (XML and figures) are laid out like the bucket `pmc-oa-opendata` and served by a plain HTTP server in a
process of its own; `collect pmc` reads them through HTTP as it would read the bucket, with triage and without. Counted: requests,
bytes, CPU seconds of the collecting process, wall time. Then the same collection runs with one process, two, and two Ray workers
(each in a fresh interpreter), and the sha256 of all shards are compared. The extrapolation to PMC multiplies means.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import http.server
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pathasst.collect import pmc_collect
from pathasst.collect.jats import parse
from pathasst.collect.pmc import Rules
from pathasst.collect.stores import StoreSettings
from pathasst.collect.triage import worth_fetching

ARTICLES = 9_130_000  # of PMC in the bucket, 2026-09
BUCKET = "pmc-oa-opendata"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass


def _serve(folder: str, port: object) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as server:
        port.put(server.server_port)  # type: ignore[attr-defined]
        server.serve_forever()


def _lay_out(data: Path, root: Path) -> list[str]:
    """The bucket's layout from the sample articles; ids with their versions."""
    ids = []
    pictures = {(g["pmcid"], g["fig_id"]): g["image"] for g in json.loads((data / "articles/figures.json").read_text())}
    for path in sorted((data / "articles/xml").glob("*.xml")):
        id_, content = f"{path.stem}.1", path.read_bytes()
        objects = {f"{id_}/{id_}.xml": content}
        for figure in parse(content, path.name)[1]:
            if name := pictures.get((path.stem, figure.figure_id.split("/")[1])):
                objects[f"{id_}/{figure.graphic}.jpg"] = (data / "articles/figures" / name).read_bytes()
        urls = {k: f"s3://{BUCKET}/{k}?md5={hashlib.md5(v).hexdigest()}" for k, v in objects.items()}
        metadata = {"pmcid": path.stem, "version": 1, "license_code": "CC BY", "is_retracted": False}
        metadata |= {"xml_url": urls[f"{id_}/{id_}.xml"], "media_urls": [u for k, u in urls.items() if not k.endswith(".xml")]}
        objects[f"metadata/{id_}.json"] = json.dumps(metadata).encode()
        for key, value in objects.items():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(value)
        ids.append(id_)
    return ids


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _measure(ids: list[str], out: Path, address: str, *, triage: bool) -> dict[str, float]:
    pmc_collect._open.cache_clear()
    settings = StoreSettings(address=address, rate=100_000)
    cpu, wall = _cpu(), time.perf_counter()
    manifest = pmc_collect.collect_pmc(ids, out, store=settings, rules=Rules(triage=triage), per_shard=10, progress=False)
    cpu, wall = _cpu() - cpu, time.perf_counter() - wall
    requests, size = pmc_collect._open(settings).traffic
    n = len(ids)
    print(
        f"triage {'on ' if triage else 'off'}: {manifest.rows} figures, dropped {dict(manifest.dropped)}; per article: "
        f"{requests / n:.2f} requests, {size / n / 1e3:.1f} kB, {1e3 * cpu / n:.1f} ms CPU, {1e3 * wall / n:.1f} ms wall"
    )
    return {"requests": requests / n, "bytes": size / n, "cpu": cpu / n}


def _run(arguments: list[str], ids: list[str], out: Path, address: str, folder: Path) -> list[str]:
    (folder / "ids.txt").write_text("\n".join(ids))
    command = [sys.executable, "-m", "pathasst.cli.main", "collect", "pmc", "--ids", str(folder / "ids.txt"), "--store", address]
    command += ["--out", str(out), "--rate", "100000", "--per-shard", "10", *arguments]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    manifest = json.loads((out / "manifest.json").read_text())
    print(
        f"{' '.join(arguments) or 'one process'}: {len(manifest['shards'])} shards in {time.perf_counter() - start:.1f} s",
        flush=True,
    )
    return [s["sha256"] for s in manifest["shards"]]


def _extrapolate(on: dict[str, float], off: dict[str, float]) -> None:
    print(f"\nextrapolated to {ARTICLES:,} articles, were all like these:")
    for name, cost in (("triage on", on), ("triage off", off)):
        requests = ARTICLES * cost["requests"]
        days = ", ".join(f"{requests / rate / 86400:.1f} days at {rate}/s" for rate in (3, 10, 100, 1000))
        print(
            f"  {name}: {requests / 1e6:.1f} M requests, {ARTICLES * cost['bytes'] / 1e12:.2f} TB, "
            f"{ARTICLES * cost['cpu'] / 3600:.0f} CPU hours; {days}"
        )
    saved = off["bytes"] - on["bytes"]
    print(f"  saved by triage: {ARTICLES * saved / 1e12:.2f} TB, {saved / off['bytes']:.0%} of all bytes")


def _corpora(data: Path) -> None:
    """How much triage drops depends on the articles: pathology journals keep most."""
    import gzip

    for name, files in (("articles", sorted(data.glob("articles/xml/*.xml"))), ("jats", sorted(data.glob("jats/*.gz")))):
        figures = []
        for path in files:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            figures += parse(content, path.name)[1]
        kept = sum(worth_fetching(f) for f in figures) / len(figures)
        print(f"{name}: {len(files)} articles, {len(figures) / len(files):.2f} figures each, triage drops {1 - kept:.3f}")


def _main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", default=os.environ.get("PATHASST_DATA", ""))
    options.add_argument("--no-ray", action="store_true")
    arguments = options.parse_args()
    if not arguments.data:
        raise SystemExit("Set PATHASST_DATA, or give --data.")
    data = Path(arguments.data)
    _corpora(data)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        ids = _lay_out(data, folder / "bucket")
        port: multiprocessing.Queue[int] = multiprocessing.Queue()
        server = multiprocessing.Process(target=_serve, args=(str(folder / "bucket"), port), daemon=True)
        server.start()
        address = f"http://127.0.0.1:{port.get(timeout=30)}"
        try:
            _measure(ids[:5], folder / "warm", address, triage=True)
            on = _measure(ids, folder / "on", address, triage=True)
            off = _measure(ids, folder / "off", address, triage=False)
            sums = [_run(a, ids, folder / f"run{n}", address, folder) for n, a in enumerate(([], ["--workers", "2"]))]
            if not arguments.no_ray:
                sums.append(_run(["--workers", "2", "--runner", "ray"], ids, folder / "ray", address, folder))
            print(f"identical shards from every runner: {all(s == sums[0] for s in sums)} ({len(sums)} runs)")
        finally:
            server.terminate()
        _extrapolate(on, off)


if __name__ == "__main__":
    _main()
