"""Every speed claim that fits in 15 minutes, side by side with its peer, and docs/performance.md from what they printed.

    python benchmarks/run.py [NAME …] [--page-only]        # `make bench`

Results go to benchmarks/results.json by name: command, machine, date, seconds, output. The page is written from that file alone:
no number in it was typed. A benchmark whose data or weights are missing is named with its reason and keeps its older result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results.json"
PAGE = ROOT / "docs" / "performance.md"


@dataclass(frozen=True)
class Bench:
    """One script: what it claims, how it is run, how long it may take."""

    name: str
    claim: str
    arguments: tuple[str, ...] = ()
    minutes: float = 3.0
    needs_data: bool = False  # $PATHASST_DATA


BENCHES = (
    Bench("collect_jats", "JATS → figures, beside bare lxml and pubmed_parser", ("--rounds", "3"), needs_data=True),
    Bench("papers_ingest", "MEDLINE XML → records, beside gunzip + lxml and pubmed_parser", ("--repeats", "1")),
    Bench(
        "papers_scale",
        "Literature index: recall, latency and memory, beside Faiss flat, the paper's plain IVF and HNSW",
        minutes=4,
    ),
    Bench("tools_speed", "Specialist models, a warm call", ("--runs", "5")),
    Bench("clip_convert", "OpenCLIP ↔ Hugging Face: largest difference at full depth", ("ViT-B-32",)),
)


def run(bench: Bench) -> dict[str, object]:
    """Run one script; its output, or why there is none."""
    if bench.needs_data and not os.environ.get("PATHASST_DATA"):
        return {"failed": "PATHASST_DATA is not set"}
    command = [sys.executable, str(ROOT / "benchmarks" / f"{bench.name}.py"), *bench.arguments]
    started = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60 * bench.minutes, cwd=ROOT, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done within {bench.minutes:g} minutes"}
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1]}
    return {
        "command": " ".join(["python", f"benchmarks/{bench.name}.py", *bench.arguments]),
        "machine": f"{os.cpu_count()} cores, {_processor()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "seconds": round(time.monotonic() - started),
        "output": done.stdout.strip(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def page(results: dict[str, dict[str, object]]) -> str:
    """docs/performance.md."""
    parts = ["# Performance", "", "Written by `make bench` from `benchmarks/results.json`; no number here was typed by hand."]
    for bench in BENCHES:
        found = results.get(bench.name)
        parts += ["", f"## {bench.claim}", ""]
        if found is None:
            parts.append("Not run yet.")
            continue
        parts += [f"`{found['command']}` · {found['machine']} · {found['date']} · {found['seconds']} s", ""]
        output = str(found["output"])
        parts.append(output if output.lstrip().startswith("|") else f"```text\n{output}\n```")
    return "\n".join(parts) + "\n"


def main() -> None:
    """Run, keep, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", help=f"of {', '.join(b.name for b in BENCHES)}; default: all")
    options.add_argument("--page-only", action="store_true", help="write the page from the results that are there")
    chosen = options.parse_args()
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
    for bench in () if chosen.page_only else BENCHES:
        if chosen.names and bench.name not in chosen.names:
            continue
        print(f"{bench.name} …", flush=True)
        found = run(bench)
        if "failed" in found:
            print(f"  {found['failed']}")
            continue
        results[bench.name] = found
        RESULTS.write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
