"""The wordings as a user edits them: YAML files, a small template language, and the split of whole templates.

Knows the folder `wordings/` and how to fill a template; knows nothing of pairs or tools.

`[a|b|]` chooses one of several, `{slot}` is filled by the caller or from `slots.yaml`. A template belongs to one split only:
those under `test` are never seen in training, and a tenth of those under `train`, chosen by hash, is kept for `val`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from random import Random
from typing import Any

import yaml

from pathasst.core import yaml_text
from pathasst.core.errors import BadSettings
from pathasst.core.templates import Template

PACKAGED = Path(__file__).with_name("wordings")
VAL_SHARE = 10  # one train template in so many serves val


def capital(text: str) -> str:
    """The text with its first letter as a capital, unless the first word holds one already (HER2, pT1)."""
    first = text.split(" ", 1)[0]
    return text if any(c.isupper() for c in first) else text[:1].upper() + text[1:]


def lowered(text: str) -> str:
    """The text as it stands inside a sentence: its first letter small, unless the first word is a name such as HER2 or I."""
    first = text.split(" ", 1)[0].rstrip(",.")
    name = first == "I" or first[1:].lower() != first[1:] or any(c.isdigit() for c in first)
    return text if name else text[:1].lower() + text[1:]


@dataclass(frozen=True)
class Wordings:
    """All wording files, the user's folder before the packaged one. Loaded once a process; picklable."""

    folder: str = ""
    cache: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return Wordings, (self.folder,)

    def load(self, name: str) -> Any:
        """The content of `<name>.yaml`. Raises BadSettings for a file that is missing or not YAML."""
        if name not in self.cache:
            path = self.path(f"{name}.yaml")
            try:
                self.cache[name] = _content(path, path.stat().st_mtime_ns)
            except (OSError, yaml.YAMLError) as error:
                raise BadSettings(f"the wordings in {path} cannot be read: {error}") from error
        return self.cache[name]

    def prompt(self, name: str) -> str:
        """The text of `prompts/<name>.txt`."""
        try:
            return self.path(f"prompts/{name}.txt").read_text(encoding="utf-8")
        except OSError as error:
            raise BadSettings(f"the prompt {name} cannot be read: {error}") from error

    def path(self, name: str) -> Path:
        own = Path(self.folder) / name if self.folder else None
        return own if own is not None and own.is_file() else PACKAGED / name

    def tool_names(self) -> list[str]:
        """Tools that have wordings, packaged or the user's own."""
        folders = [PACKAGED / "tools", *([Path(self.folder) / "tools"] if self.folder else [])]
        return sorted({p.stem for f in folders for p in f.glob("*.yaml")})

    def stamp(self) -> str:
        """A hash of every file that counts, so that an edited wording makes the stage run again."""
        names = {p.relative_to(f).as_posix() for f in self._folders() for p in f.rglob("*") if p.suffix in (".yaml", ".txt")}
        digest = hashlib.sha256()
        for name in sorted(names):
            digest.update(name.encode() + self.path(name).read_bytes())
        return digest.hexdigest()[:16]

    def _folders(self) -> list[Path]:
        return [PACKAGED, *([Path(self.folder)] if self.folder else [])]

    @cached_property
    def _slot_lists(self) -> dict[str, Any]:
        lists: dict[str, Any] = self.load("slots")
        return lists

    def slots(self, rng: Random, split: str) -> dict[str, str]:
        """One value for every slot of `slots.yaml`, and an age."""
        values = {name: rng.choice(of_split(values, split)) for name, values in self._slot_lists.items()}
        return {**values, "age": str(rng.randint(21, 89))}


def of_split(values: Any, split: str) -> Any:
    """The part of a `{train, test}` node that serves a split; a node without the two serves all."""
    if not isinstance(values, Mapping) or "train" not in values:
        return values
    return values["test"] if split == "test" and "test" in values else values["train"]


def templates(node: Any, split: str) -> list[Template]:
    """The templates of a `{train: [...], test: [...]}` node that a split may use."""
    return [Template(t) for t in choices(node, split, key=str)]


def choices(node: Any, split: str, key: Callable[[Any], str] = lambda entry: str(entry[0])) -> list[Any]:
    """The entries of a `{train, test}` node for a split, with the hashed tenth of train kept for val.

    Where the tenth is empty, val shares train's entries.
    """
    entries: Sequence[Any] = of_split(node, split)
    if split == "test" or not isinstance(node, Mapping):
        return list(entries)
    for_val = [e for e in entries if _held_for_val(key(e))]
    if split == "val":
        return for_val or list(entries)
    return [e for e in entries if e not in for_val] or list(entries)


@lru_cache(maxsize=8192)
def _held_for_val(text: str) -> bool:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % VAL_SHARE == 0


@lru_cache(maxsize=256)
def _content(path: Path, changed: int) -> Any:
    """A file's content, parsed once a process however many shards ask; `changed`, in ns, so that an edited file is read again."""
    return yaml_text.load(path.read_text(encoding="utf-8"))
