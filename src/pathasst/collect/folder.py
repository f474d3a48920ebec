"""A folder of JATS articles with figure files → a dataset of Figures. No network."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from pathasst.collect import licences, pictures
from pathasst.collect.figure_files import FigureFiles
from pathasst.collect.jats import parse
from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.files import fingerprint
from pathasst.core.records import Figure
from pathasst.dataset import Dropped, Manifest, Unit, run_stage, units_of_files

ARTICLE_SUFFIXES = (".xml", ".nxml", ".xml.gz", ".nxml.gz")
MAX_XML_BYTES = 256 * 2**20  # unpacked; a gzip bomb costs one article


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
    """Figures of every JATS file under `folder` (`.xml`, `.nxml`, plain or gzip) into the dataset `out`.

    Picture files lie beside their article, or in `figures`, or where the JSON or CSV `mapping` says (see
    `figure_files.FigureFiles`). `licence` is a policy of `licences.POLICIES`; `text_only` keeps figures without pictures.
    Articles that cannot be parsed and figures without a usable picture are counted in the manifest; nothing else is lost.

    Raises BadSettings when there is no article, or an option is wrong.
    """
    licences.allowed(licences.UNKNOWN, licence)
    articles = article_files(folder)
    files = FigureFiles.open(figures, mapping)
    settings = {"licence": licence, "text_only": text_only, "mapping": fingerprint(files.mapping)}
    return run_stage(
        out,
        stage="collect-folder",
        record=Figure,
        units=_units(articles, files, per_shard),
        work=FolderWork(files, licence, text_only),
        settings=settings,
        inputs=[str(folder), *([str(figures)] if figures else [])],
        workers=workers,
        runner=runner,
        progress=progress,
    )


def article_files(folder: Path) -> list[Path]:
    """The JATS files under a folder, sorted. Raises BadSettings when there are none."""
    found = sorted(p for p in folder.rglob("*") if p.name.lower().endswith(ARTICLE_SUFFIXES) and p.is_file())
    if not found:
        raise BadSettings(f"{folder} holds no {', '.join(ARTICLE_SUFFIXES)} file. Give the folder that holds JATS articles.")
    return found


def read_article(path: Path) -> bytes:
    """The XML bytes of an article file, unpacked. Raises BadInput when it cannot be read or is larger than MAX_XML_BYTES."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(MAX_XML_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{path}: unreadable ({error}).") from error
    if len(content) > MAX_XML_BYTES:
        raise BadInput(f"{path}: more than {MAX_XML_BYTES} bytes of XML.")
    return content


@dataclass(frozen=True)
class FolderWork:
    """The work of one unit (some article files): a Figure, or a Dropped with the reason, for every figure of each article."""

    files: FigureFiles
    licence: str = "any"
    text_only: bool = False

    def __call__(self, unit: Unit) -> Iterator[Figure | Dropped]:
        for path in map(Path, unit.paths):
            try:
                _, found = parse(read_article(path), path.name)
            except BadInput as error:
                yield Dropped(path.name, "unreadable-article", str(error))
                continue
            for figure in found:
                yield self._keep(figure, path)

    def _keep(self, figure: Figure, article_file: Path) -> Figure | Dropped:
        if not licences.allowed(figure.source.licence, self.licence):
            return Dropped(figure.figure_id, "licence", figure.source.licence)
        if self.text_only:
            return figure
        path = self.files.find(figure, article_file)
        if path is None:
            return Dropped(figure.figure_id, "no-picture", figure.graphic)
        try:
            return with_picture(figure, path.read_bytes(), path.name)
        except (BadInput, OSError) as error:
            return Dropped(figure.figure_id, "bad-picture", str(error))


def with_picture(figure: Figure, content: bytes, name: str) -> Figure:
    """The figure with its checked picture. Raises BadInput when the picture cannot be used."""
    picture = pictures.check(content, name)
    return replace(figure, image=picture.content, md5=picture.md5, width=picture.width, height=picture.height)


def _units(articles: list[Path], files: FigureFiles, per_shard: int) -> list[Unit]:
    """Units of article files, stamped by these, what lies beside them and the shared pictures: what changes is done again."""
    shared = fingerprint({k: [(s := p.stat()).st_size, s.st_mtime_ns] for k, p in sorted(files.shared.items())})
    beside = {folder: _listing(folder) for folder in {p.parent for p in articles}}
    return [
        replace(
            u, stamp=fingerprint({"articles": u.stamp, "beside": [beside[Path(p).parent] for p in u.paths], "shared": shared})
        )
        for u in units_of_files(articles, per_shard)
    ]


def _listing(folder: Path) -> str:
    files = sorted(p for p in folder.iterdir() if p.is_file())
    return fingerprint({p.name: [(s := p.stat()).st_size, s.st_mtime_ns] for p in files})
