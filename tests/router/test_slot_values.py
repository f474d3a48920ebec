"""Numbers, scales, places and names as people type them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathasst.instruct.requests import BOX_STYLES, POINT_STYLES
from pathasst.router.slot_values import negated, numbers, places, scale, spelled, years


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("Ki67, three papers, threshold 0.4.", [3, 0.4]),
        ("HER2 3+ and p16, MIB-1, PD-L1, 22C3", []),
        ("a couple of refs, half a dozen pictures, twelve cells", [2, 6, 12]),
        ("2.5 times larger, 3x normal, 4-fold", [2.5, 3, 4]),
        ("a 34-year-old", []),
        ("one of them", []),
    ],
)
def test_numbers_stand_for_themselves(words: str, found: list[float]) -> None:
    assert [value for value, _ in numbers(words)] == found


@pytest.mark.parametrize(
    ("words", "um"),
    [
        ("Ki67, 0.25 µm per pixel", 0.25),
        ("0.46um/px", 0.46),
        ("One pixel is 0.3 microns.", 0.3),
        ("mpp: 0.5", 0.5),
        ("the mpp is 0.23", 0.23),
        ("250 nm per pixel", 0.25),
        ("Scanned at 40x.", 0.25),
        ("×20 objective", 0.5),
        ("HE (0,23 µm/px)", 0.23),
        ("HER2,0.5 µm/px", 0.5),
        ("a biopsy, x40", 0.25),
        ("the cell at x40, y20", None),
        ("a nucleus 12 µm wide", None),
        ("Ki67 of 40 %, 5 papers", None),
        ("nothing", None),
    ],
)
def test_a_scale_is_read_in_any_of_its_writings(words: str, um: float | None) -> None:
    found = scale(words)
    assert (found[0] if found else None) == um


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("x=210, y=96", [(210, 96)]),
        ("y=96 x=210", [(210, 96)]),
        ("row 12, column 40", [(40, 12)]),
        ("clicks 88/140 and 102/151", [(88, 140), (102, 151)]),
        ("bbox 20 30 180 220", [(20, 30, 180, 220)]),
        ("the rectangle from (15, 20) to (200, 240)", [(15, 20, 200, 240)]),
        ("top-left corner 10, 12 and bottom-right corner 99, 120", [(10, 12, 99, 120)]),
        ("x from 20 to 180, y from 30 to 220", [(20, 30, 180, 220)]),
        ("y 30-220, x 20-180", [(20, 30, 180, 220)]),
        ("Take (107, 29) and (122, 90) as frame", [(107, 29, 122, 90)]),
        ("a field of 0.5 µm per pixel, 40x", []),
    ],
)
def test_points_and_boxes(words: str, found: list[tuple[float, ...]]) -> None:
    assert [p.values for p in places(words)] == found


def test_what_is_not_meant_and_what_is_another_object() -> None:
    near, far = places("the nucleus at (50, 70), but not what is at (90, 70)")
    assert (near.excluded, far.excluded) == (False, True)
    for words in ("den Kern bei (50, 70), nicht den bei (90, 70)", "(50, 70) ma non (90, 70)", "(50, 70) pero no (90, 70)"):
        assert [p.excluded for p in places(words)] == [False, True]
    one, other = places("the gland at (30, 40) and separately the one at (150, 160)")
    assert (one.apart, other.apart) == (False, True)
    assert not any(p.apart for p in places("I clicked on (30, 40) and (35, 44), both in the gland"))


@given(
    st.tuples(*[st.integers(0, 4000)] * 4), st.sampled_from(BOX_STYLES), st.sampled_from(["Mask the box {}.", "roi {} segment"])
)
def test_any_box_in_any_style_is_read_back(box: tuple[int, ...], style: str, request_: str) -> None:
    assert [p.values for p in places(request_.format(style.format(*box)))] == [box]


@given(
    st.tuples(*[st.integers(0, 4000)] * 2),
    st.sampled_from(POINT_STYLES),
    st.sampled_from(["Outline {}", "the cell at {}, please"]),
)
def test_any_point_in_any_style_is_read_back(point: tuple[int, ...], style: str, request_: str) -> None:
    assert [p.values for p in places(request_.format(style.format(*point)))] == [point]


@pytest.mark.parametrize(
    ("words", "since_until"),
    [
        ("Papers since 2015 on PD-L1?", (2015, None)),
        ("any trials from 2023 on?", (2023, None)),
        ("is there anything newer than 2021 about budding", (2021, None)),
        ("Arbeiten ab dem Jahr 2012 zu HPV", (2012, None)),
        ("des articles apres 2018", (2018, None)),
        ("2020年以后胸腺瘤分型的研究", (2020, None)),
        ("reviews until 2010 on Barrett", (None, 2010)),
        ("was vor 1999 erschien", (None, 1999)),
        ("2005年以前的文献", (None, 2005)),
        ("Studies between 2005 and 2010", (2005, 2010)),
        ("studies 2005-2010", (2005, 2010)),
        ("von 2005 bis 2010", (2005, 2010)),
        ("published in 2014", (2014, 2014)),
        ("有人研究过吗,2012到2020年", (2012, 2020)),
        ("articles from 2014 about grading", (2014, 2014)),
        ("PMID 20152016", None),
        ("nuclei in 2000.5 px and 15 % since yesterday", None),
        ("count the cells", None),
    ],
)
def test_years_of_publication(words: str, since_until: tuple[int | None, int | None] | None) -> None:
    named = years(words)
    assert (named and named[:2]) == since_until


def test_names_are_found_whatever_their_spelling() -> None:
    classes = ["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"]
    assert spelled(classes, "an asc h cell and two Lsils, not ASCUS") == [
        ("ASC-H", (3, 8)),
        ("LSIL", (22, 27)),
        ("ASC-US", (33, 38)),
    ]
    assert spelled(["ASC", "ASC-US"], "asc-us") == [("ASC-US", (0, 6))]
    assert not spelled(classes, "a classical HSILoid pattern")
    assert negated("draw it, but not an HSIL", 20)
    assert not negated("no stain today, please draw an HSIL", 31)
