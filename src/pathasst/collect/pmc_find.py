"""Which articles to collect: a list of ids, an E-utilities search, or the bucket's daily inventory of everything.

All three give article ids with or without version ("PMC123.2", "PMC123"); `pmc` resolves the latter. Nothing is fetched of the
articles themselves.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pathasst.collect.polite import PoliteClient
from pathasst.collect.stores import Store
from pathasst.core.errors import BadInput, BadSettings, Unreachable

EUTILS = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils"
PAGE = 5000  # ids per answer
INVENTORY = "inventory-reports/pmc-oa-opendata/metadata/"
OPEN_FILTER = "open_access[Filter]"
_ID = re.compile(r"(?:PMC)?(\d+)(?:\.(\d+))?$", re.I)
_METADATA_KEY = re.compile(r"metadata/PMC(\d+)\.(\d+)\.json$")


def normal_id(text: str) -> str:
    """ "123", "pmc123", "PMC123.2" → "PMC123" or "PMC123.2". Raises BadInput for anything else."""
    match = _ID.match(text.strip())
    if not match:
        raise BadInput(f"{text.strip()!r} is no PMC id; write PMC123 or PMC123.2.")
    return f"PMC{match[1]}" + (f".{match[2]}" if match[2] else "")


def read_ids(path: Path) -> list[str]:
    """Ids from a text file, one a line; the first column counts, `#` starts a comment. Raises BadSettings when there is none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} cannot be read ({error}).") from error
    words = [re.split(r"[\s,;]", line.split("#")[0].strip())[0] for line in lines]
    try:
        ids = [normal_id(w) for w in words if w and w.lower() not in ("pmcid", "id", "article")]
    except BadInput as error:
        raise BadSettings(f"{path}: {error}") from error
    if not ids:
        raise BadSettings(f"{path} holds no PMC id.")
    return list(dict.fromkeys(ids))


def search(
    query: str, client: PoliteClient, *, since: str = "", limit: int = 0, base: str = EUTILS, contact: str = "", api_key: str = ""
) -> Iterator[str]:
    """Ids of the articles that an E-utilities query finds in PMC, open access only.

    `since` (YYYY-MM-DD) keeps what went live on or after that day; `limit` 0 = all. NCBI asks for at most 3 requests a second
    without an API key and 10 with one: set the client's rate so. Raises Unreachable or BadInput.
    """
    term = f"({query}) AND {OPEN_FILTER}"
    if since:
        term += f' AND ("{since.replace("-", "/")}"[pmclivedate] : "3000"[pmclivedate])'
    fixed = {"db": "pmc", "term": term, "retmode": "json", "tool": "pathasst", "email": contact, "api_key": api_key}
    start, total = 0, 1
    while start < total and (not limit or start < limit):
        size = min(PAGE, limit - start) if limit else PAGE
        page = {k: v for k, v in fixed.items() if v} | {"retstart": str(start), "retmax": str(size)}
        answer = client.get(f"{base.rstrip('/')}/esearch.fcgi", page)
        if answer is None:
            raise Unreachable(f"{base}: no esearch.fcgi there. Check --eutils.")
        try:
            result = json.loads(answer.content)["esearchresult"]
            total, ids = int(result["count"]), [normal_id(i) for i in result["idlist"]]
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{base}: the search answered in a form that is not understood ({error}).") from error
        if not ids:
            return
        yield from ids
        start += len(ids)


def inventory(store: Store, since: str = "") -> Iterator[str]:
    """The newest version of every article in the bucket's newest daily inventory, as "PMC123.2".

    `since` (YYYY-MM-DD) keeps articles whose metadata changed on or after that day: a new version, or a changed licence or
    retraction. Raises Unreachable when the store has no inventory, BadInput when it cannot be read.
    """
    days = [d.key for d in store.list(INVENTORY, "/") if re.search(r"/\d{4}-\d\d-\d\dT\d\d-\d\dZ/$", d.key)]
    if not days:
        raise Unreachable(f"The store has no {INVENTORY}<day>/. Use --ids or --query instead.")
    newest: dict[int, int] = {}
    changed: set[int] = set()
    for key, modified in _rows(store, max(days)):
        if match := _METADATA_KEY.match(key):
            number, version = int(match[1]), int(match[2])
            newest[number] = max(version, newest.get(number, 0))
            if since and modified[:10] >= since:
                changed.add(number)
    for number in sorted(changed if since else newest):
        yield f"PMC{number}.{newest[number]}"


def _rows(store: Store, day: str) -> Iterator[tuple[str, str]]:
    """(key, last modified) of every object in one day's inventory."""
    try:
        manifest = json.loads(_must(store, f"{day}manifest.json"))
        columns = [c.strip() for c in manifest["fileSchema"].split(",")]
        key_at, modified_at = columns.index("Key"), columns.index("LastModifiedDate")
        files = [(str(f["key"]), str(f.get("MD5checksum", ""))) for f in manifest["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{day}manifest.json is not understood ({error}).") from error
    for key, md5 in files:
        try:
            with gzip.open(io.BytesIO(_must(store, key, md5)), "rt", encoding="utf-8", newline="") as text:
                for row in csv.reader(text):
                    yield row[key_at], row[modified_at]
        except (OSError, EOFError, IndexError, UnicodeDecodeError, csv.Error) as error:
            raise BadInput(f"{key}: unreadable part of the inventory ({error}). Run again.") from error


def _must(store: Store, key: str, md5: str = "") -> bytes:
    if (content := store.get(key, md5)) is None:
        raise BadInput(f"{key} is missing from the store.")
    return content


def latest(store: Store, article: str) -> str | None:
    """The newest version of one article, "PMC123" → "PMC123.2"; an id that has a version keeps it. None when there is none."""
    if "." in article:
        return article
    matches = [_METADATA_KEY.match(f"metadata/{e.key.strip('/')}.json") for e in store.list(f"{article}.", "/")]
    versions = [int(m[2]) for m in matches if m and f"PMC{m[1]}" == article]
    return f"{article}.{max(versions)}" if versions else None


def newest_only(ids: Iterable[str]) -> list[str]:
    """Ids without repeats; of one article's versions the newest alone, an unversioned id only when no version is named."""
    best: dict[str, int] = {}
    for article in ids:
        base, _, version = article.partition(".")
        best[base] = max(best.get(base, 0), int(version or 0))
    return [f"{base}.{version}" if version else base for base, version in best.items()]
