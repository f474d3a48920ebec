"""The three networks of transformers that a PathAsst can be: LLaVA, LLaVA-NeXT where pictures are cut into tiles (AnyRes), and
Aya Vision where four neighbouring patches become one token (pixel shuffle).

InternVL's and Idefics' classes shuffle, too, but each reads its own vision tower alone.

All three hold `vision_tower`, `multi_modal_projector` and `language_model`, whatever tower and LLM these are. Knows
configurations and processors; knows no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pathasst.core.errors import BadSettings
from pathasst.core.records import IMAGE
from pathasst.mllm.settings import ModelSettings

if TYPE_CHECKING:
    import torch

PROJECTORS = {"linear": "linear", "mlp2x_gelu": "gelu", "pixel-shuffle": "silu"}
"""Our name of the projector → the activation between its two layers in Hugging Face's notation."""
CLASS_TOKEN: dict[str, Literal["default", "full"]] = {
    "clip_vision_model": "default",
    "siglip_vision_model": "full",
    "dinov2": "default",
    "dinov2_with_registers": "default",
    "dinov3_vit": "default",
}
"""Vision towers by transformers' name; `default`: the first token is of the class and left out, `full`: there is none."""
RENAMED = ("llava", "llava_next")
"""Networks that vLLM runs with any CLIP, under older names of the tower's weights."""


class PatchTokens(NamedTuple):
    """Patch tokens of some pictures: what the projector takes."""

    tiles: torch.Tensor  # tiles × patches × width; without AnyRes each picture is one tile
    sizes: torch.Tensor  # pictures × 2, int64: height and width, px


def configuration(settings: ModelSettings, vision: Any, text: Any, image_token: int, side: int) -> Any:
    """transformers' configuration around those of a tower and an LLM. `side` of the tower's pictures, px.

    Raises BadSettings for a tower whose tokens are no square of patches where the layout needs one.
    """
    from transformers import AyaVisionConfig, LlavaConfig, LlavaNextConfig

    common: dict[str, Any] = {
        "vision_config": vision,
        "text_config": text,
        "projector_hidden_act": PROJECTORS[settings.projector],
        "vision_feature_layer": settings.vision_feature_layer,
        "vision_feature_select_strategy": CLASS_TOKEN[vision.model_type],
        "tie_word_embeddings": text.tie_word_embeddings,
    }
    patches = side // vision.patch_size
    if (settings.tiles or settings.projector == "pixel-shuffle") and (registers(vision) or vision.image_size != side):
        raise BadSettings(f"{settings.vision}: tiles and pixel shuffle need a tower of {side} px without registers.")
    if settings.projector == "pixel-shuffle":
        if patches % 2:
            raise BadSettings(f"{settings.vision}: pixel shuffle needs an even number of patches a side, not {patches}.")
        # Not among the class's own fields: the tokens of a picture, and the inner width, of which SwiGLU makes half.
        more: dict[str, Any] = {"image_seq_length": patches**2 // 4, "alignment_intermediate_size": 2 * text.hidden_size}
        return AyaVisionConfig(**common, **more, image_token_index=image_token, downsample_factor=2)
    tokens = square_tokens(vision, side)
    if settings.tiles:
        grids = [[rows * side, columns * side] for rows, columns in settings.tiles]
        return LlavaNextConfig(**common, image_token_index=image_token, image_seq_length=tokens, image_grid_pinpoints=grids)
    return LlavaConfig(**common, image_token_index=image_token, image_seq_length=tokens)


def network_class(kind: str) -> Any:
    """transformers' class of a `model_type`. Raises BadSettings for another than the three."""
    import transformers

    names = {"llava": "Llava", "llava_next": "LlavaNext", "aya_vision": "AyaVision"}
    if kind not in names:
        raise BadSettings(f"a {kind!r} network is no PathAsst; it is one of {', '.join(names)}.")
    return getattr(transformers, f"{names[kind]}ForConditionalGeneration")


def own_newline(model: Any) -> None:
    """Make the vector that ends a line of tiles part of the projector, in place, since they are trained and saved together."""
    if model.config.model_type == "llava_next":
        model.model.multi_modal_projector.image_newline = model.model.image_newline


def image_processor(processor: Any, tiles: Sequence[tuple[int, int]], side: int) -> Any:
    """The tower's image processor, or the one that cuts pictures into tiles for it."""
    from transformers import LlavaNextImageProcessor

    if not tiles:
        return processor
    square = {"height": side, "width": side}
    return LlavaNextImageProcessor(
        size=square,
        crop_size=square,
        image_grid_pinpoints=[[rows * side, columns * side] for rows, columns in tiles],
        image_mean=processor.image_mean,
        image_std=processor.image_std,
        resample=processor.resample,
    )


def processor(config: Any, image_processor: Any, tokenizer: Any, jinja: str) -> Any:
    """transformers' processor of words and pictures, which counts a picture's tokens as the network does."""
    from transformers import LlavaNextProcessor, LlavaProcessor

    strategy = config.vision_feature_select_strategy
    kind = LlavaNextProcessor if config.model_type == "llava_next" else LlavaProcessor
    return kind(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=config.vision_config.patch_size * (2 if config.model_type == "aya_vision" else 1),
        vision_feature_select_strategy=strategy,
        chat_template=jinja,
        image_token=IMAGE,
        num_additional_image_tokens=registers(config.vision_config) + int(strategy == "default"),  # which is left out again
    )


def square_tokens(tower: Any, side: int) -> int:
    """Tokens of a square of `side` px after the tower, without the class token. Registers stay: LLaVA leaves out one token."""
    return int((side // tower.patch_size) ** 2) + registers(tower)


def registers(tower: Any) -> int:
    """Of a tower's configuration: tokens that are of no patch and no class."""
    return int(getattr(tower, "num_register_tokens", 0))


def tile_count(config: Any, height: int, width: int) -> int:
    """Squares that a picture is read as: one, or the whole and its tiles."""
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    if config.model_type != "llava_next":
        return 1
    return int(image_size_to_num_patches([height, width], config.image_grid_pinpoints, config.vision_config.image_size))


def token_count(model: Any, height: int, width: int) -> int:
    """Tokens of a picture of that size, px: of one square, or of the whole, its tiles and the ends of their lines."""
    import torch

    config = model.config
    if config.model_type != "llava_next":
        return int(config.image_seq_length)
    with torch.device("meta"):
        tiles = torch.zeros(tile_count(config, height, width), config.image_seq_length, 1)
        packed, _ = model.model.pack_image_features([tiles], [[height, width]], "full", torch.zeros(1))
    return len(packed[0])


def joined(projected: torch.Tensor, sizes: torch.Tensor, model: Any, projector: Any) -> torch.Tensor:
    """Projected tiles (tiles × tokens × hidden) as the tokens of the pictures in a row, tokens × hidden."""
    import torch

    if model.config.model_type != "llava_next":
        return projected.reshape(-1, projected.shape[-1])
    pairs = sizes.tolist()
    parts = torch.split(projected, [tile_count(model.config, *pair) for pair in pairs])
    strategy = model.config.vision_feature_select_strategy
    packed, _ = model.model.pack_image_features(list(parts), pairs, strategy, projector.image_newline)
    return torch.cat(packed)
