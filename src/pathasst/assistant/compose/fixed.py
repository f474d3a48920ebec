"""The fixed words: what cannot be answered here, and what would help. In the person's language where that is easy to tell.

Everything else is said in English: the sources are.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pathasst.assistant.statements import Kind, Statement

_MARKS = {
    "de": r"\b(?:der|die|das|ist|sind|wie|was|welche[rs]?|bitte|und|nicht|ein|eine|kannst|zähle?|gibt)\b",
    "es": r"\b(?:el|los|las|qué|cuál|cuánt[oa]s|es|son|favor|una?|del|hay|cómo|esta|este)\b|[¿¡ñ]",
    "fr": r"\b(?:le|les|est|sont|quel(?:le)?s?|combien|une?|des|du|s'il|vous|dans|cette|pouvez|peux)\b",
    "it": r"\b(?:il|gli|è|sono|qual|quale|quant[ie]|che|cosa|favore|una?|della|dello|nel|questa|questo)\b",
    "en": r"\b(?:the|is|are|what|how|which|of|in|this|please|and|does|do|can|a|an|there|was|that|thanks?|you|my|it|to|for|any)\b",
}
CANNOT = {
    "en": "I cannot answer this with the models here.",
    "de": "Das kann ich mit den Modellen hier nicht beantworten. (I cannot answer this with the models here.)",
    "es": "No puedo responder a esto con los modelos de aquí. (I cannot answer this with the models here.)",
    "fr": "Je ne peux pas répondre à cela avec les modèles d'ici. (I cannot answer this with the models here.)",
    "it": "Non posso rispondere a questo con i modelli di qui. (I cannot answer this with the models here.)",
    "zh": "这里的模型无法回答这个问题。(I cannot answer this with the models here.)",
}
ENGLISH = {
    "de": "Ich antworte auf Englisch: dies ist die Sprache der Quellen.",
    "es": "Respondo en inglés: es la lengua de las fuentes.",
    "fr": "Je réponds en anglais : c'est la langue des sources.",
    "it": "Rispondo in inglese: è la lingua delle fonti.",
    "zh": "回答使用英语，因为资料来源是英语。",
}
PICTURE = {
    "en": "Please attach a picture: {what}.",
    "de": "Bitte hängen Sie ein Bild an. (Please attach a picture: {what}.)",
    "es": "Adjunte una imagen, por favor. (Please attach a picture: {what}.)",
    "fr": "Veuillez joindre une image. (Please attach a picture: {what}.)",
    "it": "Allega un'immagine, per favore. (Please attach a picture: {what}.)",
    "zh": "请附上图片。(Please attach a picture: {what}.)",
}
LARGER = (
    "A larger model could say more: pathasst ask --brain http://host:8000/v1#model (any OpenAI-compatible server), or offline "
    "--brain llamacpp after `pathasst models pull qwen2.5-coder-1.5b`; what it says is checked against sources, too."
)
GREETING = (
    "Hello. Give me a pathology picture and a question, ask what a term means, or ask for literature. "
    "“What can you do?” lists the tools."
)
THANKS = {
    "en": "You are welcome.",
    "de": "Gern geschehen. (You are welcome.)",
    "es": "De nada. (You are welcome.)",
    "fr": "Je vous en prie. (You are welcome.)",
    "it": "Prego. (You are welcome.)",
    "zh": "不客气。(You are welcome.)",
}
FORMATS = "I read PNG, JPEG and TIFF pictures, DICOM, and whole slides (SVS, NDPI, OME-TIFF and what else OpenSlide opens)."
PRIVATE = (
    "Pictures and questions stay where this program runs: it works without a network, and nothing is sent anywhere unless a "
    "server was chosen as brain. A server of PathAsst deletes pictures after an hour."
)
ACCURATE = (
    "How often each model is right was measured on public sets and stands in its card: `pathasst models card NAME`. "
    "None is validated for diagnosis; results are for research use."
)
NO_ADVICE = "What to do for a patient is for the treating physicians to decide; I only show what the sources here say."
NO_SUBJECT = "Please say what to search for."
NO_GRADES = "There is no tool here that grades, stages or counts mitoses."
ANY_PICTURE = "a stained section or smear, as PNG, JPEG, TIFF or a slide"
TERMS = "What the glossary says of its terms:"
OTHER_FIELD = "I am made for pathology pictures, terms of pathology and its literature."


def language(text: str) -> str:
    """`de`, `es`, `fr`, `it`, `zh`, or `en`, which also stands for what cannot be told."""
    if re.search(r"[\u4e00-\u9fff]", text):
        return "zh"
    words = text.casefold()
    scores = {name: len(re.findall(pattern, words)) for name, pattern in _MARKS.items()}
    best = max(scores, key=lambda name: scores[name])
    return best if scores[best] > scores["en"] else "en"


def fixed(text: str, *, item: bool = False) -> Statement:
    """A statement of fixed words."""
    return Statement(text=text, kind=Kind.FIXED, source="fixed words", item=item)


def cannot(question: str, *helps: str) -> list[Statement]:
    """That it cannot be answered here, and what would help."""
    return [fixed(CANNOT[language(question)]), *(fixed(h) for h in helps or (LARGER,))]


def ask_for_picture(question: str, kinds: Sequence[str]) -> Statement:
    """Asks for a picture in a person's words. `kinds`: what the tools that are meant expect (`ToolCard.expects`)."""
    what = "; or ".join(dict.fromkeys(kinds)) or "a stained section or smear"
    return fixed(PICTURE[language(question)].format(what=what))
