from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from pathasst.clip.build import ClipConfig, build
from pathasst.clip.model import PathCLIPModel
from pathasst.core.errors import BadInput


@pytest.fixture(scope="module")
def clip(tiny: dict) -> PathCLIPModel:
    torch.manual_seed(2)
    config = ClipConfig(tiny)
    return PathCLIPModel(build(config), config)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)


@pytest.mark.parametrize("shape", [(64, 64), (100, 70), (33, 90), (640, 480)])
def test_preprocess_equals_openclip_and_huggingface(clip: PathCLIPModel, shape: tuple[int, int]) -> None:
    picture = Image.fromarray(noise(*shape))
    ours = clip.preprocess(picture)
    theirs = open_clip.image_transform(64, is_train=False, mean=clip.config.mean, std=clip.config.std)(picture)
    values = {k: v for k, v in clip.preprocessor_config().items() if k != "image_processor_type"}
    third = CLIPImageProcessorPil(**values)(picture, return_tensors="pt").pixel_values[0]
    assert ours.shape == (3, 64, 64) and ours.dtype == torch.float32
    if min(shape) == 64 or shape[0] == shape[1]:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours, third, atol=1e-5, rtol=0)


def test_embeddings_are_unit_rows_whatever_the_batch(clip: PathCLIPModel) -> None:
    images = [noise(64, 64), Image.fromarray(noise(80, 70)), Image.fromarray(noise(64, 64)).convert("L")]
    vectors = clip.encode_image(images)
    assert vectors.shape == (3, 32) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(clip.encode_image(iter(images), batch=1), vectors, atol=1e-6)
    words = clip.encode_text(["a", "b c"])
    np.testing.assert_allclose(clip.similarity(images, ["a", "b c"]), vectors @ words.T, atol=1e-6)
    assert clip.encode_image([]).shape == clip.encode_text([]).shape == (0, 32)


def test_classify_gives_probabilities_and_takes_ensembles(clip: PathCLIPModel) -> None:
    odds = clip.classify([noise(64, 64)] * 2, ["liver", ["kidney", "renal tissue"]])
    np.testing.assert_allclose(odds.sum(axis=1), 1, atol=1e-6)
    texts = clip.encode_text(["kidney", "renal tissue"]).mean(axis=0)
    np.testing.assert_allclose(clip.encode_classes([["kidney", "renal tissue"]])[0], texts / np.linalg.norm(texts), atol=1e-6)


@pytest.mark.parametrize("bad", [noise(8, 8).astype(np.float32), noise(8, 8)[..., 0], np.zeros((8, 8, 4), np.uint8)])
def test_arrays_that_are_no_rgb_picture_are_refused(clip: PathCLIPModel, bad: np.ndarray) -> None:
    with pytest.raises(BadInput, match="H×W×3 uint8"):
        clip.encode_image([bad])


def test_vision_tower_gives_the_image_embedding(clip: PathCLIPModel) -> None:
    tower = clip.vision_tower()
    assert tower.config.hidden_act == "quick_gelu" and not tower.training
    pixels = clip.preprocess(noise(64, 64))[None]
    with torch.inference_mode():
        out = tower(pixels, output_hidden_states=True)
        embedding = torch.nn.functional.normalize(out.pooler_output @ clip.model.visual.proj, dim=-1)
    assert out.hidden_states[-2].shape == (1, 17, 64)
    np.testing.assert_allclose(embedding.numpy(), clip.encode_pixels(pixels), atol=1e-5)
