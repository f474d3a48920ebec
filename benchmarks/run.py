"""Every benchmark that fits in 15 minutes, one after the other; the tables of README and docs/performance.md from all results.

    python benchmarks/run.py [NAME …]          # `make bench`: run all, or these; rewrite the tables
    python benchmarks/run.py --tables          # only rewrite the tables
    python benchmarks/run.py --keep NAME FILE --command "what made it"    # another JSON becomes the result NAME

Each result is benchmarks/results/NAME.json (see measured.py); a benchmark whose data or weights are missing is named with its
reason and keeps its older result. No number in either table is typed by hand; tests/test_benchmarks.py checks it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from measured import README, RESULTS, ROOT, from_file, load, readme_table, save, section, with_table

PAGE = ROOT / "docs" / "performance.md"
HEAD = """# Performance and scores

Made by `make bench` (`benchmarks/run.py`) from `benchmarks/results`, the newest result of each. No number is typed by hand.
What takes longer than a few minutes is run alone, with `--json benchmarks/results/NAME.json`. What says "copied from" was
measured before there were such files, and is as its card or page had it. Intervals are 95 %; of times, from the least to the
most of the rounds.
"""


@dataclass(frozen=True)
class Bench:
    """One result: what it measures, and how `make bench` gets it."""

    name: str
    claim: str
    script: str = ""  # "": of that name
    arguments: tuple[str, ...] = ()
    needs_data: bool = False  # $PATHASST_DATA
    minutes: float = 3.0  # limit
    alone: bool = False  # takes too long, or needs what another run made

    def command(self) -> list[str]:
        """How it is run."""
        script = ROOT / "benchmarks" / f"{self.script or self.name}.py"
        return [sys.executable, str(script), *self.arguments, "--json", str(RESULTS / f"{self.name}.json")]


BENCHES = (
    Bench("collect_jats", "JATS → figures, beside bare lxml and pubmed_parser", arguments=("--rounds", "3"), needs_data=True),
    Bench("collect_books", "PDF → figures with captions", needs_data=True),
    Bench("collect_triage", "Which figures are worth fetching", needs_data=True),
    Bench("curate_select", "Pathology or not", alone=True),
    Bench("curate_panels", "Compound figures: panels and their letters", needs_data=True),
    Bench("curate_captions", "Captions cut into sub-captions, beside a plain regular expression", needs_data=True),
    Bench("instruct_check", "What the check of generated texts lets through", needs_data=True),
    Bench("clip_zeroshot", "Zero-shot classification of pathclip-lite", alone=True),
    Bench("clip_convert", "OpenCLIP ↔ Hugging Face: largest difference at full depth", arguments=("ViT-B-32",)),
    Bench("mllm_answers", "PathAsst: answers about held-out pictures", alone=True),
    Bench("mllm_engines", "PathAsst in llama.cpp and in transformers", arguments=("--threads", "1", "--tokens", "32")),
    Bench("mllm_training", "Training PathAsst on packed rows, beside Hugging Face's Trainer", alone=True),
    Bench("chooser", "The right tools, or rightly none: the chooser on unseen wordings", alone=True),
    Bench("eval_tools", "The right tools, or rightly none: the embedded brain on requests written by hand", alone=True),
    Bench("tools_blood", "Blood cells", needs_data=True),
    Bench("tools_ki67", "Ki67 cells, beside stains and blobs", needs_data=True),
    Bench("tools_lbc", "Liquid-based cytology, beside a colour histogram", needs_data=True),
    Bench("tools_generate", "Drawn cervical cells, beside held-out real ones", arguments=("--each", "30"), alone=True),
    Bench("tools_speed", "Specialist models, a warm call", arguments=("--runs", "5")),
    Bench("papers_ingest", "MEDLINE XML → records, beside gunzip + lxml and pubmed_parser", arguments=("--repeats", "1")),
    Bench("papers_quality", "Paper search by words, vectors and both", alone=True),
    Bench("papers_scale_50k", "Literature index, beside Faiss flat, the paper's plain IVF and HNSW", "papers_scale", minutes=4),
    Bench("papers_scale", "Literature index up to 5.3 million vectors", alone=True),
)


def run(bench: Bench) -> str:
    """Run one script, which keeps its own result; "", or why it did not."""
    if bench.needs_data and not os.environ.get("PATHASST_DATA"):
        return "PATHASST_DATA is not set"
    try:
        done = subprocess.run(bench.command(), capture_output=True, text=True, timeout=60 * bench.minutes, cwd=ROOT, check=False)
    except subprocess.TimeoutExpired:
        return f"not done within {bench.minutes:g} minutes"
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""


def page() -> str:
    """docs/performance.md."""
    results, parts = load(), [HEAD]
    for bench in BENCHES:
        body = section(results[bench.name]) if bench.name in results else "No result is kept."
        parts.append(f"## {bench.claim}\n\n{body}\n")
    return "\n".join(parts)


def tables() -> dict[Path, str]:
    """Both pages as they should be."""
    return {README: with_table(README.read_text(encoding="utf-8"), readme_table(load())), PAGE: page()}


def main() -> None:
    """Run, keep, write."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", help=f"of {', '.join(b.name for b in BENCHES)}; default: all that fit")
    options.add_argument("--tables", action="store_true", help="only write the tables, from the results that are there")
    options.add_argument("--keep", nargs=2, metavar=("NAME", "FILE"), help="make a JSON file the result NAME")
    options.add_argument("--command", default="", help="with --keep: the command that made it")
    chosen = options.parse_args()
    if unknown := {*chosen.names, *(chosen.keep or [])[:1]} - {b.name for b in BENCHES}:
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}")
    if chosen.keep:
        name, file = chosen.keep
        save(RESULTS / f"{name}.json", from_file(Path(file)), command=chosen.command or f"made from {file}")
    elif not chosen.tables:
        for bench in BENCHES:
            if bench.name in chosen.names or not (chosen.names or bench.alone):
                print(f"{bench.name} …", flush=True)
                print(f"  {run(bench) or 'done'}", flush=True)
    for path, text in tables().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
