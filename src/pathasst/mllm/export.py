"""A trained PathAsst in other people's formats: a whole LLaVA checkpoint (transformers, vLLM), GGUF (llama.cpp), a peft adapter.

Knows `Parts`. GGUF is two files in the layout of llama.cpp's converters: the merged LLM, and tower and projector (`gguf_vision`).
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core import weights
from pathasst.core.errors import BadSettings
from pathasst.mllm import adapter, gguf_folder, gguf_llm, model
from pathasst.mllm.chat_template import ChatTemplate
from pathasst.mllm.gguf_vision import write_vision
from pathasst.mllm.layouts import RENAMED
from pathasst.mllm.model import Parts

if TYPE_CHECKING:
    pass

FORMATS = ("huggingface", "vllm", "gguf", "peft")
LANGUAGE, VISION, ABOUT = "pathasst-llm.gguf", "pathasst-mmproj.gguf", "pathasst-gguf.json"
QUANTISATION = "Q8_0"  # of the engine that `PathAsstModel.load` makes
EXPORT = 2  # raised when an export of the same adapter changes


def export(source: str | Path, out: Path, format: str = "huggingface", quantisation: str = "Q8_0") -> list[Path]:
    """Write a trained PathAsst (id, or folder of an adapter or of a whole checkpoint) to `out`; returns the files that count.

    `huggingface` and `vllm` are the same files: a checkpoint (LLaVA, LLaVA-NeXT with
    tiles, Aya Vision with pixel shuffle) whose names and chat template both programs read. Raises
    BadSettings for an unknown format or quantisation and for what a format cannot hold, MissingWeights when a part is not here.
    """
    if format not in FORMATS:
        raise BadSettings(f"format {format!r} is unknown; choose {', '.join(FORMATS)}.")
    folder = Path(source) if Path(source).is_dir() else weights.path(str(source))
    is_adapter = (folder / adapter.FILE).is_file()
    if not is_adapter:
        ChatTemplate.load(folder)  # raises for a folder that is no PathAsst
    if out.resolve() == folder.resolve():
        raise BadSettings(f"{out} is the checkpoint itself; choose another folder.")
    if format in ("huggingface", "vllm"):
        parts = adapter.load(folder) if is_adapter else model.load(folder)
        if format == "vllm" and parts.model.config.model_type not in RENAMED:
            raise BadSettings("pixel shuffle was not tried in vLLM, whose networks of that kind take one tower; use huggingface.")
        model.save(parts, out)
        return [*sorted(out.glob("*.safetensors")), out / "config.json"]
    if not is_adapter and format == "peft":
        raise BadSettings(f"{folder} is a whole checkpoint, which has no adapters of its own; choose another format.")
    if not is_adapter:
        out.mkdir(parents=True, exist_ok=True)
        return write_gguf(model.load(folder), None, out, quantisation)
    about = json.loads((folder / adapter.FILE).read_text(encoding="utf-8"))
    if format == "peft":
        if not about["lora"]["rank"]:
            raise BadSettings(f"{folder} holds a projector and no adapters of the LLM: there is nothing that peft could read.")
        out.mkdir(parents=True, exist_ok=True)
        return [_peft(folder, out)]
    llm = about["model"]["llm"]
    place = Path(llm) if Path(llm).is_dir() else weights.path(llm)
    base = None if (place / "config.json").is_file() else _vocabulary(llm)  # raises before anything is loaded
    out.mkdir(parents=True, exist_ok=True)
    return write_gguf(adapter.load(folder), base, out, quantisation)


def _vocabulary(llm: str) -> Path:
    base = Path(llm) if Path(llm).is_dir() else weights.path(llm)
    ggufs = sorted(base.glob("*.gguf"))
    if not ggufs:
        raise BadSettings(f"{base} holds no GGUF file whose vocabulary could be copied; export to huggingface instead.")
    if not gguf_llm.readable(ggufs[0]):
        raise BadSettings(
            f"{ggufs[0].name} is no llama-architecture GGUF with a byte-level BPE vocabulary (SmolLM2, Llama 3), and only such "
            "files can be written here; export to huggingface instead."
        )
    return ggufs[0]


def write_gguf(parts: Parts, base: Path | None, out: Path, quantisation: str = QUANTISATION) -> list[Path]:
    """Both files of llama.cpp, the template and the picture's size into `out`; `base`: the GGUF file of its LLM, if any."""
    import gguf

    if (kind := parts.model.config.model_type) != "llava":
        raise BadSettings(f"a GGUF has no place for the pictures of {kind} (tiles, pixel shuffle); export to huggingface.")
    if quantisation not in gguf.GGMLQuantizationType.__members__:
        raise BadSettings(f"quantisation {quantisation!r} is unknown; try Q8_0, Q4_1, F16 or F32.")
    if base is None:
        gguf_folder.write(parts, out / LANGUAGE, quantisation)
    else:
        write_llm(parts, base, out / LANGUAGE, quantisation)
    write_vision(parts, out / VISION)
    parts.template.save(out)
    about = {"image_size": parts.model.config.vision_config.image_size, "image_tokens": parts.image_tokens}
    (out / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return [out / LANGUAGE, out / VISION]


def engine_folder(source: Path, version: str, quantisation: str = QUANTISATION) -> Path:
    """The GGUF export of an adapter folder in the cache, written when it is not there. Raises what `export` raises."""
    import shutil

    about = json.loads((source / adapter.FILE).read_text(encoding="utf-8"))
    _vocabulary(about["model"]["llm"])
    digest = hashlib.sha256(json.dumps([version, quantisation, about, EXPORT]).encode())
    for part in (source / adapter.WEIGHTS, *_files(about["model"]["llm"]), *_files(about["model"]["vision"])):
        digest.update(f"{part.name}:{part.stat().st_size}:{part.stat().st_mtime_ns}".encode())
    folder = weights.cache_dir() / "engines" / digest.hexdigest()[:16]
    if not (folder / ABOUT).is_file():
        building = folder.with_name(f"{folder.name}.{os.getpid()}")
        export(source, building, "gguf", quantisation)
        shutil.rmtree(folder, ignore_errors=True)
        building.replace(folder)
    return folder


def _files(id: str) -> list[Path]:
    folder = Path(id) if Path(id).is_dir() else weights.path(id)
    return sorted(p for p in folder.iterdir() if p.suffix in (".gguf", ".safetensors"))


def write_llm(parts: Parts, base: Path, out: Path, quantisation: str = "Q8_0") -> None:
    """The merged LLM as GGUF: all that `base` says of vocabulary and architecture, with the trained weights.

    Matrices as `quantisation` (F32, F16, Q8_0, Q4_1 …), vectors as F32.
    """
    import gguf

    from pathasst.mllm.gguf_file import GgufFile, add_tensor, finish

    reader = GgufFile(base)
    writer = gguf.GGUFWriter(out, "llama")
    _copy_fields(reader, writer)
    writer.add_file_type(getattr(gguf.LlamaFileType, f"MOSTLY_{quantisation}", gguf.LlamaFileType.ALL_F32))
    state = parts.llm.state_dict()
    heads = {"attn_q.weight": parts.llm.config.num_attention_heads, "attn_k.weight": parts.llm.config.num_key_value_heads}
    for tensor in reader.tensors:
        name, part = gguf_llm.TOP.get(tensor.name, ""), ""
        if tensor.name.startswith("blk."):
            _, layer, part = tensor.name.split(".", 2)
            name = f"layers.{layer}.{gguf_llm.NAMES.get(part, '')}"
        if name not in state:
            continue
        values = state[name].float().numpy()[: int(tensor.shape[-1])]  # without the row of <image>
        if part in heads:
            values = gguf_llm.permute(values, heads[part])
        add_tensor(writer, tensor.name, values, quantisation)
    finish(writer)


def _peft(folder: Path, out: Path) -> Path:
    """The adapters of the LLM in peft's own files (the projector is not part of them)."""
    from safetensors.torch import save_file

    about = json.loads((folder / adapter.FILE).read_text(encoding="utf-8"))
    _, adapters = adapter.tensors(folder)
    stored = {f"base_model.model.model.{n}": t.half() for n, t in adapters.items()}
    save_file(stored, out / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": about["lora"]["rank"],
        "lora_alpha": about["lora"]["alpha"],
        "target_modules": about["lora"]["modules"],
        "base_model_name_or_path": about["model"]["llm"],
        "bias": "none",
    }
    path = out / "adapter_config.json"
    path.write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    return path


def _copy_fields(reader: Any, writer: Any) -> None:
    import gguf

    left_out = {"general.architecture", "general.file_type"}
    for name, entry in reader.fields.items():
        if name.startswith("GGUF.") or name in left_out:
            continue
        kind = entry.types[0]
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_key_value(name, entry.contents(), kind, sub_type=entry.types[-1])
        else:
            writer.add_key_value(name, entry.contents(), kind)
