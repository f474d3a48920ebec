"""Settings from Python, YAML and `--set`: one meaning, one kind of message."""

import pickle
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from pydantic import model_validator

from pathasst.core.errors import BadSettings
from pathasst.core.settings import Field, Settings, override


class Part(Settings):
    """One of two parts."""

    path: str
    share: float = Field(default=0.5, gt=0, lt=1)


class Whole(Settings):
    """Settings with parts."""

    room: ClassVar[str] = "whole"
    renamed: ClassVar[dict[str, str]] = {"rounds": "steps", "bf16": "precision: bf16 or fp32"}
    steps: int = Field(default=100, ge=1, description="optimiser steps")
    lr: float = Field(default=1e-3, gt=0)
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    classes: tuple[str, ...] = ()
    names: dict[str, str] = Field(default={})
    first: Part = Part(path="a")
    parts: tuple[Part, ...] = ()

    @model_validator(mode="after")
    def _different(self) -> "Whole":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be different names")
        return self


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("steps: 7\nclasses: [a, 2]\nfirst: {path: x}\nparts: [{path: p}, {path: q, share: 0.1}]\n", encoding="utf-8")
    return path


def test_a_recipe_gives_typed_values_and_overrides_win(recipe: Path) -> None:
    settings = Whole.load(recipe, ["first.share=0.25", "parts.1.path=z", "lr=1e-4", "classes=[c, d]"], steps=9)
    assert (settings.steps, settings.lr, settings.classes) == (9, 1e-4, ("c", "d"))
    assert settings.first == Part(path="x", share=0.25)
    assert [p.path for p in settings.parts] == ["p", "z"]
    assert Whole.load(recipe).classes == ("a", "2"), "numbers are texts where a text is wanted"


def test_yaml_set_and_python_give_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "one.yaml"
    path.write_text("steps: 5\nfirst: {path: k}\n", encoding="utf-8")
    empty = tmp_path / "none.yaml"
    empty.write_text("", encoding="utf-8")
    assert Whole.load(path) == Whole.load(empty, ["steps=5", "first.path=k"]) == Whole(steps=5, first=Part(path="k"))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"step": 3}, "there is no setting step; did you mean steps?"),
        ({"zzz": 3}, "there is no setting zzz; there are classes, first, lr, names, parts, precision, steps"),
        ({"rounds": 3}, "rounds is no longer a setting: use steps"),
        ({"bf16": True}, "use precision: bf16 or fp32"),
        ({"steps": 0}, "steps: input should be greater than or equal to 1, not 0"),
        ({"steps": "many"}, "steps: "),
        ({"precision": "half"}, "'auto', 'bf16' or 'fp32', not 'half'"),
        ({"first": {"path": "a", "shar": 1}}, "there is no setting first.shar; did you mean share?"),
        ({"first": {}}, "first.path is missing"),
        ({"parts": [{"path": "a"}, {"path": "b", "share": 2}]}, "parts.1.share: input should be less than 1, not 2"),
        ({"classes": ["a", "a"]}, "classes must be different names"),
    ],
)
def test_a_fault_names_the_setting_and_what_is_allowed(values: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as python:
        Whole(**values)
    assert words in str(python.value)
    with pytest.raises(BadSettings) as file:
        Whole.of(values, where="my.yaml")
    assert str(file.value).startswith("my.yaml: ")
    assert words in str(file.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(BadSettings) as error:
        Whole(steps=0, lr=-1, precisoin="bf16")
    assert all(name in str(error.value) for name in ("steps", "lr", "precisoin", "precision?"))


def test_a_copy_is_checked_and_the_original_stays() -> None:
    settings = Whole(steps=4, first=Part(path="b"))
    assert settings.replace(steps=5).first.path == "b"
    with pytest.raises(BadSettings):
        settings.replace(steps=0)
    with pytest.raises(BadSettings):
        settings.replace(rounds=1)
    with pytest.raises((BadSettings, ValueError)):
        settings.steps = 3  # type: ignore[misc]
    assert settings.steps == 4


def test_settings_survive_pickling_and_plain_values() -> None:
    settings = Whole(classes=("a", "b"), parts=(Part(path="p"),))
    assert pickle.loads(pickle.dumps(settings)) == settings == Whole.of(settings.plain())


@pytest.mark.parametrize("text", ["steps", "=3", "steps.more=3", "parts.9.path=x", "parts.one.path=x", "steps=[1"])
def test_a_set_that_leads_nowhere_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="--set"):
        override({"steps": 1, "parts": [{"path": "a"}]}, [text])


def test_overrides_leave_the_given_values_alone() -> None:
    values = {"first": {"path": "a"}}
    assert override(values, ["first.path=b"]) == {"first": {"path": "b"}}
    assert values == {"first": {"path": "a"}}


@pytest.mark.parametrize("content", ["- a\n", "a: [", "a: 1\nb"])
def test_a_file_that_is_no_mapping_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(BadSettings, match=r"bad\.yaml"):
        Whole.load(path)
