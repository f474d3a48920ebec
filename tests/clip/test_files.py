from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CustomTextCLIP
from PIL import Image

from pathasst.clip.build import CONFIG, ClipConfig, build
from pathasst.clip.convert import to_huggingface
from pathasst.clip.files import read_state
from pathasst.clip.model import PathCLIPModel
from pathasst.core.errors import BadInput, BadSettings, MissingWeights


@pytest.fixture
def clip(tiny: dict) -> PathCLIPModel:
    torch.manual_seed(1)
    config = ClipConfig(tiny)
    return PathCLIPModel(build(config), config)


def test_own_folder_round_trip(clip: PathCLIPModel, tmp_path: Path) -> None:
    clip.save(tmp_path / "a", dtype="float32")
    again = PathCLIPModel.load(tmp_path / "a")
    assert again.config.model == clip.config.model
    assert (again.encode_text(["liver"]) == clip.encode_text(["liver"])).all()


def test_openclip_loads_our_folder(clip: PathCLIPModel, tmp_path: Path) -> None:
    clip.save(tmp_path / "a", dtype="float32")
    (tmp_path / "a" / "model.safetensors").rename(tmp_path / "a" / "open_clip_model.safetensors")
    model = open_clip.create_model(f"local-dir:{tmp_path / 'a'}").eval()
    pixels = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(model.encode_image(pixels), clip.model.encode_image(pixels))
    assert (PathCLIPModel.load(tmp_path / "a").encode_text(["x"]) == clip.encode_text(["x"])).all()


def test_huggingface_folder(clip: PathCLIPModel, tmp_path: Path) -> None:
    to_huggingface(clip.model, clip.config).save_pretrained(tmp_path)
    again = PathCLIPModel.load(tmp_path)
    assert again.config.activation == "quick_gelu" and again.config.mean == clip.config.mean
    assert abs(again.encode_text(["liver"]) - clip.encode_text(["liver"])).max() < 1e-6
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5, 0.4, 0.3]}))
    assert PathCLIPModel.load(tmp_path).config.mean == (0.5, 0.4, 0.3)


def test_bare_checkpoint_of_a_training_loop(tmp_path: Path) -> None:
    """The released PathCLIP's format: {"state_dict": {"module.…"}}, architecture and activation not said."""
    config = ClipConfig.of_name("RN50", "quick_gelu")
    assert config.model["quick_gelu"]
    small = ClipConfig.of_name("ViT-B-32", "quick_gelu")
    torch.manual_seed(0)
    model = build(small)
    file = tmp_path / "epoch_1.pt"
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, file)
    with pytest.raises(BadSettings, match="activation='quick_gelu'"):
        PathCLIPModel.load(file)
    with pytest.raises(BadInput, match="does not fit"):
        PathCLIPModel.load(file, arch="ViT-B-16", activation="quick_gelu")
    loaded = PathCLIPModel.load(file, arch="ViT-B-32", activation="quick_gelu")
    assert torch.equal(loaded.model.visual.proj, model.visual.proj)


def test_an_openclip_name_with_its_tag(clip: PathCLIPModel, tiny: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenCLIP's registry says it, but with a file of this test in place of the download."""
    about = {"file": str(tmp_path / "weights.pt"), "quick_gelu": True, "mean": (0.1, 0.2, 0.3)}
    torch.save(clip.model.state_dict(), about["file"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: about if (name, tag) == ("tiny", "ours") else {})
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: dict(tiny))
    again = PathCLIPModel.load("tiny/ours")
    assert again.config.activation == "quick_gelu" and again.config.mean == (0.1, 0.2, 0.3) and again.version == "tiny/ours"
    assert (again.encode_text(["liver"]) == clip.encode_text(["liver"])).all()
    with pytest.raises(BadSettings, match="was trained with quick_gelu"):
        PathCLIPModel.load("tiny/ours", activation="gelu")
    with pytest.raises(MissingWeights, match="neither a path"):
        PathCLIPModel.load("tiny/theirs")


def test_an_openclip_name_with_a_text_tower_and_geometry_of_its_own(
    tiny: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like SigLIP and MobileCLIP: `CustomTextCLIP`, pictures squashed, bilinear; saved and loaded again, nothing is lost."""
    model = {**tiny, "quick_gelu": False, "custom_text": True}
    torch.manual_seed(0)
    theirs = CustomTextCLIP(**{k: v for k, v in model.items() if k != "custom_text"}).eval()
    about = {"file": str(tmp_path / "weights.pt"), "resize_mode": "squash", "interpolation": "bilinear"}
    torch.save(theirs.state_dict(), about["file"])
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda name, tag: about)
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: dict(model))
    clip = PathCLIPModel.load("tiny/custom")
    clip.save(tmp_path / "a", dtype="float32")
    picture = np.random.default_rng(0).integers(0, 255, (90, 150, 3), np.uint8)
    transform = open_clip.image_transform(64, False, resize_mode="squash", interpolation="bilinear")
    with torch.inference_mode():
        wanted = theirs.encode_image(transform(Image.fromarray(picture))[None], normalize=True).numpy()
        said = theirs.encode_text(open_clip.SimpleTokenizer()(["liver"]), normalize=True).numpy()
    for one in (clip, PathCLIPModel.load(tmp_path / "a")):
        assert one.encode_image([picture]) == pytest.approx(wanted, abs=1e-6)
        assert one.encode_text(["liver"]) == pytest.approx(said, abs=1e-6)
    assert clip.preprocessor_config()["size"] == {"height": 64, "width": 64}
    model["text_cfg"] = {**model["text_cfg"], "hf_model_name": "roberta-base"}
    with pytest.raises(BadSettings, match="Hugging Face text tower"):
        PathCLIPModel.load("tiny/roberta")


def test_a_contradicting_activation_is_an_error(clip: PathCLIPModel, tmp_path: Path) -> None:
    clip.save(tmp_path)
    with pytest.raises(BadSettings, match="was trained with quick_gelu"):
        PathCLIPModel.load(tmp_path, activation="gelu")
    with pytest.raises(BadSettings, match="QuickGELU model"):
        ClipConfig.of_name("ViT-B-16-quickgelu", "gelu")


def test_a_config_without_activation_is_an_error(clip: PathCLIPModel, tmp_path: Path) -> None:
    clip.save(tmp_path)
    stored = json.loads((tmp_path / CONFIG).read_text())
    del stored["model_cfg"]["quick_gelu"]
    (tmp_path / CONFIG).write_text(json.dumps(stored))
    with pytest.raises(BadInput, match="activation"):
        PathCLIPModel.load(tmp_path)


class Payload:
    def __reduce__(self) -> tuple:
        return (Path("/tmp/pathasst-pickle-ran").touch, ())


def test_a_pickle_with_more_than_weights_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "evil.pt"
    torch.save({"state_dict": Payload()}, file)
    with pytest.raises(BadInput, match="could not be read"):
        PathCLIPModel.load(file, arch="ViT-B-32", activation="quick_gelu")
    assert not Path("/tmp/pathasst-pickle-ran").exists()


def test_damaged_and_missing_files(clip: PathCLIPModel, tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match="holds neither"):
        PathCLIPModel.load(tmp_path)
    clip.save(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(BadInput, match="could not be read"):
        PathCLIPModel.load(tmp_path)


WRAPPED = {
    "compile": lambda s: {"state_dict": {f"_orig_mod.{k}": v for k, v in s.items()}},
    "ddp-compile": lambda s: {"state_dict": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "epoch": 3},
    "clip-prefix": lambda s: {f"clip.{k}": v for k, v in s.items()},
    "model-state-dict": lambda s: {"model_state_dict": s},
    "ema": lambda s: {"model_ema": {f"module.{k}": v for k, v in s.items()}},
    "namespace": lambda s: {"state_dict": s, "args": argparse.Namespace(lr=1)},
    "ema alone": lambda s: {"ema": {f"module.{k}": v for k, v in s.items()}, "step": 4},
    "ema beside an optimiser": lambda s: {"ema_state_dict": s, "optimizer": {"state": {}, "param_groups": []}},
    "net": lambda s: {"net": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
    "a key of its own": lambda s: {"student": s, "epoch": 1},
    "two wrappers": lambda s: {"checkpoint": {"state_dict": s}},
}


@pytest.mark.parametrize("form", WRAPPED)
def test_what_training_loops_wrap_around_a_checkpoint_is_taken_off(form, tmp_path):
    state = {"visual.proj": torch.ones(2, 2), "logit_scale": torch.zeros(()), "attn_mask": torch.zeros(1)}
    torch.save(WRAPPED[form](state), tmp_path / "x.pt")
    assert set(read_state(tmp_path / "x.pt")) == {"visual.proj", "logit_scale"}


def test_shards_are_read_by_their_index(tmp_path):
    from safetensors.torch import save_file

    save_file({"visual.proj": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    save_file({"logit_scale": torch.zeros(1)}, tmp_path / "b.safetensors")
    index = {"weight_map": {"visual.proj": "a.safetensors", "logit_scale": "b.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert set(read_state(tmp_path / "model.safetensors.index.json")) == {"visual.proj", "logit_scale"}
    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(BadInput, match=r"b\.safetensors is not beside it"):
        read_state(tmp_path / "model.safetensors.index.json")


def test_the_models_names_find_its_weights_below_any_prefix_and_beside_others(clip, tmp_path) -> None:
    state = clip.model.state_dict()
    lightning = {f"towers.0.{k}": v for k, v in state.items()} | {"criterion.weight": torch.ones(2)}
    average = {f"ema_model.{k}": v + 1 for k, v in state.items()}
    torch.save({"state_dict": lightning | average}, tmp_path / "x.pt")
    found = read_state(tmp_path / "x.pt", clip.model)
    assert torch.equal(found["visual.proj"], state["visual.proj"]) and "criterion.weight" not in found


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda s: {k: v for k, v in s.items() if k.startswith("visual.")}, "a vision tower alone"),
        (lambda s: {k.removeprefix("visual."): v for k, v in s.items() if k.startswith("visual.")}, "a vision tower alone"),
        (lambda s: {"vision_model.embeddings.class_embedding": torch.ones(1)}, "Hugging Face"),
        (lambda s: {f"{p}.{k}": v for k, v in s.items() for p in ("a", "b")}, r"2 times, below a\., b\."),
        (lambda s: {"optimizer": {}, "epoch": 3}, "it has optimizer, epoch"),
        (lambda s: [1, 2], "holds list"),
    ],
)
def test_what_is_no_clip_is_refused_with_what_was_found(clip, tmp_path, make, says) -> None:
    torch.save(make(clip.model.state_dict()), tmp_path / "x.pt")
    with pytest.raises(BadInput, match=says):
        read_state(tmp_path / "x.pt", clip.model)
