"""`pathasst dataset`: look into, check and export what the stages wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pathasst.dataset import Manifest

app = typer.Typer(help="Datasets: show rows, validate shards, export.", no_args_is_help=True)
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
    pictures: Path | None = typer.Option(None, help="Write a contact sheet of the first 48 pictures to this PNG."),
) -> None:
    """Print a dataset's manifest and first rows. Example: pathasst dataset show out/pairs -n 2 --pictures sheet.png"""
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
    if pictures:
        from pathasst.imaging.contact_sheet import contact_sheet

        tiles = [(_first_image(record), getattr(record, "caption", "")) for record in islice(read(folder, kind), 48)]
        contact_sheet(tiles).save(pictures)
        console.print(f"{len(tiles)} pictures → {pictures}")


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


@app.command("export")
def export(
    folder: Path = FOLDER,
    out: Path = typer.Option(..., help="Folder to write."),
    to: str = typer.Option("", help="webdataset (Pairs, for OpenCLIP) or llava (Conversations); by default what fits the rows."),
    licence: list[str] = typer.Option([], help="Only rows of these licences, e.g. --licence CC-BY-4.0 --licence CC0-1.0"),
) -> None:
    """Write a dataset for another tool. Example: pathasst dataset export out/pairs --out wds --licence CC-BY-4.0"""
    from pathasst.core.errors import BadSettings
    from pathasst.dataset import Manifest, to_llava, to_webdataset

    writers = {"webdataset": to_webdataset, "llava": to_llava}
    to = to or ("llava" if Manifest.load(folder).record == "Conversation" else "webdataset")
    if to not in writers:
        raise BadSettings(f"--to {to} is unknown; choose {' or '.join(writers)}.")
    tally = writers[to](folder, out, licences=licence)
    typer.echo(f"{out}: " + ", ".join(f"{n} {what}" for what, n in tally.items() if n))


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
