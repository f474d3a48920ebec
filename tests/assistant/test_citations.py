from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathasst.assistant.citations import check, misplaced, retrieved, unbacked_figures
from pathasst.core.records import Hit, ToolResult

LIBRARY = {
    "12345678": Hit(pmid="12345678", title="A", passage="see doi 10.1000/real.1 and PMC7654321"),
    "2345": Hit(pmid="2345", title="B", passage="p"),
}


@pytest.mark.parametrize(
    ("text", "out", "cited", "struck"),
    [
        ("So [PMID 12345678].", "So [PMID 12345678].", ["12345678"], []),
        ("So [PMID 99999999].", "So ~~[PMID 99999999]~~.", [], ["PMID 99999999"]),
        ("So (PMID: 12345678).", "So [PMID 12345678].", ["12345678"], []),
        ("pmid12345678", "[PMID 12345678]", ["12345678"], []),
        ("PMID #00012345678 x", "PMID #00012345678 x", [], []),  # eleven digits are no PMID
        ("PMID 0002345", "[PMID 2345]", ["2345"], []),
        ("PMIDs 12345678, 2345678 and 34567890", "[PMID 12345678] ~~[PMID 2345678]~~ ~~[PMID 34567890]~~", ["12345678"], None),
        ("[PMID 12345678; PMID 2345]", "[PMID 12345678] [PMID 2345]", ["12345678", "2345"], []),
        ("PMID 12345678 and 3 patients", "[PMID 12345678] and 3 patients", ["12345678"], []),
        ("[12345678] and [1]", "[PMID 12345678] and [1]", ["12345678"], []),
        ("[87654321]", "~~[PMID 87654321]~~", [], ["PMID 87654321"]),
        ("see https://pubmed.ncbi.nlm.nih.gov/12345678/ now", "see [PMID 12345678] now", ["12345678"], []),
        ("http://www.ncbi.nlm.nih.gov/pubmed/55555", "~~[PMID 55555]~~", [], ["PMID 55555"]),
        ("PMID １２３４５６７８", "[PMID 12345678]", ["12345678"], []),
        ("PubMed ID 777", "~~[PMID 777]~~", [], ["PMID 777"]),
        ("the PubMed 2019 release", "the PubMed 2019 release", [], []),
        ("(PMID 999; Smith)", "(~~[PMID 999]~~; Smith)", [], ["PMID 999"]),
        ("doi:10.1000/real.1", "doi:10.1000/real.1", [], []),
        ("10.1234/fake.9.", "~~10.1234/fake.9~~.", [], ["10.1234/fake.9"]),
        ("PMC7654321 PMC1111111", "PMC7654321 ~~PMC1111111~~", [], ["PMC1111111"]),
        ("~~[PMID 12345678]~~", "[PMID 12345678]", ["12345678"], []),  # a model cannot strike out on its own
        ("[PMID 99999999] [PMID 99999999]", "~~[PMID 99999999]~~ ~~[PMID 99999999]~~", [], ["PMID 99999999"]),
        ("No reference.", "No reference.", [], []),
    ],
)
def test_references_are_kept_or_struck(text: str, out: str, cited: list[str], struck: list[str] | None) -> None:
    checked = check(text, LIBRARY)
    assert checked.text == out
    assert checked.cited == cited
    if struck is not None:
        assert checked.struck == struck


def test_with_an_empty_library_every_reference_is_struck() -> None:
    assert check("[PMID 12345678]", {}).struck == ["PMID 12345678"]


@given(st.integers(10_000, 99_999_999), st.sampled_from(["[PMID {}]", "PMID: {}", "(PMID {})", "PMIDs {}", "pubmed id {}"]))
def test_no_unknown_pmid_survives(pmid: int, form: str) -> None:
    checked = check(f"As shown {form.format(pmid)}, it is.", {})
    assert checked.struck == [f"PMID {pmid}"]
    assert f"~~[PMID {pmid}]~~" in checked.text


@given(st.text(max_size=200))
def test_any_text_can_be_checked(text: str) -> None:
    assert check(text, LIBRARY).text.count("~~") % 2 == 0


def test_references_without_a_pmid_are_named() -> None:
    assert check("As Smith et al., 2019 and Jones and Miller (2001) say", {}).unchecked == [
        "Smith et al., 2019",
        "Jones and Miller (2001)",
    ]


def test_a_reference_behind_another_abstracts_statement_is_named() -> None:
    library = {
        "1111": Hit(
            pmid="1111", title="KLF8", passage="KLF8 is over-induced by chemotherapeutic drugs in metastatic breast cancer."
        ),
        "2222": Hit(pmid="2222", title="KRT7", passage="KRT7 promotes malignant progression of ovarian tumours."),
    }
    said = "KLF8 can be induced by chemotherapeutic drugs in metastatic cancer"
    assert misplaced(f"{said} [PMID 2222].", library) == [("2222", "1111")]
    assert misplaced(f"{said}. [PMID 1111]", library) == []
    assert misplaced(f"{said} [PMID 2222] [PMID 1111].", library) == []
    assert misplaced("Yes [PMID 2222].", library) == []
    for pmid, hit in library.items():
        assert misplaced(f"{hit.passage} [PMID {pmid}]", library) == []
    listed = [f"- [PMID {pmid}] {hit.title}. {hit.passage}" for pmid, hit in library.items()]
    assert misplaced("\n".join(["The nearest abstracts say:", *listed]), library) == []
    assert misplaced(f"The abstracts say:\n- [PMID 2222] {said}", library) == [("2222", "1111")]


def test_retrieved_collects_hits_over_results() -> None:
    results = [
        ToolResult(name="p", hits=[LIBRARY["12345678"]]),
        ToolResult(name="q"),
        ToolResult(name="p", hits=[LIBRARY["2345"]]),
    ]
    assert list(retrieved(results)) == ["12345678", "2345"]


@pytest.mark.parametrize(
    ("text", "strange"),
    [
        ("The index is 23.1 %.", []),
        ("The index is 23 %.", []),  # rounded
        ("The index is 24 %.", ["24"]),
        ("Of 1,234 cells, 285 are positive.", []),
        ("Of 1,235 cells.", ["1,235"]),
        ("A share of 0.231.", []),
        ("In 2019 there were 3 studies [PMID 12345678].", []),
        ("It was 45.2 %.", ["45.2"]),
        ("340 patients", []),
        ("-7.5", ["-7.5"]),
    ],
)
def test_figures_without_a_source_are_named(text: str, strange: list[str]) -> None:
    assert unbacked_figures(text, ["index 23.1 %; 1234 cells, 285 positive", "340 patients"], [0.5]) == strange
