"""Recipes load by name or path, and a slip in one is named."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import yaml

from pathasst.core.errors import BadSettings
from pathasst.core.recipes import read_recipe, recipes_dir
from pathasst.core.settings import Field, Settings


class Training(Settings):
    room: ClassVar[str] = "clip"

    epochs: int = Field(default=1, ge=1)
    name: str = "x"


def test_own_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("epochs: 3\n")
    assert Training.load(tmp_path / "mine.yaml") == Training(epochs=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch: 3", "no setting epoch; did you mean epochs"),
        ("epochs: 0", "equal to 1"),
        ("- 1", "name: value"),
        ("a: [", "no valid YAML"),
    ],
)
def test_slips_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(BadSettings, match=message):
        Training.load(tmp_path / "mine.yaml")


def test_unknown_recipe() -> None:
    with pytest.raises(BadSettings, match="no recipe 'nonesuch'"):
        read_recipe("clip", "nonesuch")


def test_every_shipped_recipe_is_a_mapping() -> None:
    for path in recipes_dir().glob("*/*.yaml"):
        assert isinstance(yaml.safe_load(path.read_text()), dict), path
