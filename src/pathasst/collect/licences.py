"""What may be done with an article: licence URLs, words and PMC codes → SPDX-like codes, and who may pass which filter.

Codes: `CC-BY-4.0`, `CC-BY-NC-ND-3.0`, `CC-BY` (version not said), `CC0-1.0`, `PDM-1.0`, `TDM`, `unknown`; `OA` and `OA-NC`
where the article's own words allow redistribution and name no licence.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from pathasst.core.errors import BadSettings
from pathasst.core.jats import ALI, HREF
from pathasst.core.jats_text import text_of

UNKNOWN = "unknown"
_ALI = f"{ALI}license_ref"
_CC_URL = re.compile(
    r"creativecommons\.org/(?:licen[cs]es?/)?(?:cc[-_])?((?:by|nc|nd|sa)(?:[-_+](?:by|nc|nd|sa))*)(?![a-z])(?:/(\d(?:\.\d)?))?",
    re.I,
)
_PUBLIC_URL = re.compile(r"creativecommons\.org/(?:publicdomain|licenses)/(zero|mark|publicdomain)(?:/(\d\.\d))?", re.I)
_HYPHENS = str.maketrans(dict.fromkeys("‐‑‒–—−", "-"))
_CC_SHORT = re.compile(
    r"\bcc[\s\-:/]?by((?:[\s\-]?(?:nc|nd|sa))*)(?:[\s\-]?(?:v(?:ersion)?\.?\s?)?(\d\.\d))?\b"
    r"|creative[\s-]?commons[\s-]?(by(?:[\s-]?(?:nc|nd|sa))*)(?:[\s-]?(\d\.\d))?\b|\bcc(by(?:nc)?(?:nd|sa)?)licen[cs]e",
    re.I,
)
_BY = r"attribution|atribuci[oó]n|reconocimiento|namensnennung|atribui[cç][aã]o|attribuzione|paternit[eé]"
_NC = r"non?[\s\-‐‑–]?commerc|no[\s\-]?comercial|nicht[\s\-]?kommerz|utilisation commerciale|n[aã]o[\s\-]comercial"
_ND = r"no[\s\-‐‑–]?deriv|sin\s?(?:obra)?\s?derivad|keine[\s\-]bearbeitung|pas de modification|sem\s?deriva|non opere derivate"
_SA = r"share[\s\-‐‑–]?alike|compartir\s?igual|gleichen bedingungen|dans les m[eê]mes conditions|compartilha|condividi"
_CC_WORDS = re.compile(
    rf"(?:creative[\s-]*commons?\W*|\bcc\s)(?:[\w\s\-,:()«»“”\"']{{0,30}}?(?:{_BY}))(?:[^.;]|\.(?=\d)){{0,100}}",
    re.I,
)
_CC_ZERO = re.compile(r"\bcc[ -]?(?:0|zero)\b|public domain|creative[\s-]*commons?\W+zero", re.I)
_CC_UNNAMED = re.compile(r"creative[\s-]*commons?\s+licen[cs]e.{0,60}permits.{0,80}unrestricted.{0,20}\buse\b", re.I | re.S)
"""Of Creative Commons, without its name: what these words grant is BY, or BY-NC."""
_OWN_TERMS = re.compile(
    r"permits?\s+(?:any\s+|unrestricted,?\s+)?(?:non-?\s?commercial,?\s+)?(?:unrestricted\s+)?(?:non-?\s?commercial\s+)?use"
    r"|redistribution of this article (?:is|are) permitted|entitled to use, reproduce, disseminate",
    re.I,
)
"""Open access by an article's own words, which name no licence of Creative Commons."""
_VERSION = re.compile(r"\b([1-4]\.\d)\b")
# Terms for text mining alone say nothing of a reader's rights.
_MINING = re.compile(r"text.?mining|\btdm\b|stm-asf", re.I)

POLICIES: dict[str, str] = {
    "open": "may be redistributed, commercially too (CC0, public domain, CC BY, CC BY-SA; MIT, BSD, Apache of data sets)",
    "research": "`open`, non-commercial or no-derivatives Creative Commons licences, and open access by an article's own words",
    "any": "everything, also unknown licences and text-mining-only articles: for private analysis",
}


def from_url(url: str) -> str:
    """The code of a Creative Commons address, else `unknown`. National ports (`/by/2.0/uk/`) count as their version."""
    plain = unquote(url).translate(_HYPHENS)
    for text in (plain, re.sub(r"\s+", "", plain)):  # "creativecommons.org/ licenses/by"
        if match := _CC_URL.search(text):
            return _code(match[1], match[2] or "")
        if match := _PUBLIC_URL.search(text):
            return "PDM-1.0" if match[1].lower() == "mark" else "CC0-1.0"
    return UNKNOWN


def from_words(text: str) -> str:
    """The code that a licence statement or attribute names in words, else `unknown`.

    `OA` and `OA-NC`: it names no licence, and its own words allow redistribution (BioMed Central until 2004, PLoS until 2003).
    """
    text = text.translate(_HYPHENS)
    if match := _CC_SHORT.search(text):
        return _code("by-" + (match[1] or match[3] or match[5] or "").lower(), match[2] or match[4] or "")
    if match := _CC_WORDS.search(text):
        words = match[0].lower()
        kind = "by"
        kind += "-nc" if re.search(_NC, words) else ""
        kind += "-nd" if re.search(_ND, words) else "-sa" if re.search(_SA, words) else ""
        version = _VERSION.search(words)
        return _code(kind, version[1] if version else "")
    if _CC_ZERO.search(text):
        return "CC0-1.0"
    restricted = re.search(_NC, text, re.I) is not None
    if _CC_UNNAMED.search(text):
        return "CC-BY-NC" if restricted else "CC-BY"
    if _OWN_TERMS.search(text):
        return "OA-NC" if restricted else "OA"
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


def of_notes(root: Any) -> tuple[str, str]:
    """As `of_permissions`, from the notes, footnotes and custom metadata of an article whose `permissions` grant nothing.

    A sentence about data or code says nothing of the article.
    """
    for path in ("front//custom-meta/meta-value", "front//notes//p", "front//fn/p", "back//notes//p", "back//fn/p", "back/ack/p"):
        for element in root.iterfind(path):
            text = text_of(element)
            if "reative" not in text and "CC" not in text:
                continue
            if re.search(r"\b(?:data|dataset|code|software|figure|image|photograph)s?\b", text, re.I):
                continue
            links = [e.get(HREF) or "" for e in element.iter("ext-link", "uri")]
            for code in (*map(from_url, links), from_url(text), from_words(text)):
                if code.startswith("CC"):
                    return code, next((link for link in links if from_url(link) == code), "")
    return UNKNOWN, ""


def allowed(code: str, policy: str) -> bool:
    """Whether an article of this licence passes a policy (`open`, `research`, `any`). Raises BadSettings for another policy."""
    if policy not in POLICIES:
        raise BadSettings(f"licence policy {policy!r} is unknown; choose one of {', '.join(POLICIES)}.")
    if policy == "any":
        return True
    parts = re.split(r"[\s-]+", code.upper())
    if parts[0] in ("CC", "CC0", "PDM", "PUBLIC", "MIT", "APACHE", "BSD"):
        return policy == "research" or not {"NC", "ND"} & set(parts)
    return parts[0] == "OA" and policy == "research"  # terms of its own, which nobody has weighed


def _code(kind: str, version: str) -> str:
    """The code of the parts by, nc, nd, sa in any order and spelling."""
    parts = re.findall("by|nc|nd|sa", kind.lower())
    version = f"{version}.0" if version and "." not in version else version
    return "-".join(["CC", *(p.upper() for p in ("by", "nc", "nd", "sa") if p in parts)]) + (f"-{version}" if version else "")
