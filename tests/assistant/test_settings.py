from __future__ import annotations

from pathlib import Path

import pytest

from pathasst.assistant.settings import load_settings
from pathasst.core.errors import BadSettings
from pathasst.core.recipes import recipes_dir


@pytest.mark.parametrize("recipe", sorted(p.parent.name for p in recipes_dir().glob("*/assistant.yaml")))
def test_every_recipe_reads(recipe: str) -> None:
    settings = load_settings(recipe)
    assert settings.limits.rounds >= 1
    assert settings.brain.model


def test_the_brain_of_the_command_or_the_environment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATHASST_BRAIN", "http://a/v1#b")
    assert load_settings("embedded").brain.model == "b"
    assert load_settings("embedded", "pathasst:mine").brain.model == "mine"


@pytest.mark.parametrize("text", ["brian: {}", "brain: {kid: x}", "brain: [1]", "limits: {rounds: -1}", "limits: {rounds: many}"])
def test_bad_settings_are_named(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATHASST_BRAIN", raising=False)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BadSettings):
        load_settings(str(path))
