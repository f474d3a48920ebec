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
    repeats: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # see `repeated_articles`

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
        in_others = self.repeats.get(str(path), {})
        repeats = in_others.get(article_id) or in_others.get(WHOLE) or (path.name if article_id in article_ids else "")
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


WHOLE = ""
"""In place of an article's id: the one article of a file."""


def repeated_articles(articles: Sequence[Path], files: FigureFiles, *, text_only: bool = False) -> dict[str, dict[str, str]]:
    """File → article id (`WHOLE` in files of one article) → the file that the article is taken from in its stead.

    That is the one with the most pictures, else the first. Articles are compared by the ids that their files hold; only files
    that share one are parsed.
    """
    by_id: dict[bytes, list[Path]] = {}
    sets: set[Path] = set()
    for path in articles:
        keys, is_set = _article_keys(path)
        sets |= {path} if is_set else set()
        for key in keys:
            by_id.setdefault(key, []).append(path)
    repeats: dict[str, dict[str, str]] = {}
    shared: dict[Path, None] = {}  # files of which one is a set: compared article by article
    for paths in by_id.values():
        if len(paths) < 2:
            continue
        if not sets.isdisjoint(paths):
            shared |= dict.fromkeys(paths)
            continue
        best = max(paths, key=lambda p: (sum(_usable(p, files, text_only).values()), -paths.index(p)))
        repeats |= {str(p): {WHOLE: str(best)} for p in paths if p != best}
    usable = {path: _usable(path, files, text_only) for path in shared}
    for article in dict.fromkeys(a for found in usable.values() for a in found):
        holders = [p for p, found in usable.items() if article in found]
        best = max(holders, key=lambda p: (usable[p][article], -articles.index(p)))
        for path in holders:
            if path != best:
                repeats.setdefault(str(path), {})[article] = str(best)
    return repeats


_ID = re.compile(rb"""<article-id[^>]*pub-id-type=["'](?:pmc|pmcid|pmcaid|doi|pmid)["'][^>]*>\s*([^<]+?)\s*</article-id>""")


_VERSION = re.compile(rb"""pub-id-type=["']pmcid-ver["'][^>]*>\s*([^<]+)""")


def _article_keys(path: Path) -> tuple[list[bytes], bool]:
    """The strong ids of a file, and whether it is a set: of one article the first, of a set all; none of what cannot be read."""
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            head = file.read(HEAD)
        is_set = b"articleset" in head or b"OAI-PMH" in head
        content = jats.read_file(path) if is_set else head
    except (OSError, EOFError, zlib.error, BadInput):
        return [], False
    found = [*_VERSION.findall(content), *_ID.findall(content)]
    keys = dict.fromkeys(key.strip().removeprefix(b"PMC") for key in (found if is_set else found[:1]))
    return list(keys), is_set


def _usable(path: Path, files: FigureFiles, text_only: bool) -> dict[str, int]:
    """Article id → how many of its figures have a picture, of the articles of a file; none of one that cannot be read."""
    try:
        articles = [a for a in parse_all(jats.read_file(path), path.name) if not isinstance(a, BadInput)]
    except BadInput:
        return {}
    counts: Counter[str] = Counter()
    for a in articles:
        counts[a.article.source.article_id] += sum(
            text_only or files.find(f, path, a.others.get(f.figure_id, ())) is not None for f in a.figures
        )
    return counts


def with_picture(figure: Figure, content: bytes, name: str) -> Figure:
    """The figure with its checked picture. Raises BadInput when the picture cannot be used."""
    picture = pictures.check(content, name)
    return replace(figure, image=picture.content, md5=picture.md5, width=picture.width, height=picture.height)


def _units(articles: list[Path], files: FigureFiles, per_shard: int, repeats: Mapping[str, Mapping[str, str]]) -> list[Unit]:
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
