"""Types of the public names; see `__init__.py`, which loads them when they are used."""

from pathlib import Path

from pathasst import papers as papers
from pathasst.api import line
from pathasst.api import tools as tools
from pathasst.api import train as train
from pathasst.api.assistant import ask as ask
from pathasst.api.evaluate import evaluate as evaluate
from pathasst.api.line import curate as curate
from pathasst.api.line import cut_panels as cut_panels
from pathasst.api.line import instruct as instruct
from pathasst.api.line import split_caption as split_caption
from pathasst.api.models import PathAsst as PathAsst
from pathasst.api.models import PathCLIP as PathCLIP
from pathasst.api.slides import slide as slide
from pathasst.core.records import Figure
from pathasst.dataset import Dataset

__version__: str

class _Collect:
    pmc = staticmethod(line.pmc)
    def __call__(
        self,
        source: Path | str,
        out: Path | str | None = None,
        *,
        figures: Path | str | None = None,
        mapping: Path | str | None = None,
        licence: str = "any",
        text_only: bool = False,
        workers: int = 1,
        progress: bool = True,
    ) -> Dataset[Figure]: ...

collect: _Collect
