"""One article of PubMed Central: metadata → licence and retraction → XML → triage → only the wanted pictures.

The layout is that of the bucket `pmc-oa-opendata` since August 2026: `metadata/PMC<id>.<v>.json` and `PMC<id>.<v>/<file>`. Knows
one article and its store; `pmc_collect` runs many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

from pathasst.collect import licences, triage
from pathasst.collect.folder import with_picture
from pathasst.collect.jats import parse
from pathasst.collect.pmc_plan import UNREACHABLE
from pathasst.collect.stores import Store
from pathasst.core.errors import BadInput, Unreachable
from pathasst.core.records import Article, Figure, Source
from pathasst.core.settings import Field, Settings
from pathasst.dataset import Dropped

_S3 = re.compile(r"s3://[^/]+/([^?]+)(?:\?md5=([0-9a-fA-F]{32}))?$")
_MEDIA_ORDER = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".gif")  # PMC keeps a small .gif preview beside many a .jpg


class Rules(Settings):
    """What is wanted of an article."""

    licence: str = Field(default="open", description="A policy of `licences.POLICIES`.")
    retracted: bool = Field(default=False, description="Keep retracted articles, too.")
    triage: bool = Field(default=True, description="Fetch only figures whose text says that they may show pathology.")
    threshold: float | None = Field(default=None, description="Of the triage's score; lower fetches more. None: its default.")


@dataclass(frozen=True)
class Metadata:
    """The bucket's own record of one version of an article."""

    article_id: str  # "PMC123.2"
    pmid: str = ""
    doi: str = ""
    title: str = ""
    licence: str = licences.UNKNOWN
    retracted: bool = False
    xml: str = ""  # key
    xml_md5: str = ""
    media: dict[str, tuple[str, str]] = field(default_factory=dict)  # file name → (key, MD5)


def read_metadata(store: Store, article_id: str) -> Metadata:
    """Raises BadInput when it is missing or malformed, Unreachable when it cannot be had."""
    content = store.get(f"metadata/{article_id}.json")
    if content is None:
        content = store.get(f"{article_id}/{article_id}.json")
    if content is None:
        raise BadInput(f"{article_id}: no metadata in the store.")
    try:
        value = json.loads(content)
        media = [_object(u) for u in value.get("media_urls") or []]
        xml, xml_md5 = _object(value["xml_url"])
        return Metadata(
            article_id=article_id,
            pmid=str(value.get("pmid") or ""),
            doi=str(value.get("doi") or ""),
            title=str(value.get("title") or ""),
            licence=licences.from_pmc(value.get("license_code")),
            retracted=bool(value.get("is_retracted")),
            xml=xml,
            xml_md5=xml_md5,
            media={PurePosixPath(key).name: (key, md5) for key, md5 in media},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{article_id}: malformed metadata ({type(error).__name__}: {error}).") from error


def _object(url: Any) -> tuple[str, str]:
    """`s3://bucket/key?md5=…` → (key, MD5)."""
    match = _S3.match(str(url))
    if not match:
        raise ValueError(f"{url!r} is no s3:// address")
    return match[1], (match[2] or "").lower()


def read_article(store: Store, metadata: Metadata) -> tuple[Article, list[Figure]]:
    """The article and its figures without pictures, provenance completed by the metadata.

    Raises BadInput when the XML is missing or broken, Unreachable when it cannot be had.
    """
    content = store.get(metadata.xml, metadata.xml_md5)
    if content is None:
        raise BadInput(f"{metadata.article_id}: its XML {metadata.xml} is missing from the store.")
    article, figures = parse(content, metadata.xml)
    old_id, source = article.source.article_id, _completed(article.source, metadata)
    renamed = [
        replace(
            f,
            figure_id=f"{source.article_id}/{f.figure_id.removeprefix(f'{old_id}/')}",
            # A figure's own terms stay; the others take those of the article.
            source=source
            if f.source == article.source
            else replace(source, licence=f.source.licence, licence_url=f.source.licence_url),
        )
        for f in figures
    ]
    return replace(article, source=source), renamed


def _completed(source: Source, metadata: Metadata) -> Source:
    """The XML's source with the store's id and version, and what the XML does not say."""
    pmcid, _, version = metadata.article_id.partition(".")
    return replace(
        source,
        article_id=metadata.article_id,
        pmcid=pmcid,
        version=int(version or 1),
        pmid=source.pmid or metadata.pmid,
        doi=source.doi or metadata.doi,
        title=source.title or metadata.title,
        licence=source.licence if source.licence != licences.UNKNOWN else metadata.licence,
        retracted=source.retracted or metadata.retracted,
    )


def collect_article(store: Store, article_id: str, rules: Rules) -> Iterator[Figure | Dropped]:
    """A Figure with its picture for every wanted figure, a Dropped for everything else.

    An article that cannot be reached in full gives one Dropped and no figure, so that another try loses and doubles nothing.
    """
    try:
        yield from list(_collect(store, article_id, rules))
    except Unreachable as error:
        yield Dropped(article_id, UNREACHABLE, str(error))
    except BadInput as error:
        yield Dropped(article_id, "unreadable-article", str(error))


def _collect(store: Store, article_id: str, rules: Rules) -> Iterator[Figure | Dropped]:
    metadata = read_metadata(store, article_id)
    if reason := refused(metadata.retracted, metadata.licence, rules):
        yield Dropped(article_id, *reason)
        return
    article, figures = read_article(store, metadata)
    if reason := refused(article.source.retracted, article.source.licence, rules):
        yield Dropped(article_id, *reason)
        return
    for figure in figures:
        if (drop := unwanted(figure, rules)) is not None:
            yield drop
        else:
            yield _fetched(store, figure, metadata)


def refused(retracted: bool, licence: str, rules: Rules) -> tuple[str, str] | None:
    """(reason, detail) why an article is left out, or None."""
    if retracted and not rules.retracted:
        return "retracted", ""
    return None if licences.allowed(licence, rules.licence) else ("licence", licence)


def unwanted(figure: Figure, rules: Rules) -> Dropped | None:
    """Why a figure's picture is not worth fetching, or None."""
    if not licences.allowed(figure.source.licence, rules.licence):
        return Dropped(figure.figure_id, "licence", figure.source.licence)
    if rules.triage and not triage.worth_fetching(figure, rules.threshold):
        return Dropped(figure.figure_id, "triage")
    return None


def _fetched(store: Store, figure: Figure, metadata: Metadata) -> Figure | Dropped:
    media = media_of(figure.graphic, metadata)
    if media is None:
        return Dropped(figure.figure_id, "no-picture", figure.graphic)
    content = store.get(*media)
    if content is None:
        return Dropped(figure.figure_id, "no-picture", f"{media[0]} is missing from the store")
    try:
        return with_picture(figure, content, media[0])
    except BadInput as error:
        return Dropped(figure.figure_id, "bad-picture", str(error))


def media_of(graphic: str, metadata: Metadata) -> tuple[str, str] | None:
    """(key, MD5) of a figure's media file: the same name, or the same stem with the best suffix."""
    name = PurePosixPath(graphic).name
    if not name:
        return None
    suffix = PurePosixPath(name).suffix.lower()
    stem = name[: -len(suffix)] if suffix in _MEDIA_ORDER else name
    tries = [name] if suffix in _MEDIA_ORDER and suffix != ".gif" else []
    tries += [stem + s.upper() if upper else stem + s for s in _MEDIA_ORDER for upper in (False, True)]
    return next((metadata.media[t] for t in (*tries, name) if t in metadata.media), None)
