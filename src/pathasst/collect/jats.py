"""JATS and BITS (and their ancestor, NLM) XML → Articles and Figures.

Knows the markup of articles and books. Knows nothing of where they lie, of their picture files, or of other articles. The XML is
outside data: entities are never fetched, expansion bombs, too deep or broken files raise BadInput, which costs that file alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from lxml import etree

from pathasst.collect import licences
from pathasst.core.errors import BadInput
from pathasst.core.jats import HREF, LANGUAGE, article_meta, date_of, documents, ids_of, is_retracted, pmc_id
from pathasst.core.jats_text import resolve_entities, text_of
from pathasst.core.records import Article, Figure, Source
from pathasst.imaging.pictures import SUFFIXES as PICTURES

_REF_TYPES = frozenset({"fig", "figure", "Fig", "fig-group"})
MAX_MENTIONS = 50  # a figure of an honest article has one to ten
_EXCLUDED = frozenset({"supplementary-material", "inline-supplementary-material"})
_FORMULAS = ("disp-formula", "inline-formula")
_RANGE = re.compile(r"^\s*(?:[-–—]|to|through)\s*$")
_IN_WORDS = re.compile(r"\bfig(?:ure|s|ures)?\b\.?\s*(s?\d+)", re.I)
_RASTER = re.compile(r"\.(?:jpe?g|png|gif)$", re.I)


@dataclass(frozen=True)
class Parsed:
    """One article or book with its figures (pictures empty), in document order."""

    article: Article
    figures: list[Figure]
    left_out: list[tuple[str, str]] = field(default_factory=list)  # (figure id, reason) of what it holds beside
    others: dict[str, list[str]] = field(default_factory=dict)  # figure id → hrefs of the same picture in other formats
    elsewhere: dict[str, int] = field(
        default_factory=dict
    )  # of an article without figures: element that holds pictures → how many


def parse(content: bytes, name: str) -> tuple[Article, list[Figure]]:
    """The first article's metadata and figures. Raises BadInput as `parse_all`, and for a first article that is not usable."""
    first = parse_all(content, name)[0]
    if isinstance(first, BadInput):
        raise first
    return first.article, first.figures


def parse_all(content: bytes, name: str) -> list[Parsed | BadInput]:
    """Every article and book of a file, in order; of one that cannot be used, why.

    `name` (the file's name) identifies what has neither PMCID nor DOI. A figure with several graphics gives one Figure each,
    `alternatives` count once; figures of supplementary material are left out and named.

    Raises BadInput when the bytes hold no well-formed XML within libxml2's limits (an entity bomb is not), or no article.
    """
    roots, faults = documents(content, name)
    stem = PurePath(name).name.split(".")[0] or name
    result: list[Parsed | BadInput] = []
    for number, root in enumerate(roots):
        try:
            result.append(_parsed(root, name, stem if number == 0 else f"{stem}~{number + 1}"))
        except BadInput as error:
            result.append(error)
    return [*result, *map(BadInput, faults)]


def _parsed(root: Any, name: str, stem: str) -> Parsed:
    figures, supplements, references, outside = _elements(root, name)
    if root.tag == "article":
        meta = article_meta(root)
        source = _source(root, meta, stem)
        article = _article(meta, source)
    else:
        article = Article(source=_book(root, stem))
        source = article.source
    mentions = _mentions(root, figures, references)
    keywords = article.keywords + [m for m in article.mesh if m not in article.keywords]
    rows, others = [], {}
    for number, (element, fig_id) in enumerate(zip(figures, _ids(figures), strict=True)):
        for figure, same in _figure(element, fig_id, source, mentions.get(number, []), keywords):
            rows.append(figure)
            if same:
                others[figure.figure_id] = same
    left_out = [
        (f"{source.article_id}/{e.get('id') or f'supplement~{n}'}", "supplementary") for n, e in enumerate(supplements, 1)
    ]
    if rows:
        left_out += [(f"{source.article_id}/{g.getparent().tag}~{n}", "outside-of-figures") for n, g in enumerate(outside, 1)]
    elsewhere = {} if rows else Counter(g.getparent().tag for g in root.iter("graphic", "inline-graphic"))
    return Parsed(article, rows, left_out, others, dict(elsewhere))


def _elements(root: Any, name: str) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
    """(figures, pictures of supplements, references to figures, pictures outside of figures) by one walk over the tree, which is
    the costly part.
    """
    figures: list[Any] = []
    supplements: list[Any] = []
    outside: list[Any] = []
    references: list[Any] = []
    entities: list[Any] = []
    for element in root.iter("fig", "xref", "fig-group", "graphic", *_EXCLUDED, etree.Entity):
        tag = element.tag
        if tag == "xref":
            if element.get("ref-type") in _REF_TYPES:
                references.append(element)
        elif tag is etree.Entity:
            entities.append(element)
        elif tag in _EXCLUDED:
            if _holds_picture(element):
                supplements.append(element)
        elif _is_figure(element):
            (supplements if _excluded(element) else figures).append(element)
        elif tag == "graphic" and next(element.iterancestors("fig", "fig-group", *_FORMULAS, *_EXCLUDED), None) is None:
            outside.append(element)
    if figures and any(f.tag == "fig-group" for f in figures):
        groups = {f for f in figures if f.tag == "fig-group"}
        figures = [f for f in figures if f in groups or not any(a in groups for a in f.iterancestors("fig-group"))]
    resolve_entities(entities, name)
    return figures, supplements, references, outside


def _is_figure(element: Any) -> bool:
    """Whether it stands for itself: a `fig`, a graphic with a caption, a group whose picture its members' captions share."""
    if element.tag == "fig-group":
        return element.find("graphic") is not None and next((f for f in element.iter("fig") if _graphics(f)), None) is None
    if element.tag == "graphic":
        inside = next(element.iterancestors("fig", "fig-group"), None) is not None
        return not inside and element.find("caption") is not None
    return True


def _holds_picture(supplement: Any) -> bool:
    """Whether a supplementary material is a picture, or has one without a caption of its own."""
    own = [e for e in supplement.iterchildren("media", "graphic") if e.find("caption") is None]
    return any(map(_is_picture, [supplement, *own]))


def _is_picture(element: Any) -> bool:
    """Whether a file that an element names is a picture: PLOS gives "S1 Fig" as a supplementary material."""
    href = (element.get(HREF) or "").lower()
    return element.get("mimetype") == "image" or href.endswith(PICTURES)


def _source(root: Any, meta: Any, stem: str) -> Source:
    if meta is None:
        return Source(article_id=f"file:{stem}")
    ids = ids_of(meta)
    number, version = pmc_id(ids)
    pmcid = f"PMC{number}" if number else ""
    doi = ids.get("doi", "")
    title = text_of(t) if (t := meta.find("title-group/article-title")) is not None else ""
    licence, url = licences.of_permissions(p if (p := meta.find("permissions")) is not None else meta)
    if licence == licences.UNKNOWN:
        noted = licences.of_notes(root)
        licence, url = noted if noted[0] != licences.UNKNOWN else (licence, url)
    return Source(
        article_id=f"{pmcid}.{version}" if pmcid else f"doi:{doi}" if doi else f"file:{stem}",
        pmcid=pmcid,
        pmid=ids.get("pmid", ""),
        doi=doi,
        version=version,
        title=title,
        journal=_journal(root),
        date=date_of(meta),
        licence=licence,
        licence_url=url,
        retracted=is_retracted(root, meta, title),
    )


def _book(root: Any, stem: str) -> Source:
    """The source of a BITS book, or of one part of it (NCBI Bookshelf gives each chapter a file)."""
    meta = next((m for m in (root.find("book-meta"), root.find("collection-meta")) if m is not None), None)
    part = root if root.tag == "book-part" else root.find("book-part") if root.tag == "book-part-wrapper" else None
    own = None if part is None else part.find("book-part-meta")
    titles = [_text_at(meta, "book-title-group/book-title"), _text_at(own, "title-group/title")]
    chapter = (own is not None and ids_of(own, "book-part-id")) or {}
    ids = ids_of(meta, "book-id")
    book_id = root.get("id") or chapter.get("pmcid") or chapter.get("doi") or (part.get("id") if part is not None else "")
    book_id = book_id or ids.get("pmcid") or ids.get("doi") or stem
    licence, url = licences.UNKNOWN, ""
    for element in (own, meta):
        permissions = None if element is None else element.find("permissions")
        if permissions is not None and licence == licences.UNKNOWN:
            licence, url = licences.of_permissions(permissions)
    title = ": ".join(t for t in titles if t)
    front = own if own is not None else meta
    dates = [d for e in (own, meta) if e is not None and (d := date_of(e))]
    return Source(
        article_id=f"book:{book_id}",
        kind="book",
        doi=chapter.get("doi") or ids.get("doi", ""),
        title=title or stem,
        date=dates[0] if dates else "",
        licence=licence,
        licence_url=url,
        retracted=front is not None and is_retracted(root, front, title),
    )


def _text_at(element: Any, path: str) -> str:
    return text_of(e) if element is not None and (e := element.find(path)) is not None else ""


def _journal(root: Any) -> str:
    for path in ("front/journal-meta/journal-title-group/journal-title", "front/journal-meta/journal-title"):
        if (element := root.find(path)) is not None:
            return text_of(element)
    return ""


def _article(meta: Any, source: Source) -> Article:
    if meta is None:
        return Article(source=source)
    abstracts = meta.findall("abstract")
    plain = [a for a in abstracts if not a.get("abstract-type")] or abstracts
    keywords: list[str] = []
    mesh: list[str] = []
    for group in meta.iterfind("kwd-group"):
        into = mesh if "mesh" in (group.get("kwd-group-type") or group.get("vocab") or "").lower() else keywords
        into += [text for k in group.iter("kwd", "compound-kwd") if (text := text_of(k)) and text not in into]
    return Article(source=source, abstract=text_of(plain[0]) if plain else "", keywords=keywords, mesh=mesh)


def _excluded(element: Any) -> bool:
    return next(element.iterancestors(*_EXCLUDED), None) is not None


def _ids(figures: list[Any]) -> Iterator[str]:
    """Each figure's id; one that is missing or taken is made from its position."""
    fig_ids: set[str] = set()
    for number, figure in enumerate(figures, 1):
        fig_id = figure.get("id") or ""
        if not fig_id or fig_id in fig_ids:
            fig_id = f"{fig_id or 'fig'}~{number}"
        fig_ids.add(fig_id)
        yield fig_id


def _figure(
    element: Any, fig_id: str, source: Source, mentions: list[str], keywords: list[str]
) -> Iterator[tuple[Figure, list[str]]]:
    """Each picture of a figure element, with the hrefs of its other formats."""
    label, title, caption = _caption(element)
    if (permissions := element.find("permissions")) is not None:
        licence, url = licences.of_permissions(permissions)  # a figure taken from elsewhere has terms of its own
        source = replace(source, licence=licence, licence_url=url)
    for part, hrefs in enumerate(_graphics(element) or [[""]]):
        figure = Figure(
            figure_id=f"{source.article_id}/{fig_id}" + (f"#{part}" if part else ""),
            source=source,
            label=label,
            title=title,
            caption=caption,
            mentions=mentions,
            keywords=keywords,
            graphic=hrefs[0],
            part=part,
        )
        yield figure, hrefs[1:]


def _caption(element: Any) -> tuple[str, str, str]:
    """(label, title, caption with title). A figure inside a group takes what the group says about all of its members, and a group
    that is one figure what its members say.
    """
    captions = element.findall("caption")
    english = [c for c in captions if (c.get(LANGUAGE) or "").lower().startswith("en")]
    label, own = _text_at(element, "label"), next(iter(english or captions), None)
    title = _text_at(own, "title")
    texts = [text_of(own)] if own is not None else []
    group = element.getparent()
    if element.tag == "fig-group":
        texts += [" ".join(filter(None, (_text_at(f, "label"), _text_at(f, "caption")))) for f in element.iter("fig")]
    elif element.tag == "fig" and group is not None and group.tag == "fig-group":
        label = label or _text_at(group, "label")
        shared = group.find("caption")
        texts.insert(0, text_of(shared) if shared is not None else "")
        title = title or _text_at(shared, "title")
    caption = ""
    for text in filter(None, texts):
        caption += (" " if caption[-1:] in ".?!:;" else ". ") + text if caption else text
    return label, title, caption


def _graphics(element: Any) -> list[list[str]]:
    """The hrefs of each picture of a figure. Of `alternatives` the one that a browser shows stands first, the others follow."""
    pictures: list[list[str]] = []
    graphics = [element] if element.tag == "graphic" else [*element.iter("graphic")] or [*element.iter("inline-graphic", "media")]
    for graphic in graphics:
        parent, href = graphic.getparent(), graphic.get(HREF) or graphic.get("href") or ""
        nearest = element if graphic is element else next(graphic.iterancestors("fig", "fig-group"), None)
        if not href or nearest is not element or parent.tag in _FORMULAS:
            continue
        if graphic.tag == "media" and not (graphic.get("mimetype") == "image" or _RASTER.search(href)):
            continue
        hrefs = [href]
        if parent.tag == "alternatives":
            hrefs = [h for g in parent.iterfind("graphic") if (h := g.get(HREF))]
            hrefs.sort(key=lambda h: not _RASTER.search(h))
        if not any(set(hrefs) & set(other) for other in pictures):
            pictures.append(hrefs)
    return pictures


def _mentions(root: Any, figures: list[Any], references: list[Any]) -> dict[int, list[str]]:
    """Figure number (position) → the paragraphs that refer to it, in order.

    References are `xref` elements, ranges ("Figs. 2–4") included. An article without any is searched for "Fig. 2" in words.
    """
    targets = _targets(figures)
    by_paragraph: dict[Any, dict[int, None]] = {}
    last: tuple[Any, int] | None = None
    for ref in references:
        numbers = [n for rid in ref.get("rid", "").split() for n in targets.get(rid, ())]
        if numbers and (paragraph := next(ref.iterancestors("p"), None)) is not None:
            if last is not None and last[0] is ref.getprevious() and _RANGE.match(last[0].tail or ""):
                numbers = [*range(last[1] + 1, numbers[0]), *numbers]
            by_paragraph.setdefault(paragraph, {}).update(dict.fromkeys(numbers))
            last = (ref, numbers[-1])
    if not by_paragraph and figures:
        by_paragraph = _in_words(root, figures)
    mentions: dict[int, list[str]] = {}
    for paragraph, hits in by_paragraph.items():
        if next(paragraph.iterancestors("caption"), None) is None and (text := text_of(paragraph)):
            for number in hits:
                if len(texts := mentions.setdefault(number, [])) < MAX_MENTIONS:
                    texts.append(text)
    return mentions


def _targets(figures: list[Any]) -> dict[str, list[int]]:
    """id → positions of the figures it stands for: a figure's own id, or that of a group or graphic around or in it."""
    targets: dict[str, list[int]] = {}
    for number, figure in enumerate(figures):
        group = figure.getparent()
        elements = [figure, *([group] if group is not None and group.tag == "fig-group" else []), *figure.iterfind("graphic")]
        elements += figure.iter("fig") if figure.tag == "fig-group" else []
        for element in elements:
            if id_ := element.get("id"):
                targets.setdefault(id_, []).append(number)
    return targets


def _in_words(root: Any, figures: list[Any]) -> dict[Any, dict[int, None]]:
    numbers: dict[str, int] = {}
    for position, figure in enumerate(figures):
        if match := _IN_WORDS.search(figure.findtext("label") or ""):
            numbers.setdefault(match[1].lower(), position)
    body = root.find("body") if root.tag == "article" else root
    hits: dict[Any, dict[int, None]] = {}
    for paragraph in () if body is None or not numbers else body.iter("p"):
        for match in _IN_WORDS.finditer("".join(paragraph.itertext())):
            if (number := numbers.get(match[1].lower())) is not None:
                hits.setdefault(paragraph, {})[number] = None
    return hits
