"""Text from outside (abstracts, tool output, what the model wrote) made safe to pass on. Knows no tool and no brain.

Retrieved text and tool output are data. Three things keep them so: the loop runs only calls that the brain itself returns, so
text can never run a tool; marks that a chat template would read as a change of speaker are broken (`as_data`); and sentences
written to an assistant rather than to a reader are withheld from the brain, counted and reported (`withhold`). The last is a
filter of patterns: it lowers the risk, it does not end it, which is why citations and figures are checked after the answer too.
"""

from __future__ import annotations

import re
import unicodedata

WITHHELD = "[withheld: a sentence written to an assistant, not to a reader]"

# What tokenizers and templates treat as structure: ChatML and Llama markers, the paper's ###, image marks, tool call tags.
_STRUCTURE = re.compile(
    r"<\|[^|<>]{0,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|</?(?:tool_call|tool_response|tool_output|tools|think|image)>|^#{3,}\s*"
    r"|\s#{3,}(?=\s|$)",
    re.IGNORECASE | re.MULTILINE,
)
# C0/C1 controls but tab and newline (terminal escapes), zero-width and direction-changing characters (hidden text).
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")

_PUBMED = re.compile(r"https?://(?:www\.)?pubmed\.ncbi\.nlm\.nih\.gov/(\d{1,9})(?!\d)")
_DEFINITION = re.compile(r"^([ ]{0,3})\[([^\]\n]{1,999})\]:[ \t]{0,9}\n?[ \t]{0,9}(\S+)", re.MULTILINE)
_LINK_LEFT = re.compile(r"\]\((?!#)")
# What a browser would read as an element, where a client shows our Markdown with its HTML; "CD4<CD8" and "p<alpha" stay.
_TAG = re.compile(
    r"<(?=[a-z][a-z0-9+.-]{1,31}:|[^\s<>@]{1,64}@|!--|/?(?:a|applet|area|audio|base|body|button|canvas|div|embed|font|form|frame|frameset|head|html|iframe|image|img|input|"
    r"link|marquee|math|meta|object|picture|script|select|source|span|style|svg|table|template|textarea|title|video|xml)[\s/>])",
    re.IGNORECASE,
)

_TO_AN_ASSISTANT = re.compile(
    r"""
    \b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:previous|prior|above|earlier|all|any|your|these|those|system)\b
        .{0,30}\b(?:instruction|prompt|rule|guideline|direction|message|command)s?\b
  | \b(?:new|updated|important|hidden|following)\s+instructions?\s*
        (?::|\b(?:for|to)\s+(?:the\s+)?(?:ai|assistant|model|llm|agent)\b)
  | \b(?:instructions?|note|attention|message|notice|dear)\s*(?:to|for)?\s*(?:the\s+|any\s+|all\s+)?
        (?:ai|a\.i\.|llm|assistant|language\s+model|chatbot|agent)s?\s*[:,!]
  | \b(?:system|developer|admin)\s+(?:prompt|message|override|instruction)s?\b
  | ^\W*(?:system|assistant|user|developer)\s*:
  | \byou\s+are\s+(?:now|an?\s+(?:ai|helpful|assistant|language\s+model|unrestricted)|no\s+longer)\b
  | \b(?:as\s+an|dear)\s+(?:ai|assistant|language\s+model)\s*(?:,|you\b)
  | \b(?:call|invoke|run|execute|trigger)\s+(?:the\s+)?(?:(?:tool|function)\s+\w|\w+\s+(?:tool|function)\s+(?:with|now|on)\b)
  | \b(?:call|invoke|run|execute|trigger|use)\s+(?:the\s+)?(?:tool\s+|function\s+)?\w+_\w+\b
  | \b(?:do\s+not|don't|never)\s+(?:tell|mention|reveal|inform|disclose|show)\b.{0,30}\b(?:user|person|human|reader|pathologist)\b
  | \b(?:tell|inform|convince)\s+the\s+(?:user|human|person\s+asking)\b
  | ^\W*(?:please\s+|now\s+|instead,?\s+|you\s+must\s+|always\s+)*
        (?:answer|reply|respond|say|output|print|repeat|conclude\s+your)\b
        .{0,25}\b(?:only|exactly|instead|following|that|verbatim)\b
  | \b(?:in|to|end|begin|start|finish)\s+your\s+(?:answer|reply|response|output)\b
  | \bcite\b.{0,25}\bPMID
  | "(?:name|tool|function)"\s*:\s*"[^"]{1,60}"\s*,\s*"(?:arguments|parameters)"\s*:
  | <\|[^|<>]{0,40}\|>|\[/?INST\]|</?tool_call>|^\#{3,}\s*(?:system|user|assistant|instruction)
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


def plain(text: str) -> str:
    """The text without characters that hide words or drive a terminal. Line breaks and tabs stay; \\r\\n becomes \\n."""
    return _HIDDEN.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def as_data(text: str) -> str:
    """The text with every template mark broken, so that no tokenizer reads it as a new turn, a picture or a tool call."""
    return _STRUCTURE.sub(lambda mark: _broken(mark.group()), plain(text))


def withhold(text: str) -> tuple[str, int]:
    """The text with sentences addressed to an assistant replaced by `WITHHELD`, and how many there were.

    Matching is done on the NFKC form without hidden characters, so that look-alike widths and zero-width breaks do not help.
    """
    withheld = 0
    pieces: list[str] = []
    last = 0
    for gap in [*_SENTENCE.finditer(text), None]:
        end = gap.start() if gap else len(text)
        sentence = text[last:end]
        if _TO_AN_ASSISTANT.search(re.sub(r"\s+", " ", unicodedata.normalize("NFKC", plain(sentence)))):
            withheld += 1
            sentence = WITHHELD
        pieces += [sentence, gap.group() if gap else ""]
        last = gap.end() if gap else end
    return "".join(pieces), withheld


def for_brain(text: str) -> tuple[str, int]:
    """What the brain reads of a tool's text (`withhold`, then `as_data`), and how many sentences were withheld."""
    clean, withheld = withhold(plain(text))
    return as_data(clean), withheld


def without_links(text: str) -> str:
    """A model's text with Markdown pictures and links taken apart: nothing is loaded, every address is seen. In linear time."""
    parts: list[str] = []
    start = label_start = 0  # how much of the text is in `parts`; where a label may begin
    closes = True  # whether a ")" is still to come
    at = text.find("](")
    while at >= 0:
        label_start = max(label_start, text.rfind("]", label_start, at) + 1)
        label = text.find("[", label_start, at)
        address = at + 2
        end = text.find(")", address) if closes and label >= 0 and not text.startswith("#", address) else -1
        closes = closes and (end >= 0 or label < 0 or text.startswith("#", address))
        if end >= 0:
            picture = label > start and text[label - 1] == "!"
            parts.append(text[start : label - picture])
            parts.append(_apart(text[label + 1 : at], text[address:end], picture=picture))
            start = label_start = end + 1
        else:
            label_start = at + 1
        at = text.find("](", max(address, start))
    text = "".join([*parts, text[start:]])
    text = _DEFINITION.sub(r"\1\2: `\3`", text)
    text = _LINK_LEFT.sub("] (", text)  # what has no beginning or no end here may find one beside other text
    return _TAG.sub("‹", text)


def _apart(label: str, inside: str, *, picture: bool) -> str:
    """A link's label and address as plain words."""
    words = inside.split(None, 1)
    address = words[0] if words else ""
    pmid = _PUBMED.match(address)
    if pmid and not picture:
        return f"[PMID {pmid[1]}]" if pmid[1] in label else f"{label} [PMID {pmid[1]}]"
    if picture:
        return f"{label} (picture at `{address}` not loaded)"
    return f"{label} (`{address}`)" if address else label


def _broken(mark: str) -> str:
    if "#" in mark:
        return mark.replace("#", "")
    return mark.replace("<", "‹").replace(">", "›").replace("[", "(").replace("]", ")").replace("|", "¦")
