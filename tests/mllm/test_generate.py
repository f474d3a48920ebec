from __future__ import annotations

import pytest
import torch

from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, Turn
from pathasst.mllm import model
from pathasst.mllm.chat import render
from pathasst.mllm.generate import PathAsst

from .conftest import BLUE, RED, SPECS, picture

ASK = [Turn(role="user", content=f"{IMAGE}\nIs it red?")]


@pytest.fixture
def assistant(parts) -> PathAsst:
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in parts.llm.parameters():  # an untrained net says one word for ever; noise makes it talk
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return PathAsst(parts)


def test_greedy_equals_transformers(assistant):
    parts, image = assistant.parts, picture(RED, noise=2)
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
        assert kept == PathAsst(assistant.parts).reply(turns, images, max_new_tokens=8)
    assert len(assistant._memory.features) == 2


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
    """The untrained net babbles; the constraint alone makes a call of an offered tool out of it, or words."""
    begun = [Turn(role="user", content="Count")]
    opening = assistant.parts.tokenizer("<tool_call>", add_special_tokens=False).input_ids
    forced, plain = list(opening), assistant._next

    def next_token(logits, made, names):
        return forced.pop(0) if forced else plain(logits, made, names)

    assistant._next = next_token
    text = ""
    for piece in assistant.stream(begun, [], SPECS, max_new_tokens=60):
        text = piece if isinstance(piece, Turn) else text
    written = assistant._text(assistant._memory.ids)
    assert '<tool_call>{"name": "' in written.split("<|im_start|>assistant")[-1]
    name = written.split('<tool_call>{"name": "')[-1].split('"')[0]
    assert name in [s.name for s in SPECS]


def test_in_a_batch_each_call_is_held_to_its_own_tools(assistant):
    """One row with a tool, one with another, one without: what is begun as a call becomes one of the row's own."""
    offered = [{SPECS[0].name: SPECS[0].parameters}, {SPECS[1].name: SPECS[1].parameters}, {}]
    begun = assistant.parts.tokenizer("<tool_call>", add_special_tokens=False).input_ids
    made = torch.tensor([begun] * 3)
    for _ in range(25):
        scores = assistant._held(made, torch.randn(3, assistant.parts.model.lm_head.out_features), offered)
        made = torch.cat([made, scores.argmax(-1, keepdim=True)], dim=1)
    texts = [assistant._text(row.tolist()) for row in made]
    assert texts[0].startswith(f'<tool_call>{{"name": "{SPECS[0].name}", "arg')
    assert texts[1].startswith(f'<tool_call>{{"name": "{SPECS[1].name}", "arg')
    assert not texts[2].startswith('<tool_call>{"name"')


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
    alone = PathAsst(parts).reply(ASK, [picture(RED)], max_new_tokens=len(ids))
    assert alone.content == "It is # red."
    assert script.step < len(ids)
    script.step = 0
    (together,) = PathAsst(parts).reply_many([(ASK, [picture(RED)], [])], max_new_tokens=len(ids))
    assert together == alone
    assert script.step < len(ids)
    script.step = 0
    pieces = list(PathAsst(parts).stream(ASK, [picture(RED)], max_new_tokens=len(ids)))
    assert "".join(p for p in pieces if isinstance(p, str)).rstrip() == "It is # red."


def test_words_that_go_round_are_not_written_to_the_end(tiny_llm, tiny_tower):
    parts = model.build(model.ModelSettings(vision=str(tiny_tower), llm=str(tiny_llm), template="paper"))
    ids = parts.tokenizer("It shows " + "a cell with a marker for " * 20, add_special_tokens=False).input_ids
    script = parts.model.lm_head = Scripted(ids, len(parts.tokenizer))
    *pieces, turn = PathAsst(parts).stream(ASK, [picture(RED)], max_new_tokens=len(ids))
    assert 4 <= turn.content.count("a cell with a marker for") < 8 and script.step < len(ids) / 2
    assert "".join(pieces).strip() == turn.content
