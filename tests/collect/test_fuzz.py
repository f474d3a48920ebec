"""Two laws over inputs of every kind, by Hypothesis: no traceback, and taken + left out with a reason = present."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from collect_samples import article_xml, picture
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pathasst.collect.books import BookWork
from pathasst.collect.figure_files import FigureFiles
from pathasst.collect.folder import FolderWork
from pathasst.collect.own import import_dataset
from pathasst.core.errors import BadInput, BadSettings, PathAsstError
from pathasst.core.records import Figure
from pathasst.dataset import Dropped, Unit
from pathasst.imaging.pictures import read as read_picture

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
JPEG, PNG, TIFF = picture(), picture(kind="PNG"), picture(kind="TIFF")
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=0, max_size=30)
NAMES = st.sampled_from(
    ["a.jpg", "b.png", "A.JPG", "none.jpg", "broken.jpg", "", "../a.jpg", "x/a.jpg", "a", "é.png", "a.jpg?x=1"]
)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        for file, content in (("a.jpg", JPEG), ("b.png", PNG), ("broken.jpg", JPEG[:200]), ("é.png", PNG)):
            (path / file).write_bytes(content)
        yield path


def counted(work: Any, path: Path) -> tuple[list[Figure], list[Dropped]]:
    rows = list(work(Unit("0", [str(path)])))
    taken, left = [r for r in rows if isinstance(r, Figure)], [r for r in rows if isinstance(r, Dropped)]
    assert len(taken) + len(left) == len(rows)
    assert all(d.reason and d.id for d in left)
    return taken, left


def damaged(content: bytes, cuts: list[tuple[int, int]], length: int) -> bytes:
    """Some bytes replaced, and the end cut off."""
    out = bytearray(content)
    for place, value in cuts:
        out[place % len(out)] = value
    return bytes(out[: max(1, len(out) - length % len(out))])


DAMAGE = st.tuples(
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=8), st.sampled_from([0, 0, 1, 100, 5000])
)
FIGS = st.lists(st.tuples(WORDS, NAMES, st.sampled_from(["caption", "none", "bare"]), st.booleans()), min_size=1, max_size=4)


def figs_xml(figs: list[tuple[str, str, str, bool]]) -> str:
    parts = []
    for number, (words, href, form, grouped) in enumerate(figs):
        caption = {
            "caption": f"<caption><p>{escape(words)}</p></caption>",
            "bare": f"<caption>{escape(words)}</caption>",
            "none": "",
        }[form]
        quoted = escape(href, {'"': "&quot;"})
        one = f'<fig id="f{number}"><label>Figure {number}</label>{caption}<graphic xlink:href="{quoted}"/></fig>'
        parts.append(f"<fig-group>{one}</fig-group>" if grouped else one)
    return "".join(parts)


@QUICK
@given(FIGS)
def test_articles(figs: list[tuple[str, str, str, bool]]) -> None:
    with folder() as path:
        (path / "x.xml").write_bytes(article_xml(figs_xml(figs)))
        taken, left = counted(FolderWork(FigureFiles()), path / "x.xml")
        whole = [d for d in left if d.reason in ("article-without-figures", "unreadable-article")]
        assert len(taken) + len(left) - len(whole) == len(figs), (taken, left)


@QUICK
@given(FIGS, DAMAGE)
def test_damaged_articles(figs: list[tuple[str, str, str, bool]], damage: tuple[list[tuple[int, int]], int]) -> None:
    with folder() as path:
        (path / "x.xml").write_bytes(damaged(article_xml(figs_xml(figs)), *damage))
        taken, left = counted(FolderWork(FigureFiles()), path / "x.xml")
        assert taken or left


def html_of(figs: list[tuple[str, str, str, bool]]) -> str:
    parts = []
    for words, href, form, grouped in figs:
        image = f'<img src="{escape(href, {chr(34): "&quot;"})}"/>'
        text = {"caption": f"<figcaption>{escape(words)}</figcaption>", "bare": f"<p>{escape(words)}</p>", "none": ""}[form]
        parts.append(f"<figure>{image}{text}</figure>" if grouped else f"<div>{image}{text}</div>")
    return f"<html><head><title>T</title></head><body><h1>Plates</h1>{''.join(parts)}</body></html>"


def archive(members: dict[str, bytes | str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def epub(figs: list[tuple[str, str, str, bool]]) -> bytes:
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf"><manifest><item id="c" href="c.xhtml" media-type="application/xhtml+xml"/>'
        '</manifest><spine><itemref idref="c"/></spine></package>'
    )
    root = '<rootfiles><rootfile full-path="o.opf"/></rootfiles>'
    container = f'<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">{root}</container>'
    page = html_of(figs)
    return archive({"META-INF/container.xml": container, "o.opf": opf, "c.xhtml": page, "a.jpg": JPEG, "b.png": PNG})


def docx(figs: list[tuple[str, str, str, bool]]) -> bytes:
    w, r = (
        "http://schemas.openxmlformats.org/wordprocessingml/2006/main",
        "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    )
    a, pack = (
        "http://schemas.openxmlformats.org/drawingml/2006/main",
        "http://schemas.openxmlformats.org/package/2006/relationships",
    )
    body, relations = "", ""
    for n, (words, href, _, _) in enumerate(figs):
        body += f'<w:p><w:r><w:drawing><a:blip r:embed="r{n}"/></w:drawing></w:r></w:p>'
        body += f"<w:p><w:r><w:t>Figure {n}. {escape(words)}</w:t></w:r></w:p>"
        relations += f'<Relationship Id="r{n}" Type="{r}/image" Target="{escape(href, {chr(34): "&quot;"})}"/>'
    document = f'<w:document xmlns:w="{w}" xmlns:r="{r}" xmlns:a="{a}"><w:body>{body}</w:body></w:document>'
    named = f'<Relationships xmlns="{pack}">{relations}</Relationships>'
    return archive({"word/document.xml": document, "word/_rels/document.xml.rels": named, "word/a.jpg": JPEG, "word/b.png": PNG})


@QUICK
@given(FIGS, st.sampled_from(["html", "epub", "docx"]))
def test_books(figs: list[tuple[str, str, str, bool]], kind: str) -> None:
    figs = [f for f in figs if f[1]]  # a picture without an address is none
    with folder() as path:
        content = {"html": lambda f: html_of(f).encode(), "epub": epub, "docx": docx}[kind](figs)
        (path / f"x.{kind}").write_bytes(content)
        taken, left = counted(BookWork(str(path), str(path / "h"), "unknown", ocr=False), path / f"x.{kind}")
        assert len(taken) + len(left) == max(1, len(figs)), (taken, left)  # a book without figures says so


@QUICK
@given(FIGS, st.sampled_from(["html", "epub", "docx", "pdf"]), DAMAGE)
def test_damaged_books(figs: list[tuple[str, str, str, bool]], kind: str, damage: tuple[list[tuple[int, int]], int]) -> None:
    from test_books import pdf, photo, text

    with folder() as path:
        makers = {
            "html": lambda: html_of(figs).encode(),
            "epub": lambda: epub(figs),
            "docx": lambda: docx(figs),
            "pdf": lambda: pdf(photo(72, 400, 200, 150) + text(72, 380, "Figure 1. A gland.")),
        }
        (path / f"x.{kind}").write_bytes(damaged(makers[kind](), *damage))
        taken, left = counted(BookWork(str(path), str(path / "h"), "unknown", ocr=False), path / f"x.{kind}")
        assert taken or left


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=20)


@QUICK
@given(
    st.lists(st.tuples(NAMES, CELLS), min_size=1, max_size=6),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from(",;\t"),
)
def test_tables(rows: list[tuple[str, str]], encoding: str, separator: str) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator)
    writer.writerows([("image", "caption"), *rows])
    present = sum(any(v.strip() for v in row) for row in rows)
    with folder() as path:
        (path / "p.csv").write_bytes(out.getvalue().encode(encoding))
        manifest = import_dataset(path / "p.csv", path / "out", progress=False, kind="pairs")
        assert manifest.rows + sum(manifest.dropped.values()) == present


KEYS = ["image", "caption", "messages", "role", "content", "images", "tools", "from", "value", "x"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | CELLS | NAMES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["image", "caption", "messages", "role", "content", "images", "tools", "from", "value", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@QUICK
@given(st.lists(JSON, min_size=1, max_size=4), st.sampled_from(["pairs", "conversations"]))
def test_json_lines(rows: list[Any], kind: str) -> None:
    with folder() as path:
        (path / "p.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        manifest = import_dataset(path / "p.jsonl", path / "out", progress=False, kind=kind)
        several = sum(len(r["caption"]) for r in rows if isinstance(r, dict) and isinstance(r.get("caption"), list))
        assert len(rows) <= manifest.rows + sum(manifest.dropped.values()) <= len(rows) + several


@QUICK
@given(DAMAGE, st.sampled_from([".csv", ".json", ".jsonl", ".parquet", ".tar"]), st.binary(max_size=300))
def test_damaged_files_of_rows(damage: tuple[list[tuple[int, int]], int], suffix: str, content: bytes) -> None:
    with folder() as path:
        good = json.dumps([{"image": "a.jpg", "caption": "x"}]).encode()
        (path / f"p{suffix}").write_bytes(damaged(good, *damage) if suffix.startswith(".json") else content)
        try:
            manifest = import_dataset(path / f"p{suffix}", path / "out", progress=False)
        except (BadSettings, BadInput):
            return
        assert manifest.rows + sum(manifest.dropped.values()) > 0


@QUICK
@given(st.sampled_from([JPEG, PNG, TIFF, picture(kind="GIF"), picture(kind="WEBP")]), DAMAGE)
def test_damaged_pictures(content: bytes, damage: tuple[list[tuple[int, int]], int]) -> None:
    try:
        pixels = read_picture(damaged(content, *damage), name="x").pixels
    except PathAsstError as error:
        assert "x" in str(error)
    else:
        assert pixels.ndim == 3
        assert pixels.shape[2] == 3
