"""`pathasst pacs`: slides from a hospital's archive over DICOMweb, and results back to it."""

from __future__ import annotations

from pathlib import Path

import typer

app = typer.Typer(
    help="A hospital's archive over DICOMweb: find a slide, fetch it, put the result beside it.", no_args_is_help=True
)
URL = typer.Argument(help="The archive's DICOMweb address, such as https://pacs.example.org/dicom-web.")


@app.command("find")
def find(
    url: str = URL,
    patient: str = typer.Option("", help="Patient ID."),
    accession: str = typer.Option("", help="Accession number."),
    study: str = typer.Option("", help="Study Instance UID."),
) -> None:
    """Slides of a patient, an accession or a study. Example: pathasst pacs find https://pacs/dicom-web --accession S26-1234"""
    from rich.console import Console
    from rich.table import Table

    from pathasst.core.errors import BadSettings
    from pathasst.wsi.pacs import Pacs

    if not (patient or accession or study):
        raise BadSettings("say whose slides: --patient, --accession or --study.")
    table = Table("patient", "accession", "date", "slide", "files", "study", "series", box=None)
    for one in Pacs(url).slides(patient, accession, study):
        table.add_row(one.patient, one.accession, one.date, one.description, str(one.files), one.study, one.series)
    Console(soft_wrap=True).print(table)


@app.command("fetch")
def fetch(
    url: str = URL,
    study: str = typer.Argument(help="Study Instance UID, as `find` shows it."),
    series: str = typer.Argument("", help="Series Instance UID; default: every slide of the study."),
    out: Path = typer.Option(
        ..., "--out", "-o", help="Folder; each slide becomes a folder in it that `pathasst slide` and `ask` open."
    ),
) -> None:
    """Fetch slides. Example: pathasst pacs fetch https://pacs/dicom-web 1.2.3 --out slides"""
    from pathasst.core.errors import BadInput
    from pathasst.wsi.pacs import Pacs

    pacs = Pacs(url)
    selection = [series] if series else [one.series for one in pacs.slides(study=study)]
    if not selection:
        raise BadInput(f"the archive has no slide in the study {study}.")
    for uid in selection:
        typer.echo(pacs.fetch(study, uid, out, on_file=lambda file: typer.secho(f"  {file.name}", err=True)))


@app.command("send")
def send(
    url: str = URL,
    files: list[Path] = typer.Argument(help="DICOM files, such as those of `pathasst slide export`."),
) -> None:
    """Store results in the study of their slide. Example: pathasst pacs send https://pacs/dicom-web annotations.dcm"""
    from pathasst.wsi.pacs import Pacs

    for uid in Pacs(url).send(files):
        typer.echo(f"stored {uid}")
