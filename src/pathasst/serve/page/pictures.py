"""Pictures and slides that a person gives: read safely, shown small, regions cut out with their scale. No Gradio."""

from __future__ import annotations

import base64
import io
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.assistant.answer import PERSON, ChatPicture
from pathasst.core.errors import BadInput
from pathasst.serve.markup.layers import image_html
from pathasst.serve.markup.words import escape
from pathasst.serve.page.sessions import Exchange, PagePicture, PageSession

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

    from pathasst.serve.history import StoredExchange
    from pathasst.serve.image_input import InputImages

SLIDES = ".svs, .ndpi, .scn, .bif, .tif"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""How TIFF and BigTIFF files begin."""
THUMBNAIL = 900
"""Longer side in px of a slide as shown for picking a region."""
LARGE, SMALL = 900, 160
"""Longer side in px of the current picture as shown, and of the others."""
REGION_SIDE = 2048
"""Longest side in px of a region as read; larger regions are read from a coarser level."""


def take(session: PageSession, path: Path, input_images: InputImages) -> PagePicture | None:
    """Put an uploaded file on the session, and remove it from where it was uploaded to. None: it is a slide, now open.

    Raises BadInput for what is neither, is damaged or too large, Busy when too much is being read at the same time.
    """
    from pathasst.imaging import slides

    settings, session.framed = input_images.settings, None
    try:
        if slides.is_slide(path) or (path.suffix.lower() in (".tif", ".tiff") and path.stat().st_size > settings.picture_bytes):
            open_slide(session, path)
            return None
        size = path.stat().st_size
        if size > settings.picture_bytes:
            raise BadInput(
                f"{path.name} has {size / 2**20:.0f} MB; pictures may have {settings.picture_bytes >> 20} MB. "
                "Cut out the part of interest, or save it as JPEG."
            )
        data = path.read_bytes()
        return input_images.processed(data, lambda pixels: put(session, pixels, path.name, most=settings.pictures))
    except BadInput as error:
        raise BadInput(str(error).replace("the picture", path.name, 1)) from error
    finally:
        path.unlink(missing_ok=True)


def restored(stored: Sequence[StoredExchange]) -> tuple[list[Exchange], list[PagePicture]]:
    """A conversation of the history as the page shows one, and its pictures."""
    from pathasst.imaging.pictures import load
    from pathasst.serve.markup import answer_html, person_html

    exchanges, pictures = [], []
    for one in stored:
        new = [PagePicture(**values) for values in one.details.get("pictures", [])]
        for picture in new:
            pixels = load(picture.image)
            picture.large, picture.small = (image_html(pixels, f"Your picture {picture.name}", side) for side in (LARGE, SMALL))
        html = person_html(one.question, [as_shown(p) for p in new]) + answer_html(one.answer)
        exchanges.append(Exchange(one.question, html, one.answer, new))
        pictures += new
    return exchanges, pictures


def as_shown(picture: PagePicture) -> ChatPicture:
    """A picture of the person's as a question shows it."""
    return ChatPicture(number=1, name=picture.name, by=PERSON, image=picture.image, um_per_px=picture.um_per_px)


def put(
    session: PageSession, pixels: np.ndarray, name: str, um_per_px: float | None = None, origin: str = "", *, most: int = 8
) -> PagePicture:
    """Put pixels on the session as the current picture. Raises BadInput when the conversation holds `most` already."""
    from pathasst.imaging.pictures import encode_png

    if len(session.talk.pictures) >= most:
        raise BadInput(f"a conversation takes {most} pictures; remove one, or begin a new conversation.")
    height, width = pixels.shape[:2]
    picture = PagePicture(name, encode_png(pixels), width, height, um_per_px, origin)
    picture.large, picture.small = (image_html(pixels, f"Your picture {name}", side) for side in (LARGE, SMALL))
    session.talk.pictures.append(picture)
    return picture


def open_slide(session: PageSession, path: Path) -> None:
    """Move a slide to the session's own folder and open it there, in place of the one before. Raises BadInput or MissingPackage.

    Only slides that are one TIFF file: the formats of several files name the others, and OpenSlide reads whatever they name.
    """
    from pathasst.imaging.slides import read_region

    with path.open("rb") as file:
        if file.read(4) not in TIFF:
            raise BadInput(f"{path.name} cannot be opened as a slide: slides are taken as one TIFF-based file ({SLIDES}).")

    place = session.private() / f"{secrets.token_hex(8)}{path.suffix.lower()}"
    shutil.move(path, place)
    try:
        read_region(place, (0, 0, 1, 1))
    except BadInput as error:
        place.unlink(missing_ok=True)
        raise BadInput(str(error).replace(place.name, path.name)) from error
    if session.slide is not None:
        session.slide.unlink(missing_ok=True)
    session.slide, session.slide_name = place, path.name


def frame(session: PageSession) -> None:
    """Choose a region of the current picture, as one does of a slide. Raises BadInput without a picture."""
    if not session.talk.pictures:
        raise BadInput("give a picture first.")
    session.framed = session.talk.pictures[-1]


def picker(session: PageSession) -> dict[str, Any]:
    """What the region picker needs of the framed picture or the slide: a small one as data address, size in px, scale."""
    small, (width, height), scale, name = _framed(session.framed) if session.framed else _slide(session)
    sink = io.BytesIO()
    small.save(sink, "JPEG", quality=84)
    side = min(1024, width, height) if session.framed is None else min(width, height) // 2
    return {
        "src": "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode(),
        "name": name,
        "width": width,
        "height": height,
        "scale": f"{scale:.4g}" if scale else "",
        "box": [(width - side) // 2, (height - side) // 2, side, side],
    }


def cut(session: PageSession, text: str, *, most: int = 8) -> PagePicture:
    """The region `x, y, width, height` of the framed picture or the slide as the current picture.

    A region of a slide longer than REGION_SIDE is read from the first level at which it fits; the scale is of the picture as
    read. A framed picture that was not asked about yet makes room for its region. Raises BadInput or BadSettings.
    """
    from pathasst.imaging.slides import parse_box

    box = parse_box(text)
    pixels, scale, source = _part(session.framed, box) if session.framed else _region(session, box)
    pictures = session.talk.pictures
    if session.framed and not session.framed.in_conversation:
        pictures[:] = [p for p in pictures if p is not session.framed]
    x, y, width, height = box
    origin = f"region {x}, {y}, {width} × {height} px of {source}"
    return put(session, pixels, f"{Path(source).stem} region", scale, origin, most=most)


def _slide(session: PageSession) -> tuple[Image, tuple[int, int], float | None, str]:
    from PIL import Image

    from pathasst.imaging.slides import open_slide as read_slide

    if session.slide is None:
        raise BadInput("open a slide first.")
    with read_slide(session.slide) as slide:
        return Image.fromarray(slide.overview(THUMBNAIL).image), slide.size, slide.um_per_px, session.slide_name


def _framed(picture: PagePicture) -> tuple[Image, tuple[int, int], float | None, str]:
    from PIL import Image

    from pathasst.imaging.pictures import load

    small = Image.fromarray(load(picture.image))
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return small, (picture.width, picture.height), picture.um_per_px, picture.name


def _region(session: PageSession, box: tuple[int, int, int, int]) -> tuple[np.ndarray, float | None, str]:
    """Pixels, scale and name of a box of the slide."""
    from pathasst.imaging.slides import open_slide as read_slide

    if session.slide is None:
        raise BadInput("open a slide first.")
    with read_slide(session.slide) as slide:
        least = max(max(box[2:]) / REGION_SIDE, 1.0)
        levels = [max(level.downsample) for level in slide.levels]
        region = slide.read(box, downsample=next((d for d in levels if d >= least), least))
    return region.image, region.um_per_px, session.slide_name


def _part(picture: PagePicture, box: tuple[int, int, int, int]) -> tuple[np.ndarray, float | None, str]:
    """Pixels, scale and name of a box of a picture."""
    from pathasst.imaging.pictures import load

    x, y, width, height = box
    if min(x, y) < 0 or x + width > picture.width or y + height > picture.height:
        raise BadInput(f"the region does not lie within the picture of {picture.width} × {picture.height} px.")
    return load(picture.image)[y : y + height, x : x + width], picture.um_per_px, picture.name


def shown_html(session: PageSession) -> str:
    """The pictures on the session, the current one large."""
    pictures = session.talk.pictures
    if not pictures:
        return ""
    *others, current = pictures
    state = "in the conversation" if current.in_conversation else "goes with your next question"
    scale = f" · {current.um_per_px:.4g} µm per px" if current.um_per_px else ""
    origin = f"<br>{escape(current.origin)}" if current.origin else ""
    small = "".join(f'<div class="pa-thumb">{p.small}</div>' for p in others)
    return (
        f'<figure class="pa-current">{current.large}'
        f"<figcaption><strong>{escape(current.name)}</strong><br>"
        f'<span class="pa-quiet">{current.width} × {current.height} px{scale} · {state}{origin}</span></figcaption></figure>'
        f"{f'<div class=pa-thumbs>{small}</div>' if small else ''}"
    )
