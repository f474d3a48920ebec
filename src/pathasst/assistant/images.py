"""The pictures of a conversation, and which one a tool call means. Knows records and how a picture is decoded; no brain.

A picture is called image1, image2 … in the order it came. A call names one with the argument `image`, which the loop adds to the
tools' schemas as soon as there is a choice and takes out again before the tool sees its arguments. Without it the person's latest
picture is meant, or, when the person gave none, the latest that a tool made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.assistant.answer import PERSON, ChatPicture
from pathasst.core.errors import BadInput
from pathasst.core.records import Picture, ToolSpec

if TYPE_CHECKING:
    import numpy as np

ARGUMENT = "image"
SLIDES = (
    "Ask about all of it with `pathasst ask SLIDE QUESTION --out FOLDER`; `pathasst slide view SLIDE` shows it, and a region of "
    "it can be asked about."
)


@dataclass(frozen=True, slots=True)
class PictureInput:
    """A person's picture with what they know of it.

    `image`: a path, encoded bytes, H×W×3 uint8 RGB or a PIL image. `um_per_px`: micrometres per pixel, if the file's
    own metadata should not say.
    """

    image: Any
    name: str = ""
    um_per_px: float | None = None


@dataclass(slots=True)
class ChatPictures:
    """All pictures so far; grows as tools make more."""

    entries: list[ChatPicture] = field(default_factory=list)
    _pixels: dict[int, Any] = field(default_factory=dict)

    def add(self, image: Any) -> ChatPicture:
        """Add the person's picture: what `PictureInput.image` may be, or a PictureInput. Raises BadInput if unreadable."""
        picture = image if isinstance(image, PictureInput) else PictureInput(image)
        name, data, pixels, stated = _read(picture.image)
        number = len(self.entries) + 1
        scale = picture.um_per_px or stated
        entry = ChatPicture(number=number, name=picture.name or name, by=PERSON, image=data, um_per_px=scale)
        self.entries.append(entry)
        self._pixels[entry.number] = pixels
        return entry

    def add_outputs(
        self, pictures: Iterable[Picture], by: str, source: ChatPicture | None = None, *, visible: bool = False
    ) -> list[ChatPicture]:
        """Add what a tool made of `source`: a synthetic picture gives synthetic ones, and a region or a copy of its size has its
        scale. `visible`: to a brain that sees."""
        new = []
        for number, picture in enumerate(pictures, start=len(self.entries) + 1):
            same_size = source is not None and source.um_per_px is not None and _size(picture.image) == _size(source.image)
            new.append(
                ChatPicture(
                    number=number,
                    name=picture.name,
                    by=by,
                    image=picture.image,
                    synthetic=picture.synthetic or (source is not None and source.synthetic),
                    um_per_px=source.um_per_px if source is not None and (same_size or picture.region) else None,
                    visible=visible,
                )
            )
        self.entries += new
        return new

    def default(self) -> ChatPicture | None:
        mine = [s for s in self.entries if s.by == PERSON]
        return (mine or self.entries or [None])[-1]  # type: ignore[list-item]

    def visible(self) -> list[ChatPicture]:
        """What a brain that sees looks at, in the order of the marks in the conversation."""
        return [s for s in self.entries if s.by == PERSON or s.visible]

    def choose(self, handle: Any = None) -> ChatPicture | None:
        """The picture a call means: `image2`, `2`, a name, or None for the default. Raises BadInput for one that is not there."""
        if handle is None or handle == "":
            return self.default()
        text = str(handle).strip().lower()
        number = re.fullmatch(r"(?:image|picture|img)?[\s_#-]*(\d{1,4})", text)
        for entry in self.entries:
            if (number and int(number[1]) == entry.number) or text == entry.name.lower():
                return entry
        handles = ", ".join(s.handle for s in self.entries) or "none"
        raise BadInput(f"there is no picture {handle!r}; there are: {handles}.")

    def pixels(self, entry: ChatPicture) -> np.ndarray:
        """H×W×3 uint8 RGB, decoded once. Raises BadInput for a picture that cannot be decoded."""
        if entry.number not in self._pixels:
            from pathasst.imaging.pictures import load

            self._pixels[entry.number] = load(entry.image)
        return self._pixels[entry.number]

    def offer(self, specs: Sequence[ToolSpec]) -> list[ToolSpec]:
        """The specs with the argument `image` where there is a choice.

        Without any picture all are offered too: the model is to ask the person for one, rather than say that there is no tool.
        """
        return [self._with_choice(spec) for spec in specs] if len(self.entries) > 1 else list(specs)

    def _with_choice(self, spec: ToolSpec) -> ToolSpec:
        properties = spec.parameters.get("properties", {})
        if not spec.needs_image or ARGUMENT in properties:
            return spec
        default = self.default()
        choice = {
            "type": "string",
            "enum": [s.handle for s in self.entries],
            "description": f"Which picture; {default.handle if default else 'image1'} if left out.",
        }
        return replace(spec, parameters={**spec.parameters, "properties": {**properties, ARGUMENT: choice}})


def _size(image: bytes) -> tuple[int, int]:
    """Width and height in px, from the header."""
    from pathasst.imaging.pictures import read_header

    header = read_header(image)
    return header.width, header.height


def _read(image: Any) -> tuple[str, bytes, np.ndarray, float | None]:
    """Name, PNG, pixels and the scale that the file states.

    The PNG is written anew from the pixels: whatever else the file held (EXIF, trailing data) goes no further.
    """
    import numpy as np
    from PIL import Image

    from pathasst.imaging.pictures import encode_png, read
    from pathasst.imaging.slides import is_slide

    name, um_per_px = "picture", None
    if isinstance(image, str | Path | bytes):
        try:
            picture = read(image)
        except BadInput as error:
            if not isinstance(image, bytes) and is_slide(Path(image)):
                raise BadInput(f"{Path(image).name} is a whole slide. {SLIDES}") from error
            raise
        name, pixels, um_per_px = name if isinstance(image, bytes) else Path(image).name, picture.pixels, picture.um_per_px
    elif isinstance(image, Image.Image):
        pixels = np.asarray(image.convert("RGB"))
    elif isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        pixels = image
    else:
        raise BadInput("a picture is a path, encoded bytes, an H×W×3 uint8 array or a PIL image.")
    return name, encode_png(pixels), pixels, um_per_px
