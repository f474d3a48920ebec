"""What may be done with an article: licence URLs, words and PMC codes → SPDX-like codes, and who may pass which filter.

Codes: `CC-BY-4.0`, `CC-BY-NC-ND-3.0`, `CC-BY` (version not said), `CC0-1.0`, `PDM-1.0`, `TDM`, `unknown`.
"""

from __future__ import annotations

import re
from typing import Any

from pathasst.core.errors import BadSettings
from pathasst.core.jats import ALI, HREF
from pathasst.core.jats_text import text_of

UNKNOWN = "unknown"
_ALI = f"{ALI}license_ref"
_CC_URL = re.compile(r"creativecommons\.org/licen[cs]es?/(by(?:-nc)?(?:-nd|-sa)?)(?:/(\d(?:\.\d)?))?", re.I)
_PUBLIC_URL = re.compile(r"creativecommons\.org/(?:publicdomain|licenses)/(zero|mark|publicdomain)(?:/(\d\.\d))?", re.I)
_CC_SHORT = re.compile(
    r"\bcc[\s\-‐‑–]?by((?:[\s\-‐‑–]?(?:nc|nd|sa))*)(?:[\s\-‐‑–]?(?:v(?:ersion)?\.?\s?)?(\d\.\d))?\b"
    r"|creative\s?commons(by(?:-nc)?(?:-nd|-sa)?)|\bcc(by(?:nc)?(?:nd|sa)?)licen[cs]e",
    re.I,
)
_BY = r"attribution|atribuci[oó]n|reconocimiento|namensnennung|atribui[cç][aã]o|attribuzione|paternit[eé]"
_NC = r"non?[\s\-‐‑–]?commerc|no[\s\-]?comercial|nicht[\s\-]?kommerz|utilisation commerciale|n[aã]o[\s\-]comercial"
_ND = r"no[\s\-‐‑–]?deriv|sin\s?(?:obra)?\s?derivad|keine[\s\-]bearbeitung|pas de modification|sem\s?deriva|non opere derivate"
_SA = r"share[\s\-‐‑–]?alike|compartir\s?igual|gleichen bedingungen|dans les m[eê]mes conditions|compartilha|condividi"
_CC_WORDS = re.compile(
    rf"creative\s*commons\W+(?:public\s+domain|cc0|zero|[\w\s\-‐‑–,:()«»“”\"']{{0,30}}?(?:{_BY}))(?:[^.;]|\.(?=\d)){{0,100}}",
    re.I,
)
_VERSION = re.compile(r"\b([1-4]\.\d)\b")
# Terms for text mining alone say nothing of a reader's rights.
_MINING = re.compile(r"text.?mining|\btdm\b|stm-asf", re.I)

POLICIES: dict[str, str] = {
    "open": "may be redistributed, commercially too (CC0, public domain, CC BY, CC BY-SA)",
    "research": "`open`, and non-commercial or no-derivatives Creative Commons licences",
    "any": "everything, also unknown licences and text-mining-only articles: for private analysis",
}


def from_url(url: str) -> str:
    """The code of a Creative Commons address, else `unknown`. National ports (`/by/2.0/uk/`) count as their version."""
    if match := _CC_URL.search(url):
        return _code(match[1], match[2] or "")
    if match := _PUBLIC_URL.search(url):
        return "PDM-1.0" if match[1].lower() == "mark" else "CC0-1.0"
    return UNKNOWN


def from_words(text: str) -> str:
    """The code that a licence statement or attribute names in words, else `unknown`."""
    if match := _CC_SHORT.search(text):
        parts = re.findall("nc|nd|sa", (match[1] or match[3] or match[4] or "").lower())
        return _code("by" + "".join(f"-{p}" for p in parts), match[2] or "")
    if re.search(r"\bcc[ \-]?(?:0|zero)\b|public domain", text, re.I):
        return "CC0-1.0"
    if match := _CC_WORDS.search(text):
        words = match[0].lower()
        kind = "by"
        kind += "-nc" if re.search(_NC, words) else ""
        kind += "-nd" if re.search(_ND, words) else "-sa" if re.search(_SA, words) else ""
        version = _VERSION.search(words)
        return _code(kind, version[1] if version else "")
    return UNKNOWN


def from_pmc(code: str | None) -> str:
    """The code behind a PMC `license_code` ("CC BY-NC", "CC0", "TDM", null …)."""
    if not code:
        return UNKNOWN
    return "TDM" if code.strip().upper() == "TDM" else from_words(code)


def of_permissions(permissions: Any) -> tuple[str, str]:
    """(code, URL) of a JATS `permissions` element, or of the `article-meta` of older files that hold its parts themselves;
    (`unknown`, "") when it grants nothing recognisable.

    An address wins over an attribute, an attribute over words: "open access" alone says nothing about reuse. Words may stand in
    the licence or in the copyright statement.
    """
    if permissions is None:
        return UNKNOWN, ""
    licences = [e for e in permissions.iterfind("license") if not _MINING.search(e.get("specific-use", ""))]
    statements = [*licences, *permissions.iterfind("copyright-statement"), *permissions.iterfind("copyright-holder")]
    urls = [e.get(HREF) for e in licences]
    urls += [e.text for e in permissions.iter(_ALI) if not _MINING.search(e.get("specific-use", ""))]
    urls += [e.get(HREF) for s in statements for e in s.iter("ext-link", "uri")]
    for url in filter(None, urls):
        if (code := from_url(url.strip())) != UNKNOWN:
            return code, url.strip()
    types = [e.get(a, "") for e in (*licences, *permissions.iter(_ALI)) for a in ("license-type", "content-type", "specific-use")]
    for text in [*types, *map(text_of, statements)]:
        for code in (from_url(text), from_words(text)):
            if code != UNKNOWN:
                return code, ""
    return UNKNOWN, next((u.strip() for u in urls if u), "")


def allowed(code: str, policy: str) -> bool:
    """Whether an article of this licence passes a policy (`open`, `research`, `any`). Raises BadSettings for another policy."""
    if policy not in POLICIES:
        raise BadSettings(f"licence policy {policy!r} is unknown; choose one of {', '.join(POLICIES)}.")
    if policy == "any":
        return True
    restricted = "-NC" in code or "-ND" in code
    return code.startswith(("CC", "PDM")) and (policy == "research" or not restricted)


def _code(kind: str, version: str) -> str:
    version = f"{version}.0" if version and "." not in version else version
    return f"CC-{kind.upper()}" + (f"-{version}" if version else "")
