"""Recipes load by name or path, and a slip in one is named."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pathasst.core.errors import BadSettings
from pathasst.core.recipes import load_recipe, read_recipe, recipes_dir


@dataclass
class Settings:
    epochs: int = 1
    name: str = "x"

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError("epochs must be at least 1")


def test_own_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("epochs: 3\n")
    assert load_recipe("clip", str(tmp_path / "mine.yaml"), Settings) == Settings(epochs=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [("epoch: 3", "unknown settings epoch"), ("epochs: 0", "at least 1"), ("- 1", "name: value"), ("a: [", "no valid YAML")],
)
def test_slips_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(BadSettings, match=message):
        load_recipe("clip", str(tmp_path / "mine.yaml"), Settings)


def test_unknown_recipe() -> None:
    with pytest.raises(BadSettings, match="no recipe 'nonesuch'"):
        read_recipe("clip", "nonesuch")


def test_every_shipped_recipe_is_a_mapping() -> None:
    for path in recipes_dir().glob("*/*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
