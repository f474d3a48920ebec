"""`pathasst collect`: figures with captions out of articles, PubMed Central and books."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pathasst.cli.options import RUNNER, WORKERS
from pathasst.core.text import shortened

if TYPE_CHECKING:
    from pathasst.dataset import Manifest

EXAMPLES = 3  # of what was left out, printed for each reason

app = typer.Typer(help="Figures with captions: from JATS articles, PubMed Central, books.", no_args_is_help=True)


@app.command("folder")
def folder(
    folder: Path = typer.Argument(
        ..., help="JATS or BITS file, or a folder of them (.xml, .nxml, .gz), searched with its subfolders."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Dataset folder to write."),
    figures: Path | None = typer.Option(None, help="Folder with the picture files, when they do not lie beside the articles."),
    mapping: Path | None = typer.Option(None, help='JSON or CSV that says which file is which figure: href or "article/figure".'),
    licence: str = typer.Option("any", help="open, research or any."),
    text_only: bool = typer.Option(False, "--text-only", help="Keep captions without pictures."),
    per_shard: int = typer.Option(16, help="Articles per shard."),
    workers: int = WORKERS,
    runner: str = RUNNER,
) -> None:
    """Figures of a folder of articles. Example: pathasst collect folder articles --figures pictures --out out/figures"""
    from pathasst.collect.folder import collect_folder

    manifest = collect_folder(
        folder,
        out,
        figures=figures,
        mapping=mapping,
        licence=licence,
        text_only=text_only,
        per_shard=per_shard,
        workers=workers,
        runner=runner,
    )
    summary(manifest, out)


def summary(manifest: Manifest, out: Path, *, may_be_empty: bool = False) -> None:
    """Print what a stage made, and what it left out with examples. Exits with 1 when nothing came of an input, which is an error
    but where it `may_be_empty` (an update without news).
    """
    typer.echo(f"{manifest.stage}: {manifest.rows} figures in {len(manifest.shards)} shards → {out}")
    for reason, number in manifest.dropped.most_common():
        typer.echo(f"  left out, {reason}: {number}")
        drops = [d for s in manifest.shards for d in s.drops if d["reason"] == reason]
        for drop in drops[:EXAMPLES]:
            typer.echo(f"    {drop['id']}" + (f": {shortened(drop['detail'], 160)}" if drop["detail"] else ""))
        if number > EXAMPLES:
            typer.echo(f"    … all of them stand in {out}/*.json")
    for shard in manifest.failures:
        typer.echo(f"  failed, tried again in the next run: {shard.unit}: {shard.failed}")
    if not manifest.rows and not (may_be_empty and not manifest.dropped and not manifest.failures):
        typer.secho("No figure was taken: the lines above say what was seen and why it was left out.", fg="red", err=True)
        raise typer.Exit(1)


@app.command("pmc")
def pmc(
    out: Path | None = typer.Option(None, "--out", "-o", help="Dataset folder to write; the same folder goes on or is added to."),
    query: str = typer.Option("", help="Search of PubMed Central (E-utilities), open access only."),
    ids: Path | None = typer.Option(None, help="File with PMC ids, one a line."),
    inventory: bool = typer.Option(False, "--inventory", help="Everything in the bucket's newest daily inventory."),
    since: str = typer.Option("", help="YYYY-MM-DD: only what is new or changed since (with --query or --inventory)."),
    limit: int = typer.Option(0, help="At most so many articles; 0 = all."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Estimate articles, bytes and hours from a sample; fetch no picture."),
    sample: int = typer.Option(100, help="Articles that --dry-run looks into."),
    licence: str = typer.Option("open", help="open, research or any."),
    retracted: bool = typer.Option(False, "--retracted", help="Keep retracted articles."),
    triage: bool = typer.Option(True, help="Fetch only figures whose text says that they may show pathology."),
    store: str = typer.Option(
        "", help="https:// of a bucket, s3://bucket, or the folder of a mirror; default: the public bucket."
    ),
    endpoint: str = typer.Option("", help="Server of an s3:// store."),
    eutils: str = typer.Option("", help="Address of the E-utilities; default: NCBI."),
    email: str = typer.Option("", envvar="PATHASST_EMAIL", help="Told to the servers, so that they can write to you."),
    api_key: str = typer.Option("", envvar="NCBI_API_KEY", help="NCBI API key: 10 searches a second instead of 3."),
    rate: float = typer.Option(10.0, help="Requests per second to the store, over all processes."),
    connections: int = typer.Option(8, help="Parallel connections per process."),
    per_shard: int = typer.Option(50, help="Articles per shard."),
    workers: int = WORKERS,
    runner: str = RUNNER,
) -> None:
    """Figures of PubMed Central. Example: pathasst collect pmc --query "histopathology" --since 2026-10-01 --out out/pmc"""
    from itertools import islice

    from pathasst.collect import pmc_find
    from pathasst.collect.pmc import Rules
    from pathasst.collect.pmc_collect import collect_pmc, estimate
    from pathasst.collect.polite import PoliteClient
    from pathasst.collect.stores import PMC_BUCKET, StoreSettings
    from pathasst.core.errors import BadSettings

    if sum((bool(query), ids is not None, inventory)) != 1:
        raise BadSettings("Say which articles: one of --query, --ids or --inventory.")
    where = StoreSettings(address=store or PMC_BUCKET, endpoint=endpoint, rate=rate, contact=email)
    rules = Rules(licence=licence, retracted=retracted, triage=triage)
    if query:
        client = PoliteClient(rate=10 if api_key else 3, contact=email)
        base = eutils or pmc_find.EUTILS
        articles = pmc_find.search(query, client, since=since, limit=limit, base=base, contact=email, api_key=api_key)
    else:
        articles = iter(pmc_find.read_ids(ids)) if ids else pmc_find.inventory(where.open(), since)
    articles = islice(articles, limit) if limit else articles
    if dry_run:
        typer.echo(str(estimate(articles, store=where, rules=rules, sample=sample, connections=connections)))
        return
    if out is None:
        raise BadSettings("Say where to: --out FOLDER (or look first with --dry-run).")
    manifest = collect_pmc(
        articles, out, store=where, rules=rules, per_shard=per_shard, connections=connections, workers=workers, runner=runner
    )
    summary(manifest, out, may_be_empty=True)


@app.command("books")
def books(
    path: Path = typer.Argument(..., help="A book, or a folder of books: .pdf, .epub, .docx, .html."),
    out: Path = typer.Option(..., "--out", "-o", help="Dataset folder to write."),
    licence: str = typer.Option("unknown", help="The books' licence (SPDX-like, CC-BY-4.0 …), written on every row."),
    html_out: Path | None = typer.Option(None, help="Folder for the readable HTML of PDFs; default: OUT-html."),
    ocr: bool = typer.Option(True, help="Read scanned pages by OCR."),
    workers: int = WORKERS,
    runner: str = RUNNER,
) -> None:
    """Figures of books. Example: pathasst collect books atlas.pdf --licence CC-BY-4.0 --out out/books"""
    from pathasst.collect.books import collect_books

    manifest = collect_books(path, out, licence=licence, html_out=html_out, ocr=ocr, workers=workers, runner=runner)
    summary(manifest, out)
