"""The tower and the projector of a PathAsst as a GGUF file for llama.cpp's `mtmd` (its `mmproj`).

llama.cpp's LLaVA projector is linear, GELU, linear, and reads its width off the second matrix: a file with the first alone
crashes it. The paper's single FC layer is written into that shape without loss: GELU(x) − GELU(−x) = x, so the first matrix holds
W above −W, the second the identity beside its negative. One difference remains: llama.cpp appends the class token to the
patches, yet drops the first row when it takes the patches out, so the LLM gets all patches but the first, and the class token
last. Knows `Parts`; knows nothing of the LLM.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pathasst.core.errors import BadSettings
from pathasst.mllm.model import Parts

if TYPE_CHECKING:
    import torch

BLOCK = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.out_proj": "attn_out",
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}
"""Name inside a `CLIPEncoderLayer` → name inside a block of the file."""
ACTIVATIONS = {"gelu": True, "gelu_pytorch_tanh": True, "quick_gelu": False}


def write_vision(parts: Parts, out: Path) -> None:
    """Write tower and projector, matrices as F16, vectors as F32. Raises BadSettings for an activation llama.cpp lacks."""
    import gguf

    vision = parts.model.config.vision_config
    if vision.hidden_act not in ACTIVATIONS:
        raise BadSettings(f"llama.cpp has no vision tower with the activation {vision.hidden_act!r}.")
    writer = gguf.GGUFWriter(out, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", ACTIVATIONS[vision.hidden_act])
    sizes = {
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "embedding_length": vision.hidden_size,
        "feed_forward_length": vision.intermediate_size,
        "block_count": _blocks(parts) + 1,  # llama.cpp leaves out the last of them
        "projection_dim": parts.model.config.text_config.hidden_size,
        "attention.head_count": vision.num_attention_heads,
    }
    for name, size in sizes.items():
        writer.add_uint32(f"clip.vision.{name}", size)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", vision.layer_norm_eps)
    writer.add_array("clip.vision.image_mean", [float(v) for v in parts.image_processor.image_mean])
    writer.add_array("clip.vision.image_std", [float(v) for v in parts.image_processor.image_std])
    for name, tensor in (*_tower(parts), *_projector(parts)):
        values = tensor.detach().float().cpu().contiguous().numpy()
        writer.add_tensor(name, values if values.ndim == 1 or "embd" in name else values.astype("float16"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _blocks(parts: Parts) -> int:
    """How many encoder layers the features of `vision_feature_layer` have passed."""
    layers, feature_layer = parts.model.config.vision_config.num_hidden_layers, parts.model.config.vision_feature_layer
    return int(layers + 1 + feature_layer if feature_layer < 0 else feature_layer)


def _tower(parts: Parts) -> Iterator[tuple[str, torch.Tensor]]:
    tower: dict[str, Any] = {k.removeprefix("vision_model."): v for k, v in parts.model.model.vision_tower.state_dict().items()}
    yield "v.class_embd", tower["embeddings.class_embedding"]
    yield "v.patch_embd.weight", tower["embeddings.patch_embedding.weight"]
    # llama.cpp puts the class token behind the patches, transformers before them; the table of positions follows it
    yield "v.position_embd.weight", tower["embeddings.position_embedding.weight"].roll(-1, 0)
    for kind in ("weight", "bias"):
        yield f"v.pre_ln.{kind}", tower[f"pre_layrnorm.{kind}"]
    last = parts.model.config.vision_config.num_hidden_layers - 1
    for n in range(_blocks(parts) + 1):
        for own, name in BLOCK.items():
            for kind in ("weight", "bias"):
                yield f"v.blk.{n}.{name}.{kind}", tower[f"encoder.layers.{min(n, last)}.{own}.{kind}"]


def _projector(parts: Parts) -> Iterator[tuple[str, torch.Tensor]]:
    import torch

    first, second = parts.projector.linear_1, parts.projector.linear_2
    if parts.model.config.projector_hidden_act != "linear":
        yield from (("mm.0.weight", first.weight), ("mm.0.bias", first.bias))
        yield from (("mm.2.weight", second.weight), ("mm.2.bias", second.bias))
        return
    same = torch.eye(first.out_features)
    yield "mm.0.weight", torch.cat([first.weight, -first.weight])
    yield "mm.0.bias", torch.cat([first.bias, -first.bias])
    yield "mm.2.weight", torch.cat([same, -same], dim=1)
    yield "mm.2.bias", torch.zeros(first.out_features)
