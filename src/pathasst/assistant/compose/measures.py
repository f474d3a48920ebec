"""Sentences from what a specialist model measured: the asked value first, its denominator with it, the tool's doubts after it.

Each composer reads `ToolResult.numbers`, never a tool's text. What a tool's result has no composer for is given in its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pathasst.assistant.answer import Step
from pathasst.assistant.compose.fixed import fixed
from pathasst.assistant.compose.wishes import Wishes
from pathasst.assistant.statements import Kind, Statement
from pathasst.core.records import ToolResult
from pathasst.core.statistics import wilson
from pathasst.tools.glossary import Glossary
from pathasst.tools.he_nuclei import ELSEWHERE
from pathasst.tools.lbc_classify import GRADE_OF, GRADES, LONG
from pathasst.tools.protocol import ToolCard

SCALE_NEEDED = "A density per mm² needs the picture's scale in µm per pixel (--um-per-px, or the field beside the picture)."
BLOOD = {"WBC": ("white blood cell", "white"), "RBC": ("red blood cell", "red"), "Platelets": ("platelet", "platelets")}
FEW_CELLS = 100
LEAST_CLASS = 0.6
"""Probability below which a Bethesda class is not stated, but the two likeliest are named."""


def measured(step: Step, wishes: Wishes, card: ToolCard | None) -> list[Statement]:
    """The statements of one step that ran without an error."""
    result = step.result
    compose = _of_slide if "slide" in result.numbers else _COMPOSERS.get(result.name)
    sentences = compose(result.numbers, wishes) if compose else [result.text]
    sentences[1:1] = [f"The tool doubts this: {w[0].lower()}{w[1:]}" for w in result.warnings]
    if card is not None and not card.validated and step.image:
        sentences.append(f"This method is not validated{f': {card.limits}' if card.limits else ''}.")
    if "sure" in wishes and card is not None and card.scores:
        sentences.append(f"Measured before: {card.scores}.")
    where = f" on {step.image}" if step.image and step.image != "image1" else ""
    statements = [of_tool(result, s) for s in sentences if s]
    if where and statements:
        statements[0] = of_tool(result, f"{step.image.capitalize()}: {statements[0].text}")
    return [*statements, *_cut_offs(result, wishes)]


def of_tool(result: ToolResult, text: str) -> Statement:
    """A statement that stands on a tool's result."""
    kind = Kind.LOOK if result.name == "look" else Kind.TOOL
    return Statement(text=text, kind=kind, source=f"{result.name} {result.version}".strip(), evidence=result.text)


def of_glossary(term: str, text: str = "") -> Statement:
    """An entry as a statement, with its citation in the text."""
    entry = Glossary.load().get(term)
    words = text or entry.sentence
    return Statement(text=f"{words} (Source: {entry.citation}.)", kind=Kind.GLOSSARY, source=entry.term, evidence=entry.citation)


def counted(n: int, name: str) -> str:
    """`1 platelet`, `3 platelets`."""
    return f"{n} {name}{'s' * (n != 1)}"


def percent(part: int, total: int) -> str:
    """A share with its 95 % interval by Wilson: `49.3 % (95 % interval of the count 41.1–57.5 %)`."""
    share = wilson(part, total)
    return f"{100 * share.value:.1f} % (95 % interval of the count {100 * share.low:.1f}–{100 * share.high:.1f} %)"


def _density(numbers: dict[str, Any], wishes: Wishes, name: str = "cells_per_mm2", what: str = "cells") -> list[str]:
    dense = numbers.get(name)
    if dense is not None:
        return [f"That is {dense:.0f} {what} per mm²."]
    return [SCALE_NEEDED] if "density" in wishes else []


def _ki67(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    n, positive, negative = numbers["cells"], numbers["positive"], numbers["negative"]
    if not n:
        return ["No tumour cells were found, so there is no Ki67 index."]
    index = f"The Ki67 index is {percent(positive, n)}: {positive} of {counted(n, 'tumour cell')} are positive."
    counts = f"{positive} of {counted(n, 'tumour cell')} are Ki67-positive, {negative} are negative."
    only = wishes.any("count", "positive", "negative") and not wishes.any("share", "high")
    sentences = [f"{counts} The Ki67 index is {percent(positive, n)}."] if only else [index]
    sentences += _density(numbers, wishes, what="tumour cells")
    if n < FEW_CELLS:
        sentences.append(f"Only {counted(n, 'cell')} were counted: the index is uncertain.")
    return [*sentences, "The detector was trained on breast cancer and counts one field, not a whole section."]


def _her2(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    n = numbers["cells"]
    if not n:
        return ["No cells were found, so no HER2 score is given."]
    counts: dict[str, int] = numbers["counts"]
    parts = ", ".join(f"{c} ({100 * c / n:.0f} %) {grade}" for grade, c in reversed(counts.items()))
    lead = f"The estimated HER2 score of this field is {numbers['score']}."
    detail = f"Of {counted(n, 'cell')}, by their membrane staining: {parts}."
    return [*([detail, lead] if "count" in wishes else [lead, detail]), *_density(numbers, wishes)]


def _pdl1(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    n, positive = numbers["cells"], numbers["positive"]
    if not n:
        return ["No cells were found, so no PD-L1 score is given."]
    sentences = [
        f"The estimated PD-L1 tumour proportion score (TPS) is {percent(positive, n)}: {positive} of {counted(n, 'cell')}"
    ]
    sentences[0] += " have membrane staining."
    if "cps" in wishes:
        sentences.insert(0, "A CPS cannot be given: the tool does not tell immune cells from tumour cells.")
    return [*sentences, *_density(numbers, wishes)]


def _blood(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    counts = [k for k in BLOOD if k in numbers] or [k for k in numbers if f"{k}_per_mm2" in numbers]
    if not numbers["cells"]:
        return ["No blood cells were found in this picture."]
    named = [k for k in counts if k in BLOOD and BLOOD[k][1] in wishes]
    first = named if named and "count" in wishes else counts
    every = [*first, *(k for k in counts if k not in first)]
    parts = [counted(numbers[k], BLOOD[k][0] if k in BLOOD else k) for k in every]
    sentences = [f"This field shows {_joined(parts)}."]
    spans = [(BLOOD[k][0], numbers.get(f"{k}_range")) for k in every if k in BLOOD]
    unsure = [f"{one[0]}–{one[1]} {name}s" for name, one in spans if one and one[0] < one[1]]
    if unsure:
        sentences.append(
            f"By the scores of what may be a cell the counts can be {_joined(unsure)}; overlapping cells are in doubt."
        )
    types = numbers.get("white_cell_types")
    if types:
        listed = _joined([counted(c, kind) for kind, c in types.items()])
        sentences.append(
            f"The type of the white cell{'s' * (sum(types.values()) != 1)} is most likely: {listed}. The model learned types "
            "from 197 cells of two laboratories; nine in ten that it states were right there."
        )
    elif wishes.any("types") and not numbers.get("WBC"):
        sentences.append("There is no white cell to name a type of.")
    if untyped := numbers.get("white_cells_not_typed"):
        sentences.append(f"Of {counted(untyped, 'white cell')} the type cannot be told.")
    densities = [
        f"{numbers[f'{k}_per_mm2']:.0f} {BLOOD[k][0] if k in BLOOD else k}s" for k in every if numbers.get(f"{k}_per_mm2")
    ]
    if densities:
        sentences.append(f"Per mm²: {_joined(densities)}.")
    elif "density" in wishes:
        sentences.append(SCALE_NEEDED)
    return sentences


def _class(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    (first, p), (second, q) = list(numbers["probabilities"].items())[:2]
    name = f"{first} ({LONG[first]})" if first in LONG else first
    other = f"{second} ({LONG[second]})" if second in LONG else second
    what = "grade" if first in GRADES else "class"
    if (numbers["class"] or numbers.get("grade")) is None or (what == "class" and p < LEAST_CLASS):
        lead = f"I cannot tell which {what} it is: {name} has probability {p:.2f}, {other} {q:.2f}."
    else:
        lead = f"The classifier's {what} is {name}, with probability {p:.2f}; next is {second} with {q:.2f}."
        if wishes.any("malignant", "high") and first in (*LONG, *GRADES):
            lead += (
                f" That is the {what} without abnormality."
                if first in ("NILM", "normal")
                else f" {first[0].upper()}{first[1:]} is an abnormal {what}, not a normal one."
            )
    sentences = [lead]
    if numbers["fields"] > 1:
        sentences.append(f"It is the mean of {numbers['fields']} overlapping fields.")
    if what == "grade":
        sentences.append("It was judged as the crop of a single cell, of which no Bethesda class is given.")
    else:
        sentences.append("Of whole fields it can only say NILM, LSIL, HSIL or SCC.")
    return sentences


def _abnormal(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    n = numbers["cells"]
    if not n:
        return ["The detector found no abnormal cells in this field; it misses some, so that does not exclude them."]
    classes = [f"{c} {k}" for k, c in numbers.items() if k in LONG and c]
    kinds = f": {_joined(classes)}" if classes else ""
    return [
        f"The detector marked {counted(n, 'cell')} as abnormal{kinds}; they are boxed in the picture.",
        *_density(numbers, wishes, what="marked cells"),
        "It is weak: it misses abnormal cells, and cannot tell which Bethesda class they are.",
    ]


def _segment(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    n = numbers["count"]
    if not n:
        return ["No object was outlined."]
    um2 = numbers.get("areas_um2")
    if n == 1:
        area = f"{numbers['areas_px'][0]} px" + (f" or {um2[0]:.1f} µm²" if um2 else "")
        return [
            f"One object is outlined: its area is {area}, {numbers['covered_percent']} % of the picture. What it is is not said."
        ]
    return [
        f"{n} objects are outlined, with a median area of {numbers['median_area_px']:.0f} px; together they cover "
        f"{numbers['covered_percent']} % of the picture.",
        "Small objects are missed, so this is no count, and what the objects are is not said.",
    ]


def _nuclei(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    n = numbers["nuclei"]
    if not n:
        return ["No nuclei were found in this picture."]
    sentences = [f"{n} nuclei are outlined; they cover {numbers['covered_percent']} % of the picture."]
    sentences += _density(numbers, wishes, "nuclei_per_mm2", "nuclei")
    if numbers["median_area_um2"] is not None:
        sentences.append(f"Their median area is {numbers['median_area_um2']} µm², the mean {numbers['mean_area_um2']} µm².")
    elif numbers["median_area_px"] is not None:
        sentences.append(f"Their median area is {numbers['median_area_px']:.0f} px; an area in µm² needs the picture's scale.")
    return [*sentences, ELSEWHERE, "Which cells they are of is not said."]


def _generated(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    n = numbers["count"]
    recognised = numbers.get("recognised")
    sentences = [f"{counted(n, 'synthetic picture')} of {numbers['class']}: made by a model, not photographed, of no patient."]
    if recognised is not None:
        grade = GRADE_OF[numbers["class"]]
        sentences.append(f"The cell classifier takes {recognised} of {n} for {grade}, the grade of {numbers['class']}.")
    if numbers.get("unusable"):
        sentences.append("The model learnt this class on a few cells: the pictures are unusable for teaching.")
    return sentences


_COMPOSERS: dict[str, Callable[[dict[str, Any], Wishes], list[str]]] = {
    "ki67_cells": _ki67,
    "her2_cells": _her2,
    "pdl1_cells": _pdl1,
    "blood_cells": _blood,
    "lbc_classify": _class,
    "lbc_detect": _abnormal,
    "segment": _segment,
    "he_nuclei": _nuclei,
    "lbc_generate": _generated,
}


def _of_slide(numbers: dict[str, Any], wishes: Wishes) -> list[str]:
    """A run over a whole slide: the value and its interval first, then hot spots and what else the run says."""
    run = numbers["slide"]
    return [*run["sentences"], f"Cells, regions for QuPath and the report are in {run['folder']}."]


def _cut_offs(result: ToolResult, wishes: Wishes) -> list[Statement]:
    """Where the question asks whether a value is high, or what it means: the cut-off with its source, and on which side it is."""
    if not wishes.any("high", "meaning"):
        return []
    numbers = result.numbers
    if "slide" in numbers:
        value = numbers["slide"]["score"]["value"]
        keys = {"ki67_cells": "index_percent", "pdl1_cells": "tps_percent"}
        numbers = {keys[result.name]: value} if result.name in keys else numbers["slide"]["score"].get("further", {})
    if result.name == "ki67_cells" and numbers.get("index_percent") is not None:
        return [of_tool(result, side_of(numbers["index_percent"], (5.0, 20.0, 30.0), "The index")), of_glossary("Ki67 cut-off")]
    if result.name == "her2_cells" and numbers.get("score"):
        return [of_glossary("HER2 score")]
    if result.name == "pdl1_cells" and numbers.get("tps_percent") is not None:
        return [of_tool(result, side_of(numbers["tps_percent"], (1.0, 50.0), "The estimate")), of_glossary("TPS cut-off")]
    if result.name == "blood_cells":
        terms = [BLOOD[k][0] for k in BLOOD if BLOOD[k][1] in wishes] or [name for name, _ in BLOOD.values()]
        note = fixed(
            "Whether a count is normal cannot be read from one field: the ranges are concentrations, measured by a machine."
        )
        return [note, *(of_glossary(t) for t in terms)]
    if result.name in ("lbc_classify", "lbc_detect") and "meaning" in wishes:
        stated = [numbers["class"]] if "class" in numbers else [k for k in LONG if numbers.get(k)]
        return [of_glossary(t) for t in stated if t in LONG]
    return []


def side_of(value: float, limits: Sequence[float], what: str) -> str:
    """`The index of 24.0 % lies between 20 and 30 %.`"""
    below = [x for x in limits if value < x]
    above = [x for x in limits if value >= x]
    if not above:
        return f"{what} of {value:g} % lies below {below[0]:g} %."
    if not below:
        return f"{what} of {value:g} % lies at or above {above[-1]:g} %."
    return f"{what} of {value:g} % lies from {above[-1]:g} to below {below[0]:g} %."


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
