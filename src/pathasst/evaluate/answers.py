"""Scores of answers to questions about pictures (Table 3): closed by three rules, open by three measures. Pure functions of text.

The field's rules for yes/no differ, and two of them have loopholes ("The tissue is normal" holds "no"; anything without a "no"
counts as "yes"), so all three are computed and the strict one is ours.
"""

from __future__ import annotations

import re
import string
from collections import Counter

from pathasst.llm.thoughts import split

_YES_NO = re.compile(r"\b(yes|no)\b")
_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation, " "))


def is_closed(answer: str) -> bool:
    """Whether a reference answer makes its question a closed one: exactly "yes" or "no"."""
    return answer.strip().lower().rstrip(".") in ("yes", "no")


def closed_strict(reply: str, answer: str) -> bool | None:
    """Our rule: the first word that is yes or no decides; None when there is none (invalid, counted as wrong)."""
    match = _YES_NO.search(split(reply)[1].lower())
    return match[1] == answer.strip().lower().rstrip(".") if match else None


def closed_llava_med(reply: str, answer: str) -> bool:
    """LLaVA-Med v1: 'yes' or 'no' is a substring of the prediction, and the answer is a substring too."""
    text, truth = split(reply)[1].lower(), answer.strip().lower()
    return ("yes" in text or "no" in text) and truth in text


def closed_quilt(reply: str, answer: str) -> bool:
    """quilt-llava: "no" if any word is No, not or no; otherwise "yes"."""
    words = split(reply)[1].replace(".", "").replace(",", "").split(" ")
    answer_word = "no" if any(w in ("No", "not", "no") for w in words) else "yes"
    return answer_word == answer.strip().lower()


def normalised(text: str) -> list[str]:
    """Words after SQuAD's normalisation: lower case, without punctuation and articles. Punctuation parts words here."""
    return _ARTICLE.sub(" ", split(text)[1].lower().translate(_PUNCTUATION)).split()


def token_f1(reply: str, answer: str) -> float:
    """F1 of the two multisets of normalised words, 0…1 (the paper's measure of open questions). Two empty texts agree."""
    left, right = Counter(normalised(reply)), Counter(normalised(answer))
    if not left or not right:
        return float(left == right)
    both = sum((left & right).values())
    return 2 * both / (sum(left.values()) + sum(right.values()))


def exact_match(reply: str, answer: str) -> bool:
    """Whether the normalised texts are equal."""
    return normalised(reply) == normalised(answer)


def recall(reply: str, answer: str) -> float:
    """LLaVA-Med's measure: the share of the answer's distinct words that the prediction holds, 0…1."""
    truth = set(normalised(answer))
    return len(truth & set(normalised(reply))) / len(truth) if truth else 0.0
