"""PathAsst as one network: PathCLIP's vision tower, one fully connected layer, a language model; a plain Hugging Face LLaVA
checkpoint, or LLaVA-NeXT or Aya Vision (`layouts`).

The paper's single FC layer inside `LlavaForConditionalGeneration`: `linear_1` is the layer, the activation is the identity
and `linear_2` a fixed identity matrix, so transformers runs it unchanged and nothing but W x + b is learned. Knows how to
build, save and load; knows no training data. Paper: "Training of PathAsst".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core import weights
from pathasst.core.errors import BadSettings
from pathasst.core.records import IMAGE
from pathasst.mllm import layouts, timm_tower
from pathasst.mllm.chat_template import FILE, ChatTemplate, resaved_template, template_of
from pathasst.mllm.layouts import CLASS_TOKEN
from pathasst.mllm.settings import ModelSettings

if TYPE_CHECKING:
    import torch

    from pathasst.clip.model import PathCLIPModel


@dataclass(slots=True)
class Parts:
    """A network with all that is needed to talk to it."""

    model: Any  # one of `layouts`; transformers' own types do not know its parts
    tokenizer: Any
    template: ChatTemplate
    image_processor: Any

    @property
    def image_tokens(self) -> int:
        """Tokens of one square: the tower's patches and registers without the class token, or with pixel shuffle a quarter."""
        return int(self.model.config.image_seq_length)

    @property
    def most_image_tokens(self) -> int:
        """The most tokens that a picture can take."""
        grids = getattr(self.model.config, "image_grid_pinpoints", [[1, 1]])
        return max(layouts.token_count(self.model, *grid) for grid in grids)

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Patch tokens of one square, and their width: what the projector takes."""
        shuffled = 4 if self.model.config.model_type == "aya_vision" else 1
        return self.image_tokens * shuffled, int(self.projector.linear_1.in_features) // shuffled

    @property
    def projector(self) -> Any:
        """The `nn.Module` between tower and LLM."""
        return self.model.model.multi_modal_projector

    @property
    def llm(self) -> Any:
        """The LLM's decoder, without its head."""
        return self.model.model.language_model


def build(settings: ModelSettings, dtype: torch.dtype | None = None, seed: int = 0) -> Parts:
    """Put PathAsst together with an untrained projector. `dtype` of tower and LLM: default float32.

    Raises MissingWeights when a part is not on this machine, BadSettings when a folder holds no known model.
    """
    import torch

    dtype = dtype or torch.float32
    tower, processor = vision_tower(settings.vision)
    config, state, tokenizer = language_model(weights.path(settings.llm), dtype)
    tokenizer.add_special_tokens({"extra_special_tokens": [IMAGE]})
    template = template_of(settings.template, tokenizer)
    side = _side(processor)
    model = assemble(tower, config, state, tokenizer.convert_tokens_to_ids(IMAGE), settings, dtype, seed, side)
    stop = template.stop_ids(tokenizer)
    stops = [i for i in (tokenizer.eos_token_id, *(stop if len(stop) == 1 else [])) if i is not None]
    model.generation_config.eos_token_id = sorted(set(stops)) if len(set(stops)) > 1 else stops[0] if stops else None
    model.generation_config.pad_token_id = tokenizer.pad_token_id or tokenizer.eos_token_id
    model.generation_config.suppress_tokens = [tokenizer.convert_tokens_to_ids(IMAGE)]
    return Parts(model.eval(), tokenizer, template, layouts.image_processor(processor, settings.tiles, side))


def assemble(
    tower: Any,
    llm_config: Any,
    llm_state: dict[str, torch.Tensor],
    image_token: int,
    settings: ModelSettings,
    dtype: torch.dtype,
    seed: int,
    side: int,
) -> Any:
    """The network around a tower and an LLM's weights; the embedding grows by the row of `image_token` where it lacks one."""
    from accelerate import init_empty_weights
    from transformers.initialization import no_init_weights

    llm_config.vocab_size = max(llm_config.vocab_size, image_token + 1)
    config = layouts.configuration(settings, tower.config, llm_config, image_token, side)
    with no_init_weights(), init_empty_weights(include_buffers=False):  # buffers (rotary frequencies, scales) are in no file
        model: Any = layouts.network_class(config.model_type)(config)
    embedding = _extended(llm_state["embed_tokens.weight"], llm_config.vocab_size)
    head = embedding if llm_config.tie_word_embeddings else _extended(llm_state["lm_head.weight"], llm_config.vocab_size)
    weights_by_name = {f"model.language_model.{k}": v for k, v in llm_state.items() if k != "lm_head.weight"}
    weights_by_name |= {"model.language_model.embed_tokens.weight": embedding, "lm_head.weight": head}
    weights_by_name |= {f"model.vision_tower.{k}": v.to(dtype) for k, v in tower.state_dict().items()}
    weights_by_name |= {f"model.{k}": v.to(dtype) for k, v in _new_projector(model, settings.projector, seed).items()}
    model.load_state_dict(weights_by_name, strict=False, assign=True)
    model.tie_weights()
    layouts.own_newline(model)
    if missing := [n for n, p in model.named_parameters() if p.is_meta]:
        raise BadSettings(f"the language model's file lacks {', '.join(missing[:3])}.")
    return model


def vision_tower(id: str) -> tuple[Any, Any]:
    """A vision tower and its image processor: of a PathCLIP (registry id, or any folder `PathCLIPModel.load` reads), or of a
    Hugging Face folder with a CLIP's tower, SigLIP (1, 2 of one resolution; whole or the tower), DINOv2 or 3, or a ViT in
    timm's layout.

    Raises what `PathCLIPModel.load` and `timm_tower.load` raise.
    """
    from transformers import AutoImageProcessor, AutoModel, CLIPImageProcessor, SiglipVisionModel

    from pathasst.clip.model import CONFIG, PathCLIPModel

    config = Path(id) / "config.json"
    about = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else {}
    if timm_tower.is_timm(about):
        return timm_tower.load(Path(id))
    kind = about.get("model_type", "")
    if kind == "siglip":
        return SiglipVisionModel.from_pretrained(id), AutoImageProcessor.from_pretrained(id)
    if kind in CLASS_TOKEN:
        return AutoModel.from_pretrained(id), AutoImageProcessor.from_pretrained(id)
    folder = Path(id) if Path(id).is_dir() else weights.path(id)
    clip = _without_text(folder) if (folder / CONFIG).is_file() else PathCLIPModel.load(id)
    return clip.vision_tower(), CLIPImageProcessor(**clip.preprocessor_config())


def _side(processor: Any) -> int:
    """Of the square that an image processor makes, px."""
    size = processor.crop_size if getattr(processor, "do_center_crop", False) else processor.size
    return int(size.get("height") or size["shortest_edge"])


def _without_text(folder: Path) -> PathCLIPModel:
    """A PathCLIP of which only the tower is there: its text tower would cost seconds and is not looked at."""
    from torch import nn

    from pathasst.clip.build import ClipConfig
    from pathasst.clip.files import read_state
    from pathasst.clip.model import WEIGHTS, PathCLIPModel

    state = read_state(folder / WEIGHTS)
    holder = nn.Module()
    holder.state_dict = lambda: state  # type: ignore[method-assign, assignment, misc]
    return PathCLIPModel(holder, ClipConfig.read(folder))


def language_model(folder: Path, dtype: torch.dtype) -> tuple[Any, dict[str, torch.Tensor], Any]:
    """Configuration, weights (names of the bare decoder, `lm_head.weight` if untied) and tokenizer of a local LLM.

    One GGUF file, read directly where its architecture is known here and through transformers elsewhere, or a Hugging Face
    folder.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    from pathasst.mllm import gguf_llm

    ggufs = sorted(folder.glob("*.gguf"))
    if len(ggufs) > 1:
        raise BadSettings(f"{folder} holds {len(ggufs)} GGUF files; leave one.")
    if ggufs and gguf_llm.readable(ggufs[0]):
        read = gguf_llm.read(ggufs[0], dtype)
        return LlamaConfig(**read.config), read.state, read.tokenizer
    extra = {"gguf_file": ggufs[0].name} if ggufs else {}
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **extra)
    state = {k.removeprefix("model."): v for k, v in model.state_dict().items()}
    return model.config, state, AutoTokenizer.from_pretrained(folder, **extra)


def save(parts: Parts, folder: Path, state: dict[str, torch.Tensor] | None = None) -> None:
    """Write a plain Hugging Face checkpoint: weights (`state`, else the model's own), configuration, tokenizer, processor,
    chat template.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = dict(parts.model.state_dict() if state is None else state)
    if (newline := state.pop("model.multi_modal_projector.image_newline", None)) is not None:
        state["model.image_newline"] = newline
    config = parts.model.config
    renamed = config.vision_config.model_type == "clip_vision_model" and config.model_type in layouts.RENAMED
    parts.model.save_pretrained(folder, state_dict={_tower_name(n) if renamed else n: t for n, t in state.items()})
    parts.tokenizer.chat_template = parts.template.jinja()
    layouts.processor(config, parts.image_processor, parts.tokenizer, parts.template.jinja()).save_pretrained(folder)
    parts.template.save(folder)


def _tower_name(name: str) -> str:
    """Of a weight: vLLM's tower keeps `vision_model.` in its names, which transformers left out and still reads."""
    tower = "model.vision_tower."
    own = name.removeprefix(tower)
    return f"{tower}vision_model.{own}" if name.startswith(tower) and not own.startswith("vision_model.") else name


def load(folder: Path, dtype: torch.dtype | None = None) -> Parts:
    """Read what `save` wrote, or transformers wrote again from it. Raises BadSettings when the folder has no chat template."""
    import torch
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    template = ChatTemplate.load(folder) if (folder / FILE).is_file() else resaved_template(folder, tokenizer)
    network = layouts.network_class(AutoConfig.from_pretrained(folder).model_type)
    model = network.from_pretrained(folder, dtype=dtype or torch.float32)
    layouts.own_newline(model)
    processor = AutoImageProcessor.from_pretrained(folder)
    if model.config.model_type == "llava":  # the only network whose pictures may be of another size than its tower's
        model.config.image_seq_length = layouts.square_tokens(model.config.vision_config, _side(processor))
    return Parts(model.eval(), tokenizer, template, processor)


def pixels(parts: Parts, images: list[bytes]) -> torch.Tensor:
    """Encoded pictures as the tower reads them: squares×3×H×W, float of the model's dtype; one square a picture, or with tiles
    the whole and its tiles. Raises BadInput for an unreadable one."""
    import torch
    from PIL import Image

    from pathasst.imaging.pictures import read

    opened = [Image.fromarray(read(image, name=f"picture {n}").pixels) for n, image in enumerate(images, start=1)]
    values: torch.Tensor = parts.image_processor(opened, return_tensors="pt")["pixel_values"]
    if values.dim() == 5:  # filled up to the picture with the most tiles
        counts = [layouts.tile_count(parts.model.config, image.height, image.width) for image in opened]
        values = torch.cat([tiles[:count] for tiles, count in zip(values, counts, strict=True)])
    return values.to(parts.model.dtype)


def features(parts: Parts, images: list[bytes]) -> torch.Tensor:
    """The frozen tower's patch tokens, squares × patches × width (`Parts.feature_shape`): what the projector takes."""
    import torch

    with torch.inference_mode():
        out = parts.model.model.vision_tower(pixels(parts, images).to(parts.model.device), output_hidden_states=True)
        hidden: torch.Tensor = out.hidden_states[parts.model.config.vision_feature_layer]
        patches = hidden[:, 1:] if parts.model.config.vision_feature_select_strategy == "default" else hidden
    return patches.clone()


def _extended(embedding: torch.Tensor, rows: int) -> torch.Tensor:
    """The matrix with new rows at the mean of the old: a new token starts as an average word."""
    import torch

    if rows <= len(embedding):
        return embedding
    mean = embedding.float().mean(0, keepdim=True).to(embedding.dtype)
    return torch.cat([embedding, mean.expand(rows - len(embedding), -1)])


def _new_projector(model: Any, kind: str, seed: int) -> dict[str, torch.Tensor]:
    """Random matrices, zero biases; the single layer's second matrix is the identity."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    state: dict[str, torch.Tensor] = {}
    for name, empty in model.model.multi_modal_projector.state_dict().items():
        if empty.dim() == 2:
            state[name] = torch.randn(empty.shape, generator=generator) * 0.02
        else:
            state[name] = torch.ones(empty.shape) if name == "layernorm.weight" else torch.zeros(empty.shape)
    if kind == "linear":
        state["linear_2.weight"] = torch.eye(len(state["linear_2.weight"]))
    state = {f"multi_modal_projector.{name}": tensor for name, tensor in state.items()}
    if model.config.model_type == "llava_next":
        wide = model.config.text_config.hidden_size
        state["image_newline"] = torch.randn(wide, generator=generator) / wide**0.5
    return state
