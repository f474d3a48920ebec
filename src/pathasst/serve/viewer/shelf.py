"""The slides that a viewer shows, by key, and the runs that belong to them. Nothing else of the disk can be asked for."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from pathasst.core.errors import BadInput, PathAsstError
from pathasst.imaging.slides import Slide, is_slide, open_slide
from pathasst.serve.viewer.layers import RunLayers
from pathasst.wsi.run import SUMMARY

OPEN = 8
"""Slides that are held open at once."""
TIFF_LIKE = (".tif", ".tiff")


@dataclass
class Entry:
    """A slide, the µm per px that a person gave it, and the folders of runs over it."""

    key: str
    path: Path
    mpp: float | None = None
    runs: list[Path] = field(default_factory=list)
    name: str = ""  # its path below the folder that is shown

    def allowed(self, patterns: Sequence[str]) -> bool:
        """Whether one of the patterns is of this slide."""
        return any(fnmatchcase(self.name or self.path.name, pattern) for pattern in patterns)


class Shelf:
    """Slides by key. Safe for threads."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._slides: OrderedDict[str, Slide] = OrderedDict()
        self._layers: dict[Path, RunLayers] = {}
        self._lock = threading.Lock()

    def add(self, path: Path, mpp: float | None = None, runs: list[Path] | None = None) -> Entry:
        """Put a slide on the shelf. Raises BadInput for what cannot be opened."""
        open_slide(path, mpp).close()
        key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
        entry = self.entries[key] = Entry(key, path, mpp, list(runs or []))
        return entry

    def add_folder(self, folder: Path) -> int:
        """Every slide of a folder and below that can be opened, with the runs that lie in it; how many there are."""
        runs = [p.parent for p in sorted(folder.rglob(SUMMARY))]
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() not in TIFF_LIKE and not is_slide(path):
                continue
            try:
                entry = self.add(path)
            except PathAsstError:
                continue
            entry.name = path.relative_to(folder).as_posix()
            entry.runs = [run for run in runs if self._belongs(run, entry)]
        return len(self.entries)

    def slide(self, key: str) -> Slide:
        """The open slide. Raises BadInput for an unknown key."""
        entry = self.entry(key)
        with self._lock:
            slide = self._slides.pop(key, None) or open_slide(entry.path, entry.mpp)
            self._slides[key] = slide
            if len(self._slides) > OPEN:
                # Its last readers may still be at it: Python closes it when the last of them lets go.
                self._slides.popitem(last=False)
            return slide

    def entry(self, key: str) -> Entry:
        """Raises BadInput for an unknown key."""
        if key not in self.entries:
            raise BadInput("there is no such slide.")
        return self.entries[key]

    def layers(self, key: str, number: int) -> RunLayers:
        """Layers of the slide's run `number`, read anew when the run was. Raises BadInput, BadDataset."""
        runs = self.entry(key).runs
        if not 0 <= number < len(runs):
            raise BadInput("there is no such run.")
        folder = runs[number]
        try:
            stamp = (folder / SUMMARY).stat().st_mtime_ns
        except OSError as error:
            raise BadInput(f"{folder.name} holds no finished run.") from error
        with self._lock:
            layers = self._layers.get(folder)
            if layers is None or layers.stamp != stamp:
                layers = self._layers[folder] = RunLayers(folder, stamp)
            return layers

    @staticmethod
    def _belongs(run: Path, entry: Entry) -> bool:
        from pathasst.wsi.run import SlideRun

        try:
            return bool(SlideRun(run).summary["slide"] == entry.path.name)
        except (PathAsstError, KeyError):
            return False
