from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pathasst.core.errors import BadSettings
from pathasst.core.templates import Template, tidy
from pathasst.instruct.wordings import Wordings, capital, choices, lowered, of_split, templates


def test_a_template_gives_each_of_its_alternatives() -> None:
    template = Template("[Count|Find] the [{n} |]cells[ now|].")
    assert template.variants() == 8
    seen = {template.fill(Random(s), {"n": "5"}) for s in range(200)}
    assert seen == {e.replace("{n}", "5") for e in template.expansions()}


def test_alternatives_nest() -> None:
    assert Template("[a [b|c]|d]").expansions() == ["a b", "a c", "d"]


def test_noise_sees_the_words_and_never_what_fills_a_slot() -> None:
    text = Template("Find papers on {topic} now").fill(Random(0), {"topic": "HER2 in Cancer"}, lambda t: t.upper())
    assert text == "FIND PAPERS ON HER2 in Cancer NOW"


def test_a_slot_that_nobody_fills_is_named() -> None:
    with pytest.raises(BadSettings, match="topic"):
        Template("about {topic}").fill(Random(0), {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  eosinophil .", "an eosinophil."),
        ("a uniform one", "a uniform one"),
        ("What is it ?", "What is it?"),
        ("end..", "end."),
        ("at (3, 4)", "at (3, 4)"),
    ],
)
def test_tidy(text: str, expected: str) -> None:
    assert tidy(text) == expected


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("Count cells", "count cells", "Count cells"),
        ("HER2 status", "HER2 status", "HER2 status"),
        ("Ki67 index", "Ki67 index", "Ki67 index"),
        ("I need it", "I need it", "I need it"),
        ("A method", "a method", "A method"),
        ("pT1 tumour", "pT1 tumour", "pT1 tumour"),
    ],
)
def test_first_letters(text: str, low: str, high: str) -> None:
    assert lowered(text) == low
    assert capital(low) == high


def test_splits_share_no_template() -> None:
    node = {"train": [f"wording {n}" for n in range(60)], "test": ["another"]}
    parts = {s: {t.text for t in templates(node, s)} for s in ("train", "val", "test")}
    assert parts["train"] | parts["val"] == set(node["train"])
    assert not parts["train"] & parts["val"]
    assert parts["val"]
    assert parts["test"] == {"another"}


def test_a_node_without_splits_serves_all() -> None:
    assert of_split(["x"], "test") == ["x"]
    assert choices(["x"], "train", key=str) == ["x"]


def test_a_users_folder_replaces_single_files_and_changes_the_stamp(tmp_path: Path) -> None:
    (tmp_path / "describe.yaml").write_text("train: ['Say it.']\ntest: ['Tell it.']\n")
    own = Wordings(str(tmp_path))
    assert own.load("describe")["train"] == ["Say it."]
    assert own.load("converse") == Wordings().load("converse")
    assert own.stamp() != Wordings().stamp()
    before = own.stamp()
    (tmp_path / "describe.yaml").write_text("train: ['Say that.']\n")
    assert Wordings(str(tmp_path)).stamp() != before


def test_broken_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "describe.yaml").write_text("train: [")
    with pytest.raises(BadSettings, match=r"describe\.yaml"):
        Wordings(str(tmp_path)).load("describe")


@given(st.text(max_size=60).filter(lambda t: not set(t) & set("[]{}|")))
def test_plain_text_is_a_template_of_itself(text: str) -> None:
    assert Template(text).fill(Random(0), {}) == tidy(text)
    assert Template(text).variants() == 1
