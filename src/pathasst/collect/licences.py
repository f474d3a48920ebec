"""What may be done with an article: licence URLs, words and PMC codes → SPDX-like codes, and who may pass which filter.

Codes: `CC-BY-4.0`, `CC-BY-NC-ND-3.0`, `CC-BY` (version not said), `CC0-1.0`, `PDM-1.0`, `TDM`, `unknown`.
"""

from __future__ import annotations

import re
from typing import Any

from pathasst.collect.markup import text_of
from pathasst.core.errors import BadSettings

UNKNOWN = "unknown"
_XLINK = "{http://www.w3.org/1999/xlink}href"
_ALI = "{http://www.niso.org/schemas/ali/1.0}license_ref"
_CC_URL = re.compile(r"creativecommons\.org/licen[cs]es?/(by(?:-nc)?(?:-nd|-sa)?)(?:/(\d(?:\.\d)?))?", re.I)
_PUBLIC_URL = re.compile(r"creativecommons\.org/(?:publicdomain|licenses)/(zero|mark|publicdomain)(?:/(\d\.\d))?", re.I)
_CC_SHORT = re.compile(
    r"\bcc[ \-]?by((?:[ \-]?(?:nc|nd|sa))*)(?:[ \-]?(\d\.\d))?\b|creativecommons(by(?:-nc)?(?:-nd|-sa)?)", re.I
)
_CC_WORDS = re.compile(
    r"creative\s*commons\s+(?:public\s+domain|cc0|[\w\s\-–,:()]{0,20}?attribution)(?:[^.;]|\.(?=\d)){0,80}", re.I
)
_VERSION = re.compile(r"\b([1-4]\.\d)\b")

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
        return _code(
            match[3] or "by" + "".join(f"-{p}" for p in re.findall("nc|nd|sa", (match[1] or "").lower())), match[2] or ""
        )
    if re.search(r"\bcc[ \-]?0\b|public domain", text, re.I):
        return "CC0-1.0"
    if match := _CC_WORDS.search(text):
        words = match[0].lower()
        kind = "by"
        kind += "-nc" if re.search(r"non[\s\-–]?commercial", words) else ""
        kind += "-nd" if re.search(r"no[\s\-–]?deriv", words) else "-sa" if re.search(r"share[\s\-–]?alike", words) else ""
        version = _VERSION.search(words)
        return _code(kind, version[1] if version else "")
    return UNKNOWN


def from_pmc(code: str | None) -> str:
    """The code behind a PMC `license_code` ("CC BY-NC", "CC0", "TDM", null …)."""
    if not code:
        return UNKNOWN
    return "TDM" if code.strip().upper() == "TDM" else from_words(code)


def of_permissions(permissions: Any) -> tuple[str, str]:
    """(code, URL) of a JATS `permissions` element; (`unknown`, "") when it grants nothing recognisable.

    An address wins over an attribute, an attribute over words: "open access" alone says nothing about reuse.
    """
    if permissions is None:
        return UNKNOWN, ""
    licences = permissions.findall("license")
    urls = [e.get(_XLINK) for e in licences] + [e.text for e in permissions.iter(_ALI)]
    urls += [e.get(_XLINK) for licence in licences for e in licence.iter("ext-link", "uri")]
    for url in filter(None, urls):
        if (code := from_url(url.strip())) != UNKNOWN:
            return code, url.strip()
    for licence in licences:
        text = text_of(licence)
        for code in (from_url(text), from_words(licence.get("license-type", "")), from_words(text)):
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
