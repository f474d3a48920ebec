"""Builds the labelled picture set of the embedded select model: a CSV (image, label, group, source, split) and drawn negatives.

    python benchmarks/curate_select_data.py OUT   # needs PATHASST_DATA; writes OUT/labels.csv
    pathasst train select OUT/labels.csv --out models/select-embedded --recipe embedded

Pathology = seen through a microscope in bright field (histology, cytology, blood). Gross specimens, endoscopy, radiology,
fluorescence, gels, charts and drawings are "other". The article figures were labelled by looking at each of them.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
from curate_drawings import DRAWINGS
from PIL import Image

from pathasst.imaging.pictures import load

# Figures of `articles` that show bright-field microscopy alone (by eye).
_PATHOLOGY = """
PMC4709662_fig1 PMC4735921_fig4 PMC4736318_fig2 PMC4736393_fig3 PMC4736587_fig4 PMC4736760_fig4 PMC4736760_fig5
PMC4736760_fig6 PMC4736802_fig5 PMC4737013_fig1 PMC4738714_fig2 PMC4738714_fig3 PMC4738714_fig4 PMC4738714_fig5
PMC4738733_fig3 PMC4738733_fig4 PMC4739221_fig3
"""
PATHOLOGY = _PATHOLOGY.split()
# Mixed or doubtful figures: not used whole. Value: indices of their panel boxes that show pathology; None: no panel is used.
MIXED = {"PMC4735908_fig1": (6, 7, 8), "PMC4745278_fig1": (0, 2, 3), "PMC4736587_fig5": None}
_PHOTOS = """
astronaut camera coffee chelsea rocket motorcycle_left motorcycle_right moon horse coins brick grass gravel text page
clock_motion hubble_deep_field retina cell color logo
"""
PHOTOS = _PHOTOS.split()


def main(out: Path) -> None:
    """Write labels.csv and the pictures that are drawn or cut."""
    data = Path(os.environ["PATHASST_DATA"])
    out.mkdir(parents=True, exist_ok=True)
    rows = [*patches(data), *articles(data, out), *book(data), *packages(data), *pages(data, out), *photographs(out)]
    rows += [*drawings(out), *brain(out), *dicom(out)]
    with (out / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "label", "group", "source", "split"])
        writer.writeheader()
        writer.writerows(rows)
    for label in ("pathology", "other"):
        print(label, sum(r["label"] == label for r in rows))


def row(image: Path, label: str, group: str, source: str, split: str = "") -> dict[str, str]:
    """One line of the CSV; without a split, 20 % of the groups are for the test and 15 % for the validation, by hash."""
    place = int(hashlib.sha256(f"0:{source}:{group}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    split = {"validation": "val"}.get(split, split) or ("test" if place < 0.2 else "val" if place < 0.35 else "train")
    return {"image": str(image.resolve()), "label": label, "group": f"{source}:{group}", "source": source, "split": split}


def save(picture: np.ndarray, target: Path) -> None:
    """Write a picture unless it is there; 480 px are enough for a network that sees 160."""
    if target.is_file():
        return
    scale = 480 / max(picture.shape[:2])
    if scale < 1:
        picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    Image.fromarray(picture).convert("RGB").save(target)


def patches(data: Path):
    """Patches of the labelled sets, and the immunohistochemistry sample of scikit-image."""
    for folder in ("lc25000", "kather2016", "mendeley_lbc", "pbc_blood", "cric", "bccd"):
        seen: set[str] = set()
        with next((data / folder).glob("*.csv")).open(newline="") as file:
            for record in csv.DictReader(file):
                if record["image"] not in seen:
                    seen.add(record["image"])
                    yield row(data / folder / record["image"], "pathology", record.get("original") or record["image"], folder)
    from skimage import data as samples

    yield row(Path(samples.__file__).parent / "ihc.png", "pathology", "ihc", "skimage", "train")


def articles(data: Path, out: Path):
    """Whole figures, and the panels of compound ones; split by article, both classes dealt out evenly: 3 train, 1 val, 2 test."""
    (out / "panels").mkdir(exist_ok=True)
    figures = json.loads((data / "articles" / "figures.json").read_text())
    shows = {f["pmcid"] for f in figures if Path(f["image"]).stem in PATHOLOGY or MIXED.get(Path(f["image"]).stem)}
    deal = ("train", "test", "train", "val", "train", "test")
    ordered = [sorted(shows), sorted({f["pmcid"] for f in figures} - shows)]
    split = {pmcid: deal[n % 6] for side in ordered for n, pmcid in enumerate(side)}
    for figure in figures:
        path = data / "articles" / "figures" / figure["image"]
        name, boxes = path.stem, figure["panel_boxes"]
        if name not in MIXED:
            yield row(path, "pathology" if name in PATHOLOGY else "other", figure["pmcid"], "articles", split[figure["pmcid"]])
        if (len(boxes) < 2 and name not in MIXED) or MIXED.get(name, ()) is None:
            continue
        picture = load(path.read_bytes())
        for n, (x1, y1, x2, y2) in enumerate(boxes):
            panel = picture[int(y1) + 2 : int(y2) - 2, int(x1) + 2 : int(x2) - 2]
            if min(panel.shape[:2]) >= 48:
                pathology = n in MIXED[name] if name in MIXED else name in PATHOLOGY
                target = out / "panels" / f"{name}_{n}.png"
                save(panel, target)
                yield row(
                    target, "pathology" if pathology else "other", figure["pmcid"], "article-panels", split[figure["pmcid"]]
                )


def book(data: Path):
    """Overview pictures of the open atlas."""
    for path in sorted((data / "book_atlas" / "EN").rglob("*.jpg")):
        if "goredvideo" not in path.name and "sidebyside" not in path.name:
            yield row(path, "pathology", path.stem, "book_atlas")


def packages(data: Path):
    """Figures of three articles without pathology."""
    for path in sorted((data / "jats_packages").glob("*/*")):
        if "fig" in path.name or "inf" in path.name:
            yield row(path, "other", path.parent.name, "jats_packages", "test" if "2022" in path.parent.name else "train")


def pages(data: Path, out: Path):
    """Pages of article PDFs as pictures of text."""
    import pypdfium2

    (out / "pages").mkdir(exist_ok=True)
    for path in sorted((data / "articles" / "pdf").glob("*.pdf")):
        with pypdfium2.PdfDocument(path) as document:
            for n in (0, len(document) - 1):
                target = out / "pages" / f"{path.stem}_{n}.png"
                if not target.is_file():
                    document[n].render(scale=1).to_pil().save(target)
                yield row(target, "other", path.stem, "pages")


def photographs(out: Path):
    """The photographs that scikit-image, scikit-learn, matplotlib and libreyolo ship, whole and in two crops."""
    import libreyolo
    import matplotlib
    import skimage
    import sklearn

    base = Path(skimage.__file__).parent / "data"
    files = [p for name in PHOTOS for p in base.glob(f"{name}.*") if p.suffix in (".png", ".jpg")]
    files += sorted((Path(sklearn.__file__).parent / "datasets" / "images").glob("*.jpg"))
    files += sorted((Path(matplotlib.__file__).parent / "mpl-data" / "sample_data").glob("*.jpg"))
    files += sorted((Path(libreyolo.__file__).parent / "assets").glob("*.jpg"))
    (out / "photos").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for path in files:
        picture = load(path.read_bytes())
        height, width = picture.shape[:2]
        for n in range(6):
            part = picture
            if n:
                h, w = int(height * rng.uniform(0.25, 0.7)), int(width * rng.uniform(0.25, 0.7))
                y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
                part = picture[y : y + h, x : x + w]
            target = out / "photos" / f"{path.stem}_{n}.png"
            save(part, target)
            yield row(target, "other", path.stem, "photos")


def drawings(out: Path):
    """Drawn negatives."""
    for number, (name, (draw, count)) in enumerate(DRAWINGS.items()):
        (out / name).mkdir(exist_ok=True)
        for n in range(count):
            target = out / name / f"{n:04d}.jpg"
            if not target.is_file():
                Image.fromarray(draw(np.random.default_rng((7, number, n)))).save(target, quality=92)
            yield row(target, "other", f"{n:04d}", name)


def brain(out: Path):
    """Slices of the MNI ICBM152 brain template that nilearn ships (its licence allows any use), when its wheel is at hand."""
    wheel = next(iter(sorted(Path(os.environ.get("NILEARN_WHEEL", ".")).glob("nilearn-*.whl"))), None)
    if wheel is None:
        print("no nilearn wheel in $NILEARN_WHEEL: built without brain slices", file=sys.stderr)
        return
    import zipfile

    (out / "mri").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for kind in ("t1", "gm", "wm"):
        member = f"nilearn/datasets/data/mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
        raw = gzip.decompress(zipfile.ZipFile(wheel).read(member))
        shape = np.frombuffer(raw, "<i2", 8, 40)[1:4]
        size = np.frombuffer(raw, "<i2", 1, 72)[0] // 8
        volume = np.frombuffer(raw, {1: "u1", 2: "<i2", 4: "<f4", 8: "<f8"}[int(size)], int(shape.prod()), 352)
        volume = volume.reshape(shape, order="F").astype(np.float32)
        for axis in range(3):
            for n in range(6):
                at = int(shape[axis] * rng.uniform(0.25, 0.75))
                plane = np.rot90(volume.take(at, axis))
                plane = np.clip(plane / plane.max() * rng.uniform(0.8, 1.3), 0, 1) ** rng.uniform(0.6, 1.6) * 255
                plane = cv2.resize(plane, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
                target = out / "mri" / f"{kind}_{axis}_{n}.png"
                save(np.clip(plane, 0, 255).astype(np.uint8), target)
                yield row(target, "other", f"{axis}", "mri", "train")


def dicom(out: Path):
    """CT, MR, ultrasound and X-ray pictures that the wheels of pydicom and nibabel ship for their tests."""
    import zipfile

    folder = Path(os.environ.get("DICOM_WHEELS", "."))
    wheels = [w for name in ("pydicom", "nibabel") for w in sorted(folder.glob(f"{name}-*.whl"))]
    if not wheels:
        print("no pydicom or nibabel wheel in $DICOM_WHEELS: built without their scans", file=sys.stderr)
        return
    zipfile.ZipFile(wheels[0]).extractall(out / "wheel")
    sys.path.insert(0, str(out / "wheel"))
    import pydicom

    (out / "dicom").mkdir(exist_ok=True)
    for wheel in wheels:
        archive = zipfile.ZipFile(wheel)
        for member in sorted(m for m in archive.namelist() if m.endswith(".dcm")):
            try:
                pixels = pydicom.dcmread(io.BytesIO(archive.read(member)), force=True).pixel_array.astype(np.float32)
            except Exception as error:  # noqa: BLE001 - test files of a library: many are broken on purpose
                print(f"{member}: {type(error).__name__}", file=sys.stderr)
                continue
            pixels = pixels[0] if pixels.ndim == 4 or (pixels.ndim == 3 and pixels.shape[-1] > 4) else pixels
            low, high = np.percentile(pixels, [0.5, 99.5])
            plane = np.clip((pixels - low) / max(high - low, 1) * 255, 0, 255).astype(np.uint8)
            if min(plane.shape[:2]) < 32 or plane.std() < 8:
                continue
            target = out / "dicom" / f"{Path(member).stem}.png"
            save(plane, target)
            yield row(target, "other", wheel.name.split("-")[0], "dicom", "train")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
