"""Ids and mask for every template with tokenizers of every family: supervised are the assistant's words, whatever is said."""

from __future__ import annotations

from functools import lru_cache

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pathasst.core import weights
from pathasst.core.errors import BadInput
from pathasst.core.records import IMAGE, ToolCall, Turn
from pathasst.mllm.chat import render
from pathasst.mllm.chat_template import CHATML, PAPER, ChatTemplate, from_tokenizer

from .conftest import SPECS, WORDS, make_tokenizer

CALL = ToolCall(name="papers_search", arguments={"query": "Ki-67 α", "k": 3})


@lru_cache(maxsize=4)
def tokenizer_of(name: str):
    """byte-level BPE; metaspace unigram with byte fallback off (as Vicuna's family); SmolLM2's own; MiniLM's word pieces."""
    if name == "bpe":
        made = make_tokenizer()
    elif name == "unigram":
        made = unigram()
    elif name == "smollm2":
        from pathasst.mllm.show import tokenizer_of as real

        made = real("smollm2-135m") if weights.present("smollm2-135m") else None
    else:
        made = wordpiece()
    if made is None:
        pytest.skip(f"pathasst models pull {'minilm' if name == 'minilm' else 'smollm2-135m'}")
    made.add_special_tokens({"extra_special_tokens": [IMAGE]})
    return made


def unigram():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    backend.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False)
    backend.train_from_iterator(WORDS * 8, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", pad_token="</s>")


def wordpiece():
    from transformers import PreTrainedTokenizerFast

    if not weights.present("minilm"):
        return None
    files = sorted(weights.path("minilm").rglob("tokenizer.json"))
    return PreTrainedTokenizerFast(tokenizer_file=str(files[0]), eos_token="[SEP]", pad_token="[PAD]") if files else None


TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
FAMILIES = [("bpe", CHATML), ("bpe", PAPER), ("unigram", CHATML), ("unigram", PAPER), ("smollm2", CHATML), ("smollm2", PAPER)]
FAMILIES += [("smollm2", None), ("minilm", PAPER)]  # None: the tokenizer's own template


def template_for(template: ChatTemplate | None, tokenizer) -> ChatTemplate:
    return template or from_tokenizer(tokenizer)


@pytest.mark.parametrize(("name", "template"), FAMILIES)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=TEXT, answered=TEXT, result=TEXT)
def test_mask_covers_exactly_the_assistant(name, template, asked, answered, result):
    tokenizer = tokenizer_of(name)
    template = template_for(template, tokenizer)
    turns = [
        Turn(role="user", content=f"{IMAGE}\n{asked.replace(IMAGE, '')}"),
        Turn(role="assistant", tool_calls=[CALL]),
        Turn(role="tool", tool="papers_search", content=result),
        Turn(role="assistant", content=answered),
    ]
    rendered = render(turns, tokenizer, template, tools=SPECS, images=1, image_tokens=5)
    assert len(rendered.ids) == len(rendered.mask)
    alone = [render([Turn(role="user", content="x"), t], tokenizer, template) for t in (turns[1], turns[3])]
    expected = [i for r in alone for i, m in zip(r.ids, r.mask, strict=True) if m]
    assert [i for i, m in zip(rendered.ids, rendered.mask, strict=True) if m] == expected
    stop = template.stop_ids(tokenizer)
    assert expected[-len(stop) :] == stop
    assert rendered.ids.count(tokenizer.convert_tokens_to_ids(IMAGE)) == 5
    assert not any(rendered.mask[: rendered.opening])


@pytest.mark.parametrize(("name", "template"), FAMILIES)
def test_truncation_never_takes_all_that_is_supervised(name, template):
    tokenizer = tokenizer_of(name)
    template = template_for(template, tokenizer)
    turns = [Turn(role="user", content="Is it red?"), Turn(role="assistant", content="It is blue.")] * 3
    whole = render(turns, tokenizer, template)
    for length in range(1, len(whole.ids) + 1):
        try:
            cut = render(turns, tokenizer, template, max_length=length, name="sample 7")
        except BadInput as error:
            assert "sample 7" in str(error)
        else:
            assert any(cut.mask)
            assert len(cut.ids) <= length
            assert cut.ids == whole.ids[: len(cut.ids)]
