"""The line in Python: articles and books → figures → pairs → conversations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadSettings
from pathasst.core.records import Conversation, Figure, Pair, Panel
from pathasst.dataset import Dataset, output_folder

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from pathasst.curate.captions.split import SubCaption

Folder = Path | str


class Pairs(Dataset[Pair]):
    """The pairs of a curation: a `Dataset` that also reports what each step kept and dropped."""

    def __init__(self, folder: Folder) -> None:
        super().__init__(folder, Pair)

    def report(self, path: Folder | None = None) -> Path:
        """Write the report as one HTML file (default: `report.html` in the folder of the pairs) and return its path."""
        from pathasst.curate.report import write_report

        return write_report(self.folder, path)


def collect(
    source: Folder,
    out: Folder | None = None,
    *,
    figures: Folder | None = None,
    mapping: Folder | None = None,
    licence: str = "any",
    text_only: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> Dataset[Figure]:
    """Figures with captions of a folder of JATS articles, or of books (.pdf, .epub, .docx, .html).

    `source`: a folder of articles, a folder of books, or one book. `out`: folder of the dataset; None: a temporary folder that is
    removed when Python ends. `figures`: folder with the picture files when they do not lie beside their article. `mapping`: JSON
    or CSV that says which file is which figure. `licence`: for articles the policy `any`, `open` or `research`; for books their
    licence, written on every row. `text_only`: keep captions without pictures. Interrupted calls resume.

    Raises BadSettings when the folder holds neither articles nor books, or an option is wrong.

    >>> figures = pathasst.collect("articles/", out="out/figures")
    >>> print(figures.rows, figures.dropped)
    """
    from pathasst.collect.books import SUFFIXES, collect_books
    from pathasst.collect.folder import collect_folder

    place, folder = Path(source), output_folder(out)
    if _is_book(place, SUFFIXES):
        collect_books(place, folder, licence="unknown" if licence == "any" else licence, workers=workers, progress=progress)
    else:
        collect_folder(
            place,
            folder,
            figures=Path(figures) if figures else None,
            mapping=Path(mapping) if mapping else None,
            licence=licence,
            text_only=text_only,
            workers=workers,
            progress=progress,
        )
    return Dataset(folder, Figure)


def _is_book(place: Path, suffixes: tuple[str, ...]) -> bool:
    """Whether a file is a book, or a folder holds books and no article."""
    if place.is_file():
        return place.suffix.lower() in suffixes
    names = [p.name.lower() for p in place.rglob("*") if p.is_file()]
    articles = any(n.endswith((".xml", ".nxml", ".xml.gz", ".nxml.gz")) for n in names)
    return not articles and any(n.endswith(suffixes) for n in names)


def pmc(
    query: str = "",
    out: Folder | None = None,
    *,
    ids: Sequence[str] = (),
    since: str = "",
    limit: int = 0,
    licence: str = "open",
    triage: bool = True,
    store: str = "",
    email: str = "",
    api_key: str = "",
    workers: int = 1,
    progress: bool = True,
) -> Dataset[Figure]:
    """Figures of open-access articles of PubMed Central. This asks the network.

    `query`: a search of PubMed Central; or `ids`: PMC ids. `since`: YYYY-MM-DD. `limit`: at most so many articles, 0 = all.
    `licence`: `open`, `research` or `any`. `triage`: fetch only figures whose text says that they may show pathology. `store`:
    another bucket, or the folder of a mirror. `email`, `api_key`: sent to NCBI. Interrupted calls resume.

    Raises BadSettings unless exactly one of `query` and `ids` is given, or when no article is found; Unreachable when the store
    does not answer.

    >>> figures = pathasst.collect.pmc("colon adenocarcinoma histology", limit=50, out="out/pmc")
    """
    from pathasst.collect import pmc_find
    from pathasst.collect.pmc import Rules
    from pathasst.collect.pmc_collect import collect_pmc
    from pathasst.collect.polite import PoliteClient
    from pathasst.collect.stores import PMC_BUCKET, StoreSettings

    if bool(query) == bool(ids):
        raise BadSettings('give either a query or ids: pathasst.collect.pmc("histopathology", limit=50).')
    articles = iter(ids)
    if query:
        client = PoliteClient(rate=10 if api_key else 3, contact=email)  # NCBI's limits, in requests per second
        articles = pmc_find.search(query, client, since=since, limit=limit, contact=email, api_key=api_key)
    folder = output_folder(out)
    collect_pmc(
        islice(articles, limit) if limit else articles,
        folder,
        store=StoreSettings(address=store or PMC_BUCKET, contact=email),
        rules=Rules(licence=licence, triage=triage),
        workers=workers,
        progress=progress,
    )
    return Dataset(folder, Figure)


def curate(
    figures: Dataset[Figure] | Folder,
    out: Folder | None = None,
    *,
    recipe: str = "embedded",
    workers: int = 1,
    runner: str = "native",
    progress: bool = True,
    **settings: Any,
) -> Pairs:
    """Figures → pairs of picture and text (PathCap): select, cut panels, split captions, align, check quality.

    `figures`: what `collect` gave, or a dataset folder. `recipe`: a name or a YAML file; `settings` replace single settings of
    it (`select=""`, `captions="llm"`, `leakage=["eval/pathvqa"]`). Interrupted calls resume.

    Raises BadSettings for an unknown or wrong setting, MissingWeights when a model is not here, BadDataset when `figures` is no
    finished dataset of figures.

    >>> pairs = pathasst.curate(figures, out="out/pairs")
    >>> for pair in pairs: print(pair.caption)
    >>> pairs.report("report.html")
    """
    from pathasst.clip.similarity import clip_similarity
    from pathasst.curate import pipeline
    from pathasst.curate.settings import CurateSettings

    curate_settings = CurateSettings.load(recipe, **settings)
    clip = clip_similarity(curate_settings.similarity)
    folder = output_folder(out)
    encoder = clip.encode if clip and curate_settings.leakage else None
    source = figures.folder if isinstance(figures, Dataset) else figures
    pipeline.run(
        source, folder, curate_settings, similarity=clip, encoder=encoder, workers=workers, runner=runner, progress=progress
    )
    return Pairs(folder)


def split_caption(caption: str, letters: Sequence[str] = ()) -> list[SubCaption]:
    """A figure's caption → one sub-caption a panel (paper, PathCap step 2), in the order of the letters.

    `letters`: those printed in the picture, when surely known. A caption without panels comes back whole, with letter "".

    >>> [part.letter for part in pathasst.split_caption("(A) Normal colon, H&E. (B) Adenocarcinoma, Ki-67.")]
    ['A', 'B']
    """
    from pathasst.curate.captions.split import split

    return split(caption, letters)


def cut_panels(image: Folder | bytes | np.ndarray | Image, *, detector: str = "xycut") -> list[Panel]:
    """The panels of a figure (paper, PathCap step 2): `box` x1 y1 x2 y2 in px of the figure, `score`.

    `image`: a path, encoded bytes, H×W×3 uint8 RGB or a PIL image. `detector`: `xycut` (gutters and edges), or the id, folder or
    ONNX file of a trained one (`panels-embedded`).

    Raises BadInput for a picture that cannot be read, MissingWeights when the detector is not here.

    >>> [panel.box for panel in pathasst.cut_panels("figure.jpg")]
    """
    from pathasst.api.images import as_array
    from pathasst.curate.detect import load_detector

    panels, _ = load_detector(detector).cut(as_array(image))
    return panels


def instruct(
    pairs: Dataset[Pair] | Folder | Sequence[Dataset[Pair] | Folder],
    out: Folder | None = None,
    *,
    recipe: str = "embedded",
    tool_conversations: int | None = None,
    workers: int = 1,
    runner: str = "native",
    progress: bool = True,
    **settings: Any,
) -> Dataset[Conversation]:
    """Pairs → conversations (PathInstruct): descriptions, questions with answers, tool use.

    `pairs`: what `curate` gave, a dataset folder, or several of these. `tool_conversations`: how many conversations with tools,
    0 for none; None: as the recipe says. `settings` replace single settings of the recipe.

    Raises BadSettings for an unknown or wrong setting, BadDataset when `pairs` is no finished dataset of pairs.

    >>> conversations = pathasst.instruct(pairs, out="out/conversations", tool_conversations=200)
    """
    from pathasst.instruct import pipeline
    from pathasst.tools.registry import all_specs

    if tool_conversations is not None:
        settings["invoke"] = tool_conversations
    several = [pairs] if isinstance(pairs, Dataset | Path | str) else pairs
    folders = [p.folder if isinstance(p, Dataset) else p for p in several]
    folder = output_folder(out)
    instruct_settings = pipeline.InstructSettings.load(recipe, **settings)
    pipeline.run(folders, folder, instruct_settings, all_specs(), workers=workers, runner=runner, progress=progress)
    return Dataset(folder, Conversation)


__all__ = ["Pairs", "collect", "curate", "cut_panels", "instruct", "pmc", "split_caption"]
