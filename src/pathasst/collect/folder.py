"""A folder of JATS articles with figure files → a dataset of Figures. No network."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pathasst.collect import licences, pictures
from pathasst.collect.figure_files import FigureFiles, stem_of
from pathasst.collect.jats import Parsed, parse_all
from pathasst.core import jats
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.files import fingerprint
from pathasst.core.records import Figure
from pathasst.dataset import Dropped, Manifest, Unit, run_stage, units_of_files

HEAD = 1 << 16  # bytes of a file in which an article's ids stand


def collect_folder(
    folder: Path,
    out: Path,
    *,
    figures: Path | None = None,
    mapping: Path | None = None,
    licence: str = "any",
    text_only: bool = False,
    per_shard: int = 16,
    workers: int = 1,
    runner: str = "native",
    progress: bool = True,
) -> Manifest:
    """Figures of every JATS or BITS file under `folder` (`.xml`, `.nxml`, plain or gzip) into the dataset `out`.

    Picture files lie beside their article, or in `figures`, or where the JSON or CSV `mapping` says (see
    `figure_files.FigureFiles`). `licence` is a policy of `licences.POLICIES`; `text_only` keeps figures without pictures.
    An article that lies there twice is taken once, from the file whose pictures are there. Articles that cannot be parsed or have
    no figure, and figures without a usable picture are counted in the manifest, by name and reason; nothing else is lost.

    Raises BadSettings when there is no article, or an option is wrong.
    """
    licences.allowed(licences.UNKNOWN, licence)
    articles = article_files(folder)
    files = FigureFiles.open(figures, mapping)
    repeats = repeated_articles(articles, files, text_only=text_only)
    settings = {"licence": licence, "text_only": text_only, "mapping": fingerprint(files.mapping)}
    return run_stage(
        out,
        stage="collect-folder",
        record=Figure,
        units=_units(articles, files, per_shard, repeats),
        work=FolderWork(files, licence, text_only, repeats),
        settings=settings,
        inputs=[str(folder), *([str(figures)] if figures else [])],
        workers=workers,
        runner=runner,
        progress=progress,
    )


def article_files(folder: Path) -> list[Path]:
    """The JATS files under a folder, or the one file that is given, sorted. Raises BadSettings when there are none."""
    files = [folder] if folder.is_file() else list(jats.files_below(folder))
    if not files:
        kinds = Counter(p.suffix.lower() or "without suffix" for p in folder.rglob("*") if p.is_file())
        holds = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(5)) or "nothing"
        packed = " Unpack archives first." if any(k in (".zip", ".tar", ".tgz", ".gz") for k in kinds) else ""
        raise BadSettings(
            f"{folder} holds no {', '.join(jats.SUFFIXES)} file, but {holds}. Give the folder that holds JATS articles.{packed}"
        )
    return files


@dataclass(frozen=True)
class FolderWork:
    """The work of one unit (some article files): a Figure, or a Dropped with the reason, for every figure of each article."""

    files: FigureFiles
    licence: str = "any"
    text_only: bool = False
    repeats: Mapping[str, str] = field(default_factory=dict)  # file → the file that holds the same article

    def __call__(self, unit: Unit) -> Iterator[Figure | Dropped]:
        for path in map(Path, unit.paths):
            try:
                articles = parse_all(jats.read_file(path), path.name)
            except BadInput as error:
                yield Dropped(path.name, "unreadable-article", str(error))
                continue
            article_ids: set[str] = set()
            for parsed in articles:
                if isinstance(parsed, BadInput):
                    yield Dropped(path.name, "unreadable-article", str(parsed))
                    continue
                yield from self._article(parsed, path, article_ids)

    def _article(self, parsed: Parsed, path: Path, article_ids: set[str]) -> Iterator[Figure | Dropped]:
        article_id = parsed.article.source.article_id
        for figure_id, reason in parsed.left_out:
            yield Dropped(figure_id, reason, path.name)
        if not parsed.figures:
            places = ", ".join(f"{n} in <{tag}>" for tag, n in parsed.elsewhere.items())
            yield Dropped(article_id, "article-without-figures", path.name + (f", but pictures: {places}" if places else ""))
        repeats = self.repeats.get(str(path), path.name if article_id in article_ids else "")
        article_ids.add(article_id)
        for figure in parsed.figures:
            if repeats:
                yield Dropped(figure.figure_id, "duplicate-article", f"{path} holds the same article as {repeats}")
            else:
                yield self._keep(figure, path, parsed.others.get(figure.figure_id, ()))

    def _keep(self, figure: Figure, article_file: Path, others: Sequence[str]) -> Figure | Dropped:
        if not licences.allowed(figure.source.licence, self.licence):
            return Dropped(figure.figure_id, "licence", figure.source.licence)
        if self.text_only:
            return figure
        path = self.files.find(figure, article_file, others)
        if path is None:
            return Dropped(figure.figure_id, "no-picture", figure.graphic)
        try:
            return with_picture(figure, path.read_bytes(), path.name)
        except (BadInput, OSError) as error:
            return Dropped(figure.figure_id, "bad-picture", str(error))


def repeated_articles(articles: Sequence[Path], files: FigureFiles, *, text_only: bool = False) -> dict[str, str]:
    """File → the file with the same article that is taken in its stead: the one with the most pictures, else the first.

    Articles are compared by the ids in the first bytes of their files; only files that share one are parsed.
    """
    by_id: dict[bytes, list[Path]] = {}
    for path in articles:
        if key := _article_key(path):
            by_id.setdefault(key, []).append(path)
    repeats: dict[str, str] = {}
    for paths in by_id.values():
        if len(paths) > 1:
            best = max(paths, key=lambda p: (_usable(p, files, text_only), -paths.index(p)))
            repeats |= {str(p): str(best) for p in paths if p != best}
    return repeats


_ID = re.compile(rb"""<article-id[^>]*pub-id-type=["'](?:pmc|pmcid|pmcaid|doi|pmid)["'][^>]*>\s*([^<]+?)\s*</article-id>""")


def _article_key(path: Path) -> bytes:
    """The first strong id of a file that holds one article; empty for sets, and for articles without an id."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            head = file.read(HEAD)
    except (OSError, EOFError, zlib.error):
        return b""
    if b"articleset" in head or b"OAI-PMH" in head or (match := _ID.search(head)) is None:
        return b""
    version = re.search(rb"""pub-id-type=["']pmcid-ver["'][^>]*>\s*([^<]+)""", head)
    return (version[1] if version else match[1]).strip().removeprefix(b"PMC")


def _usable(path: Path, files: FigureFiles, text_only: bool) -> int:
    """How many figures of an article file have a picture; -1 for a file that cannot be read."""
    try:
        articles = [a for a in parse_all(jats.read_file(path), path.name) if not isinstance(a, BadInput)]
    except BadInput:
        return -1
    return sum(text_only or files.find(f, path, a.others.get(f.figure_id, ())) is not None for a in articles for f in a.figures)


def with_picture(figure: Figure, content: bytes, name: str) -> Figure:
    """The figure with its checked picture. Raises BadInput when the picture cannot be used."""
    picture = pictures.check(content, name)
    return replace(figure, image=picture.content, md5=picture.md5, width=picture.width, height=picture.height)


def _units(articles: list[Path], files: FigureFiles, per_shard: int, repeats: Mapping[str, str]) -> list[Unit]:
    """Units of article files, stamped by these, what lies beside them and the shared pictures: what changes is done again."""
    shared = fingerprint({k: [(s := p.stat()).st_size, s.st_mtime_ns] for k, p in sorted(files.shared.items())})
    alone = {folder for folder, n in Counter(p.parent for p in articles).items() if n == 1}
    beside = {folder: _listing(folder, deep=folder in alone) for folder in {p.parent for p in articles}}
    beside |= {own: _listing(own, deep=True) for p in articles if (own := p.parent / stem_of(p)).is_dir()}
    units = []
    for unit in units_of_files(articles, per_shard):
        around = [[beside[p.parent], beside.get(p.parent / stem_of(p), "")] for p in map(Path, unit.paths)]
        same = {p: repeats[p] for p in unit.paths if p in repeats}
        units.append(replace(unit, stamp=fingerprint({"articles": unit.stamp, "beside": around, "shared": shared, "same": same})))
    return units


def _listing(folder: Path, *, deep: bool) -> str:
    files = sorted(p for p in (folder.rglob("*") if deep else folder.iterdir()) if p.is_file())
    return fingerprint({str(p.relative_to(folder)): [(s := p.stat()).st_size, s.st_mtime_ns] for p in files})
