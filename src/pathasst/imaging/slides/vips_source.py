"""Large PNG, JPEG and other flat pictures through libvips, which unpacks them row by row into a temporary file."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pathasst.core.errors import BadInput
from pathasst.imaging.slides.source import SlideFacts

if TYPE_CHECKING:
    import pyvips


class VipsSource:
    """A picture without levels. Its first read unpacks it: width × height × 3 bytes in the temporary folder.

    Raises BadInput for what libvips cannot open.
    """

    def __init__(self, path: Path) -> None:
        import pyvips

        self.errors: tuple[type[Exception], ...] = (pyvips.Error,)
        self._path = path
        try:
            image = self._open("random")
        except pyvips.Error as error:
            raise BadInput(f"{path.name} cannot be opened as a picture: {_first_line(error)}") from error
        if image.bands not in (1, 3):
            raise BadInput(f"{path.name} has {image.bands} channels; save it as RGB.")
        self._shape = image.height, image.width, image.bands
        loader = str(image.get("vips-loader")).removesuffix("load")
        self.facts = SlideFacts(vendor=loader, sizes=((image.width, image.height),), in_rows=True)
        self._lock = threading.Lock()
        self._raw: Any = None

    def read(self, level: int, x: int, y: int, width: int, height: int) -> np.ndarray:
        with self._lock:
            if self._raw is None:
                self._raw = self._unpack()
        # Mapped for this read alone: the pages of a mapping that stays would count as memory of ours.
        rows = np.memmap(self._raw.name, np.uint8, "r", shape=self._shape)
        part = np.array(rows[y : y + height, x : x + width])
        return np.repeat(part, 3, -1) if part.shape[-1] == 1 else part

    def close(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None

    def _open(self, access: str) -> pyvips.Image:
        import pyvips

        options = {"unlimited": True} if self._path.suffix.lower() in (".tif", ".tiff", ".png", ".jpg", ".jpeg") else {}
        image = pyvips.Image.new_from_file(str(self._path), access=access, fail_on="truncated", **options).autorot()
        if image.interpretation not in ("srgb", "rgb", "b-w") or image.format != "uchar":
            image = image.colourspace("srgb").cast("uchar")
        return image.flatten(background=255) if image.hasalpha() else image

    def _unpack(self) -> Any:
        bytes_needed, folder = int(np.prod(self._shape)), tempfile.gettempdir()
        if shutil.disk_usage(folder).free < bytes_needed + 2**28:
            raise OSError(f"unpacking it needs {bytes_needed / 2**30:.1f} GB in {folder}; free some, or set TMPDIR elsewhere")
        file = tempfile.NamedTemporaryFile(suffix=".raw")  # noqa: SIM115 - closed by `close`
        try:
            self._open("sequential").rawsave(file.name)
        except BaseException:
            file.close()
            raise
        return file


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
