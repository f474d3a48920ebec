"""A contact sheet: many records' pictures in one PNG, each with the first words of its caption."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

TILE, TEXT, COLUMNS = 192, 44, 6


def contact_sheet(records: Iterable[Any], out: Path) -> int:
    """Draw the pictures of Figures, Pairs or Conversations; unreadable ones leave a grey tile. Returns how many were drawn."""
    from PIL import Image, ImageDraw, ImageOps

    tiles = []
    for record in records:
        tile, image = Image.new("RGB", (TILE, TILE + TEXT), "white"), _first_image(record)
        try:
            with Image.open(io.BytesIO(image)) as picture:
                picture.draft("RGB", (TILE * 2, TILE * 2))
                small = ImageOps.contain(picture.convert("RGB"), (TILE - 4, TILE - 4))
        except (OSError, ValueError, Image.DecompressionBombError):
            small = Image.new("RGB", (TILE - 4, TILE - 4), "lightgrey")
        tile.paste(small, ((TILE - small.width) // 2, (TILE - small.height) // 2))
        words = "\n".join(textwrap.wrap(getattr(record, "caption", ""), 30)[:3])
        ImageDraw.Draw(tile).text((4, TILE), words, fill="black")
        tiles.append(tile)
    rows = max(1, -(-len(tiles) // COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * TILE, rows * (TILE + TEXT)), "white")
    for n, tile in enumerate(tiles):
        sheet.paste(tile, (n % COLUMNS * TILE, n // COLUMNS * (TILE + TEXT)))
    sheet.save(out)
    return len(tiles)


def _first_image(record: Any) -> bytes:
    return getattr(record, "image", b"") or next(iter(getattr(record, "images", [])), b"")
