"""Where each public test set lies under the data folder, and what to say when it does not. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pathasst.core.errors import BadDataset, BadSettings


@dataclass(frozen=True, slots=True)
class TestSet:
    """One public set: how it is found and named to people."""

    id: str
    title: str
    get: str  # where a person gets it
    folders: tuple[str, ...]  # under the data folder, tried in turn
    layout: str
    holds: tuple[str, ...]  # glob patterns of which one must be there
    task: str = ""  # zero-shot: the task of the recipe
    part: str = ""  # the part of `pathasst eval` that reads it; empty: one of the paper's
    licence: str = ""

    def missing(self, root: Path | None) -> str:
        """What to say when it is not under `root`."""
        where = f"not in {root}{'' if root.is_dir() else ', which is no folder'}" if root else "no --data, its folder, was given"
        return f"{self.title}: {where}. Get it: {self.get}. Expected: {self.layout}"


@lru_cache(maxsize=1)
def public_sets() -> dict[str, TestSet]:
    """Every set of sets.yaml by its id."""
    from pathasst.core import yaml_text

    values: dict[str, dict[str, Any]] = yaml_text.load((files(__package__) / "sets.yaml").read_text(encoding="utf-8"))
    return {
        id: TestSet(
            id,
            v["title"],
            v["get"],
            tuple(v["folders"]),
            v["layout"],
            tuple(v["holds"]),
            v.get("task", ""),
            v.get("part", ""),
            v.get("licence", ""),
        )
        for id, v in values.items()
    }


def find(root: Path | None, id: str) -> Path:
    """The folder of a set under `root` (or `root` itself, if it is the set).

    Raises BadSettings for an unknown id; BadDataset, which says where to get it and how it must look, when it is not there or
    its folder does not look like the set.
    """
    try:
        test_set = public_sets()[id]
    except KeyError:
        raise BadSettings(f"no test set is called {id!r}; known: {', '.join(public_sets())}.") from None
    if root is None:
        raise BadDataset(test_set.missing(None))
    for path in (root / folder for folder in test_set.folders):
        if path.is_dir():
            if not _looks_right(path, test_set):
                raise BadDataset(f"{path} does not look like {test_set.title}. Expected: {test_set.layout}")
            return path
    if root.name in {folder.split("/")[-1] for folder in test_set.folders} and _looks_right(root, test_set):
        return root
    raise BadDataset(test_set.missing(root))


def _looks_right(path: Path, test_set: TestSet) -> bool:
    return any(next(path.glob(pattern), None) is not None for pattern in test_set.holds)
