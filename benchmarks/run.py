"""Every benchmark that fits in 15 minutes, one after the other; the tables of README and docs/performance.md from all results.

    python benchmarks/run.py [NAME …]          # `make bench`: run all that fit, or these; rewrite the tables
    python benchmarks/run.py --list            # what there is, how long each takes about, and what it needs
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
import time
from dataclasses import dataclass
from pathlib import Path

from instruct_wordings import templates
from measured import README, RESULTS, ROOT, from_file, load, readme_table, save, section, with_table

from pathasst.instruct.wordings import Wordings

PAGE, WORDINGS = ROOT / "docs" / "performance.md", ROOT / "docs" / "measured" / "instruct.md"
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
    seconds: int = 0  # about, on two idle cores; 0: it is run alone, since it takes too long or needs what another run made

    def command(self) -> list[str]:
        """How it is run."""
        script = ROOT / "benchmarks" / f"{self.script or self.name}.py"
        return [sys.executable, str(script), *self.arguments, "--json", str(RESULTS / f"{self.name}.json")]


BENCHES = (
    Bench(
        "collect_jats",
        "JATS → figures, beside bare lxml and pubmed_parser",
        arguments=("--rounds", "3"),
        needs_data=True,
        seconds=10,
    ),
    Bench("collect_books", "PDF → figures with captions", needs_data=True, seconds=3),
    Bench("collect_triage", "Which figures are worth fetching", needs_data=True, seconds=15),
    Bench("curate_select", "Pathology or not"),
    Bench("curate_panels", "Compound figures: panels and their letters", needs_data=True),
    Bench("curate_captions", "Captions cut into sub-captions, beside a plain regular expression", needs_data=True, seconds=25),
    Bench("curate_speed", "Curating, figures a second", needs_data=True),
    Bench("instruct_check", "What the check of generated texts lets through", needs_data=True, seconds=10),
    Bench("clip_zeroshot", "Zero-shot classification of pathclip-lite"),
    Bench("clip_leave_out", "Zero-shot classification of a set that was never trained on, beside baselines"),
    Bench("clip_retrieval", "Retrieval of a PathCLIP trained on pairs with words of their own"),
    Bench("clip_throughput", "Training PathCLIP, pictures a second"),
    Bench("clip_variable_text", "Training PathCLIP beside OpenCLIP's main branch: variable text, length bucketing"),
    Bench("clip_encode", "PathCLIP on pictures: ONNX Runtime, as the commands run it, beside torch", seconds=60),
    Bench("clip_convert", "OpenCLIP ↔ Hugging Face: largest difference at full depth", seconds=150),
    Bench("mllm_answers", "PathAsst: answers about held-out pictures"),
    Bench(
        "mllm_engines", "PathAsst in llama.cpp and in transformers", arguments=("--threads", "1", "--tokens", "32"), seconds=60
    ),
    Bench("mllm_training", "Training PathAsst on packed rows, beside Hugging Face's Trainer"),
    Bench("mllm_packing", "Packed rows beside TRL's packing and padded batches"),
    Bench("mllm_gpu", "PathAsst and PathCLIP on one GPU: tokens a second, memory beside the plan"),
    Bench("router", "The right tools, or rightly none: the router on unseen wordings"),
    Bench("eval_tools", "The right tools, or rightly none: the embedded brain on requests written by hand"),
    Bench("eval_answers", "Answers: right, declined, wrong, invented; the embedded brain, without a judge"),
    Bench("tools_blood", "Blood cells", needs_data=True, seconds=20),
    Bench("tools_lbc_detect", "Abnormal cervical cells, beside boxing every cell", needs_data=True, seconds=20),
    Bench("tools_ki67", "Ki67 cells, beside stains and blobs", needs_data=True, seconds=150),
    Bench("tools_her2", "HER2 scores beside those of the cores", needs_data=True),
    Bench("tools_counts", "Counts of red cells, at home and elsewhere", needs_data=True),
    Bench("tools_guard", "Wrong pictures declined, each laboratory left out", needs_data=True),
    Bench("tools_lbc_fields", "Fields of liquid-based cytology, five folds", "tools_heads", ("lbc_fields",), needs_data=True),
    Bench(
        "tools_lbc_cells", "Grades of single cervical cells, five folds by slide", "tools_heads", ("lbc_cells",), needs_data=True
    ),
    Bench("tools_wbc", "Types of white cells, each laboratory left out", "tools_heads", ("wbc",), needs_data=True),
    Bench("tools_generate", "Drawn cervical cells, beside held-out real ones", arguments=("--each", "30"), needs_data=True),
    Bench("slides_whole", "A tool over a whole slide of 40,000² px, killed twice: memory"),
    Bench("slides_tiles", "Tiles of a slide per second, beside OpenSlide's own reading, LazySlide, TRIDENT and tiatoolbox"),
    Bench("slides_viewer", "A layer of 500,000 cells in a real Chromium: first paint and frames"),
    Bench("slides_tissue", "Tissue on slides, beside rules on saturation", needs_data=True, seconds=30),
    Bench("tools_speed", "Specialist models, a warm call", arguments=("--runs", "5"), seconds=90),
    Bench(
        "papers_ingest", "MEDLINE XML → records, beside gunzip + lxml and pubmed_parser", arguments=("--repeats", "1"), seconds=60
    ),
    Bench("papers_quality", "Paper search by words, vectors and both", needs_data=True),
    Bench("papers_floor", "What the floor of relevance costs a person's search", needs_data=True),
    Bench("papers_scale_50k", "Literature index, beside Faiss flat, the paper's plain IVF and HNSW", "papers_scale", seconds=60),
    Bench("papers_scale", "Literature index up to 5.3 million vectors"),
    Bench("assistant_load", "The server with 50 clients"),
)
BUDGET = 15 * 60  # seconds of `make bench`
PATIENCE = 4  # times its estimate, and a minute, after which a benchmark is stopped


def run(bench: Bench) -> str:
    """Run one script, which keeps its own result; "", or why it did not."""
    if bench.needs_data and not os.environ.get("PATHASST_DATA"):
        return "PATHASST_DATA is not set"
    limit = 60 + PATIENCE * bench.seconds if bench.seconds else None
    try:
        done = subprocess.run(bench.command(), capture_output=True, text=True, timeout=limit, cwd=ROOT, check=False)
    except subprocess.TimeoutExpired:
        return f"not done within {limit} seconds"
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""


def run_all() -> None:
    """Every benchmark that is not run alone, as long as the next fits into what is left of the budget; the shortest first."""
    started = time.monotonic()
    for bench in sorted((b for b in BENCHES if b.seconds), key=lambda b: b.seconds):
        left = BUDGET - (time.monotonic() - started)
        print(f"{bench.name}, about {bench.seconds} s …", flush=True)
        print(f"  {(run(bench) or 'done') if bench.seconds < left else 'not begun: the 15 minutes are over'}", flush=True)


def listing() -> str:
    """One line a benchmark: about how long, what it needs, what it measures."""
    lines = []
    for bench in BENCHES:
        takes = f"{bench.seconds:4d} s" if bench.seconds else " alone"
        lines.append(f"{takes}  {bench.name:18s} {bench.claim}{' (needs PATHASST_DATA)' if bench.needs_data else ''}")
    return "\n".join([*lines, f"{sum(b.seconds for b in BENCHES):4d} s  in all, on two idle cores; limit {BUDGET} s"])


def page() -> str:
    """docs/performance.md."""
    results = load()
    return "\n".join([HEAD, *(f"## {b.claim}\n\n{section(results[b.name])}\n" for b in BENCHES if b.name in results)])


def tables() -> dict[Path, str]:
    """The pages as they should be."""
    readme, wordings = README.read_text(encoding="utf-8"), WORDINGS.read_text(encoding="utf-8")
    return {
        README: with_table(readme, readme_table(load())),
        PAGE: page(),
        WORDINGS: with_table(wordings, templates(Wordings()), "<!-- counted by benchmarks/run.py --tables -->"),
    }


def main() -> None:
    """Run or keep, then write the tables."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("names", nargs="*", help=f"of {', '.join(b.name for b in BENCHES)}; default: all that fit")
    options.add_argument("--list", action="store_true", help="say what there is")
    options.add_argument("--tables", action="store_true", help="only write the tables, from the results that are there")
    options.add_argument("--keep", nargs=2, metavar=("NAME", "FILE"), help="make a JSON file the result NAME")
    options.add_argument("--command", default="", help="with --keep: the command that made it")
    chosen = options.parse_args()
    if unknown := {*chosen.names, *(chosen.keep or [])[:1]} - {b.name for b in BENCHES}:
        raise SystemExit(f"no such benchmark: {', '.join(unknown)}")
    if chosen.keep:
        name, file = chosen.keep
        save(RESULTS / f"{name}.json", from_file(Path(file)), command=chosen.command or f"made from {file}")
    elif chosen.list:
        print(listing())
        return
    elif chosen.names:
        for bench in BENCHES:
            if bench.name in chosen.names:
                print(f"{bench.name}: {run(bench) or 'done'}", flush=True)
    elif not chosen.tables:
        run_all()
    for path, text in tables().items():
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
