"""`pathasst eval` on the sets of the field: labelled pictures, questions, abstracts, objects, agents."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pathasst.cli.evaluate import BRAIN, CLIP, DATA, OUT, SEED

if TYPE_CHECKING:
    from pathasst.evaluate.leaderboard import Score
    from pathasst.evaluate.table import Table

app = typer.Typer()


@app.command("classify")
def classify(
    ids: list[str] = typer.Argument(None, help="Sets, as `eval sets` names them; default: all that are under --data."),
    data: Path = DATA,
    out: Path = OUT,
    clip: str = CLIP,
    folder: Path = typer.Option(None, help="One folder a class, or labels.csv; or the folder of the one set that is named."),
    names: Path = typer.Option(None, help="YAML of names for prompts: {prompt: 'An image of {}', classes: {label: [names]}}."),
    probes: bool = typer.Option(True, help="Also linear probe, kNN and SimpleShot, where there is a train split."),
    robust: bool = typer.Option(False, help="Also with other stains, blur, JPEG, scanners: encodes the test split ten times."),
    limit: int = typer.Option(0, help="At most so many pictures of a split, by whole patients (0: all)."),
    seed: int = SEED,
) -> None:
    """Public sets of labelled pictures: zero-shot by three kinds of prompts, probes, calibration, robustness.

    Example: pathasst eval classify mhist crc-val-he-7k --data ~/pathology-sets --clip out/pathclip
    Example: pathasst eval classify --folder ~/tiles --names names.yaml --robust
    """
    from pathasst.clip.onnx import load
    from pathasst.evaluate.classification.measure import ClassificationSettings, evaluate
    from pathasst.evaluate.embeddings import KeptCLIP

    model = KeptCLIP(load(clip, threads=0), out / "predictions")
    options = ClassificationSettings(probes=probes, robust=robust, limit=limit, seed=seed)
    table, scores = evaluate(model, clip, data, ids or (), folder=folder, names=names, options=options)
    _finish(table, out, scores, clip, model.fingerprint()[:16])


@app.command("questions")
def questions(
    ids: list[str] = typer.Argument(None, help="Sets, as `eval sets` names them, or JSONL files; default: all under --data."),
    data: Path = DATA,
    out: Path = OUT,
    brain: str = BRAIN,
    split: str = typer.Option("test", help="test, val or, of PathMMU, test_tiny."),
    orders: int = typer.Option(3, min=1, help="In how many orders the options are asked; scores are the mean."),
    blind: bool = typer.Option(True, help="Also with a blank picture and without one, to see what needs no eyes."),
    limit: int = typer.Option(0, min=0, help="At most so many questions of a set, whole pictures (0: all)."),
    seed: int = SEED,
) -> None:
    """Public questions about pictures, or your own: options in several orders, strict rule beside the field's, blind baselines.

    Example: pathasst eval questions pathmmu --data ~/pathology-sets --split test_tiny --brain http://127.0.0.1:8000/v1#qwen-vl
    Example: pathasst eval questions my-questions.jsonl --brain pathasst
    """
    from pathasst.assistant.brain import open_brain
    from pathasst.assistant.settings import load_settings
    from pathasst.evaluate.questions.measure import QuestionSettings, evaluate

    model = open_brain(load_settings(brain=brain).brain)
    options = QuestionSettings(split=split, orders=orders, blind=blind, limit=limit, seed=seed)
    table, scores = evaluate(model, data, ids or (), out / "predictions", options)
    _finish(table, out, scores, model.name)


@app.command("beir")
def beir(
    folders: list[Path] = typer.Argument(..., help="Sets in BEIR's layout: corpus.jsonl, queries.jsonl, qrels/test.tsv."),
    out: Path = OUT,
    split: str = typer.Option("test", help="Which file of qrels."),
    vectors: bool = typer.Option(
        True, help="Also by vectors and both, which takes time to make: about 15 texts a second and core."
    ),
    peer: bool = typer.Option(True, help="A plain BM25 (bm25s) beside ours, in the same run."),
) -> None:
    """Retrieval of papers in BEIR's layout: nDCG@10 and R@k of words, vectors and both, beside bm25s.

    Example: pathasst eval beir ~/beir/nfcorpus ~/beir/scifact
    Example: pathasst eval beir ~/beir/trec-covid --no-vectors
    """
    from pathasst.evaluate.beir import evaluate

    table, scores = evaluate(folders, out, vectors=vectors, split=split, peer=peer)
    _finish(table, out, scores, "papers")


@app.command("nuclei")
def nuclei(
    truth: Path = typer.Argument(..., help="Folder of label masks: one .png, .tif or .npy a picture, a number for each object."),
    predicted: Path = typer.Argument(..., help="Folder of predicted masks, called alike."),
    out: Path = OUT,
    name: str = typer.Option("", help="What made the masks; default: the folder's name."),
    clusters: Path = typer.Option(None, help="CSV of image and patient: the bootstrap draws patients."),
) -> None:
    """PQ, AJI, Dice and F1 at an IoU of objects' masks, pooled and as the mean over pictures.

    Example: pathasst eval nuclei monuseg/masks out/masks --clusters monuseg/labels.csv
    """
    from pathasst.evaluate.detection.nuclei import evaluate

    table, scores = evaluate(name or predicted.name, truth, predicted, clusters)
    _finish(table, out, scores, name or predicted.name)


@app.command("points")
def points(
    truth: Path = typer.Argument(..., help="CSV of labelled cells: image, x, y and, where there are, label and patient."),
    predicted: Path = typer.Argument(..., help="CSV of predicted cells: the same columns, and score."),
    out: Path = OUT,
    name: str = typer.Option("", help="What made the points; default: the file's name."),
    radius: float = typer.Option(12.0, min=0.0, help="px within which a prediction may claim a cell."),
    positive: str = typer.Option("", help="Label whose share of a picture is compared: ICC and a Bland–Altman picture."),
) -> None:
    """Cells as points: F1 by optimal assignment and by the greedy rule, and how well an index (Ki67) agrees.

    Example: pathasst eval points bcdata.csv out/cells.csv --radius 10 --positive positive
    """
    from pathasst.evaluate.detection.cells import evaluate, read_points

    table, scores = evaluate(name or predicted.stem, read_points(truth), read_points(predicted), radius, positive)
    _finish(table, out, scores, name or predicted.stem)


@app.command("agents")
def agents(
    rollouts: Path = typer.Option(None, help="JSONL of what an agent did: {id, steps: [{tool, arguments, error}], answer}."),
    tasks: Path = typer.Option(None, help="MedCTA's dataset.json; default: our requests, as tasks with their steps."),
    pictures: Path = typer.Option(
        None, help="Our requests: folder of pictures by kind: ki67, membrane, cytology, blood, tissue."
    ),
    out: Path = OUT,
    brain: str = BRAIN,
    limit: int = typer.Option(0, min=0, help="Our requests: about so many, the same share of every group (0: all)."),
    seed: int = SEED,
) -> None:
    """Agents' trajectories, as MedCTA scores them: tool choice, arguments, order, early stop, recovery after an error, outcome.

    Without --rollouts our own agent does our requests, tools run for real (a few seconds each), and OUT/rollouts.jsonl keeps
    them. With --tasks alone the brain gives every next step after the right ones; no tool runs.

    Example: pathasst eval agents --limit 40 --brain pathasst
    Example: pathasst eval agents --tasks medcta_dataset/dataset.json --brain http://127.0.0.1:8000/v1#qwen-vl
    Example: pathasst eval agents --tasks medcta_dataset/dataset.json --rollouts my-agent.jsonl
    """
    import json

    from pathasst.assistant.brain import open_brain
    from pathasst.assistant.settings import load_settings
    from pathasst.evaluate import toolchoice
    from pathasst.evaluate.agents.measure import evaluate
    from pathasst.evaluate.agents.requests import roll_out, tasks_of
    from pathasst.evaluate.agents.trajectory import read_rollouts, read_tasks, rollout_to_row

    if tasks is not None and rollouts is None:
        from pathasst.evaluate.agents import steps

        model = open_brain(load_settings(brain=brain).brain)
        table, scores = steps.evaluate(model, read_tasks(tasks), out / "predictions")
        _finish(table, out, scores, model.name)
        return
    requests = toolchoice.draw(toolchoice.load_requests(), limit, seed)
    chosen_tasks = read_tasks(tasks) if tasks else tasks_of(requests, toolchoice.pictures(pictures))
    if rollouts:
        name, rolled_out = rollouts.stem, read_rollouts(rollouts)
    else:
        model = open_brain(load_settings(brain=brain).brain)
        name, rolled_out = model.name, roll_out(model, chosen_tasks, out / "predictions")
        out.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(rollout_to_row(r), ensure_ascii=False, default=str) for r in rolled_out]
        (out / "rollouts.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table, scores = evaluate(name, chosen_tasks, rolled_out)
    _finish(table, out, scores, name)


@app.command("slidequest")
def slidequest(
    folder: Path = typer.Argument(..., help="The folder `benchmark` of NOVA's repository."),
    answers: Path = typer.Argument(..., help="What an agent wrote: <part>/question_<id>/answer.json."),
    out: Path = OUT,
    name: str = typer.Option("", help="The agent; default: the folder's name."),
) -> None:
    """NOVA's SlideQuest: an agent's answer files held to the right tables, within their tolerances.

    Example: pathasst eval slidequest nova-agent/benchmark out/answers --name my-agent
    """
    from pathasst.evaluate.agents.slidequest import evaluate

    table, scores = evaluate(name or answers.name, folder, answers)
    _finish(table, out, scores, name or answers.name)


@app.command("imageclef")
def imageclef(
    folder: Path = typer.Argument(..., help="ImageCLEF 2016 figure separation: the XML of the truth and the figures."),
    out: Path = OUT,
) -> None:
    """Panels of compound figures by the challenge's rule and ours, beside a figure taken whole.

    Example: pathasst eval imageclef ~/imageclef2016/FigureSeparationTest2016
    """
    from pathasst.evaluate.imageclef import evaluate, our_cutter, whole_figure

    table, scores = evaluate(folder, {"pathasst curate": our_cutter(), "whole figure": whole_figure})
    _finish(table, out, scores, "pathasst curate")


def _finish(table: Table, out: Path, scores: list[Score] | None = None, model: str = "", fingerprint: str = "") -> None:
    """Save, print, and say where the files are; with scores also the leaderboard file."""
    from pathasst.evaluate import report
    from pathasst.evaluate.leaderboard import Run, write_run
    from pathasst.evaluate.table import print_tables

    table.command = shlex.join(["pathasst", *sys.argv[1:]])
    report.save([table], out)
    print_tables([table])
    typer.echo(f"report: {out / 'report.html'}")
    if scores:
        path = out / "leaderboard" / f"{table.id}.json"
        run = Run(model=model, fingerprint=fingerprint, part=table.id, scores=scores, seed=table.seed, command=table.command)
        write_run(run, path)
        typer.echo(f"leaderboard file: {path}")
