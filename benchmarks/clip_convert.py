"""Conversion at full depth, random weights: largest difference of the unit embeddings of OpenCLIP and Hugging Face.

python benchmarks/clip_convert.py [ViT-B-32 ViT-B-16 ViT-L-14-336]

And the tower of pathclip-embedded with its own weights, as PathAsst mounts it (its text tower is MiniLM, so that there is no
`CLIPModel` of the whole).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from measured import command_line, save

from pathasst.clip.build import GELU, QUICK_GELU, ClipConfig, build
from pathasst.clip.convert import from_huggingface, to_huggingface, to_vision_model
from pathasst.clip.model import PathCLIPModel


def main() -> None:
    """Print one line a model and activation."""
    import open_clip

    ids = open_clip.SimpleTokenizer()(["an H&E image of tumor tissue", "a diagram"])
    parser = command_line(__doc__)
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    kept: dict[str, dict[str, float]] = {}
    for name in given.names or ["ViT-B-32", "ViT-B-16", "ViT-L-14-336"]:
        for activation in (QUICK_GELU, GELU):
            torch.manual_seed(0)
            config = ClipConfig.of_name(name, activation)
            model = build(config).eval()
            pixels = torch.randn(1, 3, config.image_size, config.image_size)
            with torch.no_grad():
                seen, said = (F.normalize(x, dim=-1) for x in (model.encode_image(pixels), model.encode_text(ids)))
                clip = to_huggingface(model, config)
                out = clip(pixel_values=pixels, input_ids=ids)
                tower = F.normalize(to_vision_model(model, config)(pixels).pooler_output @ model.visual.proj, dim=-1)
                back, _ = from_huggingface(clip)
                again = F.normalize(back.encode_image(pixels), dim=-1)
            worst = [
                float((a - b).abs().max())
                for a, b in ((out.image_embeds, seen), (out.text_embeds, said), (tower, seen), (again, seen))
            ]
            print(
                f"{name} {activation}: image, text, tower, and back:",
                *(f"{w:.1e}" for w in worst),
                "ok" if max(worst) < 1e-5 else "TOO FAR",
            )
            kept[f"{name} {activation}"] = dict(zip(("image", "text", "tower", "and back"), worst, strict=True))
    kept["pathclip-embedded gelu"] = {"tower": embedded()}
    print(f"pathclip-embedded: tower: {kept['pathclip-embedded gelu']['tower']:.1e}")
    save(given.json, kept)


def embedded() -> float:
    """The same of the committed model's vision tower."""
    clip = PathCLIPModel.load("pathclip-embedded")
    torch.manual_seed(0)
    pixels = torch.randn(8, 3, clip.image_size, clip.image_size)
    with torch.no_grad():
        tower = F.normalize(clip.vision_tower()(pixels).pooler_output @ clip.model.visual.proj, dim=-1)
        return float((tower - clip.model.encode_image(pixels, normalize=True)).abs().max())


if __name__ == "__main__":
    main()
