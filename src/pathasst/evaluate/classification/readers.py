"""The public layouts of labelled pictures → samples. Each reader says what it looked for and what it saw when a layout differs.

A reader gets the set's folder and the names of its classes, in the order of their numbers (`classes.yaml`). It gives the official
splits where the set has them; `divide` makes the others, by patient or original.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np

from pathasst.core.errors import BadDataset
from pathasst.core.records import Pair
from pathasst.core.tables import first, read_table
from pathasst.dataset import read
from pathasst.evaluate.classification.prompts import ClassNames
from pathasst.evaluate.classification.sample import ArrayRow, LabelledPicture
from pathasst.evaluate.classification.xlsx import read_xlsx
from pathasst.imaging.pictures import SUFFIXES

Reader = Callable[[Path, Sequence[str]], list[LabelledPicture]]
BACH_TEST = (range(41, 59), range(60, 90), range(139, 169), range(240, 258), range(260, 273), range(345, 368))
"""eva's patient-wise division of BACH's 400 pictures, by their place in order of name: 132 that are tested on."""
BREAKHIS_TEST = (
    "18842D 16184 8168 4372 16716 9146 21978AB 6241 17901 12465 3411F 18842 2980 15570C 2985 13413 3909 14134E 2523 19854C "
    "19979 29960CD 21998AB 29960AB 14946"
)
"""eva's patients of BreaKHis that are tested on."""
BREAKHIS_COUNT = 1995  # pictures at 40X
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test", "": ""}


def patch_camelyon(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """`camelyonpatch_level_2_split_<train|valid|test>_<x|y>.h5`; the cluster is the slide of `…_meta.csv`, if that is there."""
    import h5py

    samples: list[LabelledPicture] = []
    for name, split in (("train", "train"), ("valid", "val"), ("test", "test")):
        stem = f"camelyonpatch_level_2_split_{name}"
        pictures, labels, meta = (folder / f"{stem}_{part}" for part in ("x.h5", "y.h5", "meta.csv"))
        if not (pictures.is_file() and labels.is_file()):
            continue
        try:
            with h5py.File(labels, "r") as file:
                numbers = np.asarray(file["y"]).reshape(-1).astype(int)
            with h5py.File(pictures, "r") as file:
                count = len(file["x"])
        except (OSError, KeyError) as error:
            raise BadDataset(f"{stem}_x.h5 or _y.h5 cannot be read (arrays x and y are expected): {error}") from error
        if count != len(numbers) or set(numbers.tolist()) - {0, 1}:
            raise BadDataset(f"{stem}: {count} pictures, {len(numbers)} labels; as many of both are expected, labels 0 and 1.")
        slides = _slides(meta, count)
        samples += [
            LabelledPicture(id=f"{name}/{n}", label=int(y), cluster=slides[n], split=split, source=ArrayRow(pictures, n, "x"))
            for n, y in enumerate(numbers)
        ]
    if not samples:
        packed = "; unpack the .gz files first (gunzip)" if next(folder.glob("*.h5.gz"), None) else ""
        _wrong(folder, f"camelyonpatch_level_2_split_test_x.h5 and …_y.h5{packed}")
    return samples


def _slides(meta: Path, count: int) -> list[str]:
    if not meta.is_file():
        return [f"{meta.stem}/{n}" for n in range(count)]
    _, rows = read_table(meta)
    slides = [first(row, ("wsi", "slide")) for _, row in rows]
    if len(slides) != count:
        raise BadDataset(f"{meta.name} has {len(slides)} rows for {count} pictures.")
    return slides


def breakhis(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """BreaKHis at 40X, as in eva: `…/<benign|malignant>/SOB/<type>/<slide>/40X/SOB_<B|M>_<type>-<year>-<patient>-40-<n>.png`.

    The classes are benign and malignant, or the eight types by their letters (A, F, PT, TA, DC, LC, MC, PC). The complete set is
    divided by patients as eva does it.
    """
    binary = "benign" in classes
    samples = []
    for path in _pictures(folder):
        match = re.fullmatch(r"SOB_([BM])_([A-Z]+)-\d+-([0-9A-Z]+)-40-\d+", path.stem)
        if match is None:
            continue
        name = {"B": "benign", "M": "malignant"}[match[1]] if binary else match[2]
        if name in classes:
            id = str(path.relative_to(folder))
            samples.append(LabelledPicture(id=id, label=classes.index(name), cluster=match[3], source=path))
    if len(samples) == BREAKHIS_COUNT:
        samples = [replace(s, split="test" if s.cluster in BREAKHIS_TEST.split() else "train") for s in samples]
    return samples or _wrong(folder, "…/40X/SOB_B_A-14-22549AB-40-001.png and the like")


def bach(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """`Photos/<Normal|Benign|InSitu|Invasive>/*.tif`; of the complete set the division of eva, which keeps patients apart."""
    paths = [p for name in sorted(classes) for p in _pictures(_inside(folder, "Photos") / name)]
    tested = {n for part in BACH_TEST for n in part} if len(paths) == 400 else None
    samples = [
        LabelledPicture(
            id=f"{p.parent.name}/{p.name}",
            label=classes.index(p.parent.name),
            cluster=p.stem,
            split="" if tested is None else ("test" if n in tested else "train"),
            source=p,
        )
        for n, p in enumerate(paths)
    ]
    return samples or _wrong(folder, f"Photos/{{{','.join(classes)}}}/*.tif")


def mhist(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """`annotations.csv` (Image Name, Majority Vote Label, …, Partition) and `images/*.png`. MHIST names no slides."""
    table = folder / "annotations.csv"
    samples = []
    for row in _rows(table, ("image name", "majority vote label", "partition")) if table.is_file() else ():
        name = row["image name"]
        label = _number(classes, row["majority vote label"], table)
        split = _split(row["partition"], table)
        samples.append(LabelledPicture(id=name, label=label, cluster=name, split=split, source=folder / "images" / name))
    return samples or _wrong(folder, "annotations.csv with the columns Image Name, Majority Vote Label, Partition, and images/")


def bracs(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """`<train|val|test>/<0_N|1_PB|…|6_IC>/BRACS_<slide>_<class>_<n>.png`; the cluster is the slide."""
    root = folder / "latest_version" if (folder / "latest_version").is_dir() else folder
    samples = [
        LabelledPicture(
            id=f"{split}/{p.name}",
            label=classes.index(p.parent.name),
            cluster="_".join(p.stem.split("_")[:2]),
            split=split,
            source=p,
        )
        for split in ("train", "val", "test")
        for p in _pictures(root / split)
        if p.parent.name in classes
    ]
    return samples or _wrong(root, f"{{train,val,test}}/{{{','.join(classes)}}}/BRACS_*.png")


def sicap(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """`partition/Test/{Train,Test}.xlsx` (or .csv) with image_name and a 0/1 column a class, and `images/`; cluster: slide."""
    samples = []
    for name, split in (("Train", "train"), ("Test", "test")):
        base = folder / "partition" / "Test" / name
        if base.with_suffix(".csv").is_file():
            rows = list(_rows(base.with_suffix(".csv"), ("image_name",)))
        elif base.with_suffix(".xlsx").is_file():
            rows = read_xlsx(base.with_suffix(".xlsx"))
        else:
            continue
        for row in rows:
            graded = [n for n, c in enumerate(classes) if row.get(c.lower(), "").strip() in ("1", "1.0")]
            if len(graded) != 1:
                raise BadDataset(
                    f"{base.name}: {row.get('image_name', '?')} has {len(graded)} of the grades {', '.join(classes)}; one is "
                    f"expected. Columns: {', '.join(row)}."
                )
            picture = row["image_name"]
            slide = picture.split("_Block")[0]
            samples.append(
                LabelledPicture(id=picture, label=graded[0], cluster=slide, split=split, source=folder / "images" / picture)
            )
    return samples or _wrong(folder, "partition/Test/Train.xlsx and Test.xlsx, and images/")


def kather2016(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """`<01_TUMOR|…|08_EMPTY>/<tile>_CRC-Prim-HE-<slide>_….tif`; the cluster is the slide, of which there are ten."""
    samples = []
    for path in _pictures(folder):
        if path.parent.name in classes:
            slide = re.search(r"CRC-Prim-HE-\d+", path.name)
            id = f"{path.parent.name}/{path.name}"
            cluster = slide[0] if slide else id
            samples.append(LabelledPicture(id=id, label=classes.index(path.parent.name), cluster=cluster, source=path))
    return samples or _wrong(folder, f"folders {', '.join(classes)} with .tif files")


def crc_val(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """CRC-VAL-HE-7K, one folder a class, as test; NCT-CRC-HE-100K beside it, if it is there, as train. No patients are named."""
    samples = []
    for root, split in ((folder, "test"), (folder.parent / "NCT-CRC-HE-100K", "train")):
        for path in _pictures(root):
            if path.parent.name in classes:
                id = f"{split}/{path.parent.name}/{path.name}"
                samples.append(
                    LabelledPicture(id=id, label=classes.index(path.parent.name), cluster=id, split=split, source=path)
                )
    if not any(s.split == "test" for s in samples):
        _wrong(folder, f"folders {', '.join(classes)} with .tif files")
    return samples


def gtex(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """One folder of tiles an organ; names hold the donor, as GTEx's samples do (GTEX-1117F-…), which is the cluster."""
    samples = []
    for path in _pictures(folder):
        name = path.relative_to(folder).parts[0].lower().replace("_", " ")
        if name in classes:
            donor = re.search(r"GTEX-[0-9A-Z]+", str(path.relative_to(folder)))
            id = str(path.relative_to(folder))
            samples.append(LabelledPicture(id=id, label=classes.index(name), cluster=donor[0] if donor else id, source=path))
    return samples or _wrong(folder, f"folders of tiles called by organ ({', '.join(list(classes)[:6])} …)")


def skin_cancer(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """`tiles-v2.csv` (file, class, set) with paths relative to it; the number behind `_ws_` in a name is the slide."""
    table = next(iter(sorted(folder.rglob("tiles-v2.csv"))), None)
    if table is None:
        _wrong(folder, "tiles-v2.csv with the columns file, class, set")
    samples = []
    for row in _rows(table, ("file", "class", "set")):
        split = _split(row["set"], table)
        slide = re.search(r"_ws_(\d+)", row["file"])
        samples.append(
            LabelledPicture(
                id=row["file"],
                label=_number(classes, row["class"], table),
                cluster=f"ws {slide[1]}" if slide else row["file"],
                split=split,
                source=table.parent / row["file"].removeprefix("data/"),
            )
        )
    return samples or _wrong(folder, f"rows in {table.name}")


def pannuke(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """`Fold <n>/images/fold<n>/images.npy` and `types.npy`, the tissue of each tile; folds 1, 2, 3 are train, val, test."""
    samples = []
    for types in sorted(folder.rglob("types.npy")):
        images = types.with_name("images.npy")
        fold = re.search(r"[123]", types.parent.name) or re.search(r"[Ff]old\s*([123])", str(types.relative_to(folder)))
        if fold is None or not images.is_file():
            continue
        try:
            names = [str(t) for t in np.load(types, allow_pickle=False)]
            count = len(np.load(images, mmap_mode="r", allow_pickle=False))
        except (OSError, ValueError) as error:
            raise BadDataset(f"{types.parent}: images.npy or types.npy cannot be read: {error}") from error
        if count != len(names):
            raise BadDataset(f"{types.parent}: {count} pictures and {len(names)} tissue types.")
        number = int(fold[0][-1])
        split = ("train", "val", "test")[number - 1]
        for n, name in enumerate(names):
            id = f"fold{number}/{n}"
            label = _number(classes, name, types)
            samples.append(LabelledPicture(id=id, label=label, cluster=id, split=split, source=ArrayRow(images, n)))
    return samples or _wrong(folder, "Fold 1/images/fold1/images.npy and types.npy (and Fold 2, Fold 3)")


def image_folder(folder: Path, classes: Sequence[str]) -> list[LabelledPicture]:
    """Any folder: `<class>/*`, `<train|val|test>/<class>/*`, or `labels.csv` with the columns image (or file), label and, where
    there are, original (or patient, slide, case, smear, core) and split."""
    tables = sorted(folder.glob("*.csv"))
    table = next((t for t in tables if t.name in ("labels.csv", "patches.csv")), tables[0] if len(tables) == 1 else None)
    if table is not None and {"image", "file"} & set(_columns(table)) and "label" in _columns(table):
        return [
            LabelledPicture(
                id=name,
                label=classes.index(row["label"]),
                cluster=first(row, ("original", "patient", "slide", "case", "smear", "core")) or name,
                split=_split(row.get("split", ""), table),
                source=folder / name,
            )
            for row in _rows(table, ("label",))
            if (name := first(row, ("image", "file"))) and row["label"] in classes
        ]
    samples = []
    for path in _pictures(folder):
        *above, name = path.relative_to(folder).parts[:-1] or ("",)
        if name in classes:
            split = above[-1].lower() if above and above[-1].lower() in ("train", "val", "test") else ""
            id = str(path.relative_to(folder))
            samples.append(LabelledPicture(id=id, label=classes.index(name), cluster=id, split=split, source=path))
    return samples or _wrong(folder, "one folder of pictures a class, or labels.csv with the columns image and label")


def pairs(folder: Path, classes: ClassNames) -> list[LabelledPicture]:
    """A dataset of labelled pairs (`pathasst clip compose`) with its splits, so that nothing that was trained on is tested on.

    A picture that stands there with several captions is one sample.
    """
    samples: dict[str, LabelledPicture] = {}
    for pair in read(folder, Pair):
        name, _, label = pair.label.rpartition("/")
        if label in classes.labels and name == classes.pairs:
            number = classes.labels.index(label)
            cluster = pair.group or pair.pair_id
            sample = LabelledPicture(id=pair.pair_id, label=number, cluster=cluster, split=pair.split, source=pair.image)
            samples.setdefault(pair.md5 or pair.pair_id, sample)
    return list(samples.values()) or _wrong(folder, f"pairs labelled {classes.pairs}/{{{','.join(classes.labels)}}}")


def classes_of_folder(folder: Path) -> list[str]:
    """The classes that `image_folder` finds, by name. Raises BadDataset when there are fewer than two."""
    names: set[str] = set()
    for table in sorted(folder.glob("*.csv")) if folder.is_dir() else ():
        if "label" in _columns(table):
            names |= {row["label"] for row in _rows(table, ("label",)) if row["label"]}
    names = names or {p.parent.name for p in _pictures(folder) if p.parent != folder}
    if len(names) < 2:
        _wrong(folder, "two or more classes: a folder of pictures each, or labels.csv with the columns image and label")
    return sorted(names)


READERS: dict[str, Reader] = {
    "patch-camelyon": patch_camelyon,
    "breakhis": breakhis,
    "breakhis-types": breakhis,
    "bach": bach,
    "mhist": mhist,
    "bracs": bracs,
    "sicapv2": sicap,
    "kather2016": kather2016,
    "crc-val-he-7k": crc_val,
    "gtex": gtex,
    "skin-cancer": skin_cancer,
    "pannuke": pannuke,
}
"""Id of a set → what reads its public layout."""


def _pictures(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def _inside(folder: Path, name: str) -> Path:
    return folder if folder.name == name else folder / name


def _columns(table: Path) -> list[str]:
    return [name.lower() for name in read_table(table)[0]]


def _rows(table: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
    """Rows by lower-case names. Raises BadDataset when a column is missing or the table is broken."""
    try:
        names, rows = read_table(table)
        if missing := [n for n in columns if n not in [x.lower() for x in names]]:
            raise BadDataset(f"{table} has no column {', '.join(missing)}; it has {', '.join(names)}.")
        for _, row in rows:
            yield {k: v.strip() for k, v in row.items()}
    except (OSError, csv.Error) as error:
        raise BadDataset(f"{table} cannot be read: {error}") from error


def _split(name: str, table: Path) -> str:
    if name.strip().lower() not in SPLIT_NAMES:
        raise BadDataset(f"{table.name}: the split {name!r} is unknown; train, val (validation) and test are expected.")
    return SPLIT_NAMES[name.strip().lower()]


def _number(classes: Sequence[str], name: str, table: Path) -> int:
    if name not in classes:
        raise BadDataset(f"{table.name}: the class {name!r} is unknown; expected: {', '.join(classes)}.")
    return classes.index(name)


def _wrong(folder: Path, expected: str) -> NoReturn:
    """Raise BadDataset: what was looked for, and what the folder holds instead."""
    if not folder.is_dir():
        raise BadDataset(f"there is no folder {folder}. Expected in it: {expected}.")
    entries = sorted(p.name + "/" * p.is_dir() for p in folder.iterdir())
    more = f" and {len(entries) - 8} more" if len(entries) > 8 else ""
    raise BadDataset(f"{folder}: expected {expected}; it holds {', '.join(entries[:8]) + more if entries else 'nothing'}.")
