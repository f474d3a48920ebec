"""`pathasst curate` and `pathasst train select`: figures → pairs, and the classifier that selects pathology."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from pathasst.cli.options import LLM_MODEL, MAX_COST, PRICE_IN, PRICE_OUT, RECIPE, RUNNER, SET, WORKERS


def curate(
    figures: Path = typer.Argument(help="Dataset folder of figures, as `pathasst collect` makes it."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for the pairs."),
    recipe: str = RECIPE,
    overrides: list[str] = SET,
    select: str | None = typer.Option(None, help="Classifier: id, folder or the paper's checkpoint file; '' keeps all."),
    panels: str | None = typer.Option(None, help="xycut, a detector's folder or id, or its ONNX file."),
    similarity: str | None = typer.Option(None, help="PathCLIP for aligning: id or folder, auto, or none."),
    llm: str = typer.Option("", help="Split and refine by a language model: a preset (vllm, ollama …) or http://…/v1."),
    llm_model: str = LLM_MODEL,
    price_in: float | None = PRICE_IN,
    price_out: float | None = PRICE_OUT,
    max_cost: float | None = MAX_COST,
    prompts: Path | None = typer.Option(None, help="Folder of prompts that replace the packaged ones."),
    leakage: list[Path] = typer.Option([], help="Evaluation set to keep out: folder of pictures, CSV or dataset; repeatable."),
    report_leaks: bool = typer.Option(False, "--report-leaks", help="Only note leaking pairs in their trail, keep them."),
    licence: str | None = typer.Option(None, help="open, research or any."),
    report: bool = typer.Option(True, help="Write report.html beside the pairs."),
    workers: int = WORKERS,
    runner: str = RUNNER,
) -> None:
    """Figures → pairs: select pathology, cut panels, split captions, align, check quality. Interrupted runs resume.

    Example: pathasst curate out/figures --out out/pairs --recipe embedded
    Example: pathasst curate out/figures --out out/pairs --leakage eval/pathvqa --workers 2
    """
    from pathasst.clip.similarity import clip_similarity
    from pathasst.curate import pipeline
    from pathasst.curate import report as reports
    from pathasst.curate import settings as room

    changes: dict[str, Any] = {"select": select, "panels": panels, "similarity": similarity}
    changes["prompts"] = str(prompts) if prompts else None
    changes["leakage"] = tuple(str(p) for p in leakage) or None
    changes["exclude_leaks"] = False if report_leaks else None
    settings = room.CurateSettings.load(recipe, overrides, **{k: v for k, v in changes.items() if v is not None})
    if licence:
        settings = settings.replace(quality=settings.quality.replace(licence=licence))
    if llm:
        server = {"base_url": llm} if llm.startswith("http") else {"preset": llm}
        settings = settings.replace(captions="llm", llm={**settings.llm, **server})
    numbers = {"model": llm_model or None, "price_in": price_in, "price_out": price_out, "max_cost": max_cost}
    settings = settings.replace(llm={**settings.llm, **{k: v for k, v in numbers.items() if v is not None}})
    clip = clip_similarity(settings.similarity)
    encoder = clip.encode if clip and settings.leakage else None
    manifest = pipeline.run(figures, out, settings, similarity=clip, encoder=encoder, workers=workers, runner=runner)
    counts = reports.yields(out)
    typer.echo(f"{counts.figures} figures → {manifest.rows} pairs in {out}")
    for reason, n in counts.dropped.most_common():
        typer.echo(f"  left out: {n} × {reason}")
    for shard in counts.failures:
        typer.secho(f"  failed, tried again by the same command: {shard.unit}: {shard.failed}", fg="yellow")
    if report:
        typer.echo(f"report: {reports.write_report(out)}")
    if counts.failures and not manifest.rows:
        raise typer.Exit(1)


def train_select(
    labels: Path = typer.Argument(help="CSV with image, label (pathology or other) and, if known, group; or a folder of both."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for model.safetensors and config.json."),
    recipe: str = RECIPE,
    changes: list[str] = SET,
    quick: bool = typer.Option(False, "--quick", help="Fit the last layer alone: two minutes."),
) -> None:
    """Train the classifier that selects pathology, on labels of your own. Interrupted runs resume.

    Example: pathasst train select my/labels.csv --out my/select
    """
    import json

    from pathasst.curate import select_train

    settings = select_train.SelectTraining.load(recipe, changes)
    samples = select_train.read_samples(labels, settings)
    scores = select_train.train(samples, out, settings, log=lambda entry: typer.echo(json.dumps(entry)), quick=quick)
    typer.echo(json.dumps(scores, indent=1))
    typer.echo(f"use it: pathasst curate FIGURES --out PAIRS --select {out}")


def train_panels(
    pictures: Path = typer.Argument(
        help="Single pictures: a table with image, label and, if known, group, source, split; or a folder."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder for model.safetensors and config.json."),
    layouts: Path | None = typer.Option(None, help="PanelSeg's table of boxes: layouts of real figures."),
    recipe: str = RECIPE,
    changes: list[str] = SET,
) -> None:
    """Train the detector of panels and printed letters on figures composed of your pictures. Interrupted runs resume.

    Example: pathasst train panels my/labels.csv --layouts panel_boxes/train.csv --out my/panels
    """
    import json

    from pathasst.curate import panels_train as room

    values = room.PanelsRecipe.load(recipe, changes)
    split = room.read_pictures(pictures, values.leave)
    scores = room.train_panels(split, out, values, room.layouts_of(layouts), log=lambda entry: typer.echo(json.dumps(entry)))
    typer.echo(json.dumps(scores, indent=1))
    typer.echo(f"use it: pathasst curate FIGURES --out PAIRS --panels {out}")
