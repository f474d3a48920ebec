"""`pathasst papers`: make the literature index, add to it, search it."""

from __future__ import annotations

from pathlib import Path

import typer

from pathasst.cli.options import RUNNER, SET

app = typer.Typer(help="The literature: build an index of abstracts, add to it, search it.", no_args_is_help=True)

HOME = typer.Option(None, "--index", "-i", help="Folder of the index; default: the embedded collection in the cache folder.")
WORKERS = typer.Option(2, min=1, help="Processes that read and embed.")
RECIPE = typer.Option("embedded", help="embedded | paper, or a YAML file: embedder, clusters, workers, runner.")
RERANK = typer.Option("", help="Cross-encoder that orders the best 50 anew: medcpt-rerank, a folder, or owner/name.")
RUNNER = RUNNER


@app.command("build")
def build(
    files: list[Path] = typer.Argument(
        None, help="MEDLINE .xml(.gz), .jsonl, .csv, JATS, or folders; none: the embedded collection."
    ),
    index: Path = HOME,
    recipe: str = RECIPE,
    workers: int = typer.Option(None, min=1, help="Processes that read and embed; default: the recipe's."),
    vectors: bool = typer.Option(True, help="Make missing vectors; without, words serve where vectors are missing."),
    changes: list[str] = SET,
) -> None:
    """Make an index. Example: pathasst papers build, or: pathasst papers build baseline/ --index my-papers"""
    from pathasst import papers
    from pathasst.core.errors import BadSettings

    settings = papers.BuildSettings.load(recipe, changes)
    settings = settings.replace(workers=workers or settings.workers, make_vectors=vectors and settings.make_vectors)
    if files:
        if index is None:
            raise BadSettings("say where the index of your files goes: --index FOLDER")
        papers.build(files, index, settings, typer.echo)
    else:
        papers.build_default(home=index, settings=settings, fetch=True, say=typer.echo)
    _summary(papers.PaperIndex.open(index))


@app.command("add")
def add(
    files: list[Path] = typer.Argument(..., help="As for `papers build`: MEDLINE, .jsonl, .csv, JATS, or folders."),
    index: Path = HOME,
    workers: int = WORKERS,
    runner: str = RUNNER,
) -> None:
    """Add files (new, revised, deleted records) without a rebuild. Example: pathasst papers add pubmed26n1300.xml.gz -i mine"""
    from pathasst import papers

    opened = papers.PaperIndex.open(index)
    settings = papers.BuildSettings(embedder=opened.version.embedder, workers=workers, runner=runner)
    papers.add(files, opened.home, settings, typer.echo)
    _summary(papers.PaperIndex.open(index))


@app.command("delete")
def delete(pmids: list[str] = typer.Argument(..., help="PMIDs of what goes."), index: Path = HOME) -> None:
    """Take abstracts out by PMID. Example: pathasst papers delete 399296 -i my-papers"""
    from pathasst import papers

    papers.delete(pmids, papers.PaperIndex.open(index).home, typer.echo)
    _summary(papers.PaperIndex.open(index))


@app.command("compact")
def compact(index: Path = HOME) -> None:
    """Merge the segments that additions left, embedding nothing. Example: pathasst papers compact -i my-papers"""
    from pathasst import papers

    papers.compact(papers.PaperIndex.open(index).home)
    _summary(papers.PaperIndex.open(index))


@app.command("search")
def search(
    query: str = typer.Argument(..., help="A question, or words."),
    index: Path = HOME,
    k: int = typer.Option(5, "--count", "-k", help="How many abstracts."),
    mode: str = typer.Option("hybrid", help="hybrid | words | vectors"),
    since: int = typer.Option(None, help="First year."),
    until: int = typer.Option(None, help="Last year."),
    journal: list[str] = typer.Option([], help="Only these journals (full titles)."),
    type: list[str] = typer.Option([], help="Only these publication types: Review …"),
    retracted: bool = typer.Option(True, help="--no-retracted leaves out retracted papers."),
    rerank: str = RERANK,
    full: bool = typer.Option(False, help="Print whole abstracts."),
    json: bool = typer.Option(False, "--json", help="One JSON object a hit."),
) -> None:
    """Search by words and meaning. Example: pathasst papers search "Ki-67 in breast carcinoma" --since 2000"""
    from pathasst import papers

    opened = papers.PaperIndex.open(index)
    filters = papers.Filters(since=since, until=until, journals=tuple(journal), types=tuple(type), retracted=retracted)
    result = opened.find(query, k, mode, filters, papers.CrossEncoder(rerank) if rerank else None)
    if result.message:
        typer.echo(result.message, err=json)
    if json:
        _print_json(result.hits)
    else:
        _print_hits(result.hits, full=full)


@app.command("serve")
def serve(
    index: Path = HOME,
    port: int = typer.Option(8010, min=0, max=65535, help="Port on this machine; 0: any free one."),
    rerank: str = RERANK,
) -> None:
    """Serve the search over HTTP on this machine, until Ctrl-C (for others, with keys: pathasst serve).

    Example: pathasst papers serve -i mine, then:
    curl localhost:8010/v1/papers/search -H "Content-Type: application/json" -d '{"query": "asbestos"}'
    """
    from pathasst import papers
    from pathasst.papers.serve import serve as run

    opened = papers.PaperIndex.open(index)
    reranker = papers.CrossEncoder(rerank) if rerank else None
    typer.echo(f"{opened.describe()}: http://127.0.0.1:{port}/v1/papers/search, /docs")
    run(opened, port, reranker)


@app.command("info")
def info(index: Path = HOME, check: bool = typer.Option(False, help="Read every file and compare it with its sha256.")) -> None:
    """What the index holds; --check verifies it. Example: pathasst papers info --check"""
    from pathasst import papers

    opened = papers.PaperIndex.open(index)
    _summary(opened)
    if check:
        faults = papers.verify(opened.home)
        for fault in faults:
            typer.secho(fault, fg="red")
        typer.echo("sound: every file is as it was written" if not faults else f"{len(faults)} faults: build the papers again")
        raise typer.Exit(1 if faults else 0)


def _summary(index: object) -> None:
    for name, value in index.info().items():  # type: ignore[attr-defined]
        if name == "sources" and len(value) > 6:
            value = [*value[:3], "…", *value[-2:]]
        typer.echo(f"{name:10} {', '.join(value) if isinstance(value, list) else value}")


def _print_json(hits: list) -> None:
    import json

    from pathasst.core.records import to_row

    for hit in hits:
        typer.echo(json.dumps(to_row(hit), ensure_ascii=False))


def _print_hits(hits: list, *, full: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for number, hit in enumerate(hits, 1):
        flag = Text(" RETRACTED", style="bold red") if hit.retracted else Text()
        console.print(Text(f"{number}. {hit.title}", style="bold") + flag)
        console.print(Text(f"   PMID {hit.pmid} · {hit.year or 'no year'} · {hit.journal} · {hit.score:.3f}", style="dim"))
        text = Text(hit.passage if full else " … ".join(hit.highlights) or hit.passage[:240])
        for sentence in hit.highlights if full else []:
            text.highlight_words([sentence], "yellow")
        console.print(text)
