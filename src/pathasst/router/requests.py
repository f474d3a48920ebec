"""Requests of the wordings in `wordings/`: text, tools or reason, and where the values of the arguments stand in the text.

Knows the files of that folder and nothing of networks. Everything is drawn by a seed: the same number gives the same request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from unicodedata import combining, normalize

import numpy as np
import yaml

from pathasst.core import yaml_text
from pathasst.core.errors import BadSettings
from pathasst.core.templates import Template
from pathasst.router.items import RequestItem
from pathasst.router.route import Reason

FOLDER = Path(__file__).with_name("wordings")
LANGUAGES = ("en", "de", "fr", "es", "it", "zh")
SHARES = (0.4, 0.13, 0.115, 0.115, 0.115, 0.125)  # of the requests
TOOLS, NONE = 0.45, 0.3  # share of requests for tools, and of those for none; the others follow an earlier turn
SEVERAL, FRAMED, OF_A_PICTURE, DATED = (
    0.13,
    0.15,
    0.05,
    0.1,
)  # share of requests that are joined, framed, name a picture, name a year
LOWERED = 0.7  # share of the second parts of a request that begin with a small letter
NEAR = 0.7  # likeness to a test's request from which a text is not trained on
COINED = 0.25  # share of the diseases and drugs that are coined
AGAIN, TALK = 0.3, 0.35  # share of the later requests that want the same tool again, and of those that want none
VAL = 10  # one wording in so many
SAME = "same"
# Tools that take a scale and a least score.
SCALED = ("ki67_cells", "her2_cells", "pdl1_cells", "lbc_detect", "blood_cells", "he_nuclei")
LOWER, UNMARKED, SLIPS, UNACCENTED = (
    0.35,
    0.45,
    0.35,
    0.2,
)  # share of requests in small letters, without end mark, with slips, without accents
NEIGHBOURS = {a: b for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm") for a, b in zip(row, row[1:] + row[-2], strict=True)}


class RequestPart(NamedTuple):
    """A stretch of a request, and the argument (`tool.argument`) whose value it is, if any."""

    text: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Wording:
    """One wording of a file."""

    text: str
    language: str
    hand: str
    tools: tuple[str, ...] = ()
    reason: Reason = Reason.CALLS
    arguments: Mapping[str, Any] = field(default_factory=dict)  # `tool.argument` → value that the wording fixes
    before: str = ""  # the tool called by the turn before: its name, "any" of them, or none

    @property
    def split(self) -> str:
        return "val" if int(hashlib.sha256(self.text.encode()).hexdigest()[:8], 16) % VAL == 0 else "train"


@lru_cache(maxsize=32)
def load(name: str) -> dict[str, Any]:
    """A file of the folder. Raises BadSettings when it is not there or no YAML."""
    try:
        content: dict[str, Any] = yaml_text.load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise BadSettings(f"the requests in {FOLDER / name}.yaml cannot be read: {error}") from error
    return content


def wordings(language: str) -> list[Wording]:
    """Every wording of a language: of `<language>.yaml` and of every `<language>-….yaml`."""
    names = [language, *sorted(p.stem for p in FOLDER.glob(f"{language}-*.yaml"))]
    return [wording for name in names for wording in _of_file(language, load(name))]


def _of_file(language: str, content: Mapping[str, Any]) -> list[Wording]:
    result = []
    for name, hands in content["tools"].items():
        tool, _, switch = name.partition("+")
        fixed = {f"{tool}.{switch}": True} if switch else {}
        result += [Wording(t, language, hand, (tool,), arguments=fixed) for hand, texts in hands.items() for t in texts]
    for reason, hands in content["none"].items():
        result += [Wording(t, language, hand, reason=Reason(reason)) for hand, texts in hands.items() for t in texts]
    for node in content["follow_ups"]:
        tools = node.get("tools", ())
        named = (SAME,) if tools == SAME else tuple(tools)
        fixed = {f"{named[0]}.{k}": v for k, v in node.get("arguments", {}).items()}
        reason = Reason(node.get("reason", "calls"))
        result += [Wording(t, language, "follow_up", named, reason, fixed, node["before"]) for t in node["say"]]
    return result


class RouterRequests:
    """Draws requests of the split train or val."""

    def __init__(self, split: str, seed: int = 0) -> None:
        self.split, self.seed = split, seed
        self.pools: dict[str, dict[str, list[Wording]]] = {}
        for language in LANGUAGES:
            all_ = [w for w in wordings(language) if w.split == split]
            self.pools[language] = {
                "tools": [w for w in all_ if w.tools and not w.before],
                "none": [w for w in all_ if not w.tools and not w.before],
                "later": [w for w in all_ if w.before],
            }

    def items(self, count: int) -> Iterator[RequestItem]:
        """The first `count` requests."""
        return (self.item(n) for n in range(count))

    def item(self, number: int) -> RequestItem:
        """Request `number`."""
        rng = Random(f"{self.seed}:{self.split}:{number}")
        language = rng.choices(LANGUAGES, SHARES)[0]
        pools, kind = self.pools[language], rng.random()
        if kind < TOOLS or not pools["none"]:
            wording = _balanced(rng, pools["tools"], lambda w: w.tools[0])
        elif kind < TOOLS + NONE or not pools["later"]:
            wording = _balanced(rng, pools["none"], lambda w: w.reason)
        else:
            share = rng.random()
            again = [w for w in pools["later"] if w.tools == (SAME,)] if share < AGAIN else []
            talk = [w for w in pools["later"] if not w.tools] if AGAIN <= share < AGAIN + TALK else []
            wording = _balanced(rng, again or talk or pools["later"], lambda w: str(w.tools or w.reason))
        return self._filled(wording, rng, pools)

    def _filled(self, wording: Wording, rng: Random, pools: Mapping[str, list[Wording]]) -> RequestItem:
        language, names = wording.language, [*load("en")["tools"]]
        before: tuple[str, ...] = ()
        tools = wording.tools
        if wording.before:
            scaled = [n for n in names if n in SCALED] if "{" in wording.text and tools == (SAME,) else names
            tool = rng.choice(scaled).partition("+")[0] if wording.before == "any" else wording.before
            before, tools = (tool,), ((tool,) if tools == (SAME,) else tools)
        fill = _Filler(language, rng)
        pieces, arguments = fill.pieces(wording.text, tools), [*wording.arguments.items(), *fill.arguments]
        kind = "later" if before else "single" if tools else str(wording.reason)
        others = [w for w in pools["tools"] if w.tools[0] not in tools]
        if tools and not before and others and rng.random() < SEVERAL:
            other = _balanced(rng, others, lambda w: w.tools[0])
            more = _Filler(language, rng)
            second = more.pieces(other.text, other.tools)
            if rng.random() < LOWERED and second[0].text[1:2].islower():
                second[0] = second[0]._replace(text=second[0].text[0].lower() + second[0].text[1:])
            pieces = _joined(rng.choice(load(language)["join"]), {"a": pieces, "b": second})
            arguments, tools, kind = [*arguments, *other.arguments.items(), *more.arguments], (*tools, *other.tools), "several"
        if "papers_search" in tools and len(tools) == 1 and "papers_search.pmid" not in dict(arguments) and rng.random() < DATED:
            year = str(rng.randint(1995, 2025))
            before_year, _, after_year = rng.choice(fill.values("since")).partition("{year}")
            pieces = [
                *_unmarked(pieces),
                RequestPart(f" {before_year}"),
                RequestPart(year, "papers_search.since"),
                RequestPart(after_year),
            ]
            arguments.append(("papers_search.since", int(year)))
        picture = 0
        if tools and "papers_search" not in tools and "lbc_generate" not in tools and rng.random() < OF_A_PICTURE:
            picture = rng.choice((1, 2, 2, 3))
            pieces = _joined(rng.choice(load("slots")["pictures"][language][picture]), {"a": pieces})
        elif rng.random() < FRAMED and wording.reason is not Reason.SMALL_TALK:
            pieces = _joined(rng.choice(load(language)["frame"]), {"a": pieces})
        text, spans = _placed(_typed(pieces, language, rng))
        return RequestItem(
            text=text,
            tools=tuple(sorted(set(tools))),
            split=self.split,
            kind=f"{language} {kind}",
            group=wording.text,
            before=before,
            arguments=tuple(arguments),
            spans=spans,
            reason=str(Reason.CALLS if tools else wording.reason),
            picture=picture,
            language=language,
            hand=wording.hand,
        )


class _Filler:
    """Fills the slots of one wording; keeps what it filled."""

    def __init__(self, language: str, rng: Random) -> None:
        self.language, self.rng = language, rng
        self.arguments: list[tuple[str, Any]] = []

    def _coined(self, name: str) -> str:
        """A disease or drug that stands in no list, so that its place in the words is learned and not the name."""
        node = load("slots")["coined"][self.language if name == "disease" else "treatment"]
        return "".join(str(self.rng.choice(part)) for part in node)

    def _named(self, slot: str) -> str:
        """A value of a slot of the literature, one in so many coined."""
        name = slot.rstrip("2")
        if name in ("disease", "treatment") and self.rng.random() < COINED:
            return self._coined(name)
        return str(self.rng.choice(self.values(slot)))

    def values(self, slot: str) -> list[Any]:
        """What may fill a slot: in the language, and in any."""
        node = load("slots")
        name = re.sub(r"\d+$", "", slot)
        values = [*node[self.language].get(name, ()), *node["all"].get(name, ())]
        if not values:
            raise BadSettings(f"nothing fills {{{slot}}} in the requests in {self.language}.")
        return values

    def pieces(self, text: str, tools: Sequence[str]) -> list[RequestPart]:
        parts = Template(text).parts(self.rng)
        pieces = []
        for place, part in enumerate(parts):
            pieces.append(self._piece(part, tools[0] if tools else "") if place % 2 else RequestPart(re.sub(r"\s+", " ", part)))
        return [p for p in pieces if p.text]

    def _piece(self, slot: str, tool: str) -> RequestPart:
        if slot == "query":
            return RequestPart(self.topic(), f"{tool}.query")
        if slot.rstrip("2") in ("treatment", "disease", "marker"):
            return RequestPart(self._named(slot), f"{tool}.query")
        value = self.rng.choice(self.values(slot))
        text, value = value if isinstance(value, list) else (value, value)
        if slot.startswith("feature"):
            self.arguments.append((f"{tool}.{value}", True))
            return RequestPart(text)
        if slot in ("term", "term2", "percent", "sum", "code"):
            return RequestPart(text)
        name = f"{tool}.{slot}"
        if slot == "cell_class" and value is text:
            value = {"ascus": "ASC-US", "asch": "ASC-H"}.get(re.sub(r"[\W_]", "", str(text)).lower(), str(text).upper())
        if slot in ("point", "box", "not_points"):
            return RequestPart(text)
        if slot == "pmid":
            value = int(text)
        self.arguments.append((name, value))
        return RequestPart(text, name)

    def topic(self) -> str:
        """A topic of the literature, its parts filled."""
        text = str(self.rng.choice(self.values("topic")))
        while match := re.search(r"\{(\w+)\}", text):
            text = text[: match.start()] + self._named(match[1]) + text[match.end() :]
        return text


def _balanced(rng: Random, pool: Sequence[Wording], key: Any) -> Wording:
    """A wording of a tool or reason that is drawn first, so that each is met as often; many choices and slots count more."""
    groups: dict[str, list[Wording]] = {}
    for wording in pool:
        groups.setdefault(key(wording), []).append(wording)
    group = groups[rng.choice(sorted(groups))]
    return rng.choices(group, [1 + min(w.text.count("|"), 15) + 3 * w.text.count("{") for w in group])[0]


def _joined(template: str, parts: Mapping[str, Sequence[RequestPart]]) -> list[RequestPart]:
    """Requests in the places `{a}` and `{b}`; the first loses its end mark where words follow."""
    pieces: list[RequestPart] = []
    words = re.split(r"\{(\w)\}", template)
    for place, part in enumerate(words):
        if not place % 2:
            pieces.append(RequestPart(part))
        elif words[place + 1].strip(" )"):
            pieces += _unmarked(parts[part])
        else:
            pieces += parts[part]
    return [p for p in pieces if p.text]


def _unmarked(pieces: Sequence[RequestPart]) -> list[RequestPart]:
    last = pieces[-1]
    return [*pieces[:-1], last._replace(text=last.text.rstrip(" .?!？。！"))]


def _typed(pieces: Sequence[RequestPart], language: str, rng: Random) -> list[RequestPart]:
    """As people type: small letters, no end mark, slips, no accents. The values of arguments keep their letters."""
    lower, bare = rng.random() < LOWER, rng.random() < UNACCENTED
    slips = rng.choice((0.04, 0.08, 0.14)) if rng.random() < SLIPS else 0.0
    typed = []
    for piece in pieces:
        text = piece.text
        if bare and language != "zh":
            text = "".join(c for c in normalize("NFKD", text) if not combining(c)) if not piece.argument else text
            text = text.lstrip("¿¡")
        if lower:
            text = text.lower() if not piece.argument.endswith(("cell_class", "um_per_px")) else text
        if slips and language != "zh" and not piece.argument:
            text = " ".join(_slip(word, rng) if rng.random() < slips else word for word in text.split(" "))
        typed.append(piece._replace(text=text))
    return _unmarked(typed) if rng.random() < UNMARKED else typed


def _slip(word: str, rng: Random) -> str:
    """A word with one letter lost, doubled, swapped with its neighbour or hit beside the key."""
    if len(word) < 4 or not word.isalpha():
        return word
    at = rng.randrange(1, len(word) - 1)
    return rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + NEIGHBOURS.get(word[at], word[at]) + word[at + 1 :],
        )
    )


def _placed(pieces: Sequence[RequestPart]) -> tuple[str, tuple[tuple[str, int, int], ...]]:
    """The text with single blanks, and (`tool.argument`, first character, one beyond the last) of each value."""
    text, spans = "", []
    for piece in pieces:
        part = re.sub(r"\s+", " ", piece.text)
        if text.endswith(" ") or not text:
            part = part.lstrip()
        if part.startswith((" ?", " .", " ,", " ;")):
            part = part[1:]
        if piece.argument:
            spans.append((piece.argument, len(text), len(text) + len(part)))
        text += part
    text = text.rstrip()
    return text, tuple((name, a, min(b, len(text))) for name, a, b in spans)


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in small letters, to tell whether two requests are the same."""
    return tuple(re.findall(r"\w+", text.lower()))


def without(items: Sequence[RequestItem], held_out: Sequence[str]) -> list[RequestItem]:
    """The items that are not like a request that is held out for a test: neither its words, nor NEAR of its letters.

    Likeness: trigrams of letters that both have, of those that either has (Jaccard).
    """
    if not held_out or not items:
        return list(items)
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(analyzer=_trigrams, binary=True, dtype=np.float32)
    tests = counter.fit_transform(held_out)
    excluded = {words_of(text) for text in held_out}
    texts = sorted({i.text for i in items})
    sizes, near = np.asarray(tests.sum(1)).ravel(), set()
    for start in range(0, len(texts), 2048):
        part = texts[start : start + 2048]
        both = (counter.transform(part) @ tests.T).toarray()
        either = np.array([len(_trigrams(t)) for t in part])[:, None] + sizes[None] - both
        near |= {t for t, most in zip(part, (both / np.maximum(either, 1)).max(1), strict=True) if most >= NEAR}
    return [i for i in items if i.text not in near and words_of(i.text) not in excluded]


def _trigrams(text: str) -> set[str]:
    bare = f" {' '.join(words_of(text))} "
    return {bare[n : n + 3] for n in range(len(bare) - 2)}
