"""Is a generated text grounded in its caption? The gate that every conversation passes; what fails is dropped and counted.

Knows captions and the lexicon, no model. Three tests, each with a short reason that is counted:
`mentions-caption` (speaks of a caption, a figure or the text instead of the picture), `new-number`, `new-entity` (a term of the
lexicon or a symbol such as CD20 that the caption does not hold), and `new-words` (too many words that are not the caption's).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from pathasst.instruct.lexicon import Lexicon

MAX_NEW_WORDS = 0.35

_MENTION = re.compile(
    r"\b(?:captions?|legends?|fig(?:ure|s|\.)?\s*\d*[a-z]?\b(?!\w)|according to the text|the (?:text|article|paper|authors?)\b"
    r"|as (?:described|stated|mentioned|indicated) (?:in|by|above)|panels?\s+[a-h]\b"
    r"|(?:picture|image|photo)s?\s+\([a-h]\)|see (?:text|below|above|table)|table \d+)",
    re.IGNORECASE,
)
_FIGURATIVE = re.compile(r"\b(?:mitotic|signet|owl|flame)[ -]figures?\b|\bfigures? of mitosis\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:[.,]\d+)*")
_SYMBOL = re.compile(r"\b(?=\w*[A-Z0-9])(?=\w*[A-Z])[A-Z][A-Za-z]*\d[\w-]*|\b[A-Z]{2,}\w*\b")
_WORD = re.compile(r"[^\W\d_]{3,}")

PLAIN_TEXT = (
    "the and are was were this that these those with from for has have had not its into which there here shows show "
    "shown showing seen see sees image picture photomicrograph micrograph section slide field specimen sample "
    "tissue patch view can could may might also both one two three some many most more less yes no present visible "
    "appears appear displays display depicts depict reveals reveal contains contain consists consist features "
    "feature within between among around along near under over between each other their them they its it's you what "
    "how why where when does done being been such than then very well overall typical appearance stained stain "
    "staining organ diagnosis marker cell cells taken comes called means would name named type kind looks look like "
    "demonstrates evidence evident prominent characterized characterised "
    "composed suggests suggesting consistent indicating indicates indicate noted observed found identified areas "
    "area surrounding throughout "
)
PLAIN = frozenset(PLAIN_TEXT.split())


def faults(text: str, caption: str, lexicon: Lexicon, allow: Collection[str] = (), max_new: float = MAX_NEW_WORDS) -> list[str]:
    """Why `text` is not grounded in `caption`, as reasons; empty = grounded.

    `allow`: lexicon terms that may appear although the caption lacks them, such as the one a "no" question asks about.
    """
    faulty = []
    if mentions_caption(text):
        faulty.append("mentions-caption")
    if set(numbers(text)) - set(numbers(caption)):
        faulty.append("new-number")
    if _new_terms(text, caption, lexicon, allow) or _new_symbols(text, caption, allow):
        faulty.append("new-entity")
    if new_word_share(text, " ".join([caption, *allow])) > max_new:
        faulty.append("new-words")
    return faulty


def mentions_caption(text: str) -> bool:
    """Whether the text speaks of a caption, figure or article. "Mitotic figures" are none."""
    return bool(_MENTION.search(_FIGURATIVE.sub("mitoses", text)))


def numbers(text: str) -> list[str]:
    """The numbers of a text as written, without thousands separators."""
    return [n.replace(",", "") if re.fullmatch(r"\d{1,3}(,\d{3})+", n) else n for n in _NUMBER.findall(text)]


def new_word_share(text: str, caption: str) -> float:
    """The share of content words of `text` whose stem is not in `caption`, 0–1."""
    words = [w for w in _WORD.findall(text.lower()) if w not in PLAIN]
    if not words:
        return 0.0
    caption_stems = {stem(w) for w in _WORD.findall(caption.lower())}
    return sum(stem(w) not in caption_stems for w in words) / len(words)


def stem(word: str) -> str:
    """A crude stem: British and American spellings, plurals and the usual endings fall together."""
    word = word.lower().replace("ae", "e").replace("oe", "e").replace("our", "or").replace("isation", "ization")
    for ending in (
        "ically",
        "ation",
        "ical",
        "ment",
        "ally",
        "ings",
        "ing",
        "ous",
        "ies",
        "eal",
        "ial",
        "ed",
        "al",
        "ic",
        "ly",
        "es",
        "s",
        "y",
        "e",
    ):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def _new_terms(text: str, caption: str, lexicon: Lexicon, allow: Collection[str]) -> set[str]:
    allowed = lexicon.find(caption).all() | set(allow) | lexicon.find(" . ".join(allow)).all()
    caption_words = set(_WORD.findall(caption.lower()))
    return {
        term
        for term in lexicon.find(text).all() - allowed
        # "squamous cell carcinoma" in both is one fact, whichever kinds the lexicon files it under; but a colony is no colon
        if not all(any(stem(w) == stem(c) for c in caption_words - {f"{w}y", f"{w}ies"}) for w in _WORD.findall(term.lower()))
    }


def _new_symbols(text: str, caption: str, allow: Collection[str]) -> set[str]:
    allowed = {s.lower() for s in re.findall(r"[\w-]+", " ".join([caption, *allow]))}
    joined = re.sub(r"[\s-]", "", " ".join([caption, *allow])).lower()
    return {s for s in _SYMBOL.findall(text) if s.lower() not in allowed and s.lower().replace("-", "") not in joined}
