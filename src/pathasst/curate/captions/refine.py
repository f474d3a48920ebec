"""Refining a sub-caption by rule: keep what can be seen, drop the rest, write as one looking at the picture (PathCap step 3).

Knows text alone. Dropped: magnification, scale bars, age and sex, statistics, references to other figures, methods, copyright.
Nothing is added, and `verify.new_facts` proves it each time: a refinement that fails the check is given up and the source's
words stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pathasst.core.text import sentence_spans
from pathasst.curate.captions.verify import lost_negation, new_facts

_NUM = r"\d+(?:[.,]\d+)*"
_UNIT = r"(?!\s*(?:[μµu]m|mum|nm|mm|cm|m|ml|kg|g|Gy|10)\b|\d|\.\d|\s*[×xX*]\s*\d)"
_MAG = (
    rf"(?:(?<![\w.])(?<![\d.]\s)[×xX*]\s?{_NUM}{_UNIT}(?:\s*(?:,|and|&|/|[-–])\s*[×xX*]?\s?{_NUM}{_UNIT})*|"
    rf"(?<![\w.])(?<![×xX*]\s){_NUM}\s?[×xX*](?!\s?[\d(])(?=\W|$))"
)
"""×400, x 40, 20×, [200*]; but neither 6.6 × 3.1 cm nor 5 × 10^5."""
_OPENINGS = (
    r"(?:original |final |total |all )?magnifications?\b",
    r"original\b",
    r"(?:low|high)(?:er)? (?:power|magnification) (?:is|was)\b",
    r"(?:all |the |white |black )?(?:scale )?bars?\b(?!\s+(?:graph|chart|plot))",
    r"scales?\s*[:=]|abbreviations?\b|notes?\s*:",
    r"reproduced|adapted|courtesy|copyright|figure reprinted|this figure",
    r"see (?:also |text|fig|table|supp|additional|ref|materials)",
    r"for (?:details|interpretation|an explanation|further)",
    r"(?:error|vertical) bars?\b",
    r"(?:data|values|results) (?:are|represent|were)",
    r"n\s*=|[*#†‡§]|p\s*[<=>]|statistic",
    r"(?:the )?colou?rs? (?:figure|version|image)",
    r"(?:(?:photo|image|picture|(?:photo)?micrograph)s?\W{0,2}\s?)?(?:provided|contributed|supplied|courtesy|credits?|source)\b\s?(?:[a-z]\b)?\s?(?:by|:|of|from)",
    r"(?:photo|image|picture|(?:photo)?micrograph)s?\s?(?:by\b|:|credit|courtesy|source|provided|contributed)",
    r"(?:re)?printed with|©|\(c\)\s?(?:19|20)\d\d|cc[ -]by\b|creative commons|licensed under",
    r"(?:similar|representative) (?:results|of (?:at least )?(?:two|three|\d))",
    r"experiments? (?:were|was)",
    r"(?:mice|rats|animals|cells|patients|tissues?|sections|samples) (?:were|was) "
    r"(?:sacrificed|collected|incubated|treated|fixed|injected|harvested|obtained|grown|seeded)",
)
"""How sentences begin that say nothing of what is seen."""
_DROPPED_SENTENCE = re.compile(rf"(?i)^\W*(?:{'|'.join(_OPENINGS)})")
_CUT = (
    re.compile(rf"(?:[,;:]\s*|(?<=[.?!]\s)|^|\s)LM\s*{_MAG}(?:,?\s*(?:and\s)?LM\s*{_MAG})*"),
    re.compile(r"©[^.;()]*"),
    re.compile(
        r"(?i)[,;:]?\s*\b(?:at\s+)?(?:original|final|initial|total)?\s*(?:magnifications?|mag\.?|objectives?)\s*"
        rf"(?:of|:|=|,|at|was|is)?\s*{_MAG}"
    ),
    re.compile(
        rf"(?i)[,;]?\s*(?:\b(?:at|under|with)\s)?\s*(?:an?\s+)?(?:original\s+)?{_MAG}\s*"
        r"(?:magnifications?|objectives?|lens|oil immersion)?"
    ),
    re.compile(
        r"(?i)[,;.]?\s*\b(?:all\s+|white\s+|black\s+)?(?:scale\s+)?bars?(?:\s+lengths?)?\s*"
        rf"(?:[:=,]|is|are|represents?|indicates?|equals?|of|\s)\s*{_NUM}\s*(?:[μµu]m|mum|nm|mm|cm|microns?|micromet(?:er|re)s?)\b"
    ),
    re.compile(
        r"(?i)(?:\b(?:as\s+)?(?:described|shown|seen|listed|indicated|depicted|illustrated)\s+)?(?:\b(?:in|see)\s+)?"
        r"(?:supplementary\s+|additional\s+|online\s+)?"
        r"\b(?:figs?\.?|figures?|tables?|videos?|movies?)\s*S?\d+[A-Za-z]?(?:\s*[-–,]\s*\d*[A-Za-z]\b)?"
    ),
    re.compile(r"\[\s*\d+(?:\s*[-–,]\s*\d+)*\s*\]"),
    re.compile(
        r"(?i)\s*[(\[][^()\[\]]{0,60}?\b(?:provided by|contributed by|courtesy|credit|reproduced|adapted|modification of work|"
        r"with permission|copyright|©)[^()\[\]]*(?:\([^()]*\)[^()\[\]]*)*[)\]]"
    ),
    re.compile(rf"(?i)\s*[*#†‡]*\s*\bp\s*(?:-?values?)?\s*[<=>≤≥]\s*(?:{_NUM}|\.\d+)(?:\s*[×x]\s*10[-−]?\d+)?"),
    re.compile(r"(?i)\bn\s*=\s*\d+(?:[-–]\d+)?(?:\s+(?:per|for each|in each)\s+\w+)?"),
    re.compile(r"(?i)(?:\b(?:for|in|of|from)\s+)?\b(?:case|patient)\s+(?:no\.?\s*|#\s*)?\d+\b[:,]?"),
    re.compile(r"(?i)\s+(?:is|are|was|were)\s+(?:shown|seen|depicted|illustrated|presented)\s+in\s*(?=[.;,]|$)"),
)
"""What is cut out of a sentence. Brackets are left and tidied later, so that "(H&E, ×400)" keeps its stain."""
_PERSON = r"(?:male|female|man|woman|boy|girl|infant|child|patient|lady|gentleman|subject|individual)"
_TENS = r"(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety)(?:-\w+)?"
_PEOPLE = r"(?:caucasian|asian|japanese|chinese|african(?:-american)?|white|black|hispanic)"
_SUFFERS = r"with|who (?:had|presented with|was diagnosed with)|presenting with|diagnosed with|suffering from|affected by"
_AGE = re.compile(
    rf"(?i)\b(?:(?:in|from|of)\s+)?(?:an?\s+|the\s+)?(?:\d+|\w+teen|{_TENS})[\s–-]*"
    rf"(?:(?:years?|yrs?)[\s–-]*old(?:\s+{_PEOPLE})?(?:\s+{_PERSON})*|(?:months?|weeks?|days?)[\s–-]*old(?:\s+{_PERSON})+)"
    rf"(?:\s+(?:{_SUFFERS})\b)?\s*"
)
_AGED = re.compile(r"(?i)\b(?:aged?|at the age of)\s+\d+(?:\s*(?:years?|months?|weeks?))?")
_HISTORY = re.compile(r"(?i)\b(?:with|had)\s+(?:a\s+)?(?:\d+[\s-](?:year|month|week|day)s?\s+)?history of\s+[^.;,]*[;,]?")
_STUMP = re.compile(r"(?i)\W*(?:from|at|in|on|with|by|of|for|under)\b(?:\s+\w+){0,2}\W*$")
"""What is left of "From top, LM × 1600.": a beginning without its words."""
_TIDY = (
    (re.compile(r"\(\s*[,;:.]*\s*\)|\[\s*\]"), ""),
    (re.compile(r"\(\s*[,;:]\s*"), "("),
    (re.compile(r"\s*[,;:]+\s*\)"), ")"),
    (re.compile(r"\s+([,;:.)])"), r"\1"),
    (re.compile(r"([,;:])(?:\s*[,;:])+"), r"\1"),
    (re.compile(r"[,;:]\s*\."), "."),
    (re.compile(r"\.(?:\s*\.)+"), "."),
    (re.compile(r"\s{2,}"), " "),
    (re.compile(r"(?i)\s+(?:with|at|in|to|of|by|for|from|and)(?=\.)"), ""),
)
_PICTURE = r"(?:figure|image|picture|photograph|photomicrograph|micrograph|panel|caption)s?"
_LEAD_IN = re.compile(
    rf"(?i)^(?:this\s+)?{_PICTURE}\s+(?:is|are|depicts?|shows?|showing|of|illustrat(?:es|ing)|demonstrat(?:es|ing))\s+"
)


@dataclass(frozen=True, slots=True)
class Refined:
    """A refined caption, and what the check thought of it."""

    text: str
    new: tuple[str, ...] = ()  # words that the source does not hold; when there are any, `text` is the source's
    reason: str = ""  # why the refinement was given up


def refine(caption: str, source: str = "") -> Refined:
    """What can be seen of a caption. `source` is the whole caption it was cut from, for the check; by default the caption itself.

    The text is empty when nothing visible is left.
    """
    text = " ".join(caption.split())
    sentences = [text[a:b] for a, b in sentence_spans(text) if not _DROPPED_SENTENCE.match(text[a:b])]
    result = tidy(" ".join(_cut(k) for k in sentences))
    result = _LEAD_IN.sub("", result)
    if re.match(r"[a-z]+\b", result):  # "mPIN" keeps its case
        result = result[:1].upper() + result[1:]
    if result and not result.endswith((".", "?", "!")):
        result += "."
    return check(result, caption, source)


def check(refined: str, caption: str, source: str = "") -> Refined:
    """The refinement if it states nothing new and loses no negation, else the caption as it was. For rules and models alike."""
    new = tuple(new_facts(refined, f"{source} {caption}"))
    if new:
        return Refined(caption, new, f"new: {', '.join(new[:5])}")
    if lost_negation(refined, caption):
        return Refined(caption, (), "a negation was lost")
    return Refined(refined)


def _cut(sentence: str) -> str:
    before = sentence
    for pattern in (_AGE, _AGED, _HISTORY, *_CUT):
        sentence = pattern.sub(" ", sentence)
    if sentence != before and _STUMP.match(sentence):
        return ""
    return sentence if re.search(r"[A-Za-z]{3}|\bH\s?&\s?E\b", sentence) else ""


def tidy(text: str) -> str:
    """Punctuation as it should be after words were taken out."""
    for pattern, replacement in _TIDY:
        text = pattern.sub(replacement, text)
    return text.strip(" ,;:")
