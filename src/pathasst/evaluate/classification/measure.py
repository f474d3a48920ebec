"""Public sets of labelled pictures, measured for one model: why zero-shot numbers differ, probes, robustness.

Knows the readers, prompts and probes of this folder, and a model that gives vectors of pictures and texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import softmax

from pathasst.core.errors import BadDataset, BadInput
from pathasst.core.settings import Field, Settings
from pathasst.core.statistics import Interval
from pathasst.evaluate.asking import bar
from pathasst.evaluate.classification import probes
from pathasst.evaluate.classification.changes import CHANGES, Change
from pathasst.evaluate.classification.metrics import METRICS, calibration_error, class_scores, macro_f1
from pathasst.evaluate.classification.prompts import ClassNames, class_names, names_of_labels
from pathasst.evaluate.classification.readers import READERS, classes_of_folder, image_folder, pairs
from pathasst.evaluate.classification.sample import LabelledPicture, divide, hash_of
from pathasst.evaluate.leaderboard import Score
from pathasst.evaluate.sets import find
from pathasst.evaluate.table import Table

if TYPE_CHECKING:
    from pathasst.clip.model import DualEncoder

BATCH = 64
ERROR = "ECE"
COLUMNS = ["set", "protocol", "n", "clusters", *METRICS, ERROR]


class ClassificationSettings(Settings):
    """What is measured of each set."""

    probes: bool = Field(default=True, description="Linear, kNN, SimpleShot: need a train split.")
    robust: bool = Field(default=False, description="Every change of `CHANGES`: encodes the test split ten times.")
    random_prompts: int = Field(default=50, ge=0)
    draws: int = Field(default=100, ge=1, description="Of few shots.")
    limit: int = Field(default=0, ge=0, description="At most so many pictures of a split, whole clusters if possible; 0: all.")
    seed: int = 0


@dataclass(slots=True)
class Measured:
    """What was measured of a set: scores for the leaderboard file, rows and items for the table, remarks."""

    scores: list[Score] = field(default_factory=list)
    rows: list[list[str | int | Interval | None]] = field(default_factory=list)
    items: list[dict[str, object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def samples_of(
    id: str, root: Path | None, folder: Path | None, names: Path | None = None
) -> tuple[list[LabelledPicture], ClassNames]:
    """The samples of a public set under `root`, or of `folder` in its layout, or of a dataset of pairs in `folder`.

    Id `folder`: any folder, classes by its names.

    Raises BadDataset for a missing set or a wrong layout, BadSettings for an unknown id.
    """
    if id == "folder":
        if folder is None:
            raise BadDataset("give --folder, one folder of pictures a class, or one with labels.csv (image, label).")
        labels = classes_of_folder(folder)
        classes = names_of_labels(labels, names)
        return image_folder(folder, classes.labels), classes
    classes = class_names(id, names)
    if id in READERS:
        return READERS[id](folder or find(root, id), classes.labels), classes
    if folder is None:
        raise BadDataset(f"{id} is read from --folder, which was not given.")
    if (folder / "manifest.json").is_file():
        return pairs(folder, classes), classes
    return image_folder(folder, classes.labels), classes


def evaluate(
    clip: DualEncoder,
    name: str,
    root: Path | None,
    ids: Sequence[str] = (),
    *,
    folder: Path | None = None,
    names: Path | None = None,
    options: ClassificationSettings | None = None,
) -> tuple[Table, list[Score]]:
    """Every set of `ids` (all that are under `root` by default), and what the leaderboard file gets.

    A set that is missing or has another layout costs itself alone and is named in the notes. Raises BadDataset without any.
    """
    options = options or ClassificationSettings()
    for id in ids:
        if id != "folder":
            class_names(id, names)  # an unknown one is found out before hours of the others
    table = Table(id="classify", title=f"Classification: {name}", columns=COLUMNS, seed=options.seed)
    scores: list[Score] = []
    missing = []
    for id in ids or (("folder",) if folder else tuple(READERS)):
        try:
            samples, classes = samples_of(id, root, folder, names)
            title = folder.name if folder and id == "folder" else id
            measured = measure(clip, title, samples, classes, options)
        except BadDataset as error:
            missing.append(str(error))
            continue
        for row in measured.rows:
            table.add(*row)
        table.items += [{"model": name, **item} for item in measured.items]
        table.notes += measured.notes
        scores += measured.scores
    if not table.rows:
        raise BadDataset("no set of labelled pictures was found.\n" + "\n".join(missing))
    table.notes += [
        "95 % intervals, bootstrap by cluster (patient, slide or original where the set names one). Random prompts, few shots: "
        "mean and middle 95 % of the draws, which is luck and no uncertainty of the model.",
        *missing,
    ]
    return table, scores


def measure(
    clip: DualEncoder, title: str, samples: Sequence[LabelledPicture], classes: ClassNames, options: ClassificationSettings
) -> Measured:
    """All protocols on one set. Raises BadDataset when no picture can be read."""
    divided = divide(samples, options.seed)
    splits = ("test", "train", "val") if options.probes else ("test",)
    parts = {s: _sample([x for x in divided if x.split == s], options.limit, options.seed) for s in splits}
    if not parts["test"]:
        raise BadDataset(f"{title}: there are pictures, but none of the test split.")
    out = Measured()
    features, usable = {}, {}
    for split, rows in parts.items():
        features[split], usable[split] = encode(clip, rows, f"{title}, {split}")
        if broken := len(rows) - len(usable[split]):
            out.notes.append(f"{title}: {broken} pictures of {split} could not be read and are left out.")
    test = usable["test"]
    if not test:
        raise BadDataset(f"{title}: none of the {len(parts['test'])} pictures of the test split can be read.")
    truth, clusters = np.array([s.label for s in test]), [s.cluster for s in test]
    absent = [t for n, t in enumerate(classes.titles) if n not in truth]
    if absent:
        out.notes.append(f"{title}: no picture of {', '.join(absent)}; macro means are over the other classes.")
    if not samples[0].split:
        out.notes.append(f"{title}: no official split; 60, 20, 20 % by cluster, seed {options.seed}.")
    board = _Board(out, title, hash_of(test), truth, clusters, test, classes, options.seed)
    _zero_shot(clip, features["test"], classes, board, options)
    if options.probes:
        _probes(features, usable, classes, board, options)
    if options.robust:
        _robustness(clip, test, features["test"], classes, board)
    return out


@dataclass(frozen=True, slots=True)
class _Board:
    """Where the protocols of one set write their scores."""

    out: Measured
    title: str
    data: str
    truth: np.ndarray
    clusters: list[str]
    test: list[LabelledPicture]
    classes: ClassNames
    seed: int

    def add(self, protocol: str, probabilities: np.ndarray) -> None:
        """Scores, and every prediction, of class probabilities float [n, classes]."""
        predicted = probabilities.argmax(axis=1)
        values = class_scores(self.truth, predicted, len(self.classes.labels), self.clusters, self.seed)
        values[ERROR] = calibration_error(probabilities, self.truth, self.clusters, seed=self.seed)
        self._write(protocol, values)
        titles = self.classes.titles
        self.out.items += [
            {"part": f"{self.title}, {protocol}", "id": s.id, "cluster": s.cluster, "score": float(t == p)}
            | {"wanted": titles[t], "said": titles[p]}
            for s, t, p in zip(self.test, self.truth.tolist(), predicted.tolist(), strict=True)
        ]

    def add_draws(self, protocol: str, macro: Interval) -> None:
        """Macro F1 over draws of prompts or of shots."""
        self._write(protocol, {"macro F1": macro})

    def _write(self, protocol: str, values: dict[str, Interval]) -> None:
        n, clusters = len(self.truth), len(set(self.clusters))
        cells = [values.get(m) for m in (*METRICS, ERROR)]
        self.out.rows.append([self.title, protocol, n, clusters, *cells])
        self.out.scores += [
            Score(task=self.title, split="test", protocol=protocol, metric=m, value=v, n=n, clusters=clusters, data=self.data)
            for m, v in values.items()
        ]


def _zero_shot(
    clip: DualEncoder, features: np.ndarray, classes: ClassNames, board: _Board, options: ClassificationSettings
) -> None:
    for protocol, prompts in (("zero-shot, single prompt", classes.single()), ("zero-shot, ensemble", classes.ensemble())):
        board.add(protocol, softmax(clip.logit_scale * features @ clip.encode_classes(prompts).T, axis=1))
    rng, values = Random(options.seed), []
    texts = [classes.random(rng) for _ in range(options.random_prompts)]
    distinct = list(dict.fromkeys(t for prompts in texts for t in prompts))
    vectors = dict(zip(distinct, clip.encode_text(distinct), strict=True)) if distinct else {}
    for prompts in texts:
        logits = features @ np.stack([vectors[t] for t in prompts]).T
        values.append(macro_f1(board.truth, logits.argmax(axis=1), len(classes.labels)))
    if values:
        low, high = np.percentile(values, [2.5, 97.5])
        board.add_draws(f"zero-shot, {len(values)} random prompts", Interval(float(np.mean(values)), float(low), float(high)))


def _probes(
    features: dict[str, np.ndarray],
    usable: dict[str, list[LabelledPicture]],
    classes: ClassNames,
    board: _Board,
    options: ClassificationSettings,
) -> None:
    """Linear probe, nearest neighbours and shots, where the train split has at least two classes."""
    train, val, test = (
        probes.Features(features[s], np.array([x.label for x in usable[s]], int)) for s in ("train", "val", "test")
    )
    if len(set(train.labels.tolist())) < 2 or not len(val.labels):
        board.out.notes.append(f"{board.title}: no training pictures of two classes and no val, so nothing is probed.")
        return
    count = len(classes.labels)
    for name, probe in (
        ("linear probe", probes.linear_probe(train, val, test, count)),
        ("kNN", probes.nearest_neighbours(train, val, test, count)),
        ("SimpleShot, all of train", probes.simple_shot(train, test, count)),
    ):
        board.add(name, probe.probabilities)
        board.out.notes.append(f"{board.title}, {name}: {probe.setting}, {len(train.labels)} training pictures.")
    for shots, value in probes.few_shots(train, test, count, draws=options.draws, seed=options.seed).items():
        board.add_draws(f"SimpleShot, {shots} shots × {options.draws}", value)


def _robustness(clip: DualEncoder, test: list[LabelledPicture], features: np.ndarray, classes: ClassNames, board: _Board) -> None:
    """The ensemble's scores on changed pictures, and how far the vectors changed."""
    prompts = clip.encode_classes(classes.ensemble())
    first = (features @ prompts.T).argmax(axis=1)
    for name, change in CHANGES.items():
        changed, _ = encode(clip, test, f"{board.title}, {name}", change)
        board.add(f"zero-shot, ensemble; {name}", softmax(clip.logit_scale * changed @ prompts.T, axis=1))
        unchanged = float(((changed @ prompts.T).argmax(axis=1) == first).mean())
        cosine = float((changed * features).sum(axis=1).mean())
        board.out.notes.append(
            f"{board.title}, {name}: {unchanged:.3f} of the choices unchanged, mean cosine to the unchanged {cosine:.3f}."
        )


def encode(
    clip: DualEncoder, samples: Sequence[LabelledPicture], title: str, change: Change | None = None
) -> tuple[np.ndarray, list[LabelledPicture]]:
    """Unit vectors float32 [n, d] of the pictures that can be read, and these; the next batch is read while one is encoded."""

    def pixels(sample: LabelledPicture) -> np.ndarray | None:
        try:
            image = sample.pixels()
        except BadInput:
            return None
        return change(image) if change else image

    usable: list[LabelledPicture] = []
    vectors = [clip.encode_image([])]
    with ThreadPoolExecutor(2) as pool, bar(title, len(samples)) as progress:
        ahead = pool.map(pixels, samples[:BATCH])
        for start in range(0, len(samples), BATCH):
            here, ahead = list(ahead), pool.map(pixels, samples[start + BATCH : start + 2 * BATCH])
            usable += [samples[start + n] for n, image in enumerate(here) if image is not None]
            vectors.append(clip.encode_image([image for image in here if image is not None]))
            progress(len(here))
    return np.concatenate(vectors), usable


def _sample(samples: list[LabelledPicture], limit: int, seed: int) -> list[LabelledPicture]:
    """At most `limit` samples, whole clusters at random, so that clusters stay what they are but for the last."""
    if not limit or len(samples) <= limit:
        return samples
    clusters = sorted({s.cluster for s in samples})
    Random(seed).shuffle(clusters)
    order = {cluster: n for n, cluster in enumerate(clusters)}
    return sorted(samples, key=lambda s: order[s.cluster])[:limit]
