"""Quality of a pair: resolution, blur, blankness, caption length, language, relevance; and perceptual hashes.

Knows pixel arrays and text. Each test gives a short reason, counted by the stage.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from pathasst.core.settings import Field, Settings

if TYPE_CHECKING:
    import numpy as np

HASH_SIDE = 32


class QualitySettings(Settings):
    """What a pair must reach. Zero switches a test off."""

    min_side: int = Field(96, ge=0, description="shorter side, in px")
    min_sharpness: float = Field(6.0, ge=0, description="see `sharpness`, in grey levels")
    max_blank: float = Field(0.97, ge=0, le=1, description="share of pixels of one flat tone")
    min_words: int = Field(3, ge=0, description="words of a caption, at least")
    max_words: int = Field(600, ge=1, description="words of a caption, at most")
    min_relevance: float = Field(0.0, ge=-1, le=1, description="cosine of picture and caption, where a similarity model is given")
    english: bool = Field(True, description="leave out captions in other languages")
    licence: Literal["any", "research", "open"] = Field("any", description="which licences are kept")
    retracted: bool = Field(False, description="keep pairs of retracted articles")
    duplicate_bits: int = Field(4, ge=0, le=16, description="perceptual hashes this close (of 64 bits) are one picture")


def picture_fault(picture: np.ndarray, s: QualitySettings) -> tuple[str, str]:
    """(reason, detail) why a picture H×W×3 uint8 is not good enough, or ("", "")."""
    height, width = picture.shape[:2]
    if min(height, width) < s.min_side:
        return "small", f"{width}×{height} px"
    flat = blank_share(picture)
    if s.max_blank and flat > s.max_blank:
        return "blank", f"{flat:.2f} of one tone"
    sharp = sharpness(picture)
    if sharp < s.min_sharpness:
        return "blurred", f"sharpness {sharp:.1f}"
    return "", ""


def text_fault(caption: str, s: QualitySettings) -> tuple[str, str]:
    """(reason, detail) why a caption is not good enough, or ("", "")."""
    count = len(caption.split())
    if count < s.min_words:
        return "short_caption", f"{count} words"
    if s.max_words and count > s.max_words:
        return "long_caption", f"{count} words"
    if s.english and not is_english(caption):
        return "language", caption[:60]
    return "", ""


def blank_share(picture: np.ndarray) -> float:
    """Share of pixels within ±6 grey levels of the commonest tone, of a 256 px thumbnail."""
    import cv2
    import numpy as np

    grey = cv2.cvtColor(_thumbnail(picture, 256), cv2.COLOR_RGB2GRAY)
    counts = np.bincount(grey.ravel(), minlength=256)
    window = np.convolve(counts, np.ones(13, int), "same")
    return float(window.max() / grey.size)


def sharpness(picture: np.ndarray) -> float:
    """Mean of the 2 % strongest Laplacian responses at 512 px, in grey levels: 3–6 when blurred over 4 px, over 10 for detail."""
    import cv2
    import numpy as np

    grey = cv2.cvtColor(_thumbnail(picture, 512), cv2.COLOR_RGB2GRAY)
    response = abs(cv2.Laplacian(grey, cv2.CV_32F)).ravel()
    top = max(1, len(response) // 50)
    return float(np.partition(response, -top)[-top:].mean())


def _thumbnail(picture: np.ndarray, side: int) -> np.ndarray:
    import cv2

    scale = side / max(picture.shape[:2])
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture


def phash(picture: np.ndarray) -> int:
    """64-bit perceptual hash: signs of the low frequencies of a 32×32 grey thumbnail. Survives scaling, JPEG, tone changes."""
    import cv2
    import numpy as np

    grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (HASH_SIDE, HASH_SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(grey.astype(np.float32))[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int("".join("1" if b else "0" for b in bits), 2)


def orientations(picture: np.ndarray) -> list[int]:
    """Hashes of the picture in its eight orientations (turned and mirrored): slides have no up."""
    import numpy as np

    return [phash(np.ascontiguousarray(np.rot90(p, k))) for p in (picture, picture[:, ::-1]) for k in range(4)]


class HashIndex:
    """Finds hashes within a few bits of each other without comparing all with all."""

    def __init__(self, bits: int = 4) -> None:
        self.bits = bits
        bands = bits + 1  # of two hashes that differ in ≤ bits places, one band at least is equal
        edges = [round(64 * i / bands) for i in range(bands + 1)]
        self.bands = [(a, (1 << (b - a)) - 1) for a, b in pairwise(edges)]
        self.tables: list[dict[int, list[tuple[int, str]]]] = [{} for _ in self.bands]

    def add(self, value: int, name: str) -> None:
        """Put a hash into the index."""
        for table, (shift, mask) in zip(self.tables, self.bands, strict=True):
            table.setdefault(value >> shift & mask, []).append((value, name))

    def find(self, value: int) -> tuple[str, int] | None:
        """(name, differing bits) of the nearest hash within reach, the earliest of equals, or None."""
        best: tuple[int, str] | None = None
        for table, (shift, mask) in zip(self.tables, self.bands, strict=True):
            for other, name in table.get(value >> shift & mask, ()):
                apart = (value ^ other).bit_count()
                if apart <= self.bits and (best is None or apart < best[0]):
                    best = (apart, name)
        return (best[1], best[0]) if best else None


def duplicates(hashes: Iterable[tuple[str, int]], bits: int = 4) -> dict[str, str]:
    """Later picture → the earlier one it repeats, over (name, hash) in order."""
    index, repeats = HashIndex(bits), {}
    for name, value in hashes:
        earlier = index.find(value)
        if earlier:
            repeats[name] = earlier[0]
        else:
            index.add(value, name)
    return repeats


_COMMON = {
    "en": "the of and in with is are was were for by from that this on at as showing shows stained staining arrow cells tissue",
    "de": "der die das und mit von im ist sind den dem des ein eine zeigt färbung zellen nach bei auf für nicht",
    "fr": "le la les des et du de avec est sont une un dans par pour sur montrant coloration cellules aux ou",
    "es": "el la los las de y con es son una un en por para se del que muestra tinción células al",
    "pt": "o a os as de e com é são uma um em por para se do da que mostra coloração células ao no na",
    "it": "il la i le di e con è sono una un in per del della che mostra colorazione cellule al nel",
    "tr": "ve bir ile bu için olarak olan da de görülmektedir hücreler boyama",
}
_COMMON_WORDS = {language: frozenset(words.split()) for language, words in _COMMON.items()}


def is_english(text: str) -> bool:
    """Whether a caption reads as English: Latin script, and no other language with more of its common words in it.

    Captions without common words at all (lists of names) pass: they are mostly Latin terms.
    """
    letters = re.findall(r"[^\W\d_]", text)
    if not letters or sum(c < "ɐ" for c in letters) < 0.7 * len(letters):
        return False
    words = [w for w in re.findall(r"[^\W\d_]+", text.lower()) if len(w) > 1]
    hits = {language: sum(w in common for w in words) for language, common in _COMMON_WORDS.items()}
    english = hits.pop("en")
    return max(hits.values()) <= max(english, 2)


def shingles(text: str, size: int = 8) -> set[tuple[str, ...]]:
    """All runs of `size` words of a text, lower case; the whole text when it is shorter."""
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))} if words else set()


def overlap(a: Sequence[tuple[str, ...]] | set[tuple[str, ...]], b: set[tuple[str, ...]]) -> float:
    """Share of the shingles of `a` that `b` holds too."""
    return sum(x in b for x in a) / len(a) if a else 0.0
