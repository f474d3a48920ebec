"""The viewer's addresses: /slide/ lists the slides, /slide/KEY shows one; its tiles come from /slide-tiles/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from pathasst.assistant.images import PictureInput
from pathasst.core.errors import BadInput, PathAsstError
from pathasst.imaging.pictures import encode_jpeg, encode_png
from pathasst.imaging.slides import Region
from pathasst.serve.viewer import openseadragon
from pathasst.serve.viewer.deepzoom import TILE, TileCache, read_tile, tile_region, tile_shape
from pathasst.serve.viewer.layers import LAYERS
from pathasst.serve.viewer.shelf import Entry, Shelf

HERE = Path(__file__).parent
LARGEST = 1024
"""px of the longer side of a region that a question is asked about."""
MOST_CORNERS = 1000
Asker = Callable[[str, PictureInput, str], str]
"""What answers a question about a picture: question, picture, user → the answer as Markdown."""
KEEP = {"Cache-Control": "private, max-age=3600"}


class RegionQuestion(BaseModel):
    """A question about a region, px of the finest level; `corners` x,y,x,y,… of an outline in it, or empty."""

    question: str = Field(min_length=1, max_length=4000)
    x: float
    y: float
    width: float
    height: float
    corners: str = Field(default="", max_length=40_000)


def add_viewer(app: FastAPI, shelf: Shelf, *, ask: Asker | None = None) -> None:
    """Add the viewer's routes; do it before a page is mounted at `/`. `ask`: what answers questions about a region.

    They go to /slide/KEY/ask, which takes a browser's login as the slides do; /v1 takes keys in the header alone.

    Raises MissingPackage without OpenSeadragon.
    """
    app.mount("/slide-tiles/openseadragon", StaticFiles(directory=openseadragon.folder()), name="openseadragon")
    views = _Views(shelf, ask)
    tiles = "/slide-tiles/{key}"
    addresses: dict[str, Callable[..., Response]] = {
        "/slide/": views.listing,
        "/slide/viewer.{kind}": views.file,
        "/slide/{key}": views.page,
        "/slide/{key}/info": views.info,
        f"{tiles}/image_files/{{level}}/{{place}}.jpg": views.image_tile,
        f"{tiles}/run/{{number}}/{{layer}}/{{classes}}/{{stamp}}_files/{{level}}/{{place}}.png": views.layer_tile,
        f"{tiles}/run/{{number}}/inside": views.inside,
        f"{tiles}/region.png": views.region,
    }
    for path, view in addresses.items():
        app.add_api_route(
            path, view, methods=["GET"], include_in_schema=False, response_model=None, dependencies=[Depends(views.check)]
        )
    if ask is not None:
        app.post("/slide/{key}/ask", include_in_schema=False, dependencies=[Depends(views.check)])(views.answer)


class _Views:
    """What each address gives. An unknown slide, run or tile is a 404."""

    def __init__(self, shelf: Shelf, ask: Asker | None) -> None:
        self.shelf, self.ask, self.cache = shelf, ask, TileCache()

    def check(self, request: Request) -> None:
        """Raises HTTPException 404 for a slide that the request's key may not open, as for one that is not there."""
        entry = self.shelf.entries.get(str(request.path_params.get("key", "")))
        if entry is not None and not entry.allowed(_patterns(request)):
            raise HTTPException(404, "there is no such slide.")

    def listing(self, request: Request) -> HTMLResponse:
        return HTMLResponse(_listing(self._entries(request)))

    def _entries(self, request: Request) -> list[Entry]:
        """The slides that the request's key may open."""
        return [entry for entry in self.shelf.entries.values() if entry.allowed(_patterns(request))]

    def file(self, kind: str) -> FileResponse:
        if kind not in ("js", "css"):
            raise HTTPException(404)
        return FileResponse(HERE / f"viewer.{kind}")

    def page(self, key: str) -> HTMLResponse:
        with _as_404():
            self.shelf.entry(key)
        return HTMLResponse((HERE / "viewer.html").read_text(encoding="utf-8"))

    def info(self, key: str, request: Request) -> JSONResponse:
        with _as_404():
            entry, slide = self.shelf.entry(key), self.shelf.slide(key)
            runs = [self.shelf.layers(key, n).info() for n in range(len(entry.runs))]
        values = {
            "key": key,
            "name": slide.name,
            "width": slide.size[0],
            "height": slide.size[1],
            "um_per_px": slide.um_per_px,
            "scale": str(slide.scale),
            "tile": TILE,
            "asks": self.ask is not None,
            "layers": list(LAYERS),
            "runs": runs,
            "slides": [{"key": e.key, "name": e.path.name} for e in self._entries(request)],
        }
        return JSONResponse(values)

    def image_tile(self, key: str, level: int, place: str) -> Response:
        with _as_404():
            slide, (column, row) = self.shelf.slide(key), _place(place)
            tile = self.cache.get((key, level, column, row), lambda: encode_jpeg(read_tile(slide, level, column, row), 85))
        return Response(tile, media_type="image/jpeg", headers=KEEP)

    def layer_tile(self, key: str, number: int, layer: str, classes: str, stamp: str, level: int, place: str) -> Response:
        """`classes`: `all`, or numbers of the shown ones with dashes; `stamp` changes when the run does, for the browser."""
        with _as_404():
            if layer not in LAYERS:
                raise BadInput("there is no such layer.")
            slide, layers, (column, row) = self.shelf.slide(key), self.shelf.layers(key, number), _place(place)
            numbers = None if classes == "all" else frozenset(int(n) for n in classes.split("-") if n.isdecimal())
            region, shrink = tile_region(slide.size, level, column, row)
            shape = tile_shape(region, shrink)
            name = key, number, layers.stamp, layer, classes, level, column, row
            tile = self.cache.get(name, lambda: _png(layers.draw(layer, region, shape, numbers)))
        return Response(tile, media_type="image/png", headers=KEEP)

    def inside(self, key: str, number: int, corners: str) -> JSONResponse:
        """What a run counted inside of an outline: `corners` x,y,x,y,… in px of the finest level."""
        with _as_404():
            return JSONResponse(self.shelf.layers(key, number).inside(_corners(corners)))

    def region(self, key: str, x: float, y: float, width: float, height: float, corners: str = "") -> Response:
        """A region as a picture of at most LARGEST px, and its scale in a header; what lies outside of `corners` is white."""
        with _as_404():
            part = self._part(key, (x, y, width, height), corners)
        headers = {"X-Um-Per-Px": f"{part.um_per_px:.6g}"} if part.um_per_px else {}
        return Response(encode_png(part.image), media_type="image/png", headers=headers)

    def answer(self, key: str, body: RegionQuestion, request: Request) -> dict[str, str]:
        """The answer to a question about a region. An unknown slide is a 404; other errors are the application's own."""
        assert self.ask is not None
        with _as_404():
            part = self._part(key, (body.x, body.y, body.width, body.height), body.corners)
            name = f"{self.shelf.slide(key).name}, a region"
        picture = PictureInput(encode_png(part.image), name, part.um_per_px)
        return {"answer": self.ask(body.question, picture, str(getattr(request.state, "user", "")))}

    def _part(self, key: str, box: tuple[float, float, float, float], corners: str) -> Region:
        """Raises BadInput."""
        import cv2

        part = self.shelf.slide(key).read(box, downsample=max(max(box[2:]) / LARGEST, 1.0))
        if not corners:
            return part
        outline = (_corners(corners) - box[:2]) * (part.image.shape[1] / box[2])
        inside = np.zeros(part.image.shape[:2], np.uint8)
        cv2.fillPoly(inside, [outline.round().astype(np.int32)], 1)
        return Region(np.where(inside[..., None], part.image, np.uint8(255)), part.um_per_px, box)


@contextmanager
def _as_404() -> Iterator[None]:
    try:
        yield
    except PathAsstError as error:
        raise HTTPException(404, str(error)) from error


def viewer_app(shelf: Shelf) -> FastAPI:
    """An application of the viewer alone, for this machine: no model, no questions, no keys. Raises MissingPackage."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = FastAPI(title="PathAsst slides", docs_url=None, redoc_url=None, openapi_url=None)
    add_viewer(app, shelf)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost", "[::1]"])

    @app.get("/")
    def first() -> RedirectResponse:
        return RedirectResponse(f"/slide/{next(iter(shelf.entries))}" if len(shelf.entries) == 1 else "/slide/")

    return app


def _place(text: str) -> tuple[int, int]:
    column, _, row = text.partition("_")
    if not (column.isdecimal() and row.isdecimal()):
        raise BadInput("there is no such tile.")
    return int(column), int(row)


def _corners(text: str) -> np.ndarray:
    """Float [n, 2] of `x,y,x,y,…`. Raises BadInput."""
    try:
        values = np.array([float(v) for v in text.split(",")]).reshape(-1, 2)
    except ValueError:
        raise BadInput("an outline is x,y,x,y,… in px.") from None
    if not 3 <= len(values) <= MOST_CORNERS or not np.isfinite(values).all():
        raise BadInput(f"an outline has 3 to {MOST_CORNERS} corners.")
    return values


def _png(image: Any) -> bytes:
    import cv2

    quick = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    return bytes(cv2.imencode(".png", image[..., [2, 1, 0, 3]], quick)[1].tobytes())


def _patterns(request: Request) -> tuple[str, ...]:
    return tuple(getattr(request.state, "slides", ("*",)))


def _listing(entries: list[Entry]) -> str:
    from html import escape

    rows = "".join(f'<li><a href="{e.key}">{escape(e.path.name)}</a></li>' for e in entries)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Slides</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="stylesheet" href="viewer.css"></head>'
        f'<body class="list"><main><h1>Slides</h1><ul>{rows or "<li>none</li>"}</ul></main></body></html>'
    )
