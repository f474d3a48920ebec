"""`pathasst eval`: the paper's tables and figures for whatever models and data are given."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import typer

from pathasst.clip import DEFAULT_PATHCLIP

app = typer.Typer(help="Measure: every table and figure of the paper, with intervals and baselines.", no_args_is_help=True)
DATA = typer.Option(None, "--data", "-d", help="Folder with the public test sets; `eval sets` says which and how.")
OUT = typer.Option(
    Path("out/eval"), "--out", "-o", help="Folder for tables (JSON, Markdown), report.html and cached predictions."
)
CLIP = typer.Option(DEFAULT_PATHCLIP, "--clip", "-m", help="PathCLIP: id, folder or checkpoint.")
BRAIN = typer.Option("", "--brain", "-b", help="As for `pathasst ask`: pathasst, llamacpp, http://host:8000/v1#model.")
PAIRS = typer.Option([], "--pairs", "-p", help="Dataset of pairs; repeatable.")
SPLIT = typer.Option(["test"], "--split", help="Split(s) to measure on.")
SEED = typer.Option(0, "--seed", help="Of the bootstrap and of samples.")
WORKERS = typer.Option(1, "--workers", help="Processes that ask the brain, each with one of its own.")
RUNNER = typer.Option("native", "--runner", help="With --workers: native (this machine) or ray (a cluster that shares --out).")


@app.command("all")
def everything(
    data: Path = DATA,
    out: Path = OUT,
    clip: str = CLIP,
    brain: str = BRAIN,
    pairs: list[Path] = PAIRS,
    split: list[str] = SPLIT,
    index: Path = typer.Option(None, "--index", "-i", help="Literature index that holds the questions' abstracts."),
    against: list[Path] = typer.Option([], "--against", help="Leakage: evaluation sets; repeatable."),
    limit: int = typer.Option(0, help="PathVQA: at most so many questions (0: all)."),
    workers: int = WORKERS,
    runner: str = RUNNER,
    seed: int = SEED,
) -> None:
    """Every part whose data is here but `answers`, which takes long; the others are named with what they lack.

    Example: pathasst eval all --data ~/pathology-sets --pairs out/pairs --out out/eval
    """
    from pathasst.evaluate.suite import PARTS

    _run(
        [name for name in PARTS if name != "answers"],
        data=data, out=out, clip=clip, brain=brain, pairs=tuple(pairs), split=tuple(split), index=index,
        against=tuple(against), limit=limit, workers=workers, runner=runner, seed=seed,
    )  # fmt: skip


@app.command("zero-shot")
def zero_shot(
    data: Path = DATA,
    out: Path = OUT,
    clip: str = CLIP,
    pairs: list[Path] = PAIRS,
    split: list[str] = SPLIT,
    folder: Path = typer.Option(None, "--folder", help="Pictures in a public layout of Table 2, instead of --data."),
    task: list[str] = typer.Option([], "--task", help="Names of tasks; default: all."),
    tasks: str = typer.Option("embedded", help="Recipe of tasks: a name, or a YAML file like clip_zeroshot.yaml."),
    originals: Path = typer.Option(None, help="CSV `image,original` for --folder: copies of one original share it (LC25000)."),
    seed: int = SEED,
) -> None:
    """Table 2: zero-shot classification.

    Example: pathasst eval zero-shot --data ~/pathology-sets
    Example: pathasst eval zero-shot --task CRC100K --folder ~/NCT-CRC-HE-100K --clip out/pathclip
    """
    _run(
        ["zero-shot"], data=data, out=out, clip=clip, pairs=tuple(pairs), split=tuple(split), folder=folder, task=tuple(task),
        tasks=tasks, originals=originals, seed=seed,
    )  # fmt: skip


@app.command("retrieval")
def retrieval(
    data: Path = DATA,
    out: Path = OUT,
    clip: str = CLIP,
    pairs: list[Path] = PAIRS,
    split: list[str] = SPLIT,
    composed: bool = typer.Option(False, help="Also count captions composed from labels."),
    seed: int = SEED,
) -> None:
    """Figure 4: image ↔ text recall. Example: pathasst eval retrieval --pairs out/pairs"""
    _run(["retrieval"], data=data, out=out, clip=clip, pairs=tuple(pairs), split=tuple(split), composed=composed, seed=seed)


@app.command("pathvqa")
def pathvqa(
    data: Path = DATA,
    out: Path = OUT,
    brain: str = BRAIN,
    split: str = typer.Option("test", help="Split to measure on: test, val or train."),
    limit: int = typer.Option(0, help="At most so many questions, whole pictures (0: all)."),
    prompt: str = typer.Option("{question}", help="What the brain is asked; must hold {question}."),
    blind: bool = typer.Option(True, help="Also with a blank picture, to see what needs no eyes."),
    workers: int = WORKERS,
    runner: str = RUNNER,
    seed: int = SEED,
) -> None:
    """Table 3: PathVQA, closed by three rules, open by three measures.

    Example: pathasst eval pathvqa --data ~/pathology-sets --limit 500 --brain http://127.0.0.1:8000/v1#qwen2.5-vl-7b
    """
    _run(
        ["pathvqa"], data=data, out=out, brain=brain, split=(split,), limit=limit, prompt=prompt, blind=blind, workers=workers,
        runner=runner, seed=seed,
    )  # fmt: skip


@app.command("tools")
def tools(
    out: Path = OUT,
    brain: str = BRAIN,
    requests: Path = typer.Option(None, help="YAML of requests; ours by default."),
    pictures: Path = typer.Option(None, help="Folder of pictures by kind: ki67, membrane, cytology, blood, tissue."),
    limit: int = typer.Option(0, help="About so many requests, the same share of every group (0: all)."),
    workers: int = WORKERS,
    runner: str = RUNNER,
    seed: int = SEED,
) -> None:
    """Tool choice: precision, recall, arguments, false calls. Example: pathasst eval tools --brain pathasst"""
    _run(
        ["tools"], out=out, brain=brain, requests=requests, pictures=pictures, limit=limit, workers=workers, runner=runner,
        seed=seed,
    )  # fmt: skip


@app.command("answers")
def answers(
    data: Path = DATA,
    out: Path = OUT,
    brain: str = BRAIN,
    questions: Path = typer.Option(None, help="YAML of questions; ours by default."),
    half: str = typer.Option("", help="dev or test; both by default."),
    limit: int = typer.Option(0, help="About so many questions (0: all)."),
) -> None:
    """Right, partly, declined rightly or wrongly, wrong, invented: whole answers held to patterns, without a judge.

    Example: pathasst eval answers --data ~/pathology-sets --half dev
    """
    _run(["answers"], data=data, out=out, brain=brain, requests=questions, half=half, limit=limit)


@app.command("papers")
def papers(
    index: Path = typer.Option(..., "--index", "-i", help="An index made by `pathasst papers build`."),
    data: Path = DATA,
    out: Path = OUT,
) -> None:
    """Literature retrieval, R@k. Example: pathasst eval papers --index out/index --data ~/pathology-sets"""
    _run(["papers"], data=data, out=out, index=index)


@app.command("curation")
def curation(data: Path = DATA, out: Path = OUT) -> None:
    """Captions and panels on hand-made gold. Example: pathasst eval curation --data ~/pathology-sets"""
    _run(["curation"], data=data, out=out)


@app.command("leakage")
def leakage(
    pairs: list[Path] = PAIRS,
    against: list[Path] = typer.Option([], "--against", "-a", help="Evaluation set: pictures, CSV or dataset; repeatable."),
    out: Path = OUT,
) -> None:
    """Pairs that repeat an evaluation set. Example: pathasst eval leakage --pairs out/pairs --against ~/PathVQA/images/test"""
    _run(["leakage"], out=out, pairs=tuple(pairs), against=tuple(against))


@app.command("compare")
def compare(
    files: list[Path] = typer.Argument(
        ..., help="Two tables of `pathasst eval` (OUT/tools.json), or any number of leaderboard files."
    ),
    metric: str = typer.Option("", help="Leaderboard files: only this metric, such as 'macro F1'."),
    out: Path = typer.Option(None, "--out", "-o", help="Leaderboard files: folder for the table and its picture."),
) -> None:
    """Paired difference of two saved tables, or leaderboard files side by side in a table and a picture.

    Example: pathasst eval compare old/tools.json new/tools.json
    Example: pathasst eval compare a/leaderboard/classify.json b/leaderboard/classify.json --metric "macro F1" --out out/compared
    """
    from pathasst.core.errors import BadSettings
    from pathasst.evaluate import leaderboard, report
    from pathasst.evaluate.compare import compare as paired
    from pathasst.evaluate.table import print_tables

    if all(leaderboard.is_run(path) for path in files):
        table = leaderboard.compare_runs([leaderboard.read_run(path) for path in files], metric)
    elif len(files) == 2:
        table = paired(*(report.load(path) for path in files))
    else:
        raise BadSettings("give two tables of `pathasst eval`, or any number of leaderboard files (OUT/leaderboard/*.json).")
    print_tables([table])
    if out:
        typer.echo(f"report: {report.save([table], out)}")


@app.command("sets")
def sets(
    ids: list[str] = typer.Argument(None, help="Sets to tell all about: where to get them, licence, layout."),
    data: Path = DATA,
) -> None:
    """Which public sets there are, what for, under which licence, and which are here.

    Example: pathasst eval sets --data ~/pathology-sets
    Example: pathasst eval sets mhist bach
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Column, Table

    from pathasst.core.errors import BadDataset, BadSettings
    from pathasst.evaluate.sets import find, public_sets

    console = Console()
    if unknown := [id for id in ids or () if id not in public_sets()]:
        raise BadSettings(f"no test set is called {', '.join(unknown)}; known: {', '.join(public_sets())}.")
    table = Table(
        Column("set", no_wrap=True), "title", "measured by", "licence", "here", box=None, pad_edge=False, header_style="bold"
    )
    for id in ids or public_sets():
        test_set = public_sets()[id]
        try:
            here, missing = str(find(data, id)), ""
        except BadDataset as error:
            here, missing = "no", str(error)
        if ids:
            for text in (f"[bold]{id}[/]  {escape(here if here != 'no' else missing)}", f"  licence: {escape(test_set.licence)}"):
                console.print(text, highlight=False, soft_wrap=True)
        else:
            table.add_row(id, *map(escape, (test_set.title, f"eval {test_set.part or 'all'}", test_set.licence, here)))
    if not ids:
        console.print(table)
        console.print("[dim]`pathasst eval sets NAME` says where to get a set and how its folder must look.[/]")


def _run(names: list[str], **values: object) -> None:
    from pathasst.core.errors import BadDataset
    from pathasst.evaluate.suite import EvalSettings, run
    from pathasst.evaluate.table import print_tables

    settings = EvalSettings(command=shlex.join(["pathasst", *sys.argv[1:]]), **values)  # type: ignore[arg-type]
    tables, refused = run(names, settings, lambda name: typer.secho(f"{name} …", dim=True, err=True))
    print_tables(tables)
    for name, why in refused.items():
        typer.secho(f"{name}: {why}", fg="yellow", err=True)
    if not tables:
        raise BadDataset("nothing was measured; see above for what is missing.")
    typer.echo(f"report: {settings.out / 'report.html'}")
