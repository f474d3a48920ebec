from __future__ import annotations

import pytest

from pathasst.instruct.lexicon import KINDS, Lexicon, lexicon
from pathasst.instruct.wordings import Wordings


@pytest.fixture(scope="module")
def words() -> Lexicon:
    return lexicon(Wordings())


@pytest.mark.parametrize(
    ("text", "kind", "terms"),
    [
        ("Pulmonary adenocarcinoma, H&E", "organ", ["lung"]),
        ("Pulmonary adenocarcinoma, H&E", "diagnosis", ["adenocarcinoma"]),
        ("Pulmonary adenocarcinoma, H&E", "stain", ["haematoxylin and eosin"]),
        ("squamous cell carcinoma of the cervix", "bethesda", ["SCC"]),
        ("squamous cell carcinomas of the tongue", "diagnosis", ["squamous cell carcinoma"]),
        ("A segmented neutrophil", "cell", ["neutrophil"]),
        ("MIB-1 labelling", "marker", ["Ki67"]),
        ("Necrotic areas with calcifications", "finding", ["necrosis", "calcification"]),
        ("tumor tissue with complex stroma", "tissue", ["tumour epithelium", "stroma"]),
        ("lungs", "organ", ["lung"]),
        ("a lunging horse", "organ", []),
        ("low-grade squamous intraepithelial lesion", "bethesda", ["LSIL"]),
    ],
)
def test_terms(words: Lexicon, text: str, kind: str, terms: list[str]) -> None:
    assert words.find(text).terms[kind] == terms


def test_a_denied_term_is_found_and_marked(words: Lexicon) -> None:
    found = words.find("Fibrosis without necrosis. Necrosis is absent elsewhere.")
    assert found.terms["finding"] == ["fibrosis", "necrosis"]
    assert "fibrosis" not in found.denied
    assert words.find("There is no granuloma.").denied == {"granuloma"}


def test_a_term_affirmed_once_is_not_denied(words: Lexicon) -> None:
    assert not words.find("No necrosis on the left. Necrosis on the right.").denied


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("Pap smear showing LSIL", "cytology"),
        ("Peripheral blood smear, Giemsa", "blood"),
        ("HER2 immunohistochemistry of the breast", "ihc"),
        ("colon, hematoxylin and eosin", "he"),
        ("A bar chart of survival", ""),
    ],
)
def test_domain(words: Lexicon, text: str, domain: str) -> None:
    assert words.domain(text) == domain


def test_siblings_are_what_the_text_does_not_name(words: Lexicon) -> None:
    found = words.find("colon and lung")
    others = words.siblings("organ", found)
    assert "colon" not in others
    assert "lung" not in others
    assert "breast" in others


def test_every_set_is_made_of_known_terms(words: Lexicon) -> None:
    node = Wordings().load("lexicon")
    for kind in KINDS:
        assert set(words.sets[kind]) <= set(node[kind]["terms"])
    assert not words.malignant & words.benign
    assert (words.malignant | words.benign) <= set(node["diagnosis"]["terms"])


@pytest.mark.parametrize(
    ("text", "organs"),
    [
        ("Giant cells and blood cells of the lesion.", []),
        ("Blood vessels of the skin.", ["skin"]),
        ("Peripheral blood.", ["blood"]),
        ("A smear of blood.", ["blood"]),
    ],
)
def test_a_term_inside_a_longer_name_is_not_found(words: Lexicon, text: str, organs: list[str]) -> None:
    assert words.find(text).terms["organ"] == organs


def test_an_older_lexicon_without_hidden_names_still_loads(words: Lexicon) -> None:
    node = Wordings().load("lexicon")
    assert Lexicon({k: v for k, v in node.items() if k != "hidden"}).find("Blood cells.").terms["organ"] == ["blood"]
