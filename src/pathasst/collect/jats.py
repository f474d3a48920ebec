"""JATS (and its ancestor, NLM) XML → Article and Figures.

Knows the markup of one article. Knows nothing of where it lies, of its picture files, or of other articles. The XML is outside
data: entities are never fetched, expansion bombs, too deep or broken files raise BadInput, which costs that article alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from lxml import etree

from pathasst.collect import licences
from pathasst.collect.markup import blocks_text, resolve_entities, text_of
from pathasst.core.errors import BadInput
from pathasst.core.records import Article, Figure, Source

# Entities stay references: nothing is fetched and no bomb unfolds. `resolve_entities` replaces the harmless ones.
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
_HREF = "{http://www.w3.org/1999/xlink}href"
_REF_TYPES = frozenset({"fig", "figure", "Fig", "fig-group"})
_DATE_ORDER = ("epub", "pub", "epub-ppub", "ppub", "collection", "epreprint", "epub-version", "epub-original")
_MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTHS = {m: i for i, m in enumerate(_MONTH_NAMES, 1)}
MAX_MENTIONS = 50  # a figure of an honest article has one to ten
_EXCLUDED = frozenset({"supplementary-material", "inline-supplementary-material"})
_RANGE = re.compile(r"^\s*(?:[-–—]|to|through)\s*$")
_IN_WORDS = re.compile(r"\bfig(?:ure|s|ures)?\b\.?\s*(s?\d+)", re.I)
_RASTER = re.compile(r"\.(?:jpe?g|png|gif)$", re.I)


def parse(content: bytes, name: str) -> tuple[Article, list[Figure]]:
    """One article's metadata and its figures (pictures empty), in document order.

    `name` (its file name) identifies it when it has neither PMCID nor DOI. A figure with several graphics gives one Figure
    each. Figures of supplementary material are left out; `alternatives` count once.

    Raises BadInput when the bytes are no well-formed XML within libxml2's limits (an entity bomb is not), or no article.
    """
    root, figures, references = _read(content, name)
    meta = root.find("front/article-meta")
    if meta is None:
        meta = root.find("front-stub")
    source = _source(root, meta, PurePath(name).name.split(".")[0] or name)
    article = _article(meta, source)
    mentions = _mentions(root, figures, references)
    keywords = article.keywords + [m for m in article.mesh if m not in article.keywords]
    return article, [
        figure
        for number, (element, fig_id) in enumerate(zip(figures, _ids(figures), strict=True))
        for figure in _figure(element, fig_id, source, mentions.get(number, []), keywords)
    ]


def _read(content: bytes, name: str) -> tuple[Any, list[Any], list[Any]]:
    """The article element, its figures, and its references to figures: one walk over the tree, which is the costly part."""
    root = _root(content, name)
    if root.tag != "article":
        found = next(root.iter("article"), None)  # OAI answers and <pmc-articleset> wrap it
        if found is None:
            raise BadInput(f"{name}: <{root.tag}> holds no JATS <article>.")
        root = found
    figures, references, entities = [], [], []
    for element in root.iter("fig", "xref", etree.Entity):
        tag = element.tag
        if tag == "xref":
            if element.get("ref-type") in _REF_TYPES:
                references.append(element)
        elif tag == "fig":
            if not _excluded(element):
                figures.append(element)
        else:
            entities.append(element)
    resolve_entities(entities, name)
    return root, figures, references


def _root(content: bytes, name: str) -> Any:
    """The document element. The list of references, often half of the bytes and never with a figure, is left out."""
    start = content.rfind(b"<ref-list")  # the last one: what follows up to the first end tag is a whole element
    end = content.find(b"</ref-list>", start) if start > 0 else -1
    if end > 0:
        try:
            return etree.fromstring(content[:start] + content[end + len(b"</ref-list>") :], _PARSER)
        except (etree.XMLSyntaxError, ValueError):
            pass  # it stood in a comment, or the file is broken anyway: the whole file decides
    try:
        return etree.fromstring(content, _PARSER)
    except (etree.XMLSyntaxError, ValueError, AssertionError, LookupError) as error:
        raise BadInput(f"{name}: no readable XML ({error}). Fetch it again or leave it out.") from error


def _source(root: Any, meta: Any, stem: str) -> Source:
    ids: dict[str, str] = {}
    for element in () if meta is None else meta.iterfind("article-id"):
        ids.setdefault(element.get("pub-id-type", ""), text_of(element))
    number, version = _pmc(ids)
    pmcid = f"PMC{number}" if number else ""
    doi = re.sub(r"^(?:https?://(?:dx\.)?doi\.org/|doi:\s*)", "", ids.get("doi", ""))
    if meta is None:
        return Source(article_id=f"file:{stem}")
    title = text_of(t) if (t := meta.find("title-group/article-title")) is not None else ""
    licence, url = licences.of_permissions(meta.find("permissions"))
    return Source(
        article_id=f"{pmcid}.{version}" if pmcid else f"doi:{doi}" if doi else f"file:{stem}",
        pmcid=pmcid,
        pmid=ids.get("pmid", ""),
        doi=doi,
        version=version,
        title=title,
        journal=_journal(root),
        date=_date(meta),
        licence=licence,
        licence_url=url,
        retracted=title.lower().lstrip("[ ").startswith("retracted")
        or any("retraction-forward" in e.get("related-article-type", "") for e in meta.iterfind("related-article")),
    )


def _pmc(ids: dict[str, str]) -> tuple[str, int]:
    """(digits, version) of the PMCID; the older and the newer tagging of PMC."""
    for key in ("pmcid-ver", "pmcid", "pmc", "pmcaid"):
        if match := re.match(r"(?:PMC)?(\d+)(?:\.(\d+))?$", ids.get(key, "")):
            return match[1], int(match[2] or 1)
    return "", 1


def _journal(root: Any) -> str:
    for path in ("front/journal-meta/journal-title-group/journal-title", "front/journal-meta/journal-title"):
        if (element := root.find(path)) is not None:
            return text_of(element)
    return ""


def _date(meta: Any) -> str:
    """The publication date, ISO 8601, as precise as it is given; online before print."""
    found = {(e.get("date-type") or e.get("pub-type") or "pub"): e for e in reversed(meta.findall("pub-date"))}
    for kind in _DATE_ORDER:
        if kind in found and (date := _iso(found[kind])):
            return date
    return ""


def _iso(element: Any) -> str:
    year, month, day = ((element.findtext(k) or "").strip() for k in ("year", "month", "day"))
    if not re.fullmatch(r"\d{4}", year):
        return (element.get("iso-8601-date") or "")[:10]
    number = int(month) if month.isdigit() else _MONTHS.get(month[:3].lower(), 0)
    if not 1 <= number <= 12:
        return year
    return f"{year}-{number:02d}" + (f"-{int(day):02d}" if day.isdigit() and 1 <= int(day) <= 31 else "")


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
    return Article(source=source, abstract=blocks_text(plain[0]) if plain else "", keywords=keywords, mesh=mesh)


def _excluded(element: Any) -> bool:
    return next(element.iterancestors(*_EXCLUDED), None) is not None


def _ids(figures: list[Any]) -> Iterator[str]:
    """Each figure's id; one that is missing or taken is made from its position."""
    seen: set[str] = set()
    for number, figure in enumerate(figures, 1):
        fig_id = figure.get("id") or ""
        if not fig_id or fig_id in seen:
            fig_id = f"{fig_id or 'fig'}~{number}"
        seen.add(fig_id)
        yield fig_id


def _figure(element: Any, fig_id: str, source: Source, mentions: list[str], keywords: list[str]) -> Iterator[Figure]:
    label, title, caption = _caption(element)
    if (permissions := element.find("permissions")) is not None:
        licence, url = licences.of_permissions(permissions)  # a figure taken from elsewhere has terms of its own
        source = replace(source, licence=licence, licence_url=url)
    hrefs = _graphics(element) or [""]
    for part, href in enumerate(hrefs):
        yield Figure(
            figure_id=f"{source.article_id}/{fig_id}" + (f"#{part}" if part else ""),
            source=source,
            label=label,
            title=title,
            caption=caption,
            mentions=mentions,
            keywords=keywords,
            graphic=href,
            part=part,
        )


def _caption(element: Any) -> tuple[str, str, str]:
    """(label, title, caption with title). A figure inside a group takes what the group says about all of its members."""
    label = text_of(e) if (e := element.find("label")) is not None else ""
    own = element.find("caption")
    title = text_of(e) if own is not None and (e := own.find("title")) is not None else ""
    caption = blocks_text(own) if own is not None else ""
    group = element.getparent()
    if group is not None and group.tag == "fig-group":
        label = label or (text_of(e) if (e := group.find("label")) is not None else "")
        if (shared := group.find("caption")) is not None:
            caption = " ".join(filter(None, (blocks_text(shared), caption)))
            title = title or (text_of(e) if (e := shared.find("title")) is not None else "")
    return label, title, caption


def _graphics(element: Any) -> list[str]:
    """The hrefs of a figure's graphics; of `alternatives` the one that a browser shows, or the first."""
    hrefs: list[str] = []
    for graphic in element.iter("graphic"):
        parent = graphic.getparent()
        if parent.tag == "alternatives":
            others = [h for g in parent.iterfind("graphic") if (h := g.get(_HREF))]
            chosen = next((h for h in others if _RASTER.search(h)), others[0] if others else "")
            if graphic.get(_HREF) != chosen:
                continue
        href = graphic.get(_HREF) or ""
        if href and href not in hrefs and parent.tag not in ("disp-formula", "inline-formula"):
            hrefs.append(href)
    return hrefs


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
    for paragraph, found in by_paragraph.items():
        if next(paragraph.iterancestors("caption"), None) is None and (text := text_of(paragraph)):
            for number in found:
                if len(texts := mentions.setdefault(number, [])) < MAX_MENTIONS:
                    texts.append(text)
    return mentions


def _targets(figures: list[Any]) -> dict[str, list[int]]:
    """id → positions of the figures it stands for: a figure's own id, or that of a group or graphic around or in it."""
    targets: dict[str, list[int]] = {}
    for number, figure in enumerate(figures):
        group = figure.getparent()
        elements = [figure, *([group] if group is not None and group.tag == "fig-group" else []), *figure.iterfind("graphic")]
        for element in elements:
            if id_ := element.get("id"):
                targets.setdefault(id_, []).append(number)
    return targets


def _in_words(root: Any, figures: list[Any]) -> dict[Any, dict[int, None]]:
    numbers: dict[str, int] = {}
    for position, figure in enumerate(figures):
        if match := _IN_WORDS.search(figure.findtext("label") or ""):
            numbers.setdefault(match[1].lower(), position)
    body = root.find("body")
    found: dict[Any, dict[int, None]] = {}
    for paragraph in () if body is None or not numbers else body.iter("p"):
        for match in _IN_WORDS.finditer("".join(paragraph.itertext())):
            if (number := numbers.get(match[1].lower())) is not None:
                found.setdefault(paragraph, {})[number] = None
    return found
