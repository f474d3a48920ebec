"""Pictures from outside, before anything decodes them: where they come from, how large they are, what they are.

A picture comes as a data URL, as the id of an uploaded file, or (from hosts on the list alone) by address. Bytes and pixels are
limited from the header; decoding has a time limit, and what goes on is written anew from the pixels: EXIF, comments, and whatever
else a file may be besides a picture stay behind.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from pathasst.assistant.images import PictureInput
from pathasst.assistant.settings import ServeSettings
from pathasst.assistant.worker import Late, Worker
from pathasst.core.errors import BadInput
from pathasst.serve.fetch import Fetcher
from pathasst.serve.jobs import Busy
from pathasst.serve.uploads import UploadStore

if TYPE_CHECKING:
    import numpy as np

_DATA = re.compile(r"data:(image/[a-z0-9.+-]{1,40})?(?:;[a-z0-9=._-]{1,60}){0,3};base64,", re.IGNORECASE)
_URL_SAFE = str.maketrans("-_", "+/")
T = TypeVar("T")


@dataclass(slots=True)
class Room:
    """Pixels that may be decoded at the same time, by everybody together. A lone picture always finds room."""

    pixels: int
    _reserved: int = 0
    _change: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def reserve(self, pixels: int, seconds: float) -> Iterator[None]:
        """Wait for room for so many pixels, and hold it. Raises Busy after `seconds`."""
        with self._change:
            if not self._change.wait_for(lambda: not self._reserved or self._reserved + pixels <= self.pixels, timeout=seconds):
                raise Busy("many large pictures are being read just now; try again in some seconds.")
            self._reserved += pixels
        try:
            yield
        finally:
            with self._change:
                self._reserved -= pixels
                self._change.notify_all()


@dataclass(slots=True)
class InputImages:
    """What one server lets in, through page and API alike."""

    settings: ServeSettings
    uploads: UploadStore
    fetcher: Fetcher
    room: Room = field(init=False)

    def __post_init__(self) -> None:
        self.room = Room(self.settings.decoding_pixels)

    @classmethod
    def of(cls, settings: ServeSettings, uploads: UploadStore) -> InputImages:
        return cls(settings, uploads, Fetcher(settings.image_hosts, settings.picture_bytes, settings.picture_seconds))

    def picture(self, source: str, user: str) -> PictureInput:
        """The encoded picture behind a data URL, `file-…` or address, checked, with the scale that its upload came with.

        Raises BadInput or Unreachable.
        """
        if source[:5].lower() == "data:":
            return PictureInput(self.checked(self._data(source)))
        if source.startswith("file-"):
            upload = self.uploads.get(user, source)
            return PictureInput(self.checked(self.uploads.path(user, source).read_bytes()), upload.name, upload.um_per_px)
        return PictureInput(self.checked(self.fetcher.get(source)))

    def checked(self, data: bytes) -> bytes:
        """The same bytes, once their header says that they are a picture within the limits. Decodes nothing."""
        from pathasst.imaging.pictures import read_header

        self._small_enough(len(data))
        read_header(data, self.settings.picture_pixels)
        return data

    def opened(self, picture: PictureInput) -> PictureInput:
        """The same picture with its bytes, if it has any, as pixels. Raises BadInput."""
        return replace(picture, image=self.decoded(picture.image)) if isinstance(picture.image, bytes) else picture

    def decoded(self, data: bytes) -> np.ndarray:
        """H×W×3 uint8 RGB, within the time limit. Raises BadInput, Busy."""
        return self.processed(data, lambda pixels: pixels)

    def processed(self, data: bytes, work: Callable[[np.ndarray], T]) -> T:
        """What `work` makes of a picture's pixels. It decodes when there is room for it, within the time limit.

        Raises BadInput, Busy, and what `work` raises.
        """
        from pathasst.imaging.pictures import load, read_header

        header = read_header(data, self.settings.picture_pixels)
        with self.room.reserve(header.width * header.height, self.settings.wait_seconds):
            worker = Worker()
            try:
                pixels = worker.run(lambda: load(data, self.settings.picture_pixels), self.settings.picture_seconds)
            except Late:
                raise BadInput(f"the picture could not be decoded within {self.settings.picture_seconds:g} s.") from None
            finally:
                worker.close()
            return work(pixels)

    def _data(self, url: str) -> bytes:
        head = _DATA.match(url)
        if head is None:
            raise BadInput("a data URL of a picture reads data:image/png;base64,…")
        body = "".join(url[head.end() :].split())  # `base64 file` and MIME encoders break lines
        self._small_enough(len(body) * 3 // 4)
        body = body.translate(_URL_SAFE).rstrip("=")
        try:
            return base64.b64decode(body + "=" * (-len(body) % 4), validate=True)
        except (binascii.Error, ValueError):
            raise BadInput("the data URL is not valid base64.") from None

    def _small_enough(self, size: int) -> None:
        if size > self.settings.picture_bytes:
            raise BadInput(f"the picture has {size / 2**20:.1f} MB; {self.settings.picture_bytes / 2**20:g} MB are allowed.")
