from __future__ import annotations

import jsonschema
import pytest
import torch

from pathasst.core.errors import BadInput, BadSettings
from pathasst.core.records import IMAGE, Turn
from pathasst.mllm import model
from pathasst.mllm.chat import render
from pathasst.mllm.generate import PathAsstModel
from pathasst.mllm.transformers_engine import TransformersEngine, _Constrained

from .conftest import BLUE, RED, SPECS, picture

ASK = [Turn(role="user", content=f"{IMAGE}\nIs it red?")]


@pytest.fixture
def assistant(parts) -> PathAsstModel:
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in parts.llm.parameters():  # an untrained net says one word for ever; noise makes it talk
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return PathAsstModel(TransformersEngine(parts))


def test_greedy_equals_transformers(assistant):
    parts, image = assistant.engine.parts, picture(RED, noise=2)
    ids = render(ASK, parts.tokenizer, parts.template, images=1, image_tokens=16, prompt=True).ids
    pixels = model.pixels(parts, [image])
    theirs = parts.model.generate(input_ids=torch.tensor([ids]), pixel_values=pixels, max_new_tokens=12, do_sample=False)
    expected = parts.template.parse(parts.tokenizer.decode(theirs[0][len(ids) :])).content
    assert assistant.reply(ASK, [image], max_new_tokens=12).content == expected


def test_what_was_read_before_is_reused_and_changes_nothing(assistant):
    red, blue = picture(RED, noise=1), picture(BLUE, noise=1)
    dialogues = [(ASK, [red]), (ASK, [blue]), (ASK, [red])]
    first = assistant.reply(ASK, [red], max_new_tokens=8)
    more = [*ASK, first, Turn(role="user", content=f"And {IMAGE}?")]
    dialogues += [(more, [red, blue]), (more, [red, red]), (more[:1], [red]), ([Turn(role="user", content="Hi")], [])]
    for turns, images in dialogues:
        kept = assistant.reply(turns, images, max_new_tokens=8)
        assert kept == PathAsstModel(TransformersEngine(assistant.engine.parts)).reply(turns, images, max_new_tokens=8)
    assert len(assistant.engine._memory.features) == 2


def test_together_equals_one_by_one(assistant):
    requests = [(ASK, [picture(RED, n)], []) for n in (1, 2)] + [([Turn(role="user", content="Hi, is it blue?")], [], [])]
    together = assistant.reply_many(requests, max_new_tokens=8, batch=2)
    assert [t.content for t in together] == [assistant.reply(*r, max_new_tokens=8).content for r in requests]


def test_stream_gives_the_same_text_piece_by_piece(assistant):
    pieces = list(assistant.stream(ASK, [picture(RED)], max_new_tokens=10))
    assert isinstance(pieces[-1], Turn)
    assert "".join(pieces[:-1]).strip() == pieces[-1].content
    heard: list[str] = []
    assert assistant.reply(ASK, [picture(RED)], max_new_tokens=10, on_text=heard.append) == pieces[-1]
    assert heard == pieces[:-1]


def test_a_begun_call_always_becomes_readable(assistant):
    """The net babbles; once a call is begun, the grammar alone makes a call of an offered tool out of it."""
    engine = assistant.engine
    constraint = engine._constraint(SPECS, calls=True)
    logits = torch.randn(2000, engine.parts.model.lm_head.out_features)
    written = engine.tokenize("So <tool_call>")
    for token in written:
        constraint.accept(token)
    for row in logits:
        constraint.allow(row)
        written.append(int(row.argmax()))
        constraint.accept(written[-1])
        if engine._text(written).endswith("</tool_call>"):
            break
    (call,) = assistant.template.parse(engine._text(written)).tool_calls
    assert call.name in [s.name for s in SPECS]
    jsonschema.validate(call.arguments, next(s.parameters for s in SPECS if s.name == call.name))


def test_in_a_batch_each_call_is_held_to_its_own_tools(assistant):
    """One row with a tool, one with another, one without: what is begun as a call becomes one of the row's own."""
    engine = assistant.engine
    constraints = [engine._constraint([SPECS[0]], calls=True), engine._constraint([SPECS[1]], calls=True), None]
    processor = _Constrained(constraints, [engine._image_id])
    made = torch.tensor([engine.tokenize("<tool_call>")] * 3)
    for _ in range(25):
        scores = processor(made, torch.randn(3, engine.parts.model.lm_head.out_features))
        made = torch.cat([made, scores.argmax(-1, keepdim=True)], dim=1)
    texts = [engine._text(row.tolist()) for row in made]
    assert texts[0].startswith(f'<tool_call>{{"name": "{SPECS[0].name}", "arg')
    assert texts[1].startswith(f'<tool_call>{{"name": "{SPECS[1].name}", "arg')
    assert not texts[2].startswith('<tool_call>{"name"')


def test_a_device_that_is_not_there_is_said(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    with pytest.raises(BadSettings, match="no CUDA GPU"):
        PathAsstModel.load(tmp_path, device="cuda")
    with pytest.raises(BadSettings, match="choose engine transformers"):
        PathAsstModel.load(tmp_path, engine="llama.cpp", device="cuda")


def test_too_long_or_mismatched_is_bad_input(assistant):
    with pytest.raises(BadInput, match="2048 are allowed"):
        assistant.reply([Turn(role="user", content="red " * 3000)])
    with pytest.raises(BadInput, match="1 <image> marks for 0 pictures"):
        assistant.reply(ASK)


class Scripted(torch.nn.Module):
    """An output layer that says one token after the other, whatever is asked."""

    def __init__(self, ids: list[int], vocabulary: int) -> None:
        super().__init__()
        self.ids, self.vocabulary, self.step = ids, vocabulary, 0

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(*hidden.shape[:-1], self.vocabulary)
        logits[..., self.ids[min(self.step, len(self.ids) - 1)]] = 9.0
        self.step += 1
        return logits


def test_a_stop_of_several_tokens_ends_the_answer(tiny_llm, tiny_tower):
    parts = model.build(model.ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm), template="paper"))
    ids = parts.tokenizer("It is # red. ###\nUser: and more and more", add_special_tokens=False).input_ids
    script = parts.model.lm_head = Scripted(ids, len(parts.tokenizer))
    alone = PathAsstModel(TransformersEngine(parts)).reply(ASK, [picture(RED)], max_new_tokens=len(ids))
    assert alone.content == "It is # red."
    assert script.step < len(ids)
    script.step = 0
    (together,) = PathAsstModel(TransformersEngine(parts)).reply_many([(ASK, [picture(RED)], [])], max_new_tokens=len(ids))
    assert together == alone
    assert script.step < len(ids)
    script.step = 0
    pieces = list(PathAsstModel(TransformersEngine(parts)).stream(ASK, [picture(RED)], max_new_tokens=len(ids)))
    assert "".join(p for p in pieces if isinstance(p, str)).rstrip() == "It is # red."


def test_words_that_go_round_are_not_written_to_the_end(tiny_llm, tiny_tower):
    parts = model.build(model.ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm), template="paper"))
    ids = parts.tokenizer("It shows " + "a cell with a marker for " * 20, add_special_tokens=False).input_ids
    script = parts.model.lm_head = Scripted(ids, len(parts.tokenizer))
    *pieces, turn = PathAsstModel(TransformersEngine(parts)).stream(ASK, [picture(RED)], max_new_tokens=len(ids))
    assert 4 <= turn.content.count("a cell with a marker for") < 8 and script.step < len(ids) / 2
    assert "".join(pieces).strip() == turn.content
