"""The work of curation on one shard of figures: select → panels → captions → align → quality, every drop with its reason.

Knows the steps and the records. It yields a Pair for what stays and a Dropped for what goes; it decides nothing across shards.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from threading import Lock
from typing import TYPE_CHECKING, Any

from pathasst.collect import licences
from pathasst.core.errors import BadInput
from pathasst.core.records import Figure, Mark, Pair, Panel
from pathasst.curate.align import Match, align, join_by_letters
from pathasst.curate.captions import by_llm, refine, split
from pathasst.curate.captions.split import SubCaption
from pathasst.curate.captions.verify import is_verbatim
from pathasst.curate.detect import load_detector
from pathasst.curate.letters import LetterReader, are_sure
from pathasst.curate.non_micrograph import not_a_micrograph
from pathasst.curate.panels import PanelFinder, with_letters
from pathasst.curate.quality import phash, picture_fault, text_fault
from pathasst.curate.select import Selector
from pathasst.curate.settings import CurateSettings
from pathasst.dataset import Dropped, Unit, read
from pathasst.imaging.pictures import crop, encode_jpeg, load

if TYPE_CHECKING:
    import numpy as np

    from pathasst.llm import LLMSettings

Similarity = Callable[[Sequence["np.ndarray"], Sequence[str]], "np.ndarray"]
"""Pictures (H×W×3 uint8 RGB) and texts in, cosines of shape (pictures, texts) out."""

BROWSER_TYPES = (b"\xff\xd8\xff", b"\x89PNG")  # kept as they are when a whole figure stays


@dataclass(frozen=True, slots=True)
class PanelCrop:
    """A panel of a figure, cut out once."""

    panel: Panel
    pixels: np.ndarray  # H×W×3 uint8 RGB
    score: float  # probability of pathology


@dataclass
class Curator:
    """Call with a unit of figures. Picklable: models are loaded on first use, in the process that uses them, one thread each."""

    settings: CurateSettings = field(default_factory=CurateSettings)
    similarity: Similarity | None = None

    def __call__(self, unit: Unit) -> Iterator[Pair | Dropped]:
        _one_thread()
        for path in unit.paths:
            figures = read(path, Figure)
            for results in self._side_by_side(figures) if self.settings.captions == "llm" else map(self.figure, figures):
                yield from results

    def _side_by_side(self, figures: Iterable[Figure]) -> Iterator[list[Pair | Dropped]]:
        """What comes of each figure, in order, with `parallel` questions to the language model under way at a time.

        One figure is worked on at a time; while it waits for an answer, others are.
        """

        turn = self._turn  # made before there are threads

        def pairs_of(figure: Figure) -> list[Pair | Dropped]:
            with turn:
                return list(self.figure(figure))

        pool = ThreadPoolExecutor(self.language.parallel)
        try:
            yield from pool.map(pairs_of, figures)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """While a question is asked, the next figure has its turn."""
        has_turn = self._turn.locked()  # not where `figure` is called by itself
        if has_turn:
            self._turn.release()
        try:
            yield
        finally:
            if has_turn:
                self._turn.acquire()

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "similarity": self.similarity}

    @cached_property
    def _turn(self) -> Lock:
        return Lock()

    @cached_property
    def selector(self) -> Selector | None:
        return Selector.load(self.settings.select) if self.settings.select else None

    @cached_property
    def detector(self) -> PanelFinder:
        return load_detector(self.settings.panels)

    @cached_property
    def reader(self) -> LetterReader:
        return LetterReader()

    @cached_property
    def language(self) -> LLMSettings:
        from pathasst.llm import LLMSettings

        return LLMSettings.of(self.settings.llm)

    @cached_property
    def asker(self) -> by_llm.Asker:
        from pathasst.llm import connect

        return connect(self.language)

    def figure(self, figure: Figure) -> Iterator[Pair | Dropped]:
        """Everything that comes of one figure. A picture that cannot be read costs this figure alone."""
        reason, detail = self._unfit(figure)
        if reason:
            yield Dropped(figure.figure_id, reason, detail)
            return
        try:
            picture = load(figure.image)
        except BadInput as error:
            yield Dropped(figure.figure_id, "unreadable", str(error))
            return
        parts = split.split(figure.caption)
        panels, small = self._panels(picture, sum(bool(part.letter) for part in parts))
        pieces = self._pieces(picture, panels)
        best = max(piece.score for piece in pieces)
        if self.selector and best < self._threshold:
            yield Dropped(figure.figure_id, "not_pathology", f"{best:.3f}")
            return
        yield from self._pairs(figure, picture, pieces, small, parts)

    def _unfit(self, figure: Figure) -> tuple[str, str]:
        if not figure.image:
            return "no_picture", figure.graphic
        if not figure.caption.strip():
            return "no_caption", ""
        if figure.source.retracted and not self.settings.quality.retracted:
            return "retracted", figure.source.doi
        if not licences.allowed(figure.source.licence, self.settings.quality.licence):
            return "licence", figure.source.licence
        return "", ""

    @property
    def _threshold(self) -> float:
        assert self.selector is not None
        return self.settings.select_threshold or self.selector.threshold

    def _panels(self, picture: np.ndarray, named: int) -> tuple[list[Panel], list[tuple[int, int, int, int]]]:
        panels, small = self.detector.cut(picture, named)
        least = self.settings.min_panel_side
        large = [p for p in panels if min(p.box[2] - p.box[0], p.box[3] - p.box[1]) >= least]
        return large or panels[:1], small

    def _pieces(self, picture: np.ndarray, panels: Sequence[Panel]) -> list[PanelCrop]:
        """Each panel with its pixels and its probability of pathology: 1.0 without a classifier, 0.0 where a rule says no."""
        parts = [crop(picture, p.box) for p in panels]
        scores = [1.0 if self.selector is None else 0.0] * len(parts)
        if self.selector is not None:
            candidates = [n for n, part in enumerate(parts) if not (self.settings.rules and not_a_micrograph(part))]
            if candidates:
                for n, score in zip(candidates, self.selector.score([parts[n] for n in candidates]), strict=True):
                    scores[n] = float(score)
        return [PanelCrop(*row) for row in zip(panels, parts, scores, strict=True)]

    def _split(self, caption: str, letters: Sequence[str], plain: list[SubCaption]) -> tuple[list[SubCaption], str]:
        """The sub-captions and who made them. `plain`: those that the text alone gives; `letters`: printed ones, surely read."""
        if self.settings.captions == "llm":
            asker = self.asker
            with self._waiting():
                return by_llm.split(asker, caption, letters, self.settings.prompts or None)
        parts = split.split(caption, letters) if letters else plain
        if not all(is_verbatim(p.text, caption) for p in parts):
            return [SubCaption("", caption, caption)], "grammar (whole: not verbatim)"
        return parts, "grammar"

    def _pairs(
        self, figure: Figure, picture: np.ndarray, pieces: list[PanelCrop], small: list[Any], plain: list[SubCaption]
    ) -> Iterator[Pair | Dropped]:
        panels = [piece.panel for piece in pieces]
        letters = self.reader(picture, panels, small) if len(panels) > 1 and self.settings.letters else [""] * len(panels)
        parts, by = self._split(figure.caption, letters if are_sure(letters) else (), plain)
        names = {p.letter for p in parts if p.letter}
        if any(letters) and names:
            panels = with_letters(panels, [x if x in names else "" for x in letters])
            merged = join_by_letters(panels, [p for p in parts if p.letter])
            if len(merged) < len(panels):
                pieces = self._pieces(picture, merged)
            else:
                pieces = [replace(piece, panel=panel) for piece, panel in zip(pieces, panels, strict=True)]
        if not names or len(pieces) == 1:
            yield self._figure_pair(figure, picture, pieces, len(names), by)
            return
        matrix = self.similarity([piece.pixels for piece in pieces], [p.text for p in parts]) if self.similarity else None
        matches = align([piece.panel for piece in pieces], parts, matrix, self.settings.align)
        by_panel = {m.panel: m for m in matches}
        for n, piece in enumerate(pieces):
            name = f"{figure.figure_id}:{n + 1}"
            if self.selector and piece.score < self._threshold:
                yield Dropped(name, "panel_not_pathology", f"{piece.score:.3f}")
            elif n not in by_panel:
                yield Dropped(name, "unaligned", piece.panel.letter)
            else:
                m = by_panel[n]
                relevance = float(matrix[n, m.caption]) if matrix is not None else None
                marks = self._marks(piece.score, by, m, relevance)
                yield self._finish(figure, name, piece, len(pieces), parts[m.caption].text, marks, relevance)
        for part in parts:
            if all(parts[m.caption] is not part for m in matches):
                yield Dropped(f"{figure.figure_id}/{part.letter}", "caption_unmatched", part.text[:80])

    def _figure_pair(self, figure: Figure, picture: np.ndarray, pieces: list[PanelCrop], names: int, by: str) -> Pair | Dropped:
        """One pair of the whole figure: it has one panel, or the caption speaks of all panels together."""
        piece = pieces[0]
        if len(pieces) > 1:
            height, width = picture.shape[:2]
            panel = Panel(box=(0.0, 0.0, float(width), float(height)), score=piece.panel.score)
            piece = PanelCrop(panel, picture, max(p.score for p in pieces))
        relevance = float(self.similarity([piece.pixels], [figure.caption])[0, 0]) if self.similarity else None
        marks = self._marks(piece.score, by, Match(0, 0, 1.0, "whole"), relevance)
        count = max(len(pieces), names, 1)
        return self._finish(figure, f"{figure.figure_id}:1", piece, count, figure.caption, marks, relevance)

    def _marks(self, score: float, by: str, match: Match, relevance: float | None) -> list[Mark]:
        selected = [Mark(step="select", by=self.selector.version, score=round(score, 4))] if self.selector else []
        note = match.by if relevance is None else f"{match.by}, cosine {relevance:.4f}"
        return [
            *selected,
            Mark(step="panels", by=self.detector.version + ("+letters" if self.settings.letters else "")),
            Mark(step="captions", by=by),
            Mark(step="align", by="hungarian", score=match.score, note=note),
        ]

    def _finish(
        self,
        figure: Figure,
        name: str,
        piece: PanelCrop,
        count: int,
        text: str,
        marks: list[Mark],
        relevance: float | None,
    ) -> Pair | Dropped:
        """Quality and refinement of one pair; its perceptual hash is for the pass across shards."""
        s, part = self.settings, piece.pixels
        reason, detail = picture_fault(part, s.quality)
        if not reason and s.quality.min_relevance and relevance is not None and relevance < s.quality.min_relevance:
            reason, detail = "irrelevant", f"cosine {relevance:.3f}"
        caption, refined_by = self._refined(text, figure.caption)
        if not reason:
            reason, detail = text_fault(caption, s.quality)
        if reason:
            return Dropped(name, reason, detail)
        uncut = count == 1 and part.shape[:2] == (figure.height, figure.width) and figure.image.startswith(BROWSER_TYPES)
        image = figure.image if uncut else encode_jpeg(part)
        marks = [
            *figure.trail,
            *marks,
            Mark(step="refine", by=refined_by),
            Mark(step="quality", by="rules-1"),
        ]
        return Pair(
            pair_id=name,
            source=figure.source,
            figure_id=figure.figure_id,
            image=image,
            md5=hashlib.md5(image, usedforsecurity=False).hexdigest(),
            width=part.shape[1],
            height=part.shape[0],
            phash=f"{phash(part):016x}",
            caption=caption,
            original=text,
            panel=replace(piece.panel, box=tuple(round(v, 1) for v in piece.panel.box)),  # type: ignore[arg-type]
            panels=count,
            group=figure.source.article_id,
            split=split_of(figure.source.article_id, s.val, s.test),
            trail=marks,
        )

    def _refined(self, text: str, source: str) -> tuple[str, str]:
        if not self.settings.refine:
            return text, "none"
        if self.settings.captions == "llm":
            asker = self.asker
            with self._waiting():
                refined, by = by_llm.refine(asker, text, source, self.settings.prompts or None)
        else:
            refined = refine.refine(text, source)
            by = f"rule ({refined.reason})" if refined.reason else "rule"
        return refined.text, by


def split_of(group: str, val: float, test: float) -> str:
    """The split of an article, from the hash of its id alone: the same in every run and on every machine."""
    place = int(hashlib.sha256(group.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return "test" if place < test else "val" if place < test + val else "train"


def _one_thread() -> None:
    """One thread for each worker: two workers on two cores then do twice the work of one. torch, when it comes later, reads the
    environment."""
    import cv2

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cv2.setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
