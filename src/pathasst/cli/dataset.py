"""`pathasst dataset`: look into, check and export what the stages wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pathasst.dataset import Manifest

app = typer.Typer(help="Datasets: show rows, validate shards, import, export.", no_args_is_help=True)
FOLDER = typer.Argument(..., help="Dataset folder, as a stage of the line writes it.")


def _kind(manifest: Manifest) -> type:
    from pathasst.core import records
    from pathasst.core.errors import BadDataset

    kind = getattr(records, manifest.record, None)
    if not isinstance(kind, type):
        raise BadDataset(f"the manifest names the record type {manifest.record!r}, which this version does not know.")
    return kind


@app.command("show")
def show(
    folder: Path = FOLDER,
    rows: int = typer.Option(3, "--rows", "-n", help="How many rows to print."),
    sheet: Path | None = typer.Option(None, help="Also write a contact sheet of the first 48 pictures to this PNG."),
) -> None:
    """Print a dataset's manifest and first rows. Example: pathasst dataset show out/pairs -n 2 --sheet sheet.png"""
    from itertools import islice

    from rich.console import Console
    from rich.pretty import Pretty

    from pathasst.dataset import Manifest, read

    console, manifest = Console(), Manifest.load(folder)
    console.print(f"[bold]{manifest.stage}[/]: {manifest.rows} {manifest.record} rows in {len(manifest.shards)} shards")
    if manifest.dropped:
        console.print("dropped: " + ", ".join(f"{n} {reason}" for reason, n in manifest.dropped.most_common()))
    kind: type[Any] = _kind(manifest)
    for record in islice(read(folder, kind), rows):
        console.print(Pretty(_without_bytes(record), max_string=300))
    if sheet:
        from pathasst.imaging.contact_sheet import contact_sheet

        tiles = [(_first_image(record), getattr(record, "caption", "")) for record in islice(read(folder, kind), 48)]
        contact_sheet(tiles).save(sheet)
        console.print(f"{len(tiles)} pictures → {sheet}")


@app.command("validate")
def validate(folder: Path = FOLDER) -> None:
    """Check every shard against the manifest; exits with 1 on a fault. Example: pathasst dataset validate out/pairs"""
    from pathasst.dataset import Manifest, validate

    manifest = Manifest.load(folder)
    faults = validate(folder, _kind(manifest))
    for fault in faults:
        typer.secho(fault, fg="red")
    typer.echo(f"{len(manifest.shards)} shards, {manifest.rows} rows, {len(faults)} faults")
    raise typer.Exit(1 if faults else 0)


@app.command("import")
def import_(
    source: Path = typer.Argument(..., help="CSV, TSV, JSON, JSON Lines, Parquet or tar file; a folder of them, or of pictures."),
    out: Path = typer.Option(..., "--out", "-o", help="Dataset folder to write."),
    as_: str = typer.Option("", "--as", help="pairs, figures (to curate first) or conversations; by default what the rows are."),
    format_: str = typer.Option(
        "", "--format", help="table, json, parquet, webdataset or folder, where a folder could be several."
    ),
    pictures: Path | None = typer.Option(None, help="Folder of the pictures, if they lie elsewhere."),
    picture: str = typer.Option("", help="Column with the picture, if its name is unusual."),
    caption: str = typer.Option("", help="Column with the caption, if its name is unusual."),
    name: str = typer.Option("", help="Name of the set, for ids and sources; by default that of the file or folder."),
    licence: str = typer.Option("unknown", help="Licence of rows that name none, e.g. CC-BY-4.0"),
    workers: int = typer.Option(1, min=1, help="Processes."),
) -> None:
    """Take in what you already have. Example: pathasst dataset import pairs.csv --out out/pairs --licence CC-BY-4.0"""
    from pathasst.collect.own import import_dataset
    from pathasst.core.errors import BadInput

    manifest = import_dataset(
        source,
        out,
        kind=as_,
        form=format_,
        pictures=pictures,
        picture=picture,
        caption=caption,
        name=name,
        licence=licence,
        workers=workers,
    )
    left_out = ", ".join(f"{n} {reason}" for reason, n in manifest.dropped.most_common())
    typer.echo(f"import: {manifest.rows} {manifest.record} rows → {out}" + (f"; left out: {left_out}" if left_out else ""))
    if not manifest.rows:
        drop = next(d for s in manifest.shards for d in s.drops)
        raise BadInput(f"no row could be taken. The first: {drop['id']}: {drop['reason']} ({drop['detail']}).")


@app.command("export")
def export(
    folder: Path = FOLDER,
    out: Path = typer.Option(..., "--out", "-o", help="Folder to write."),
    to: str = typer.Option(
        "", help="webdataset (Pairs, for OpenCLIP), messages or llava (Conversations); by default webdataset or llava."
    ),
    licence: list[str] = typer.Option([], help="Only rows of these licences, e.g. --licence CC-BY-4.0 --licence CC0-1.0"),
) -> None:
    """Write a dataset for another tool. Example: pathasst dataset export out/pairs --out wds --licence CC-BY-4.0"""
    from functools import partial

    from pathasst.core.errors import BadSettings
    from pathasst.dataset import Manifest, to_llava, to_messages, to_webdataset
    from pathasst.tools.registry import all_specs

    writers: dict[str, Any] = {
        "webdataset": to_webdataset,
        "messages": partial(to_messages, specs={s.name: s for s in all_specs()}),
        "llava": to_llava,
    }
    to = to or ("llava" if Manifest.load(folder).record == "Conversation" else "webdataset")
    if to not in writers:
        raise BadSettings(f"--to {to} is unknown; choose {' or '.join(writers)}.")
    tally = writers[to](folder, out, licences=licence)
    typer.echo(f"{out}: " + ", ".join(f"{n} {what}" for what, n in tally.items() if n))


@app.command("describe")
def describe(
    folder: Path = FOLDER,
    name: str = typer.Option("", help="Name of the dataset; by default that of the folder."),
    licence: str = typer.Option("", help="Licence of the whole; by default the one that all rows share."),
) -> None:
    """Write Croissant metadata and a data card into a dataset's folder. Example: pathasst dataset describe out/pairs"""
    from pathasst.dataset import Manifest, describe

    describe(folder, _kind(Manifest.load(folder)), name=name, licence=licence)
    typer.echo(f"{folder}: croissant.json, README.md")


def _without_bytes(value: Any) -> Any:
    """A record as nested dicts, its pictures replaced by their size and empty fields left out."""
    from dataclasses import fields, is_dataclass

    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: _without_bytes(getattr(value, f.name)) for f in fields(value)}
        return {name: v for name, v in plain.items() if v not in ("", [], {}, None, "<0 bytes>")}
    if isinstance(value, list):
        return [_without_bytes(v) for v in value]
    return value


def _first_image(record: Any) -> bytes:
    return getattr(record, "image", b"") or next(iter(getattr(record, "images", [])), b"")
