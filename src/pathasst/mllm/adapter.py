"""The small form of a trained PathAsst: projector and low-rank adapters, with the names of the models they belong to.

`save` writes `model.safetensors` (fp16), `adapter.json` and the chat template. `load` puts them onto
PathCLIP and the LLM again, which are found through the registry of weights. The large form is a whole LLaVA checkpoint
(`export.py`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from pathasst.core.errors import BadInput, BadSettings
from pathasst.mllm import lora
from pathasst.mllm.chat_template import ChatTemplate
from pathasst.mllm.model import Parts, build
from pathasst.mllm.settings import MllmTraining, ModelSettings
from pathasst.nn.compact import expanded

if TYPE_CHECKING:
    import torch

FILE, WEIGHTS = "adapter.json", "model.safetensors"


def save(parts: Parts, folder: Path, settings: MllmTraining, *, main: bool = True) -> None:
    """Write what was trained; ids of parts that are folders are written as they were given.

    All processes must call it; the one that is `main` writes.
    """
    import torch
    from safetensors.torch import save_file

    from pathasst.training.checkpoint import full_tensor

    trained = {f"projector.{n}": p.detach() for n, p in parts.projector.named_parameters() if p.requires_grad}
    trained |= {f"lora.{n}": full_tensor(p) for n, p in lora.state(parts.llm).items()}
    if not main:
        return
    folder.mkdir(parents=True, exist_ok=True)
    halves = {n: t.cpu().to(torch.float16).contiguous() for n, t in trained.items()}
    save_file(halves, folder / WEIGHTS, metadata={"format": "pt"})
    about = {"model": settings.model.plain(), "lora": settings.phase2.lora.plain()}
    (folder / FILE).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    parts.template.save(folder)


def load(folder: Path, dtype: torch.dtype | None = None, vision: str = "", llm: str = "") -> Parts:
    """PathAsst with the adapters merged into the LLM. `vision` and `llm` name other places of the parts it was trained on.

    Raises BadSettings when the folder is no adapter, BadInput when it does not fit the parts, MissingWeights when one is
    not here.
    """
    path = folder / FILE
    if not path.is_file():
        raise BadSettings(f"{folder} holds no {FILE}; it was not written by `pathasst train mllm`.")
    about = json.loads(path.read_text(encoding="utf-8"))
    places = ({"vision": vision} if vision else {}) | ({"llm": llm} if llm else {})
    settings = ModelSettings.of(about["model"] | places, where=str(path))
    parts = build(settings, dtype)
    parts.template = ChatTemplate.load(folder)
    projector, adapters = tensors(folder)
    try:
        parts.projector.load_state_dict({n: t.to(parts.model.dtype) for n, t in projector.items()}, strict=False)
        lora.add_state(parts.llm, adapters, about["lora"]["alpha"] / max(1, about["lora"]["rank"]))
    except (RuntimeError, KeyError) as error:
        raise BadInput(f"{folder} does not fit {settings.vision} and {settings.llm}: {str(error).splitlines()[0]}") from error
    return parts


def tensors(folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The stored projector and low-rank adapters, float32, each by its own names."""
    from safetensors.torch import load_file

    stored = expanded(load_file(folder / WEIGHTS))
    projector = {n.removeprefix("projector."): t for n, t in stored.items() if n.startswith("projector.")}
    return projector, {n.removeprefix("lora."): t for n, t in stored.items() if n.startswith("lora.")}
