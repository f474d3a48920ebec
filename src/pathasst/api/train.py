"""Training in Python: one function a model. Settings are those of the recipes, given as keywords; interrupted runs resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Folder = Path | str


def clip(pairs: Folder | Sequence[Folder], out: Folder, *, recipe: str = "embedded", **settings: Any) -> Path:
    """Train a PathCLIP on one or more datasets of pairs; gives the folder of the weights, for `pathasst.PathCLIP`.

    Raises BadSettings for an unknown setting, BadDataset when the pairs are none.

    >>> folder = pathasst.train.clip("out/pairs", out="out/pathclip", steps=500)
    """
    from pathasst.clip.settings import ClipTraining
    from pathasst.clip.train import train

    several = [pairs] if isinstance(pairs, str | Path) else pairs
    train(ClipTraining.load(recipe, data=[str(p) for p in several], **settings), Path(out))
    return Path(out)


def mllm(conversations: Folder | Sequence[Folder], out: Folder, *, recipe: str = "embedded", **settings: Any) -> Path:
    """Train PathAsst on one or more datasets of conversations, in two phases; gives the folder of the run.

    Raises BadSettings for an unknown setting, BadDataset when the conversations are none, MissingWeights.

    >>> folder = pathasst.train.mllm("out/conversations", out="out/pathasst", recipe="tutorial")
    """
    from pathasst.mllm.settings import MllmTraining
    from pathasst.mllm.train import train
    from pathasst.tools.registry import all_specs

    several = [conversations] if isinstance(conversations, str | Path) else conversations
    train([Path(p) for p in several], Path(out), MllmTraining.load(recipe, **settings), all_specs())
    return Path(out)


def vlm(conversations: Folder | Sequence[Folder], model: Folder, out: Folder, *, recipe: str = "modern", **settings: Any) -> Path:
    """Tune a finished vision–language model (a folder of transformers) on conversations; gives the folder of the peft adapter.

    Raises BadSettings for an unknown setting or a folder without such a model, BadDataset when the conversations are none.

    >>> adapter = pathasst.train.vlm("out/conversations", "Qwen2.5-VL-3B-Instruct", out="out/qwen-vl")  # doctest: +SKIP
    """
    from pathasst.mllm.vlm import VlmTraining, train
    from pathasst.tools.registry import all_specs

    several = [conversations] if isinstance(conversations, str | Path) else conversations
    return train(several, Path(out), VlmTraining.load(recipe, model=str(model), **settings), all_specs())


def preferences(
    model: Folder,
    out: Folder,
    conversations: Sequence[Folder] = (),
    *,
    feedback: Folder | None = None,
    recipe: str = "modern",
    **settings: Any,
) -> Path:
    """Teach a vision–language model which of two answers is preferred (DPO), from tool calls in conversations that failed and
    from the server's `feedback.jsonl`; gives the folder of the peft adapter.

    Raises BadSettings for an unknown setting or a folder without such a model, BadDataset without a pair, MissingPackage.

    >>> adapter = pathasst.train.preferences("out/exported", out="out/dpo", feedback="feedback.jsonl")  # doctest: +SKIP
    """
    from pathasst.mllm.preference_training import PreferenceTraining, train
    from pathasst.tools.registry import all_specs

    preferences = PreferenceTraining.load(recipe, model=str(model), **settings)
    return train(conversations, Path(out), preferences, all_specs(), feedback=feedback)


def classifier(labels: Folder, out: Folder, **settings: Any) -> dict[str, Any]:
    """Train a picture classifier on a folder of folders, or a CSV or Parquet table with path, label and group; gives its scores.

    Raises BadSettings for an unknown setting, BadDataset when there are no labelled pictures.

    >>> scores = pathasst.train.classifier("cells/labels.csv", out="out/cells", minutes=5)
    """
    from pathasst.nn.classifier.items import read_items
    from pathasst.nn.classifier.settings import ClassifierTraining
    from pathasst.nn.classifier.training import train

    return train(ClassifierTraining(**settings), read_items(Path(labels)), Path(out))


def detector(recipe: Folder, out: Folder, *, data: Folder | None = None, **settings: Any) -> dict[str, Any]:
    """Train a box detector by a YAML recipe that names its labels (CSV, COCO JSON, YOLO); gives its scores.

    `data`: folder that the recipe's paths start at. Raises BadSettings, BadDataset (no boxes to learn from).

    >>> scores = pathasst.train.detector("blood.yaml", out="out/blood", steps=2000)
    """
    from pathasst.nn.detector.settings import DetectorTraining
    from pathasst.nn.detector.train import train

    return train(DetectorTraining.load(recipe, **settings).rooted(Path(data or Path(recipe).parent)), Path(out))


def points(recipe: Folder, out: Folder, *, data: Folder | None = None, **settings: Any) -> dict[str, Any]:
    """Train a cell detector (DPA-P2PNet) by a YAML recipe that names CSVs with image, x, y, label; gives its scores.

    `data`: folder that the recipe's paths start at. Raises BadSettings, BadDataset.

    >>> scores = pathasst.train.points("ki67.yaml", out="out/ki67", minutes=30)
    """
    from pathasst.nn.p2pnet.settings import PointTraining
    from pathasst.nn.p2pnet.train import train

    return train(PointTraining.load(recipe, **settings).rooted(Path(data or Path(recipe).parent)), Path(out))


def nuclei(recipe: Folder, out: Folder, *, data: Folder | None = None, **settings: Any) -> dict[str, Any]:
    """Train the outlining of nuclei by a YAML recipe that names folders with images and masks, or COCO JSON; gives its scores.

    `data`: folder that the recipe's paths start at. Raises BadSettings, BadDataset.

    >>> scores = pathasst.train.nuclei("nuclei.yaml", out="out/nuclei", minutes=20)
    """
    from pathasst.nn.nuclei.settings import NucleiTraining
    from pathasst.nn.nuclei.train import train

    return train(NucleiTraining.load(recipe, **settings).rooted(Path(data or Path(recipe).parent)), Path(out))


def segment(labels: Folder, out: Folder, *, recipe: str = "embedded", **settings: Any) -> dict[str, Any]:
    """Tune SAM's mask decoder on a COCO JSON with segmentation, or a folder with images and masks; gives scores before and after.

    Raises BadSettings, BadDataset, MissingWeights.

    >>> scores = pathasst.train.segment("my_cells", out="out/sam", steps=200)
    """
    from pathasst.nn.sam.masks import read_outlined
    from pathasst.nn.sam.train import SegmentTraining, train

    return train(SegmentTraining.load(recipe, **settings), read_outlined(Path(labels)), Path(out))


def generator(cells: Folder, out: Folder, *, data: Folder | None = None, **settings: Any) -> Path:
    """Train the small generator of cell pictures on a folder with metadata.jsonl (file_name, text) or by a YAML recipe; gives
    the folder of the weights.

    `data`: folder that the recipe's paths start at. Raises BadSettings, BadDataset (no pictures, or rows without text).

    >>> folder = pathasst.train.generator("my_cells", out="out/generator", minutes=20)
    """
    from pathasst.nn.diffusion.data import image_texts, recipe_cells
    from pathasst.nn.diffusion.training import GeneratorTraining, train

    if Path(cells).suffix in (".yaml", ".yml"):
        generator_settings, split = recipe_cells(str(cells), Path(data or Path(cells).parent), **settings)
        train(generator_settings, split["train"] + split["val"], Path(out))
    else:
        items, texts = image_texts(Path(cells))
        train(GeneratorTraining(**settings), items, Path(out), texts)
    return Path(out)


def router(
    out: Folder,
    conversations: Folder | Sequence[Folder] = (),
    *,
    recipe: str = "embedded",
    held_out: Sequence[Folder] = (),
    **settings: Any,
) -> dict[str, Any]:
    """Train what decides which tools a request asks for, with which arguments, or why it needs none; gives its scores.

    `conversations`: datasets of tool conversations; none: made from the shipped wordings. `held_out`: files of requests that are
    tests, whose words are left out of the training. Raises BadSettings, BadDataset (no request for a tool to train on).

    >>> scores = pathasst.train.router("out/router", epochs=2)
    """
    from pathasst.evaluate.toolchoice import texts_of
    from pathasst.instruct.invoke import Invoker
    from pathasst.instruct.wordings import Wordings
    from pathasst.router import RouterTraining
    from pathasst.router.train import train
    from pathasst.tools.registry import all_specs

    router_settings = RouterTraining.load(recipe, **settings)
    folders = [conversations] if isinstance(conversations, str | Path) else list(conversations)
    invoker = Invoker(all_specs(), Wordings(), seed=router_settings.wordings_seed)
    more = () if folders else (invoker.make(n, {}) for n in range(router_settings.conversations))
    tests = [text for path in (None, *held_out) for text in texts_of(Path(path) if path else None)]
    return train(folders, Path(out), router_settings, more=more, held_out=tests)


__all__ = ["classifier", "clip", "detector", "generator", "mllm", "nuclei", "points", "preferences", "router", "segment", "vlm"]
