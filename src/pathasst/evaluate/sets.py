"""Where each public test set lies under the data folder, and what to say when it does not. Knows no model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pathasst.errors import BadDataset, BadSettings


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

    def missing(self, root: Path) -> str:
        """What to say when it is not under `root`."""
        return f"{self.title} is not in {root}. Get it: {self.get}. Expected: {self.layout}"


@lru_cache(maxsize=1)
def known() -> dict[str, TestSet]:
    """Every set of sets.yaml by its id."""
    import yaml

    values: dict[str, dict[str, Any]] = yaml.safe_load((files(__package__) / "sets.yaml").read_text(encoding="utf-8"))
    return {
        id: TestSet(id, v["title"], v["get"], tuple(v["folders"]), v["layout"], tuple(v["holds"]), v.get("task", ""))
        for id, v in values.items()
    }


def find(root: Path | None, id: str) -> Path | None:
    """The folder of a set under `root` (or `root` itself, if it is the set); None when it is not there.

    Raises BadSettings for an unknown id, BadDataset when the folder is there and does not look like the set.
    """
    try:
        wanted = known()[id]
    except KeyError:
        raise BadSettings(f"no test set is called {id!r}; known: {', '.join(known())}.") from None
    if root is None:
        return None
    for folder in wanted.folders:
        path = Path(root) / folder
        if path.is_dir():
            if not _looks_right(path, wanted):
                raise BadDataset(f"{path} does not look like {wanted.title}. Expected: {wanted.layout}")
            return path
    names = {folder.split("/")[-1] for folder in wanted.folders}
    if Path(root).name in names and _looks_right(Path(root), wanted):
        return Path(root)
    return None


def _looks_right(path: Path, wanted: TestSet) -> bool:
    return any(next(path.glob(pattern), None) is not None for pattern in wanted.holds)
