"""Small copies of public sets, made on the spot, and a model that sees one colour."""

import csv
import zipfile

import numpy as np
import pytest
from PIL import Image

from pathasst.clip.model import DualEncoder


class ColourClip(DualEncoder):
    """A picture's vector is its mean colour; a text's is the colour it names, which a table gives."""

    version = "1"

    def __init__(self, colours):
        self.colours = colours
        self.encoded = 0

    def encode_image(self, images, batch=64):
        rows = [np.asarray(i, np.float32).reshape(-1, 3).mean(0) - 128 for i in images]
        self.encoded += len(rows)
        return self._unit(np.array(rows, np.float32).reshape(-1, 3))

    def encode_text(self, texts, batch=256):
        def colour(text):
            return next((c for name, c in self.colours.items() if name in text.lower()), (1, 1, 1))

        return self._unit(np.array([colour(t) for t in texts], np.float32).reshape(-1, 3))

    @property
    def logit_scale(self):
        return 10.0

    def fingerprint(self):
        return "colours"

    @staticmethod
    def _unit(rows):
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def picture(path, colour, seed=0, size=16):
    """A picture of noise about a colour; the folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).normal(0, 20, (size, size, 3))
    Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)).save(path)


def table(path, rows):
    """A CSV of dicts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def workbook(path, rows):
    """An Excel file as Excel writes one: strings shared, numbers inline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    texts, lines = [], []
    for r, row in enumerate(rows, 1):
        cells = []
        for c, value in enumerate(row):
            place = f"{'ABCDEFGH'[c]}{r}"
            if isinstance(value, str):
                texts.append(value)
                cells.append(f'<c r="{place}" t="s"><v>{len(texts) - 1}</v></c>')
            else:
                cells.append(f'<c r="{place}"><v>{value}</v></c>')
        lines.append(f'<row r="{r}">{"".join(cells)}</row>')
    ns = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("xl/worksheets/sheet1.xml", f"<worksheet {ns}><sheetData>{''.join(lines)}</sheetData></worksheet>")
        file.writestr("xl/sharedStrings.xml", f"<sst {ns}>{''.join(f'<si><t>{t}</t></si>' for t in texts)}</sst>")


@pytest.fixture
def colour_clip():
    return ColourClip
