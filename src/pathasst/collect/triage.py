"""Which figures are worth fetching, from their words alone: caption, mentions, article title, keywords.

Wanted: whatever may show histology, cytology, immunohistochemistry, gross pathology or blood smears, if only in one panel. A
missed figure is lost for good and a needless one costs a few hundred kB, so the rules lean to the generous side. They were tuned
on captions read by hand (`benchmarks/collect_triage.py` measures them). Plain rules: nothing to load, reasons that can be read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pathasst.core.records import Figure

THRESHOLD = 1.5

_STAINS = (
    r"ha?emato?xy?lin|eosin\b|\bh\s*(?:&|&amp;|and|/|\+)\s*e\b|\bH\s?E\s?(?:stain|,|;|×|x\s?\d)|giemsa"
    r"|wright|papanicolaou|\bpap\b|romanowsky"
    r"|trichrom|van gieson|picro-?\s?sirius|sirius red|safranin|alcian|toluidine|oil[\s-]red|sudan"
    r"|congo red|reticulin|\bPAS\b.{0,20}stain"
    r"|periodic acid|ziehl|gr[oa]cott|silver stain|gram stain|von kossa|alizarin|luxol|nissl|cresyl"
    r"|bielschowsky|prussian|perls|x-?gal\b"
    r"|diaminobenzidine|\bDAB\b|grocott|mucicarmin|orcein|masson"
)
# (weight, pattern): each pattern counts once. Weights from 3 on suffice alone.
_CAPTION = tuple(
    (weight, re.compile(pattern, re.I))
    for weight, pattern in (
        (3.0, _STAINS),
        (
            3.0,
            r"histolog|histopath|histochem|histomorph|immunohist|immunohyst|immunocyto|immunostain|immunolab"
            r"|immunope?rox|\bIHC\b",
        ),
        (3.0, r"(?<![a-z])(?:counter|co|double)?-?stain(?:ed|ing|s)?\b"),
        (
            3.0,
            r"cytolog|cytopath|\bsmears?\b|\bblood films?\b|aspirat\w*.{0,30}(?:cytol|smear|biops)|cell block"
            r"|touch imprint|liquid-based",
        ),
        (3.0, r"bone marrow (?:trephine|biops|aspirate|smear)|trephine|whole[\s-]slide|tissue micro-?array|\bTMA\b"),
        (
            3.0,
            r"gross(?:ly)?\s+(?:\w+\s+){0,2}(?:appear|specimen|patholog|view|exam|feature|morphol|finding|section"
            r"|image|photo|anatom|lesion)",
        ),
        (3.0, r"macroscop|autops|necrops|cut surface|(?:resected|excised|surgical|operative|pathologic\w*) (?:\w+ )?specimen"),
        (
            3.0,
            r"photo-?micrograph|microphotograph|light[\s-]micro(?:scop|graph)|under (?:the "
            r"|a )?(?:light )?microscop|bright-?field",
        ),
        (
            3.0,
            r"pathologic(?:al)? (?:exam|find|feature|change|image|section|diagnos|evaluat|analys)|pathology (?:of"
            r"|show|image|chang|find)",
        ),
        (
            3.0,
            r"(?:paraffin|frozen|cryo|semi-?thin|tissue|serial|coronal|transverse|sagittal|longitudinal"
            r"|cross)[\s-]*(?:embedded )?sections?\b",
        ),
        (3.0, r"in situ hybridi[sz]|autoradiogra|immunoreactiv|immunopositiv"),
        (
            2.0,
            r"\bsections? (?:of|from|through|show)|\bbiops(?:y|ies)|microscop|micrograph|\bspecimens?\b|\bresect"
            r"|excis(?:ed|ion)",
        ),
        (
            1.5,
            r"magnif|\boriginal ×|[×x]\s?\d{2,4}\b|\d{2,4}\s?[×x](?!\d)|scale\s?bars?|\bbars?\s?[:=,]"
            r"|\bbar (?:indicates|represents|is)",
        ),
        (
            1.0,
            r"tumou?r|carcinom|sarcom|lymphom|adenom|melanom|gliom|neoplas|metasta|malignan|cancer|hyperplas"
            r"|dysplas|cyst|polyp|ulcer|lesion",
        ),
        (
            1.0,
            r"tissue|parenchym|epitheli|epiderm|dermis|mucos|stroma|glomerul|tubul|villi|crypt|follic|ovar|cortex"
            r"|hippocamp|cochlea|retina",
        ),
        (
            1.0,
            r"\b(?:liver|lung|kidney|spleen|brain|skin|muscle|heart|myocard|aort|arter|colon|stomach|gastric"
            r"|breast|prostat|thyroid|placent)",
        ),
        (
            1.0,
            r"necro|fibros|infiltrat|inflammat|granulom|atroph|nuclei\b|cytoplasm|lymphocyt|macrophage|neutrophil"
            r"|erythrocyt|plaques?\b",
        ),
        (1.0, r"\bimages?\b|appearance|morpholog|photograph|pictures?\b|arrow|asterisk|\bviews?\b|representative"),
        (1.0, r"express(?:ion|ed)|positiv|localiz|localis|Ki-?67|CD\d+|antibod"),
    )
)
_AGAINST = tuple(
    (weight, re.compile(pattern, re.I))
    for weight, pattern in (
        (
            2.0,
            r"kaplan|survival (?:curve|by|of|rate|in|for|prob|anal)|flow\s?-?(?:chart|diagram)|\bCONSORT\b"
            r"|forest plot|\bROC\b|nomogram|study design",
        ),
        (
            2.0,
            r"\bMRI\b|magnetic resonance|tomogra|\bCT\b|ultraso|sonogra|radiogra|x-ray|echocardio|angiogra"
            r"|\bPET\b|endoscop|fundus|\bSEM\b",
        ),
        (
            2.0,
            r"phylogen|heat ?map|scatter|box ?plot|histogram|schematic|diagram|crystal structure|simulat"
            r"|questionnaire|dose[\s-]response",
        ),
        (
            1.0,
            r"mean\s?±|mean \(|\bs\.?e\.?m\b|standard (?:deviation|error)|confidence interval|baseline|placebo"
            r"|randomi[sz]|mRNA level|western blot",
        ),
    )
)
_PROPER_NOUN = re.compile(r"\b(?:PAS|HE|BUT)[,-]|corneal fluorescein staining|fluorescein stain", re.I)
_MENTION = re.compile(
    f"{_STAINS}|histolog|histopath|immunohist|microscop|stained|staining|cytolog|biops|gross(?:ly)?\\b|macroscop", re.I
)
_ARTICLE = re.compile(
    r"histolog|histopath|immunohist|patholog|cytolog|carcinom|sarcom|lymphom|tumou?r|neoplas|case report|biops", re.I
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[A-Z(])")


def worth_fetching(figure: Figure, threshold: float | None = None) -> bool:
    """Whether the picture may show pathology. `threshold` None = THRESHOLD; lower keeps more."""
    return score(figure) >= (THRESHOLD if threshold is None else threshold)


def score(figure: Figure) -> float:
    """The evidence for pathology in a figure's words: 0 or less = none, THRESHOLD and more = fetch it."""
    return score_text(figure.caption, figure.mentions, figure.label, figure.source.title, figure.keywords)


def score_text(
    caption: str, mentions: Iterable[str] = (), label: str = "", title: str = "", keywords: Iterable[str] = ()
) -> float:
    """As `score`, from bare texts. Of a paragraph that mentions the figure only the sentences with its number count."""
    caption = _PROPER_NOUN.sub(" ", caption)
    strongest = max((w for w, p in _CAPTION if w >= 3.0 and p.search(caption)), default=0.0)
    if strongest:
        return strongest + sum(w for w, p in _CAPTION if w < 3.0 and p.search(caption))
    total = sum(w for w, p in _CAPTION if p.search(caption)) - sum(w for w, p in _AGAINST if p.search(caption))
    if _mentioned(mentions, label):
        total += 2.0
    if _ARTICLE.search(title) or any(_ARTICLE.search(k) for k in keywords):
        total += 0.5
    return total


def _mentioned(mentions: Iterable[str], label: str) -> bool:
    """Whether a sentence that names this figure speaks of staining, microscopy and the like."""
    number = re.search(r"\d+", label)
    if number is None:
        return any(_MENTION.search(m) for m in mentions)
    pattern = re.compile(rf"fig(?:ure|s|ures)?\.?\s*[\w\s,()–-]{{0,12}}?\b{number[0]}(?!\d)", re.I)
    return any(pattern.search(s) and _MENTION.search(s) for m in mentions for s in _SENTENCE.split(m))
