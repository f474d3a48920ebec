"""Conversion at full depth, random weights: largest difference of the unit embeddings of OpenCLIP and Hugging Face.

python benchmarks/clip_convert.py [ViT-B-32 ViT-B-16 ViT-L-14-336]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.nn.functional as F
from measured import save

from pathasst.clip.build import GELU, QUICK_GELU, ClipConfig, build
from pathasst.clip.convert import from_huggingface, to_huggingface, to_vision_model


def main() -> None:
    """Print one line a model and activation."""
    import open_clip

    ids = open_clip.SimpleTokenizer()(["an H&E image of tumor tissue", "a diagram"])
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--json", type=Path, help="keep the result in this file")
    given, kept = parser.parse_args(), {}
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
    save(given.json, kept)


if __name__ == "__main__":
    main()
