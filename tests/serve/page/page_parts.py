"""What the tests of the page share: a browser, a slide, a small paper collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CHROMIUM = "/usr/bin/chromium"
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
"""Root in a container needs no-sandbox; the others keep Chromium from calling home."""
ABSTRACTS = (
    ("11111111", "Ki67 in breast cancer", "A Ki67 index above 20 % was prognostic in 312 patients.", "2015", "Journal Article"),
    ("22222222", "Ki67 and trastuzumab", "Trastuzumab helped 340 patients with a high Ki67.", "2018", "Review"),
    ("33333333", "Ki67 in dogs", "A Ki67 index was counted in dogs.", "1999", "Retracted Publication"),
)


def collection(folder: Path) -> Any:
    """A paper index over ABSTRACTS, words alone."""
    from paper_samples import document, record, write

    from pathasst.papers import BuildSettings, PaperIndex, build

    records = [record(pmid, title, text, year, types=(kind,)) for pmid, title, text, year, kind in ABSTRACTS]
    file = write(folder / "a.xml", document(*records))
    build([file], folder / "index", BuildSettings(workers=1, make_vectors=False), say=lambda text: None)
    return PaperIndex.open(folder / "index")


def slide(path: Path, size: tuple[int, int] = (768, 1024)) -> Path:
    """A tiled TIFF that OpenSlide reads, at 0.5 µm/px: light, with a dark square at 512, 256."""
    import tifffile

    image = np.full((*size, 3), 230, np.uint8)
    image[256:320, 512:576] = 40
    tifffile.imwrite(path, image, tile=(256, 256), photometric="rgb", resolution=(20000, 20000), resolutionunit="CENTIMETER")
    return path


CONTRAST = """(selector) => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return m.length > 3 ? m : [...m, 1]; };
  const linear = (v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map(linear);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const found = [];
  for (const element of document.querySelectorAll(selector)) {
    if (!element.checkVisibility() || !element.textContent.trim()) continue;
    let under = element, ground = [0, 0, 0, 0];
    while (under && ground[3] < 1) { ground = parse(getComputedStyle(under).backgroundColor); under = under.parentElement; }
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground)].sort((x, y) => y - x);
    found.push([element.textContent.trim().slice(0, 40), (a + 0.05) / (b + 0.05)]);
  }
  return found;
}"""
"""Contrast of every visible element of a selector's, after WCAG."""

FOCUSED = """() => {
  const element = document.activeElement;
  if (!element || element === document.body) return null;
  const style = getComputedStyle(element);
  const around = getComputedStyle(element.closest("#pa-ask") || element);
  const labels = [...(element.labels || [])].map((label) => label.textContent.trim()).join(" ");
  const name = element.ariaLabel || labels || element.title || element.alt || element.textContent.trim();
  const seen = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || around.boxShadow !== "none";
  return { tag: element.tagName, id: element.closest("[id]")?.id || "", name: name.slice(0, 60), seen };
}"""
"""What has the focus: its name to a screen reader, and whether the focus can be seen."""
