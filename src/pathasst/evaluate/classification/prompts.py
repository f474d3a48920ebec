"""Prompts of a set by three rules, which decide zero-shot numbers as much as the model does. Knows names and templates.

- single: one prompt a class, the authors' or the plainest (`prompt` of `classes.yaml`);
- ensemble: every template with every name, embeddings averaged, as CONCH does it;
- random: one template and one name of each class, drawn anew each time, whose spread says how much luck a single prompt is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

from pathasst.core.errors import BadSettings

TEMPLATES = (
    "{}",
    "{}.",
    "an image of {}.",
    "an image showing {}.",
    "a picture of {}.",
    "an H&E image of {}.",
    "an H&E image showing {}.",
    "an H&E stained section of {}.",
    "an H&E patch of {}",
    "a histopathology image of {}.",
    "histopathology of {}.",
    "a histological section showing {}.",
    "a micrograph of {}.",
    "a photomicrograph showing {}.",
    "a microscopic view of {}.",
    "microscopy shows {}.",
    "this is {}.",
    "{} is seen.",
    "{} is present.",
    "an example of {}.",
    "tissue with {}.",
    "{}, H&E stain.",
)
"""The kinds of phrases that CONCH's ensemble has, in our words."""


PLAIN = "An H&E image of {}."
"""The single prompt where nobody says another."""


@dataclass(frozen=True, slots=True)
class ClassNames:
    """The classes of a set: what its layout calls them, their names for prompts, and the single prompt with {} for a name."""

    labels: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    prompt: str
    pairs: str = ""  # what stands before the slash in the labels of pairs: lc25000/lung_aca

    @property
    def titles(self) -> list[str]:
        """One name a class, for tables and pictures."""
        return [names[0] for names in self.names]

    def single(self) -> list[str]:
        """The single prompt of each class."""
        return [self.prompt.format(names[0]) for names in self.names]

    def ensemble(self) -> list[list[str]]:
        """All prompts of each class."""
        return [[t.format(name) for name in names for t in TEMPLATES] for names in self.names]

    def random(self, rng: Random) -> list[str]:
        """One prompt a class: a template for all, a name for each."""
        template = rng.choice(TEMPLATES)
        return [template.format(rng.choice(names)) for names in self.names]


def class_names(id: str, path: Path | None = None) -> ClassNames:
    """The classes of a set of `classes.yaml`, or of a file of that form. Raises BadSettings."""
    entries = _stored(path)
    if id not in entries:
        raise BadSettings(f"{path or 'classes.yaml'} has no classes of {id!r}; it has {', '.join(entries)}.")
    try:
        entry = entries[id]
        if "like" in entry:  # a sample of a set, whose files call the classes otherwise
            other = entries[entry["like"]]
            names = {label: other["classes"][theirs] for label, theirs in entry["classes"].items()}
            return _names(names, other["prompt"], entry.get("pairs", ""))
        return _names(entry["classes"], entry.get("prompt", PLAIN), entry.get("pairs", ""))
    except (KeyError, TypeError, AttributeError) as error:
        raise BadSettings(f"{path or 'classes.yaml'}, {id}: expected prompt and classes {{label: [names]}}; {error!r}") from error


def names_of_labels(labels: list[str], path: Path | None = None) -> ClassNames:
    """The names of labels that no set has: those of a file {label: [names]}, or the labels themselves, read as words."""
    names_file = _stored(path) if path else {}
    entry = names_file.get("classes", names_file)
    if path and (missing := [label for label in labels if label not in entry]):
        raise BadSettings(f"{path} names no {', '.join(missing)}; it must name every class: {', '.join(labels)}.")
    words = {label: label.replace("_", " ").replace("-", " ").strip().lower() for label in labels}
    return _names({label: entry.get(label, [words[label]]) for label in labels}, names_file.get("prompt", PLAIN))


def _names(classes: Mapping[str, list[str] | str], prompt: str, pairs: str = "") -> ClassNames:
    names = tuple((value,) if isinstance(value, str) else tuple(map(str, value)) for value in classes.values())
    if "{}" not in prompt or not all(names):
        raise BadSettings("a prompt needs {} for the name, and every class at least one name.")
    return ClassNames(tuple(map(str, classes)), names, prompt, pairs)


def _stored(path: Path | None) -> dict[str, Any]:
    import yaml

    from pathasst.core import yaml_text

    source = path or files(__package__) / "classes.yaml"
    try:
        entries = yaml_text.load(source.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise BadSettings(f"{source} cannot be read: {error}") from error
    if not isinstance(entries, dict):
        raise BadSettings(f"{source} holds no classes.")
    return entries
