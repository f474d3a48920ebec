from __future__ import annotations

import os
import signal
from dataclasses import replace

import pytest
import torch

from pathasst.core.errors import BadDataset, BadSettings
from pathasst.core.records import Source, ToolCall, Turn
from pathasst.mllm.data import FeatureTable, samples_of
from pathasst.mllm.generate import PathAsstModel
from pathasst.mllm.model import build
from pathasst.mllm.settings import LoraSettings, MllmTraining, ModelSettings, PhaseSettings
from pathasst.mllm.train import train
from pathasst.training import log as logs

from .conftest import BLANK, BLUE, QUESTION, RED, SPECS, colours, picture, write


@pytest.fixture(scope="module")
def settings(tiny_llm, tiny_tower) -> MllmTraining:
    return MllmTraining(
        model=ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm)),
        phase1=PhaseSettings(take={"describe": 0}, epochs=8, projector_lr=2e-3, row_tokens=250),
        phase2=PhaseSettings(
            take={"describe": 0, "invoke": 8},
            epochs=14,
            lr=1e-2,
            projector_lr=2e-3,
            row_tokens=250,
            lora=LoraSettings(rank=16, alpha=32),
        ),
        precision="fp32",
        tool_lists=1,
        save_every=10,
        evaluate_every=1000,
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("conversations"), colours(24))


@pytest.fixture(scope="module")
def run(settings, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    said: list[str] = []
    train([data], out, settings, SPECS, say=said.append)
    return out, said


def losses(out, phase, name="loss"):
    return [line[name] for line in logs.read(out / f"phase{phase}") if name in line]


def test_both_phases_losses_fall(run):
    out, said = run
    for phase in (1, 2):
        made = losses(out, phase)
        assert made[-1] < made[0]
        assert (out / f"phase{phase}" / "curves.png").stat().st_size > 1000
    assert losses(out, 2, "val_loss")[-1] < 1.0
    assert not list(out.glob("phase*/checkpoints"))
    assert any("0 left out" in line for line in said)


def test_same_question_other_picture_other_answer(run):
    assistant = PathAsstModel.load(run[0] / "adapter")
    ask = [Turn(role="user", content=QUESTION)]
    answers = {c: assistant.reply(ask, [picture(c, noise=99)], max_new_tokens=12).content for c in (RED, BLUE)}
    assert answers == {RED: "It is red.", BLUE: "It is blue."}
    blind = assistant.reply(ask, [picture(BLANK)], max_new_tokens=12).content  # the control: one answer for both, so half right
    assert sum(blind == right for right in answers.values()) <= 1


def test_calls_the_tool_and_reads_its_result(run):
    assistant = PathAsstModel.load(run[0] / "adapter")
    turns = [Turn(role="user", content="<image>\nCount nuclei")]
    call = assistant.reply(turns, [picture(RED, noise=50)], SPECS, max_new_tokens=30)
    assert [c.name for c in call.tool_calls] == ["ki67_cells"]
    assert call.tool_calls[0] == ToolCall(name="ki67_cells", id="call_1")


def test_kill_and_resume_ends_with_the_same_bytes(run, settings, data, tmp_path, forked):
    out = tmp_path / "run"

    def killed(line: str) -> None:  # in the second phase, between two checkpoints
        if line.startswith("phase 2 step 20/"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert forked(lambda: train([data], out, settings, SPECS, say=killed)) == [-signal.SIGKILL]
    assert not (out / "adapter").exists()
    said: list[str] = []
    train([data], out, settings, SPECS, say=said.append)
    assert not any(line.startswith("phase 1 step") for line in said)  # it was finished
    assert any("0 of them through the tower now" in line for line in said)
    whole = run[0] / "adapter" / "model.safetensors"
    assert (out / "adapter" / "model.safetensors").read_bytes() == whole.read_bytes()
    for phase in (1, 2):
        assert losses(out, phase) == losses(run[0], phase)
    train([data], out, settings, SPECS, say=said.append)
    assert said[-1].startswith("already finished")


def test_goes_on_from_a_finished_adapter(run, settings, data, tmp_path):
    import torch
    from safetensors.torch import load_file

    still = settings.phase2.replace(epochs=1, lr=1e-12, projector_lr=1e-12)
    more = settings.replace(start=str(run[0] / "adapter"), phase1=PhaseSettings(take={}), phase2=still)
    final = train([data], tmp_path, more, SPECS, say=lambda _: None)
    before, after = (load_file(f / "model.safetensors") for f in (run[0] / "adapter", final))
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items() if name.startswith("lora."))
    for name in before:  # the projector went into the whitened basis and back
        torch.testing.assert_close(after[name], before[name], atol=2e-3, rtol=2e-3)
    with pytest.raises(BadSettings, match="another rank or other modules"):
        train([data], tmp_path / "b", more.replace(phase2=still.replace(lora=LoraSettings(rank=2))), SPECS)


def test_every_weight_is_trained_and_saved_as_a_whole_checkpoint(settings, data, tmp_path):
    import torch

    whole = settings.replace(phase2=settings.phase2.replace(full=True, lr=4e-3, epochs=10), precision="bf16")
    final = train([data], tmp_path / "a", whole, SPECS, say=lambda _: None)
    made = losses(tmp_path / "a", 2)
    assert made[-1] < made[0]
    plain, after = build(settings.model, torch.float32), PathAsstModel.load(final)
    for name in ("embed_tokens.weight", "layers.0.mlp.down_proj.weight", "norm.weight"):
        one, other = (dict(p.llm.named_parameters())[name].float() for p in (plain, after.engine.parts))
        assert not torch.allclose(one, other, atol=1e-3)
    turns = [Turn(role="user", content=QUESTION)]
    assert "red" in after.reply(turns, [picture(RED)]).content
    assert "blue" in after.reply(turns, [picture(BLUE)]).content


def test_a_full_run_begins_with_the_adapters_of_the_run_it_goes_on_from(run, settings, data, tmp_path):
    import torch

    still = settings.phase2.replace(full=True, epochs=0.1, lr=1e-12, projector_lr=1e-12)
    more = settings.replace(start=str(run[0] / "adapter"), phase1=PhaseSettings(take={}), phase2=still)
    after = PathAsstModel.load(train([data], tmp_path, more, SPECS, say=lambda _: None)).engine.parts.llm.state_dict()
    before = PathAsstModel.load(run[0] / "adapter", engine="transformers").engine.parts.llm.state_dict()
    for name, tensor in before.items():
        torch.testing.assert_close(after[name].float(), tensor.float(), atol=2e-2, rtol=2e-2)


def test_four_bit_training_gives_a_plain_adapter(settings, data, tmp_path):
    pytest.importorskip("bitsandbytes", reason="the extra qlora is not installed")
    phase = settings.phase2.replace(epochs=2, lora=LoraSettings(rank=4, alpha=8, bits=4))
    final = train(
        [data], tmp_path / "q", settings.replace(phase1=PhaseSettings(take={}), phase2=phase), SPECS, say=lambda _: None
    )
    assert losses(tmp_path / "q", 2)
    assert PathAsstModel.load(final, engine="transformers").reply([Turn(role="user", content="Hello")]).content is not None


def test_another_run_in_the_same_folder_is_refused(run, settings, data):
    with pytest.raises(BadSettings, match="other settings or data"):
        train([data], run[0], settings.replace(seed=1), SPECS)


def test_what_cannot_be_used_is_counted_and_nothing_left_is_an_error(settings, tmp_path):
    bad = [replace(c, images=[b"broken"]) for c in colours(6)]
    said: list[str] = []
    with pytest.raises(BadDataset, match="no conversation can be trained on"):
        train([write(tmp_path / "bad", bad)], tmp_path / "out", settings, SPECS, say=said.append)


@pytest.mark.parametrize("recipe", ["embedded", "paper", "modern"])
def test_recipes_parse(recipe):
    loaded = MllmTraining.load(recipe, ["phase2.lora.alpha=8"])
    assert loaded.phase1.lora.rank == 0 and not loaded.phase1.full
    assert loaded.phase2.full or loaded.phase2.lora.rank > 0


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(BadSettings, match="bits at 16"):
        PhaseSettings(take={}, full=True, lora=LoraSettings(bits=4))
    with pytest.raises(BadSettings, match="phase 1 trains the projector alone"):
        MllmTraining(phase1=PhaseSettings(take={}, full=True))


def test_unknown_settings_are_named():
    with pytest.raises(BadSettings, match=r"no setting phase1\.lrate"):
        MllmTraining(phase1={"take": {}, "lrate": 1})


def test_features_survive_a_kill_and_are_shared(parts, tmp_path):
    pictures = [picture(RED, n) for n in range(1, 6)]
    table = FeatureTable.open(tmp_path / "f16", parts)
    for image in pictures[:3]:
        table.add(image, parts)
    whole = table.tensor(parts).clone()
    with (tmp_path / "f16").open("ab") as file:  # killed while a row was written
        file.write(b"half a row")
    with (tmp_path / "f16.keys").open("a") as file:
        file.write("0123")
    again = FeatureTable.open(tmp_path / "f16", parts)
    assert [again.add(image, parts) for image in pictures] == [0, 1, 2, 3, 4]
    assert torch.equal(again.tensor(parts)[:3], whole) and again.computed == 2
    reader = FeatureTable.open(tmp_path / "f16", parts, write=False)
    assert [reader.add(image, parts) for image in pictures] == [0, 1, 2, 3, 4] and reader.computed == 0
    memory = FeatureTable()
    for image in pictures:
        memory.add(image, parts)
    torch.testing.assert_close(reader.tensor(parts), memory.tensor(parts), atol=2e-3, rtol=1e-2)
    with torch.no_grad():
        parts.model.model.vision_tower.embeddings.class_embedding.add_(1.0)
    assert not FeatureTable.open(tmp_path / "f16", parts).numbers  # another tower


def test_a_gpu_that_is_not_there_is_said_before_anything_is_computed(tiny_llm, tiny_tower, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    data = write(tmp_path / "data", colours(6))
    settings = MllmTraining(model=ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm)), device="cuda")
    with pytest.raises(BadSettings, match="no CUDA device"):
        train([data], tmp_path / "run", settings, SPECS)
    assert not (tmp_path / "run" / "features.f16").exists()


def test_the_papers_subset_is_books_long_single_captions_and_tool_use(parts):
    describe, invoke = colours(2)[:2]
    conversations = [
        replace(describe, conversation_id="book", source=Source(article_id="b", kind="book"), caption="short"),
        replace(describe, conversation_id="long", panels=1, caption="cell " * 51),
        replace(describe, conversation_id="panels", panels=2, caption="cell " * 51),
        replace(describe, conversation_id="short", panels=1, caption="cell " * 50),
        invoke,
    ]
    samples, _ = samples_of(conversations, parts, FeatureTable(), {s.name: s for s in SPECS})
    assert [s.name for s in samples if s.paper] == ["book", "long", invoke.conversation_id]
