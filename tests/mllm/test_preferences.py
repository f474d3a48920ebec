"""Preferences: pairs with their provenance, exact masks, and a margin that rises (TRL's DPO on a tiny model)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pathasst.core.errors import BadDataset, BadInput, BadSettings
from pathasst.core.records import IMAGE, Conversation, Source, ToolCall, Turn
from pathasst.mllm.preferences import of_calls, of_feedback

from .conftest import RED, SPECS, picture, write
from .test_vlm import llava_onevision

COUNT = ToolCall(name="ki67_cells")
SEARCH = ToolCall(name="papers_search", arguments={"query": "Ki-67"})


def put_right(n: int, **more) -> Conversation:
    """A search was called for, failed, and the count was right."""
    turns = [
        Turn(role="user", content=f"{IMAGE}\nCount nuclei"),
        Turn(role="assistant", tool_calls=[SEARCH]),
        Turn(role="tool", tool="papers_search", content="Error: the collection is empty", error="the collection is empty"),
        Turn(role="assistant", tool_calls=[COUNT]),
        Turn(role="tool", tool="ki67_cells", content="12 nuclei"),
        Turn(role="assistant", content="12 nuclei."),
    ]
    about = {"kind": "invoke", "source": Source(article_id="test"), "tools": ["ki67_cells", "papers_search"], **more}
    return Conversation(conversation_id=f"c{n}", turns=turns, images=[picture(RED, noise=n + 1)], **about)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    conversations = [put_right(n) for n in range(4)]
    never = put_right(5)
    never = replace(never, turns=[*never.turns[:3], Turn(role="user", content="Leave it"), *never.turns[3:]])
    worked = put_right(6)
    worked = replace(worked, turns=[replace(t, content=t.content.replace("Error: ", ""), error="") for t in worked.turns])
    return write(tmp_path_factory.mktemp("calls"), [*conversations, never, worked, put_right(7, split="test")])


@pytest.fixture
def feedback(tmp_path) -> Path:
    common = {"user": "", "brain": "b", "ran": [], "comment": "", "alone": True}
    lines = [
        {"id": "1", "verdict": "good", "question": "What is  Ki-67?", "answer": "A marker.", **common},
        {"id": "2", "verdict": "bad", "question": "what is Ki-67?", "answer": "A stain of fat.", **common},
        {"about": "2", "user": "", "comment": "It marks dividing cells."},
        {"id": "3", "verdict": "bad", "question": "And HER2?", "answer": "I do not know.", **common},
        {"id": "4", "verdict": "good", "question": "Is this cancer?", "answer": "Yes.", **common | {"alone": False}},
        {"id": "5", "verdict": "bad", "question": "Is this cancer?", "answer": "No.", **common | {"alone": False}},
    ]
    file = tmp_path / "feedback.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_a_call_that_failed_stands_beside_the_one_that_put_it_right(data):
    pairs = list(of_calls([data]))
    assert [p.ids for p in pairs] == [(f"c{n}", "1") for n in range(4)]
    pair = pairs[0]
    assert pair.reason == "the collection is empty"
    assert [c.name for c in pair.rejected.tool_calls] == ["papers_search"]
    assert [c.name for c in pair.chosen.tool_calls] == ["ki67_cells"]
    assert [t.role for t in pair.prompt.turns] == ["user"] and len(pair.prompt.images) == 1


def test_verdicts_make_a_pair_where_the_question_explains_itself(feedback):
    pairs, left_out = of_feedback(feedback)
    assert [(p.chosen.content, p.rejected.content, p.ids) for p in pairs] == [("A marker.", "A stain of fat.", ("1", "2"))]
    assert pairs[0].reason == "It marks dividing cells."
    assert left_out == 3  # one without a partner, two about a picture that is not stored
    feedback.write_text("no json\n")
    with pytest.raises(BadInput, match="line 1 is no entry"):
        of_feedback(feedback)


def test_the_margin_rises_and_peft_alone_loads_the_adapter(data, feedback, tmp_path):
    pytest.importorskip("trl", reason="the extra preferences is not installed")
    from peft import PeftModel

    from pathasst.mllm.preference_training import PreferenceTraining, located, train
    from pathasst.mllm.vlm import VlmTraining, load
    from pathasst.mllm.vlm_samples import IGNORED, VlmTemplate

    folder = llava_onevision(tmp_path / "model")
    settings = PreferenceTraining(
        model=str(folder),
        epochs=3,
        batch=2,
        lr=0.02,
        beta=0.5,
        precision="fp32",
        device="cpu",
        lora={"rank": 4, "alpha": 8, "modules": ["q_proj", "v_proj", "down_proj"]},
    )
    said: list[str] = []
    adapter = train([data], tmp_path / "run", settings, SPECS, feedback=feedback, say=said.append)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-4)  # the reference is the untrained model
    assert log[-1]["rewards/margins"] > 0.5
    assert log[-1]["loss"] < log[0]["loss"]
    lines = [json.loads(line) for line in (tmp_path / "run" / "pairs.jsonl").read_text().splitlines()]
    assert [line["source"] for line in lines] == ["call"] * 4 + ["feedback"]
    assert any("3 verdicts without a partner" in line for line in said)

    base, processor = load(VlmTraining(model=str(folder), precision="fp32", device="cpu"))
    template = VlmTemplate(processor, {s.name: s for s in SPECS})
    pair = next(of_calls([data]))

    def preference(model) -> float:
        """How much likelier the preferred turn is, nats."""
        nats = []
        for turn, sample in zip((pair.chosen, pair.rejected), located(template, pair), strict=True):
            inputs = template.encode(sample)
            labels = inputs.pop("labels")
            learnt = inputs["input_ids"][labels != IGNORED]
            words = processor.tokenizer.decode(learnt)
            assert words.endswith("<|im_end|>\n") and f'"{turn.tool_calls[0].name}"' in words
            assert "Count" not in words and "im_start" not in words  # the mask is the answer's, exactly
            with torch.no_grad():
                logits = model(**inputs).logits[0, :-1].log_softmax(-1)
            chosen = labels[0, 1:] != IGNORED
            nats.append(float(logits[chosen].gather(1, labels[0, 1:][chosen][:, None]).sum()))
        return nats[0] - nats[1]

    before = preference(base)
    assert preference(PeftModel.from_pretrained(base, adapter).eval()) > before + 1.0
    with pytest.raises(BadSettings, match="another --out"):
        train([data], tmp_path / "run", settings.replace(beta=0.2), SPECS, feedback=feedback, say=lambda _: None)
    with pytest.raises(BadSettings, match="other settings or data"):
        train([data], tmp_path / "run", settings, SPECS, say=lambda _: None)  # without the verdicts


def test_the_data_of_a_run_is_its_pairs_with_their_pictures(data):
    from pathasst.mllm.preferences import fingerprint_of

    pairs = list(of_calls([data]))
    assert fingerprint_of(pairs) == fingerprint_of(list(of_calls([data])))
    other_picture = replace(pairs[0], prompt=replace(pairs[0].prompt, images=[picture(RED, noise=9)]))
    other_answer = replace(pairs[0], chosen=replace(pairs[0].chosen, content="I count."))
    assert (
        len({fingerprint_of(changed) for changed in (pairs, pairs[1:], [other_picture, *pairs[1:]], [other_answer, *pairs[1:]])})
        == 4
    )


def test_without_a_pair_nothing_is_trained(tmp_path, feedback):
    pytest.importorskip("trl", reason="the extra preferences is not installed")
    from pathasst.mllm.preference_training import PreferenceTraining, train

    feedback.write_text(json.dumps({"id": "1", "verdict": "good", "question": "?", "answer": "!", "alone": True}) + "\n")
    settings = PreferenceTraining(model=str(llava_onevision(tmp_path / "model")), device="cpu")
    with pytest.raises(BadDataset, match="there is no pair to learn from"):
        train([], tmp_path / "run", settings, SPECS, feedback=feedback, say=lambda _: None)
