"""`pathasst train`: PathCLIP, PathAsst, and the sub-models on labels of your own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import typer

from pathasst.cli.options import RECIPE, SET

app = typer.Typer(help="Train PathCLIP, PathAsst, the router, or a specialist model on data of your own.", no_args_is_help=True)
RECIPE = RECIPE
DATA = typer.Option(None, "--data", "-d", help="Folder that the recipe's paths start at; default: the recipe's.")


def _say(line: Mapping[str, object]) -> None:
    """One line of a training's log."""
    typer.echo("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in line.items()))


@app.command("mllm")
def mllm(
    conversations: list[Path] = typer.Argument(help="Dataset folder(s) of conversations."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: logs and checkpoints of both phases, the adapter."),
    recipe: str = RECIPE,
    vision: str = typer.Option("", help="PathCLIP: id or folder, instead of the recipe's."),
    llm: str = typer.Option("", help="Language model: id or folder, instead of the recipe's."),
    plan: bool = typer.Option(False, "--plan", help="Only say how much memory and time it would take."),
    devices: int = typer.Option(1, help="With --plan: devices that share the model (FSDP)."),
    teraflops: float = typer.Option(0.15, help="With --plan: what one device reaches; two CPU cores 0.15, an A100 about 150."),
    changes: list[str] = SET,
) -> None:
    """Train PathAsst: the FC layer on descriptions, then FC layer and LLM. Interrupted runs resume.

    Example: pathasst train mllm out/conversations --out out/pathasst --set phase2.epochs=2
    """
    from pathasst.mllm.settings import MllmTraining
    from pathasst.mllm.train import train
    from pathasst.tools.registry import all_specs

    settings = MllmTraining.load(recipe, changes)
    model = settings.model.replace(vision=vision or settings.model.vision, llm=llm or settings.model.llm)
    settings = settings.replace(model=model)
    if plan:
        from pathasst.mllm.memory_plan import estimate

        typer.echo(estimate(settings, conversations, devices=devices, teraflops=teraflops))
        return
    train(conversations, out, settings, all_specs(), say=typer.echo)


@app.command("vlm")
def vlm(
    conversations: list[Path] = typer.Argument(help="Dataset folder(s) of conversations."),
    model: str = typer.Option("", "--model", "-m", help="Folder of the finished model, as transformers stores it."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: log.csv, curves.png, the adapter."),
    recipe: str = typer.Option("modern", help="A recipe's name, or a YAML file of your own."),
    changes: list[str] = SET,
) -> None:
    """Tune a finished vision–language model (Qwen-VL, LLaVA-OneVision, MedGemma …) on conversations. Interrupted runs resume.

    Example: pathasst train vlm out/conversations --model ~/models/Qwen2.5-VL-3B-Instruct --out out/qwen-vl
    """
    from pathasst.mllm.vlm import VlmTraining, train
    from pathasst.tools.registry import all_specs

    settings = VlmTraining.load(recipe, changes)
    train(conversations, out, settings.replace(model=model or settings.model), all_specs(), say=typer.echo)


@app.command("preferences")
def preferences(
    conversations: list[Path] = typer.Argument(None, help="Dataset folder(s) of conversations in which tool calls failed."),
    feedback: Path = typer.Option(None, "--feedback", "-f", help="feedback.jsonl of the server."),
    model: str = typer.Option("", "--model", "-m", help="Folder of the model, as transformers or `pathasst export` stores it."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: pairs.jsonl, log.jsonl, the adapter."),
    recipe: str = typer.Option("modern", help="A recipe's name, or a YAML file of your own."),
    changes: list[str] = SET,
) -> None:
    """Teach a vision–language model which of two answers is preferred (DPO). Interrupted runs resume.

    Example: pathasst train preferences --feedback ~/.local/share/pathasst/feedback.jsonl --model out/exported --out out/dpo
    """
    from pathasst.mllm.preference_training import PreferenceTraining, train
    from pathasst.tools.registry import all_specs

    settings = PreferenceTraining.load(recipe, changes)
    settings = settings.replace(model=model or settings.model)
    train(conversations or [], out, settings, all_specs(), feedback=feedback, say=typer.echo)


@app.command("look")
def look(
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: model.safetensors, config.json, scores.json."),
    recipe: str = RECIPE,
    data: Path = typer.Option(None, "--data", "-d", envvar="PATHASST_DATA", help="Folder of the labelled sets."),
) -> None:
    """Fit what says stain, preparation, organ and finding, and what is unlike anything known.

    Example: pathasst train look --data ~/labelled --out out/look
    """
    import json

    from pathasst.core.errors import BadSettings
    from pathasst.nn.look import fit

    if data is None:
        raise BadSettings("give --data FOLDER, or set PATHASST_DATA.")
    settings = fit.LookSettings.load(recipe)
    items = fit.read_items(settings, data)
    looker, scores = fit.fit(settings, items, fit.features_of(items, typer.echo))
    looker.save(out)
    (out / "scores.json").write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    typer.echo(json.dumps(scores, indent=1))


@app.command("router")
def router(
    conversations: list[Path] = typer.Argument(None, help="Folder(s) of tool conversations; none: made from the wordings."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: model.safetensors, config.json, scores.json."),
    recipe: str = RECIPE,
    held_out: list[Path] = typer.Option([], help="Further files of requests that are tests: training leaves their words out."),
    leave_out: list[str] = typer.Option([], help="Languages or hands of the wordings that are measured on, not trained on."),
    changes: list[str] = SET,
) -> None:
    """Train what decides which tools a request asks for, with which arguments, or why it needs none.

    Example: pathasst train router --out out/router
    """
    from pathasst.evaluate.toolchoice import texts_of
    from pathasst.instruct.invoke import Invoker
    from pathasst.instruct.wordings import Wordings
    from pathasst.router import RouterTraining
    from pathasst.router.train import train
    from pathasst.tools.registry import all_specs

    settings = RouterTraining.load(recipe, changes)
    settings = settings.replace(leave_out=tuple(leave_out)) if leave_out else settings
    invoker = Invoker(all_specs(), Wordings(), seed=settings.wordings_seed)
    more = () if conversations else (invoker.make(n, {}) for n in range(settings.conversations))
    tests = [text for path in (None, *held_out) for text in texts_of(path)]
    scores = train(conversations or [], out, settings, more=more, held_out=tests, say=typer.echo)
    for split, kinds in scores.items():
        for kind, s in kinds.items():
            typer.echo(f"{split} {kind}: {s['value']:.3f} [{s['low']:.3f}, {s['high']:.3f}], n {s['n']}")


@app.command("clip")
def clip(
    data: list[Path] = typer.Argument(help="Dataset folder(s) of pairs."),
    out: Path = typer.Option(
        ..., "--out", "-o", help="Folder of the run: checkpoints, log.csv, curves.png, the finished weights."
    ),
    recipe: str = RECIPE,
    stop_at: int = typer.Option(0, help="Stop after this step and write the model so far; the same command without it resumes."),
    leave_out: list[str] = typer.Option([], help="Sources to leave out of the training (leave-one-dataset-out)."),
    distill_data: list[Path] = typer.Option(
        [], help="Further datasets of pairs, used for distillation alone (captions ignored)."
    ),
    changes: list[str] = SET,
) -> None:
    """Train a PathCLIP on pairs. Interrupted runs resume, and end with the same weights.

    Example: pathasst train clip out/pairs --out out/pathclip --set steps=500
    Several GPUs: accelerate launch --num_processes 8 -m pathasst.cli.main train clip out/pairs --out out/pathclip --recipe paper
    """
    from pathasst.clip.settings import ClipTraining
    from pathasst.clip.train import train

    settings = ClipTraining.load(recipe, changes, data=[str(d) for d in data])
    if leave_out:
        settings = settings.replace(leave_out=tuple(leave_out))
    if distill_data:
        settings = settings.replace(distill=settings.distill.replace(data=tuple(map(str, distill_data))))
    train(settings, out, _say, stop_at=stop_at)
    typer.echo(f"{out}: use it with pathasst.PathCLIP({str(out)!r}), measure it with `pathasst eval zero-shot … --clip {out}`")


@app.command("points")
def points(
    recipe: Path = typer.Argument(..., help="YAML recipe, such as recipes/embedded/ki67.yaml."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: model.safetensors, log.csv, curves.png, scores.json."),
    data: Path = DATA,
    changes: list[str] = SET,
) -> None:
    """Train a cell detector (DPA-P2PNet) on points CSVs: image, x, y, label. Interrupted runs resume.

    Example: pathasst train points recipes/embedded/ki67.yaml --data $PATHASST_DATA --out out/ki67 --set minutes=5
    """
    from pathasst.nn.p2pnet.settings import PointTraining
    from pathasst.nn.p2pnet.train import train

    scores = train(PointTraining.load(recipe, changes).rooted(data or recipe.parent), out, _say)
    for split in ("val", "test"):
        if split in scores:
            f1 = "  ".join(f"{k} {v['f1']:.3f}" for k, v in scores[split].items() if isinstance(v, dict) and "f1" in v)
            typer.echo(f"{split}: F1 {f1}; index error {scores[split]['index_error']}")


@app.command("nuclei")
def nuclei(
    recipe: Path = typer.Argument(..., help="YAML recipe, such as recipes/embedded/nuclei.yaml."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: model.safetensors, log.csv, curves.png, scores.json."),
    data: Path = DATA,
    changes: list[str] = SET,
) -> None:
    """Train the outlining of nuclei on folders with images and masks, or COCO JSON. Interrupted runs resume.

    Example: pathasst train nuclei recipes/embedded/nuclei.yaml --data $PATHASST_DATA --out out/nuclei --set minutes=5
    """
    from pathasst.nn.nuclei.settings import NucleiTraining
    from pathasst.nn.nuclei.train import table, train

    scores = train(NucleiTraining.load(recipe, changes).rooted(data or recipe.parent), out, _say)
    for split in ("val", "test"):
        if split in scores:
            typer.echo(f"{split}\n{table(scores[split])}")


@app.command("detector")
def detector(
    recipe: str = typer.Argument(..., help="YAML recipe, such as recipes/embedded/blood.yaml."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: model, scores.md, log.csv, curves.png."),
    data: Path = DATA,
    changes: list[str] = SET,
) -> None:
    """Train a detector on boxes: CSV, COCO JSON or a YOLO folder. Interrupted runs resume.

    Example: pathasst train detector recipes/embedded/blood.yaml --data $PATHASST_DATA --out out/blood --set batch=4
    """
    from pathasst.nn.detector.settings import DetectorTraining
    from pathasst.nn.detector.train import train

    train(DetectorTraining.load(recipe, changes).rooted(data or Path(recipe).parent), out, log=_say)
    typer.echo((out / "scores.md").read_text(encoding="utf-8"))


@app.command("classifier")
def classifier(
    recipe: str = typer.Argument(
        ..., help="YAML recipe (recipes/embedded/lbc.yaml), or a folder of folders, a CSV or Parquet table."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: model.safetensors, config.json, scores.json."),
    data: Path = typer.Option(Path(), "--data", "-d", help="Folder that the recipe's paths start at."),
    changes: list[str] = SET,
) -> None:
    """Train a picture classifier on labelled pictures: columns path, label, group. Interrupted runs resume.

    Example: pathasst train classifier my_cells/labels.csv --out out/cells --set minutes=5
    """
    from pathasst.nn.classifier import ClassifierTraining, read_items, train
    from pathasst.nn.classifier.items import read_source

    if Path(recipe).suffix in (".yaml", ".yml"):
        settings = ClassifierTraining.load(recipe, changes).rooted(data)
        items = [item for source in settings.data for item in read_source(source)]
    else:
        settings, items = ClassifierTraining.of({}, changes), read_items(Path(recipe))
    for split, scores in train(settings, items, out, log=_say).items():
        if "macro_f1" in scores:
            low, high = scores["macro_f1"]["interval"]
            typer.echo(f"{split}: macro F1 {scores['macro_f1']['value']:.3f} ({low:.3f}–{high:.3f}), n {scores['n']}")


@app.command("head")
def head(
    recipe: str = typer.Argument(..., help="YAML recipe (recipes/embedded/lbc_cells.yaml)."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: model.safetensors, config.json, scores.json."),
    data: Path = typer.Option(Path(), "--data", "-d", help="Folder that the recipe's paths start at."),
    changes: list[str] = SET,
) -> None:
    """Fit a head on EfficientNet-Lite0 that says when it does not know: measured, calibrated and limited in folds by group.

    Example: pathasst train head recipes/embedded/lbc_cells.yaml --data $PATHASST_DATA --out out/lbc_cells
    """
    from pathasst.nn.head_training import HeadTraining, train

    for name, scores in train(HeadTraining.load(recipe, changes).rooted(data), out, typer.echo).items():
        typer.echo(
            f"{name}: macro F1 {scores['macro F1']}, n {scores['n']}; stated {scores['stated']:.3f}, "
            f"right of these {scores['right of stated'] or 0:.3f}"
        )


@app.command("segment")
def segment(
    labels: Path = typer.Argument(..., help="COCO JSON with segmentation, or a folder with the folders images and masks."),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run: mask_decoder.safetensors, log.csv, scores.json."),
    recipe: str = RECIPE,
    changes: list[str] = SET,
) -> None:
    """Tune SAM's mask decoder to objects of your own. Interrupted runs resume.

    Example: pathasst train segment my_cells --out out/sam; then pathasst tools run segment IMAGE --model out/sam
    """
    from pathasst.core.statistics import Interval
    from pathasst.nn.sam.masks import read_outlined
    from pathasst.nn.sam.train import SegmentTraining, train
    from pathasst.tools.measure import masks_table

    scores = train(SegmentTraining.load(recipe, changes), read_outlined(labels), out, _say)
    for name in ("before", "after") if "after" in scores else ():
        measured = f"{scores[name]['objects']} objects of {scores['val']} pictures not trained on"
        typer.echo(f"{name}, {measured}:\n{masks_table(scores[name])}")
    for name, gain in scores.get("gain", {}).items():
        typer.echo(f"IoU gained, asked for by {name}: {Interval(**gain)}")


@app.command("generator")
def generator(
    what: str = typer.Argument(
        ..., help="YAML recipe (recipes/embedded/generator.yaml), or a folder with metadata.jsonl: file_name, text."
    ),
    out: Path = typer.Option(..., "--out", "-o", help="Folder of the run and of the finished weights."),
    data: Path = typer.Option(Path(), "--data", "-d", help="Folder that the recipe's paths start at."),
    stable: str = typer.Option(
        "", help="Fine-tune a Stable Diffusion instead: its folder, its safetensors file, or recipes/paper/generator.yaml."
    ),
    changes: list[str] = SET,
) -> None:
    """Train a generator of cell pictures from image and text. Interrupted runs resume.

    Example: pathasst train generator my_cells --out out/gen --stable stable-diffusion-v1-5 --set lora=8
    """
    from pathasst.nn.diffusion import data as cells
    from pathasst.nn.diffusion.training import GeneratorTraining, train

    if stable:
        from pathasst.nn.diffusion.stable import StableTraining, finetune

        recipe = Path(stable).suffix in (".yaml", ".yml")
        settings = StableTraining.load(stable, changes) if recipe else StableTraining.of({"checkpoint": stable}, changes)
        finetune(settings, *cells.image_texts(Path(what)), out, _say)
    elif Path(what).suffix in (".yaml", ".yml"):
        own, split = cells.recipe_cells(what, data, changes)
        train(own, split["train"] + split["val"], out, log=_say)
    else:
        items, texts = cells.image_texts(Path(what))
        train(GeneratorTraining.of({}, changes), items, out, texts, _say)
