"""Every public layout is read from a small copy; a wrong one is named with what was looked for and what is there."""

import sys
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest

from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.evaluate.classification import readers
from pathasst.evaluate.classification.measure import samples_of
from pathasst.evaluate.classification.prompts import class_names
from pathasst.evaluate.classification.readers import READERS, image_folder
from pathasst.evaluate.classification.sample import ArrayRow, LabelledPicture, divide, hash_of
from pathasst.evaluate.classification.xlsx import read_xlsx
from pathasst.evaluate.sets import public_sets

sys.path.insert(0, str(Path(__file__).parent))
from conftest import picture, table, workbook

RED, BLUE = (200, 40, 40), (40, 40, 200)


def pcam(root):
    for name, labels in (("train", [0, 1, 1]), ("valid", [1]), ("test", [1, 0])):
        stem = f"PatchCamelyon/camelyonpatch_level_2_split_{name}"
        (root / "PatchCamelyon").mkdir(exist_ok=True, parents=True)
        with h5py.File(root / f"{stem}_x.h5", "w") as file:
            file["x"] = np.full((len(labels), 8, 8, 3), 90, np.uint8)
        with h5py.File(root / f"{stem}_y.h5", "w") as file:
            file["y"] = np.array(labels).reshape(-1, 1, 1, 1)
        table(root / f"{stem}_meta.csv", [{"": n, "coord_x": 1, "wsi": f"slide{n // 2}"} for n in range(len(labels))])


def breakhis(root):
    base = root / "BreaKHis_v1/histology_slides/breast"
    picture(base / "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-40-001.png", RED)
    picture(base / "benign/SOB/adenosis/SOB_B_A_14-22549AB/100X/SOB_B_A-14-22549AB-100-001.png", RED)
    picture(base / "malignant/SOB/ductal_carcinoma/SOB_M_DC_14-2523/40X/SOB_M_DC-14-2523-40-010.png", BLUE)


def bach(root):
    for name in ("Normal", "Benign", "InSitu", "Invasive"):
        for n in range(2):
            picture(root / f"ICIAR2018_BACH_Challenge/Photos/{name}/{name[0].lower()}{n:03}.tif", RED)


def mhist(root):
    rows = []
    for n, (label, part) in enumerate([("SSA", "train"), ("HP", "test"), ("SSA", "test")]):
        name = f"MHIST_{n}.png"
        picture(root / "MHIST/images" / name, RED)
        column = "Number of Annotators who Selected SSA (Out of 7)"
        rows.append({"Image Name": name, "Majority Vote Label": label, column: 5, "Partition": part})
    table(root / "MHIST/annotations.csv", rows)


def bracs(root):
    for split, slide in (("train", 10), ("val", 11), ("test", 12)):
        for label in ("0_N", "6_IC"):
            picture(root / f"BRACS_RoI/latest_version/{split}/{label}/BRACS_{slide}_{label[2:]}_3.png", RED)


def sicap(root):
    head = ["image_name", "NC", "G3", "G4", "G5", "G4C"]
    for name, slide, grade in (("Train", "16B0001851", 0), ("Test", "18B0006169", 2)):
        file = f"{slide}_Block_Region_1_0_0_xini_6803_yini_59786.jpg"
        picture(root / "SICAPv2/images" / file, RED)
        workbook(root / f"SICAPv2/partition/Test/{name}.xlsx", [head, [file, *(int(n == grade) for n in range(5))]])


def kather(root):
    for label in ("01_TUMOR", "08_EMPTY"):
        for slide in (7, 9):
            name = f"1A11_CRC-Prim-HE-{slide:02}_022.tif_Row_601_Col_151.tif"
            picture(root / "Kather_texture_2016_image_tiles_5000" / label / name, RED)


def crc(root):
    picture(root / "CRC-VAL-HE-7K/ADI/ADI-TCGA-AAICEQFN.tif", RED)
    picture(root / "CRC-VAL-HE-7K/TUM/TUM-TCGA-AAICEQFN.tif", BLUE)
    picture(root / "NCT-CRC-HE-100K/TUM/TUM-AAAMHQMK.tif", BLUE)


def gtex(root):
    picture(root / "GTEx/liver/GTEX-1117F-0126_1.png", RED)
    picture(root / "GTEx/adipose_tissue/GTEX-111CU-0126_1.png", RED)


def skin(root):
    rows = []
    for split, label in (("Train", "tumor_skin_epithelial_bcc"), ("Validation", "tumor_skin_naevus_naevus")):
        name = f"tiles/{label}/{label}_ws_44_1.jpg"
        picture(root / "SkinCancer/data" / name, RED)
        rows.append({"file": name, "class": label, "set": split, "malignicity": "tumor"})
    rows.append({**rows[0], "set": "Test"})
    table(root / "SkinCancer/data/tiles-v2.csv", rows)


def pannuke(root):
    for fold in (1, 2, 3):
        folder = root / f"PanNuke/Fold {fold}/images/fold{fold}"
        folder.mkdir(parents=True)
        np.save(folder / "images.npy", np.full((2, 8, 8, 3), 100.0))
        np.save(folder / "types.npy", np.array(["Breast", "Bile-duct"]))


MADE = {
    "patch-camelyon": (pcam, {"train": 3, "val": 1, "test": 2}, {"slide0", "slide1"}),
    "breakhis": (breakhis, {"": 2}, {"22549AB", "2523"}),
    "breakhis-types": (breakhis, {"": 2}, {"22549AB", "2523"}),
    "bach": (bach, {"": 8}, None),
    "mhist": (mhist, {"train": 1, "test": 2}, None),
    "bracs": (bracs, {"train": 2, "val": 2, "test": 2}, {"BRACS_10", "BRACS_11", "BRACS_12"}),
    "sicapv2": (sicap, {"train": 1, "test": 1}, {"16B0001851", "18B0006169"}),
    "kather2016": (kather, {"": 4}, {"CRC-Prim-HE-07", "CRC-Prim-HE-09"}),
    "crc-val-he-7k": (crc, {"test": 2, "train": 1}, None),
    "gtex": (gtex, {"": 2}, {"GTEX-1117F", "GTEX-111CU"}),
    "skin-cancer": (skin, {"train": 1, "val": 1, "test": 1}, {"ws 44"}),
    "pannuke": (pannuke, {"train": 2, "val": 2, "test": 2}, None),
}


def test_every_reader_has_a_copy_here_and_says_where_to_get_the_set():
    assert set(MADE) == set(READERS) == {id for id, s in public_sets().items() if s.part == "classify"}
    assert all(public_sets()[id].licence and public_sets()[id].get for id in READERS)


@pytest.mark.parametrize("id", MADE)
def test_public_layout(tmp_path, id):
    make, splits, clusters = MADE[id]
    make(tmp_path)
    samples, classes = samples_of(id, tmp_path, None)
    assert Counter(s.split for s in samples) == splits
    assert clusters is None or {s.cluster for s in samples} == clusters
    assert all(s.pixels().dtype == np.uint8 and s.pixels().ndim == 3 for s in samples)
    assert len({s.id for s in samples}) == len(samples) - (id == "skin-cancer")  # its copy has one picture twice
    assert {s.label for s in samples} <= set(range(len(classes.labels))) and len({s.label for s in samples}) >= 2


@pytest.mark.parametrize("id", MADE)
def test_another_layout_is_explained(tmp_path, id):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/readme.txt").touch()
    with pytest.raises(BadDataset, match=r"expected .*; it holds readme.txt") as wrong:
        samples_of(id, None, tmp_path / "elsewhere")
    assert str(tmp_path) in str(wrong.value)
    with pytest.raises(BadDataset, match="Get it: "):
        samples_of(id, tmp_path, None)
    with pytest.raises(BadDataset, match="there is no folder"):
        READERS[id](tmp_path / "nothing", class_names(id).labels)


def test_labels_keep_the_order_of_the_classes(tmp_path):
    sicap(tmp_path)
    samples, classes = samples_of("sicapv2", tmp_path, None)
    assert [(s.split, classes.labels[s.label]) for s in samples] == [("train", "NC"), ("test", "G4")]


def test_packed_arrays_are_named(tmp_path):
    (tmp_path / "PatchCamelyon").mkdir()
    (tmp_path / "PatchCamelyon/camelyonpatch_level_2_split_test_x.h5.gz").touch()
    with pytest.raises(BadDataset, match="gunzip"):
        samples_of("patch-camelyon", tmp_path, None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda r: r.update({"Majority Vote Label": "XX"}), "class 'XX' is unknown; expected: HP, SSA"),
        (lambda r: r.pop("Partition"), "has no column partition; it has Image Name"),
    ],
)
def test_a_damaged_table_is_named_with_its_fault(tmp_path, change, why):
    row = {"Image Name": "a.png", "Majority Vote Label": "HP", "Partition": "test"}
    change(row)
    table(tmp_path / "MHIST/annotations.csv", [row])
    with pytest.raises(BadDataset, match=why):
        samples_of("mhist", tmp_path, None)


def test_labels_and_pictures_must_be_as_many(tmp_path):
    pcam(tmp_path)
    with h5py.File(tmp_path / "PatchCamelyon/camelyonpatch_level_2_split_test_y.h5", "w") as file:
        file["y"] = np.zeros((5, 1, 1, 1))
    with pytest.raises(BadDataset, match="2 pictures, 5 labels"):
        samples_of("patch-camelyon", tmp_path, None)


def test_any_folder_by_its_names_by_splits_or_by_a_table(tmp_path):
    for split in ("train", "test"):
        for label in ("tumour", "normal_tissue"):
            picture(tmp_path / f"a/{split}/{label}/1.png", RED)
    samples, classes = samples_of("folder", None, tmp_path / "a")
    assert Counter(s.split for s in samples) == {"train": 2, "test": 2} and classes.titles == ["normal tissue", "tumour"]
    rows = [{"image": f"{n}.png", "label": "ab"[n % 2], "original": f"o{n // 2}"} for n in range(4)]
    table(tmp_path / "b/labels.csv", rows)
    samples, _ = samples_of("folder", None, tmp_path / "b")
    assert [s.cluster for s in samples] == ["o0", "o0", "o1", "o1"] and {s.split for s in samples} == {""}
    picture(tmp_path / "c/only/1.png", RED)
    with pytest.raises(BadDataset, match="two or more classes"):
        samples_of("folder", None, tmp_path / "c")
    with pytest.raises(BadSettings, match="has no classes of 'imagenet'"):
        samples_of("imagenet", tmp_path, None)


def test_names_of_ones_own_classes(tmp_path):
    for label in ("x", "y"):
        picture(tmp_path / f"a/{label}/1.png", RED)
    (tmp_path / "names.yaml").write_text('prompt: "A photo of {}"\nclasses: {x: [lymphoma], y: [reactive node, node]}\n')
    _, classes = samples_of("folder", None, tmp_path / "a", tmp_path / "names.yaml")
    assert classes.single() == ["A photo of lymphoma", "A photo of reactive node"]
    (tmp_path / "names.yaml").write_text("classes: {x: [lymphoma]}")
    with pytest.raises(BadSettings, match="names no y"):
        samples_of("folder", None, tmp_path / "a", tmp_path / "names.yaml")


def samples(labels, clusters, split=""):
    rows = enumerate(zip(labels, clusters, strict=True))
    return [LabelledPicture(id=str(n), label=y, cluster=c, source=b"", split=split) for n, (y, c) in rows]


def test_no_cluster_is_cut_and_shares_are_about_right():
    rng = np.random.default_rng(0)
    clusters = [f"p{n}" for n in rng.integers(0, 60, 600)]
    label_of = {c: int(rng.integers(0, 2)) for c in clusters}
    parts = divide(samples([label_of[c] for c in clusters], clusters))
    split_of = {}
    for s in parts:
        assert split_of.setdefault(s.cluster, s.split) == s.split
    for label in (0, 1):
        share = Counter(s.split for s in parts if s.label == label)
        assert share["train"] / sum(share.values()) == pytest.approx(0.6, abs=0.1)
        assert share["test"] and share["val"]
    assert [s.split for s in divide(parts)] == [s.split for s in parts]  # official splits stay


def test_val_is_taken_from_train_and_a_set_of_tests_stays_one():
    both = samples([0] * 20, [f"a{n // 2}" for n in range(20)], "train") + samples([0], ["t"], "test")
    parts = divide(both)
    assert Counter(s.split for s in parts) == {"train": 16, "val": 4, "test": 1}
    only = samples([0, 1], "ab", "test")
    assert divide(only) == only
    with pytest.raises(BadDataset, match="others have none"):
        divide([*only, *samples([0], "c")])


def test_other_names_of_splits_are_read_and_unknown_ones_named(tmp_path):
    rows = [{"image": f"{n}.png", "label": "ab"[n % 2], "split": s} for n, s in enumerate(("Training", "validation", "TEST"))]
    table(tmp_path / "labels.csv", rows)
    samples, _ = samples_of("folder", None, tmp_path)
    assert [s.split for s in samples] == ["train", "val", "test"]
    table(tmp_path / "labels.csv", [*rows, {"image": "x.png", "label": "a", "split": "fold 3"}])
    with pytest.raises(BadDataset, match="split 'fold 3' is unknown"):
        samples_of("folder", None, tmp_path)


def test_breakhis_complete_is_divided_by_evas_patients(tmp_path, monkeypatch):
    breakhis(tmp_path)
    monkeypatch.setattr(readers, "BREAKHIS_COUNT", 2)
    samples, _ = samples_of("breakhis", tmp_path, None)
    assert {s.cluster: s.split for s in samples} == {"22549AB": "train", "2523": "test"}


def test_the_hash_is_of_labels_and_contents_in_any_order(tmp_path):
    picture(tmp_path / "a.png", RED)
    picture(tmp_path / "b.png", BLUE)
    one = [LabelledPicture(id=n, label=0, cluster=n, source=tmp_path / f"{n}.png") for n in "ab"]
    assert hash_of(one) == hash_of(one[::-1])
    other = [one[0], LabelledPicture(id="b", label=1, cluster="b", source=tmp_path / "b.png")]
    assert hash_of(other) != hash_of(one)
    before = hash_of(one)
    picture(tmp_path / "b.png", RED)
    assert hash_of(one) != before


def test_rows_of_arrays_that_cannot_be_read_cost_themselves(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4)))
    with pytest.raises(BadInput, match="expected a picture"):
        ArrayRow(tmp_path / "a.npy", 0).pixels()
    with pytest.raises(BadInput):
        ArrayRow(tmp_path / "a.npy", 7).pixels()
    (tmp_path / "b.npy").write_bytes(b"no array")
    with pytest.raises(BadInput):
        ArrayRow(tmp_path / "b.npy", 0).pixels()


def test_a_workbook_that_is_none_says_so(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK no zip")
    with pytest.raises(BadDataset, match="no Excel workbook"):
        read_xlsx(tmp_path / "a.xlsx")
    workbook(tmp_path / "b.xlsx", [["Name", "Grade"], ["a", 1], ["b", 2.0]])
    assert read_xlsx(tmp_path / "b.xlsx") == [{"name": "a", "grade": "1"}, {"name": "b", "grade": "2"}]


@pytest.mark.real
def test_the_samples_at_hand_are_read(real_data):
    _, classes = samples_of("kather2016-sample", None, real_data / "kather2016")
    assert len(image_folder(real_data / "kather2016", classes.labels)) == 100


def test_pairs_keep_their_splits(tmp_path, png):
    from pathasst.core.records import Pair, Source
    from pathasst.dataset import run_stage
    from pathasst.dataset.stage import Unit

    source = Source(article_id="lc25000", kind="labels")
    made = [
        Pair(pair_id=f"{n}", source=source, image=png, md5=md5, label=label, group=f"g{n // 2}", split=split)
        for n, (label, split, md5) in enumerate(
            [
                ("lc25000/lung_n", "test", "a"),
                ("lc25000/lung_aca", "train", "b"),
                ("other/lung_n", "test", "c"),
                ("lc25000/lung_n", "test", "a"),  # another caption of the first picture
            ]
        )
    ]
    run_stage(tmp_path / "pairs", stage="pairs", record=Pair, units=[Unit("all")], work=lambda unit: made, progress=False)
    found, classes = samples_of("lc25000", None, tmp_path / "pairs")
    assert [(s.split, classes.labels[s.label], s.cluster) for s in found] == [
        ("test", "lung_n", "g0"),
        ("train", "lung_aca", "g0"),
    ]
