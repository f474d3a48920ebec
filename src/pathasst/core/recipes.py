"""Recipes: YAML settings by name. `embedded` (two CPU cores) and `paper` (GPUs) come with the package; a path names your own.

Knows no room: `core/settings.py` makes the settings of a room of these values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pathasst.core.errors import BadSettings


def recipes_dir() -> Path:
    """The folder of the recipes that come with the package."""
    installed = Path(__file__).parent.with_name("_recipes")
    return installed if installed.is_dir() else Path(__file__).parents[3] / "recipes"


def recipe_path(room: str, recipe: str) -> Path:
    """`recipes/<recipe>/<room>.yaml`, or `recipe` itself when it is the path of a YAML file. Raises BadSettings if absent."""
    own = Path(recipe)
    if own.suffix in (".yaml", ".yml"):
        if own.is_file():
            return own
        raise BadSettings(f"the recipe file {recipe} does not exist.")
    path = recipes_dir() / recipe / f"{room}.yaml"
    if path.is_file():
        return path
    names = sorted(p.parent.name for p in recipes_dir().glob(f"*/{room}.yaml"))
    raise BadSettings(f"there is no recipe {recipe!r} for {room}; choose {', '.join(names) or 'a YAML file of your own'}.")


def read_recipe(room: str, recipe: str) -> dict[str, Any]:
    """The recipe as plain values. Raises BadSettings when it is no YAML mapping."""
    import yaml

    from pathasst.core import yaml_text

    path = recipe_path(room, recipe)
    try:
        values = yaml_text.load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSettings(f"{path} is no valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise BadSettings(f"{path} must hold settings as `name: value` lines.")
    return values
