"""`pathasst clip`: compose pairs from labels, convert, embed, classify, retrieve, search (`train clip`: train.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from pathasst.cli.options import WORKERS
from pathasst.clip import DEFAULT_PATHCLIP

app = typer.Typer(help="PathCLIP: use, convert, measure; pairs from class labels.", no_args_is_help=True)
MODEL = typer.Option(DEFAULT_PATHCLIP, "--model", "-m", help="Registry id, folder, or checkpoint file.")


@app.command("compose")
def compose(
    recipe: str = typer.Argument("embedded", help="Recipe of sets, classes and wordings: a name, or a YAML file."),
    out: Path = typer.Option(..., "--out", "-o", help="Where the dataset of pairs goes."),
    data: Path = typer.Option(None, envvar="PATHASST_DATA", help="Folder of the labelled sets; default $PATHASST_DATA."),
    only: list[str] = typer.Option([], help="Ids of sets; default: all of the recipe."),
    workers: int = WORKERS,
) -> None:
    """Pairs with captions composed from class labels.

    Example: pathasst clip compose embedded --data ~/labelled --out out/pairs-labels
    """
    from pathasst.core.errors import BadSettings
    from pathasst.curate import label_pairs

    if data is None:
        raise BadSettings("give --data FOLDER, or set PATHASST_DATA.")
    manifest = label_pairs.compose(label_pairs.LabelRecipe.load(recipe), data, out, only=only, workers=workers)
    typer.echo(f"{manifest.rows} pairs in {out}; left out: {dict(manifest.dropped) or 'none'}")
    for failure in manifest.failures:
        typer.secho(f"  {failure.unit}: {failure.failed}", fg="yellow")


@app.command("classify")
def classify(
    images: list[Path] = typer.Argument(help="Picture files."),
    prompt: list[str] = typer.Option(..., "--prompt", "-p", help="A text that may fit; give two or more."),
    model: str = MODEL,
) -> None:
    """Zero-shot probabilities. Example: pathasst clip classify a.png -p "lung adenocarcinoma" -p "benign lung tissue" """
    from rich.console import Console
    from rich.table import Column, Table

    from pathasst.clip.onnx import load
    from pathasst.core.errors import BadInput
    from pathasst.imaging.pictures import load as load_picture

    table = Table(Column("picture", overflow="fold"), *prompt, box=None)
    read = []
    for path in images:
        try:
            read.append((path, load_picture(path)))
        except BadInput as error:
            typer.secho(str(error), fg="yellow", err=True)
    if not read:
        raise BadInput("none of the pictures could be read.")
    odds = load(model, threads=0).classify((picture for _, picture in read), prompt)
    for (path, _), row in zip(read, odds, strict=True):
        table.add_row(str(path), *(f"{o:.3f}" for o in row))
    Console().print(table)


@app.command("search")
def search(
    folder: Path = typer.Argument(help="Folder of pictures, searched with its sub-folders."),
    text: str = typer.Argument(help="What to look for, in words."),
    model: str = MODEL,
    count: int = typer.Option(12, "--count", "-k", help="Pictures to show."),
    sheet: Path = typer.Option(Path("contact-sheet.png"), help="The answer as a picture."),
) -> None:
    """The pictures of a folder that fit a text. Example: pathasst clip search ~/slides "signet ring cells" """
    from pathasst.clip.onnx import load
    from pathasst.clip.pictures import pictures_under
    from pathasst.clip.search import embed_folder, nearest
    from pathasst.core import weights
    from pathasst.core.errors import BadDataset
    from pathasst.evaluate.asking import bar
    from pathasst.imaging.contact_sheet import contact_sheet

    total = len(pictures_under(folder))
    clip = load(model, threads=0)
    with bar("pictures", total) as report:
        paths, vectors, unreadable = embed_folder(clip, folder, weights.cache_dir() / "clip-search", report)
    if not paths:
        raise BadDataset(f"none of the {total} pictures in {folder} could be read.")
    hits = [(paths[n], score) for n, score in nearest(vectors, clip.encode_text([text])[0], count)]
    for rank, (path, score) in enumerate(hits, 1):
        typer.echo(f"{rank:3d}  {score:.3f}  {path}")
    if unreadable:
        typer.secho(f"{unreadable} files could not be read", fg="yellow", err=True)
    words = (f"{rank}. {score:.3f} {path.name}" for rank, (path, score) in enumerate(hits, 1))
    contact_sheet(zip((path for path, _ in hits), words, strict=True), text, columns=4).save(sheet)
    typer.echo(f"contact sheet: {sheet}")


@app.command("embed")
def embed(
    folder: Path = typer.Argument(help="Folder of pictures, searched with its sub-folders."),
    out: Path = typer.Option(..., "--out", "-o", help=".npz with names and float32 vectors."),
    model: str = MODEL,
) -> None:
    """A folder of pictures as embeddings. Example: pathasst clip embed ~/patches --out patches.npz"""
    import numpy as np

    from pathasst.clip.onnx import load
    from pathasst.clip.pictures import pictures_under
    from pathasst.clip.search import embed_folder
    from pathasst.evaluate.asking import bar

    with bar("pictures", len(pictures_under(folder))) as report:
        paths, vectors, unreadable = embed_folder(load(model, threads=0), folder, report=report)
    np.savez(out, names=np.array([str(p.relative_to(folder)) for p in paths]), vectors=vectors)
    typer.echo(f"{len(paths)} pictures, {vectors.shape[1]} values each, in {out}; {unreadable} unreadable")


@app.command("convert")
def convert(
    model: str = typer.Argument(help="Registry id, folder, checkpoint file, or OpenCLIP's name (ViT-B-16/openai)."),
    out: Path = typer.Argument(help="Folder that is written."),
    to: str = typer.Option("huggingface", help="huggingface | vision (CLIPVisionModel) | openclip"),
    activation: str = typer.Option("", help="quick_gelu or gelu; needed for bare checkpoint files, checked for others."),
    arch: str = typer.Option("", help="OpenCLIP's name, for bare checkpoint files: ViT-B-16."),
) -> None:
    """OpenCLIP ↔ Hugging Face. Example: pathasst clip convert pathclip.pt out/hf --arch ViT-B-16 --activation quick_gelu"""
    import json

    from pathasst.clip.convert import to_huggingface
    from pathasst.clip.model import PathCLIPModel
    from pathasst.core.errors import BadSettings

    clip = PathCLIPModel.load(model, activation=activation, arch=arch)
    out.mkdir(parents=True, exist_ok=True)
    if to == "openclip":
        clip.save(out, dtype="float32")
    elif to in ("huggingface", "vision"):
        exported: Any = clip.vision_tower() if to == "vision" else to_huggingface(clip.model, clip.config)
        exported.save_pretrained(out)
        (out / "preprocessor_config.json").write_text(json.dumps(clip.preprocessor_config(), indent=1), encoding="utf-8")
    else:
        raise BadSettings(f"--to {to}: choose huggingface, vision or openclip.")
    typer.echo(f"{out}: {to}, activation {clip.config.activation}, {clip.image_size} px")


@app.command("leave-one-out")
def leave_one_out(
    pairs: list[Path] = typer.Argument(help="Dataset folder(s) of pairs."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the short trainings and the results."),
    recipe: str = typer.Option("embedded", help="Recipe of sets (clip_trainings.yaml): a name, or a YAML file."),
    only: list[str] = typer.Option([], help="Names of sets; default: all."),
) -> None:
    """Train without one set after another and classify it by words alone, beside baselines.

    Example: pathasst clip leave-one-out out/pairs-labels --out out/left-out
    """
    from pathasst.clip import leave_one_out as trainings

    settings = trainings.LeaveOutRecipe.load(recipe)
    results = trainings.leave_one_out(
        settings, pairs, out, only=only, report=lambda left: typer.echo(f"{left.task}: done", err=True)
    )
    typer.echo(trainings.markdown(results))
