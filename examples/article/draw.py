"""Draws the figures of the example article: no photograph, no data, just ellipses, noise and a fixed seed.

Run from anywhere: `python examples/article/draw.py`. The pictures beside this script are its output.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HERE = Path(__file__).parent
SIZE = 384


def tissue(rng: np.random.Generator, colour: tuple[int, int, int], roughness: float = 26.0) -> Image.Image:
    """A fibrous ground: smooth noise at three scales, stretched along one direction."""
    ground = np.zeros((SIZE, SIZE))
    for scale, weight in ((6, 1.0), (24, 0.7), (96, 0.5)):
        noise = rng.normal(size=(scale, max(2, scale // 3)))
        layer = Image.fromarray(((noise - noise.min()) / np.ptp(noise) * 255).astype(np.uint8)).resize(
            (SIZE, SIZE), Image.Resampling.BICUBIC
        )
        ground += weight * (np.asarray(layer, float) / 255 - 0.5)
    pixels = np.array(colour)[None, None] + ground[..., None] * roughness * np.array([0.6, 1.6, 0.8])
    return Image.fromarray(np.clip(pixels + rng.normal(0, 4, (SIZE, SIZE, 3)), 0, 255).astype(np.uint8))


def nucleus(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, x: float, y: float, r: float, colour: tuple[int, int, int]
) -> None:
    """One nucleus: an irregular ellipse with a darker rim and one or two nucleoli."""
    turns = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    stretch, tilt = rng.uniform(1.0, 1.5), rng.uniform(0, np.pi)
    radii = r * rng.uniform(0.88, 1.12, turns.size)
    px, py = radii * stretch * np.cos(turns), radii / stretch * np.sin(turns)
    points = [
        (x + a * np.cos(tilt) - b * np.sin(tilt), y + a * np.sin(tilt) + b * np.cos(tilt)) for a, b in zip(px, py, strict=True)
    ]
    shade = np.array(colour) + rng.integers(-14, 15)
    draw.polygon(
        points, fill=tuple(int(v) for v in np.clip(shade, 0, 255)), outline=tuple(int(v) for v in np.clip(shade - 30, 0, 255))
    )
    for _ in range(rng.integers(1, 3)):
        dx, dy = rng.uniform(-r / 3, r / 3, 2)
        draw.ellipse(
            (x + dx - 1.2, y + dy - 1.2, x + dx + 1.2, y + dy + 1.2), fill=tuple(int(v) for v in np.clip(shade - 45, 0, 255))
        )


def glands(seed: int, regular: bool) -> Image.Image:
    """H&E-like colon: round glands with basal nuclei, or crowded irregular ones."""
    rng = np.random.default_rng(seed)
    image = tissue(rng, (226, 164, 194))
    draw = ImageDraw.Draw(image)
    step = 118 if regular else 92
    for cy in range(step // 2, SIZE + step // 2, step):
        for cx in range(step // 2, SIZE + step // 2, step):
            x, y = cx + rng.uniform(-9, 9), cy + rng.uniform(-9, 9)
            rx, ry = (44, 44) if regular else (rng.uniform(26, 46), rng.uniform(20, 40))
            draw.ellipse((x - rx, y - ry, x + rx, y + ry), fill=(214, 150, 192))
            draw.ellipse((x - rx * 0.5, y - ry * 0.5, x + rx * 0.5, y + ry * 0.5), fill=(246, 236, 242))
            for ring in (0.88,) if regular else (0.9, 0.68):
                for turn in np.linspace(0, 2 * np.pi, 22 if regular else 18, endpoint=False):
                    nucleus(
                        draw,
                        rng,
                        x + ring * rx * np.cos(turn),
                        y + ring * ry * np.sin(turn),
                        4.4 if regular else 5.6,
                        (96, 62, 140),
                    )
    for _ in range(70):
        nucleus(draw, rng, *rng.uniform(0, SIZE, 2), 3.2, (104, 70, 146))
    return image.filter(ImageFilter.GaussianBlur(0.7))


def dab_nuclei(seed: int, positive: float) -> Image.Image:
    """Immunohistochemistry-like field: brown (positive) and blue (negative) nuclei."""
    rng = np.random.default_rng(seed)
    image = tissue(rng, (226, 222, 230), 14)
    draw = ImageDraw.Draw(image)
    placed: list[tuple[float, float]] = []
    while len(placed) < 150:
        x, y = rng.uniform(8, SIZE - 8, 2)
        if all((x - a) ** 2 + (y - b) ** 2 > 18**2 for a, b in placed):
            placed.append((x, y))
            nucleus(draw, rng, x, y, rng.uniform(6.5, 8.5), (112, 62, 30) if rng.random() < positive else (112, 130, 178))
    return image.filter(ImageFilter.GaussianBlur(0.8))


def blood(seed: int) -> Image.Image:
    """Giemsa-like blood smear: red cells with central pallor, a neutrophil, platelets."""
    rng = np.random.default_rng(seed)
    image = tissue(rng, (236, 226, 222), 8)
    draw = ImageDraw.Draw(image)
    for _ in range(46):
        x, y, r = *rng.uniform(0, SIZE, 2), rng.uniform(25, 30)
        draw.ellipse((x - r, y - r, x + r, y + r), fill=(214, 150, 146), outline=(196, 128, 126))
        draw.ellipse((x - r * 0.4, y - r * 0.4, x + r * 0.4, y + r * 0.4), fill=(232, 190, 186))
    draw.ellipse((130, 120, 238, 228), fill=(222, 206, 226), outline=(190, 170, 200))
    for dx, dy in ((-22, -14), (4, -24), (24, 4), (2, 22)):
        nucleus(draw, rng, 184 + dx, 174 + dy, 19, (98, 60, 140))
    for _ in range(8):
        nucleus(draw, rng, *rng.uniform(0, SIZE, 2), 4, (150, 104, 168))
    return image.filter(ImageFilter.GaussianBlur(0.9))


def lettered(panels: list[Image.Image], columns: int) -> Image.Image:
    """Panels on white with gutters and capital letters in their upper left corners."""
    gap, rows = 12, -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * (SIZE + gap) + gap, rows * (SIZE + gap) + gap), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(34)
    for n, panel in enumerate(panels):
        x, y = gap + n % columns * (SIZE + gap), gap + n // columns * (SIZE + gap)
        sheet.paste(panel, (x, y))
        draw.rectangle((x, y, x + 44, y + 44), fill="white")
        draw.text((x + 10, y + 2), chr(65 + n), fill="black", font=font)
    return sheet


def chart() -> Image.Image:
    """A bar chart: what the select step has to leave out."""
    image = Image.new("RGB", (640, 420), "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(18)
    draw.line((70, 30, 70, 360, 610, 360), fill="black", width=2)
    for n, (name, value) in enumerate((("adenoma", 12), ("grade 1", 21), ("grade 2", 38), ("grade 3", 61))):
        x = 110 + n * 125
        draw.rectangle((x, 360 - value * 5, x + 70, 360), fill=(70, 110, 170), outline="black")
        draw.text((x, 368), name, fill="black", font=font)
        draw.text((x + 22, 336 - value * 5), str(value), fill="black", font=font)
    draw.text((8, 8), "Ki67 index (%)", fill="black", font=font)
    return image


def main() -> None:
    """Write the three figures."""
    lettered([glands(1, True), glands(2, False), dab_nuclei(3, 0.35), blood(4)], 2).save(HERE / "demo-001-g001.jpg", quality=88)
    chart().save(HERE / "demo-001-g002.png", optimize=True)
    dab_nuclei(5, 0.6).save(HERE / "demo-001-g003.jpg", quality=88)


if __name__ == "__main__":
    main()
