"""Draws pictures that are not pathology, as negatives for the select model: charts, gels, diagrams, scans, photographs …

Every picture comes from its seed. No file of anyone else's is used. Run by `curate_select_data.py`.
"""

from __future__ import annotations

import io

import cv2
import numpy as np


def chart(rng: np.random.Generator) -> np.ndarray:
    """A matplotlib figure of one to six axes, of varying kind, palette and size."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from PIL import Image

    rows, columns = ((1, 1), (1, 1), (1, 2), (2, 2), (2, 3))[int(rng.integers(0, 5))]
    style = ["default", "ggplot", "bmh", "grayscale", "seaborn-v0_8-pastel"][int(rng.integers(0, 5))]
    with plt.style.context(style):
        figure, axes = plt.subplots(rows, columns, figsize=(float(rng.uniform(3, 6)), float(rng.uniform(2.5, 5))), squeeze=False)
        for ax in axes.flat:
            _axes(ax, rng)
        figure.tight_layout()
        sink = io.BytesIO()
        figure.savefig(sink, dpi=int(rng.integers(60, 120)), format="png")
        plt.close(figure)
    return np.asarray(Image.open(sink).convert("RGB"))


def _axes(ax, rng: np.random.Generator) -> None:  # noqa: C901 - one branch a kind of chart
    n, kind = int(rng.integers(3, 30)), int(rng.integers(0, 13))
    pink = {"color": [(0.9, 0.6, 0.75), (0.5, 0.3, 0.6), (0.8, 0.3, 0.5), None][int(rng.integers(0, 4))]}
    if kind == 0:
        for _ in range(int(rng.integers(1, 5))):
            ax.plot(rng.normal(0, 1, n).cumsum(), marker="o" if rng.random() < 0.5 else "")
    elif kind == 1:
        ax.bar(range(n), rng.uniform(0, 10, n), yerr=rng.uniform(0, 2, n), **pink)
    elif kind == 2:
        for _ in range(int(rng.integers(1, 4))):
            ax.scatter(*rng.normal(rng.uniform(-3, 3), 1, (2, n * 20)), s=float(rng.uniform(2, 30)), alpha=0.5)
    elif kind == 3:
        ax.boxplot([rng.normal(0, 1, 30) for _ in range(min(n, 8))], patch_artist=True)
    elif kind == 4:
        maps = ["viridis", "RdBu", "hot", "magma", "Purples", "RdPu", "gray", "jet"]
        ax.imshow(rng.normal(0, 1, (n, n + 3)), cmap=maps[int(rng.integers(0, 8))], aspect="auto")
    elif kind == 5:
        ax.pie(rng.uniform(1, 5, min(n, 7)), labels=[f"g{i}" for i in range(min(n, 7))], autopct="%.0f%%")
    elif kind == 6:
        for _ in range(int(rng.integers(2, 4))):
            ax.step(np.sort(rng.uniform(0, 60, n)), np.linspace(1, rng.uniform(0, 0.6), n))
    elif kind == 7:
        ax.hist(rng.gamma(2, 2, 400), bins=n, **pink)
    elif kind == 8:
        ax.contourf(cv2.GaussianBlur(rng.normal(0, 1, (40, 40)), (0, 0), 4))
    elif kind == 9:
        ax.hexbin(*rng.normal(0, 1, (2, 3000)), gridsize=int(rng.integers(12, 40)), cmap=["jet", "plasma", "Reds"][n % 3])
    elif kind == 10:
        ax.violinplot([rng.normal(0, 1, 60) for _ in range(min(n, 6))])
    elif kind == 11:  # a network, or a tree
        at = rng.uniform(0, 1, (n, 2))
        for i in range(1, n):
            ax.plot(*zip(at[i], at[int(rng.integers(0, i))], strict=True), color="grey", lw=float(rng.uniform(0.5, 2)))
        ax.scatter(*at.T, s=rng.uniform(20, 400, n), c=rng.uniform(0, 1, n), cmap="Set2", zorder=3)
        ax.axis("off")
    else:
        ax.errorbar(rng.normal(0, 1, n), range(n), xerr=rng.uniform(0.1, 1, n), fmt="s", color="k")
    if rng.random() < 0.7:
        ax.set_xlabel("Time (days)")
        ax.set_ylabel("Expression")
        ax.set_title(f"p = {rng.uniform(0, 0.1):.3f}")


def gel(rng: np.random.Generator) -> np.ndarray:
    """Western blot strips or an agarose gel."""
    lanes, strips = int(rng.integers(3, 14)), int(rng.integers(1, 6))
    width, height = int(rng.integers(260, 560)), int(rng.integers(40, 110))
    dark = rng.random() < 0.4
    sheets = []
    for _ in range(strips):
        ground = float(rng.uniform(5, 60) if dark else rng.uniform(170, 245))
        x = np.full((height, width), ground, np.float32)
        for lane in range(lanes):
            for _ in range(int(rng.integers(1, 4))):
                strength = float(rng.uniform(0, 200)) * (1 if dark else -1)
                cx, cy = (lane + 0.5) * width / lanes, rng.uniform(0.15, 0.85) * height
                blob = np.zeros_like(x)
                cv2.ellipse(
                    blob, (int(cx), int(cy)), (int(width / lanes * 0.38), int(rng.integers(2, 8))), 0, 0, 360, strength, -1
                )
                x += cv2.GaussianBlur(blob, (0, 0), float(rng.uniform(1, 3)))
        x += rng.normal(0, rng.uniform(1, 8), x.shape)
        tint = np.array([1, 1, 1]) if rng.random() < 0.7 else rng.uniform(0.8, 1, 3)
        sheets.append(np.clip(x[..., None] * tint, 0, 255).astype(np.uint8))
        sheets.append(np.full((int(rng.integers(2, 12)), width, 3), 255, np.uint8))
    out = cv2.copyMakeBorder(np.vstack(sheets), 8, 8, int(rng.integers(4, 90)), 8, cv2.BORDER_CONSTANT, value=(255, 255, 255))
    for n in range(strips):
        cv2.putText(out, "actin", (4, 40 + n * 60), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 1, cv2.LINE_AA)
    return out


def diagram(rng: np.random.Generator) -> np.ndarray:
    """Boxes, arrows and words; or lines and hexagons like a formula; or organic outlines."""
    width, height = (int(v) for v in rng.integers(240, 600, 2))
    out = np.full((height, width, 3), 255 if rng.random() < 0.8 else int(rng.integers(180, 256)), np.uint8)
    kind = rng.random()
    for _ in range(int(rng.integers(4, 20))):
        p, q = ((int(rng.integers(0, width)), int(rng.integers(0, height))) for _ in range(2))
        ink = tuple(int(v) for v in rng.integers(0, 256, 3)) if rng.random() < 0.6 else (0, 0, 0)
        fill = -1 if rng.random() < 0.4 else int(rng.integers(1, 4))
        if kind < 0.4:
            cv2.rectangle(out, p, (p[0] + int(rng.integers(30, 120)), p[1] + int(rng.integers(15, 60))), ink, fill)
            cv2.arrowedLine(out, p, q, (0, 0, 0), 1, cv2.LINE_AA)
            cv2.putText(out, "patients n=42", p, cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        elif kind < 0.6:
            angles = np.arange(6) * np.pi / 3
            ring = np.stack([p[0] + 22 * np.cos(angles), p[1] + 22 * np.sin(angles)], 1).astype(np.int32)
            cv2.polylines(out, [ring], True, (0, 0, 0), 2, cv2.LINE_AA)
            cv2.line(out, p, (p[0] + 40, p[1] + int(rng.integers(-30, 30))), (0, 0, 0), 2, cv2.LINE_AA)
        else:
            t = np.linspace(0, 2 * np.pi, 40)
            r = 20 + 60 * rng.random() + sum(rng.normal(0, 9) * np.sin(k * t + rng.uniform(0, 6)) for k in range(2, 6))
            shape = np.stack([p[0] + r * np.cos(t), p[1] + r * np.sin(t)], 1).astype(np.int32)
            cv2.fillPoly(out, [shape], ink) if fill < 0 else cv2.polylines(out, [shape], True, ink, fill, cv2.LINE_AA)
    return out


def scan(rng: np.random.Generator) -> np.ndarray:
    """Radiology-like: nested ellipses with soft tissue noise (CT, MRI), a radiograph, or a fan of ultrasound speckle."""
    side = int(rng.integers(220, 420))
    x = np.zeros((side, side), np.float32)
    kind = rng.random()
    if kind < 0.45:
        cx, cy = side * rng.uniform(0.45, 0.55, 2)
        axes = side * rng.uniform(0.3, 0.47, 2)
        cv2.ellipse(x, (int(cx), int(cy)), (int(axes[0]), int(axes[1])), 0, 0, 360, float(rng.uniform(60, 140)), -1)
        cv2.ellipse(x, (int(cx), int(cy)), (int(axes[0]), int(axes[1])), 0, 0, 360, 220.0, int(rng.integers(2, 10)))
        for _ in range(int(rng.integers(4, 16))):
            at = (int(cx + rng.uniform(-0.7, 0.7) * axes[0]), int(cy + rng.uniform(-0.7, 0.7) * axes[1]))
            size = (int(rng.uniform(0.05, 0.4) * axes[0]), int(rng.uniform(0.05, 0.4) * axes[1]))
            cv2.ellipse(x, at, size, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(0, 230)), -1)
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.8, 4)))
    elif kind < 0.75:
        x += cv2.GaussianBlur(rng.normal(0, 1, x.shape).astype(np.float32), (0, 0), float(rng.uniform(15, 50))) * 1500 + 120
        for _ in range(int(rng.integers(2, 7))):
            p = rng.uniform(0, side, (2, 2)).astype(int)
            bone = np.zeros_like(x)
            cv2.line(bone, tuple(map(int, p[0])), tuple(map(int, p[1])), float(rng.uniform(20, 110)), int(rng.integers(8, 60)))
            x += cv2.GaussianBlur(bone, (0, 0), float(rng.uniform(2, 6)))
    else:
        speckle = cv2.GaussianBlur(rng.gamma(1.2, 60, x.shape).astype(np.float32), (0, 0), float(rng.uniform(0.8, 2)))
        depth = cv2.GaussianBlur(rng.uniform(0, 1.6, x.shape).astype(np.float32), (0, 0), 12)
        yy, xx = np.mgrid[:side, :side]
        fan = (abs(np.arctan2(xx - side / 2, yy + 10)) < rng.uniform(0.5, 0.8)) & (np.hypot(xx - side / 2, yy) < side * 0.95)
        x = speckle * depth * fan
    x = np.clip(x + rng.normal(0, rng.uniform(1, 9), x.shape), 0, 255)
    x = 255 - x if rng.random() < 0.15 else x
    out = np.repeat(x[..., None], 3, 2)
    if rng.random() < 0.15:  # film photographed in blue, or a hot-metal overlay
        out = out * rng.uniform(0.6, 1, 3)
    if rng.random() < 0.12:
        out = cv2.applyColorMap(x.astype(np.uint8), cv2.COLORMAP_HOT)[..., ::-1]
    return out.astype(np.uint8)


def fluorescence(rng: np.random.Generator) -> np.ndarray:
    """Glowing cells of one to three colours on black: not the bright-field pathology that is looked for."""
    side = int(rng.integers(200, 400))
    out = np.zeros((side, side, 3), np.float32)
    for channel in rng.permutation(3)[: int(rng.integers(1, 4))]:
        layer = np.zeros((side, side), np.float32)
        for _ in range(int(rng.integers(5, 80))):
            at = tuple(int(v) for v in rng.integers(0, side, 2))
            size = tuple(int(v) for v in rng.integers(2, 26, 2))
            cv2.ellipse(layer, at, size, float(rng.uniform(0, 180)), 0, 360, float(rng.uniform(60, 255)), -1)
        texture = cv2.GaussianBlur(rng.uniform(0, 2, layer.shape).astype(np.float32), (0, 0), 1.5)
        out[..., channel] += cv2.GaussianBlur(layer, (0, 0), float(rng.uniform(1, 6))) * texture
    return np.clip(out + rng.normal(0, 3, out.shape), 0, 255).astype(np.uint8)


def electron(rng: np.random.Generator) -> np.ndarray:
    """Electron microscopy-like: grey cytoplasm with vesicles, dark membranes, stacks of lines and grain."""
    side = int(rng.integers(220, 420))
    x = cv2.GaussianBlur(rng.normal(0, 1, (side, side)).astype(np.float32), (0, 0), float(rng.uniform(6, 30))) * 300
    x += float(rng.uniform(110, 190))
    for _ in range(int(rng.integers(6, 50))):
        at, size = tuple(int(v) for v in rng.integers(0, side, 2)), tuple(int(v) for v in rng.integers(4, side // 5, 2))
        turn, ink = float(rng.uniform(0, 180)), float(rng.uniform(20, 90))
        cv2.ellipse(x, at, size, turn, 0, 360, float(rng.uniform(60, 240)), -1)
        cv2.ellipse(x, at, size, turn, 0, 360, ink, int(rng.integers(1, 4)))
        if rng.random() < 0.3:
            for k in range(2, min(size), 4):  # cristae
                cv2.ellipse(x, at, (size[0] - k if size[0] > k else 1, 1), turn, 0, 360, ink, 1)
    x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.5, 1.5))) + rng.normal(0, rng.uniform(4, 20), x.shape)
    return np.repeat(np.clip(x, 0, 255).astype(np.uint8)[..., None], 3, 2)


PALETTES = (
    ((200, 150, 130), (230, 180, 160), (120, 80, 60)),  # skin
    ((170, 40, 40), (210, 110, 100), (240, 190, 180)),  # mucosa, open surgery
    ((240, 235, 215), (220, 200, 170), (190, 80, 90)),  # teeth and gums
    ((30, 110, 170), (60, 150, 110), (230, 230, 230)),  # drapes
    ((120, 100, 80), (90, 130, 70), (170, 190, 220)),  # outdoors
    ((190, 130, 150), (150, 100, 140), (235, 215, 225)),  # pink and violet things
)


def photograph(rng: np.random.Generator) -> np.ndarray:
    """A dead-leaves picture: overlapping shaded shapes of all sizes in a natural palette, with gloss and depth blur."""
    width, height = (int(v) for v in rng.integers(220, 420, 2))
    palette = np.array(PALETTES[int(rng.integers(0, len(PALETTES)))], np.float32)
    if rng.random() < 0.3:
        palette = rng.uniform(0, 255, (4, 3)).astype(np.float32)
    out = np.tile(palette[0], (height, width, 1)).astype(np.float32)
    yy, xx = np.mgrid[:height, :width].astype(np.float32)
    for radius in sorted(rng.pareto(1.4, int(rng.integers(8, 60))) * 8 + 8, reverse=True):
        radius = min(float(radius), max(width, height) * 0.6)
        cx, cy = rng.uniform(0, width), rng.uniform(0, height)
        stretch, turn = rng.uniform(0.4, 1), rng.uniform(0, np.pi)
        dx, dy = xx - cx, yy - cy
        u, v = dx * np.cos(turn) + dy * np.sin(turn), (dy * np.cos(turn) - dx * np.sin(turn)) / stretch
        distance = np.hypot(u, v) / radius
        shade = 1.1 - 0.5 * distance[..., None] * rng.uniform(0, 1) + 0.25 * (u / radius)[..., None] * rng.uniform(-1, 1)
        paint = (palette[int(rng.integers(0, len(palette)))] + rng.normal(0, 14, 3)) * shade
        soft = np.clip((1 - distance) * radius / rng.uniform(1, 6), 0, 1)[..., None]
        out = out * (1 - soft) + paint * soft
    for _ in range(int(rng.integers(0, 12))):
        at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.ellipse(
            out, at, tuple(int(v) for v in rng.integers(1, 9, 2)), float(rng.uniform(0, 180)), 0, 360, (255, 250, 245), -1
        )
    grain = cv2.GaussianBlur(rng.normal(0, 1, out.shape).astype(np.float32), (0, 0), float(rng.uniform(0.5, 3)))
    out = cv2.GaussianBlur(out, (0, 0), float(rng.uniform(0.6, 2.5))) + grain * rng.uniform(2, 25)
    if rng.random() < 0.2:  # endoscope
        keep = np.hypot(xx - width / 2, yy - height / 2) < min(width, height) * 0.49
        out = out * keep[..., None]
    return np.clip(out, 0, 255).astype(np.uint8)


def text_page(rng: np.random.Generator) -> np.ndarray:
    """Lines of words, or a table."""
    width, height = int(rng.integers(280, 560)), int(rng.integers(200, 500))
    out = np.full((height, width, 3), 255, np.uint8)
    step = int(rng.integers(12, 24))
    for y in range(step, height, step):
        words = " ".join("".join(chr(int(c)) for c in rng.integers(97, 123, int(rng.integers(2, 10)))) for _ in range(12))
        cv2.putText(out, words, (8, y), cv2.FONT_HERSHEY_SIMPLEX, step / 36, (20, 20, 20), 1, cv2.LINE_AA)
    if rng.random() < 0.4:
        for x in range(0, width, int(rng.integers(50, 120))):
            cv2.line(out, (x, 0), (x, height), (0, 0, 0), 1)
    return out


DRAWINGS = {
    "chart": (chart, 290),
    "gel": (gel, 140),
    "diagram": (diagram, 160),
    "scan": (scan, 200),
    "fluorescence": (fluorescence, 110),
    "photograph": (photograph, 220),
    "text": (text_page, 80),
    "electron": (electron, 90),
}
"""Name → function of a generator, and how many of it make the recipe's set."""
