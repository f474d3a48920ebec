"""OpenCLIP ↔ Hugging Face: the same weights under other names, the activation carried along.

Knows the two libraries' parameter names, and nothing of files. Serves `vision_tower` (what LLaVA mounts) and whole CLIP models.
Both directions are renamings (and splitting q, k, v), so they are exact; outputs agree to float tolerance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pathasst.clip.build import GELU, QUICK_GELU, ClipConfig, build
from pathasst.core.errors import BadInput, BadSettings

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import CLIPModel, CLIPVisionConfig, CLIPVisionModel

State = dict[str, "torch.Tensor"]
_BLOCK = {  # OpenCLIP → Hugging Face, within one transformer block
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
    "attn.out_proj": "self_attn.out_proj",
}
_VISION = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.weight": "pre_layrnorm.weight",
    "ln_pre.bias": "pre_layrnorm.bias",
    "ln_post.weight": "post_layernorm.weight",
    "ln_post.bias": "post_layernorm.bias",
}
_TEXT = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}


def vision_config(config: ClipConfig) -> CLIPVisionConfig:
    """The Hugging Face configuration of the vision tower, its activation included.

    Raises BadSettings for a tower that `CLIPVisionModel` cannot express (not a plain ViT with class token).
    """
    from transformers import CLIPVisionConfig

    vision = config.model["vision_cfg"]
    plain = not vision.get("timm_model_name") and isinstance(vision.get("layers", 12), int)
    odd = [k for k in ("attentional_pool", "no_ln_pre", "final_ln_after_pool", "ls_init_value", "block_type") if vision.get(k)]
    if not plain or odd or vision.get("pool_type", "tok") != "tok":
        raise BadSettings(f"this vision tower is no CLIPVisionModel ({', '.join(odd) or 'not a plain ViT with class token'}).")
    width = vision.get("width", 768)
    return CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=int(width * vision.get("mlp_ratio", 4.0)),
        projection_dim=config.model["embed_dim"],
        num_hidden_layers=vision.get("layers", 12),
        num_attention_heads=width // vision.get("head_width", 64),
        image_size=vision["image_size"],
        patch_size=vision["patch_size"],
        hidden_act=config.activation,
    )


def to_vision_model(model: nn.Module, config: ClipConfig) -> CLIPVisionModel:
    """The vision tower as a Hugging Face `CLIPVisionModel`, fp32, in eval mode. `pooler_output @ proj` is the image embedding."""
    from transformers import CLIPVisionModel

    tower = CLIPVisionModel(vision_config(config))
    prefix = "vision_model." if any(k.startswith("vision_model.") for k in tower.state_dict()) else ""
    state = {k.removeprefix("visual."): v for k, v in model.state_dict().items() if k.startswith("visual.")}
    renamed = {prefix + k: v for k, v in _to_hf(state, _VISION, skip={"proj"}).items()}
    _load(tower, renamed)
    return tower.eval()


def to_huggingface(model: nn.Module, config: ClipConfig) -> CLIPModel:
    """A whole OpenCLIP `CLIP` as a Hugging Face `CLIPModel`, fp32, in eval mode.

    A sigmoid loss's bias, which ranks nothing, is left out.

    Raises BadSettings for a model with another text tower than CLIP's own.
    """
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig

    if config.has_hf_text:
        raise BadSettings("its text tower is a Hugging Face model, which CLIPModel cannot hold; convert the vision tower alone.")
    text = config.model["text_cfg"]
    words = text.get("vocab_size", 49408)
    text_config = CLIPTextConfig(
        vocab_size=words,
        bos_token_id=words - 2,
        eos_token_id=words - 1,  # OpenCLIP reads the text off the highest id
        hidden_size=text["width"],
        intermediate_size=int(text["width"] * text.get("mlp_ratio", 4.0)),
        projection_dim=config.model["embed_dim"],
        num_hidden_layers=text["layers"],
        num_attention_heads=text["heads"],
        max_position_embeddings=text.get("context_length", 77),
        hidden_act=config.activation,
    )
    clip_config = CLIPConfig(
        text_config=text_config.to_dict(),
        vision_config=vision_config(config).to_dict(),
        projection_dim=config.model["embed_dim"],
    )
    clip = CLIPModel(clip_config)
    state = {k: v for k, v in model.state_dict().items() if k != "attn_mask"}
    visual = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    textual = {
        k: v
        for k, v in state.items()
        if not k.startswith("visual.") and k not in ("logit_scale", "logit_bias", "text_projection")
    }
    renamed = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": visual["proj"].T,
        "text_projection.weight": state["text_projection"].T,
    }
    renamed |= {f"vision_model.{k}": v for k, v in _to_hf(visual, _VISION, skip={"proj"}).items()}
    renamed |= {f"text_model.{k}": v for k, v in _to_hf(textual, _TEXT).items()}
    _load(clip, renamed)
    return clip.eval()


def from_huggingface(clip: CLIPModel) -> tuple[nn.Module, ClipConfig]:
    """A Hugging Face `CLIPModel` (PLIP, OpenAI CLIP …) as an OpenCLIP `CLIP` in eval mode, with its configuration.

    Raises BadInput for an activation that is neither QuickGELU nor GELU, or that differs between the towers.
    """
    config = config_from_huggingface(clip.config)
    model = build(config)
    state = clip.state_dict()
    visual = _from_hf(_part(state, "vision_model."), _VISION)
    text = _from_hf(_part(state, "text_model."), _TEXT)
    renamed = {f"visual.{k}": v for k, v in visual.items()} | text
    renamed["visual.proj"] = state["visual_projection.weight"].T
    renamed["text_projection"] = state["text_projection.weight"].T
    renamed["logit_scale"] = state["logit_scale"]
    _load(model, renamed, ignore={"attn_mask"})
    return model.eval(), config


def config_from_huggingface(config: Any) -> ClipConfig:
    """The OpenCLIP configuration of a Hugging Face `CLIPConfig`. Raises BadInput for an unknown or mixed activation."""
    vision, text = config.vision_config, config.text_config
    if vision.hidden_act != text.hidden_act or vision.hidden_act not in (GELU, QUICK_GELU):
        raise BadInput(f"activations {vision.hidden_act!r} (vision) and {text.hidden_act!r} (text) are not one of CLIP's two.")
    model = {
        "embed_dim": config.projection_dim,
        "quick_gelu": vision.hidden_act == QUICK_GELU,
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "width": vision.hidden_size,
            "layers": vision.num_hidden_layers,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "layers": text.num_hidden_layers,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
        },
    }
    return ClipConfig(model)


def _part(state: State, prefix: str) -> State:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix) and not k.endswith("position_ids")}


def _to_hf(state: State, names: dict[str, str], skip: frozenset[str] | set[str] = frozenset()) -> State:
    out: State = {}
    for key, value in state.items():
        if key in skip:
            continue
        if not key.startswith("transformer.resblocks."):
            out[names[key]] = value
            continue
        _, _, layer, rest = key.split(".", 3)
        block = f"encoder.layers.{layer}."
        if rest.startswith("attn.in_proj_"):
            kind = rest.removeprefix("attn.in_proj_")
            for part, name in zip(value.chunk(3), ("q_proj", "k_proj", "v_proj"), strict=True):
                out[f"{block}self_attn.{name}.{kind}"] = part
            continue
        stem, kind = rest.rsplit(".", 1)
        out[f"{block}{_BLOCK[stem]}.{kind}"] = value
    return out


def _from_hf(state: State, names: dict[str, str]) -> State:
    import torch

    back, blocks = {v: k for k, v in names.items()}, {v: k for k, v in _BLOCK.items()}
    out: State = {}
    for key, value in state.items():
        if not key.startswith("encoder.layers."):
            out[back[key]] = value.reshape(-1) if back[key] == "class_embedding" else value
            continue
        _, _, layer, rest = key.split(".", 3)
        block = f"transformer.resblocks.{layer}."
        stem, kind = rest.rsplit(".", 1)
        if stem in ("self_attn.k_proj", "self_attn.v_proj"):
            continue
        if stem == "self_attn.q_proj":
            parts = [state[f"encoder.layers.{layer}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
            out[f"{block}attn.in_proj_{kind}"] = torch.cat(parts)
            continue
        out[f"{block}{blocks[stem]}.{kind}"] = value
    return out


def _load(model: nn.Module, state: State, ignore: set[str] | frozenset[str] = frozenset()) -> None:
    """Load every parameter or none. Raises BadInput when names do not cover each other."""
    result = model.load_state_dict({k: v.detach().float().contiguous() for k, v in state.items()}, strict=False)
    missing = [k for k in result.missing_keys if k not in ignore and not k.endswith("position_ids")]
    if missing or result.unexpected_keys:
        raise BadInput(f"conversion is incomplete: missing {missing[:3]}, unknown {result.unexpected_keys[:3]}.")
