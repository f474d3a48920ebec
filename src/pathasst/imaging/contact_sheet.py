"""A contact sheet: many pictures in one, each with a few words below it. Knows pictures, no record."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw

from pathasst.core.errors import BadInput
from pathasst.imaging.pictures import thumbnail

TILE, TEXT, TITLE = 192, 44, 30


def contact_sheet(pictures: Iterable[tuple[bytes | Path, str]], title: str = "", columns: int = 6) -> Image.Image:
    """The pictures (a file, or its bytes) with their words, in rows; an unreadable one is a grey tile."""
    tiles = []
    for source, words in pictures:
        tile = Image.new("RGB", (TILE, TILE + TEXT), "white")
        try:
            small = thumbnail(source, TILE - 4)
        except BadInput:
            small = Image.new("RGB", (TILE - 4, TILE - 4), "lightgrey")
        tile.paste(small, ((TILE - small.width) // 2, (TILE - small.height) // 2))
        ImageDraw.Draw(tile).text((4, TILE), "\n".join(textwrap.wrap(words, 30)[:3]), fill="black")
        tiles.append(tile)
    top = TITLE if title else 0
    rows = max(1, -(-len(tiles) // columns))
    sheet = Image.new("RGB", (columns * TILE, top + rows * (TILE + TEXT)), "white")
    if title:
        ImageDraw.Draw(sheet).text((8, 8), title[: columns * TILE // 7], fill="black")
    for n, tile in enumerate(tiles):
        sheet.paste(tile, (n % columns * TILE, top + n // columns * (TILE + TEXT)))
    return sheet
