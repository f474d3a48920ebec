from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pathasst.core.records import ToolCall
from pathasst.mllm.tool_grammar import calls_grammar
from pathasst.mllm.tool_text import list_tools, write_calls
from pathasst.tools.registry import all_specs

from .conftest import SPECS, make_tokenizer

OFFERED = {spec.name: spec.parameters for spec in all_specs()}
FITTING = [
    ("ki67_cells", {}),
    ("ki67_cells", {"min_score": None, "um_per_px": 0.25}),
    ("lbc_generate", {"cell_class": "ASC-US", "count": 8, "hyperchromasia": True, "nuclear_enlargement": 2.5}),
    ("segment", {"box": None, "points": [[1, 2], [3.5, 4]]}),
    ("papers_search", {"k": 20, "query": 'Ki-67 "index" in µm, naïve'}),
    ("blood_cells", {"white_cell_types": False}),
]
NOT_FITTING = [
    '<tool_call>{"name": "segmentx',
    "<tool_call> Let me",
    '<tool_call>{"name": "ki67_cells", "arguments": {}} and',
    '<tool_call>{"name": "ki67_cells", "arguments": {"um_per_px": "0.25"',
    '<tool_call>{"name": "ki67_cells", "arguments": {"um_per_px": 20,',
    '<tool_call>{"name": "ki67_cells", "arguments": {"magnification"',
    '<tool_call>{"name": "lbc_generate", "arguments": {"cell_class": "HSILX"',
    '<tool_call>{"name": "lbc_generate", "arguments": {"count": 9,',
    '<tool_call>{"name": "lbc_classify", "arguments": {"',
    '<tool_call>{"name": "segment", "arguments": {"points": [1',
    '<tool_call>{"name": "papers_search", "arguments": {}',
    '<tool_call>{"name": "papers_search", "arguments": {"k": 0,',
    '<tool_call>{"name": "blood_cells", "arguments": {"white_cell_types": "yes"',
]


@pytest.fixture(scope="module")
def judge():
    """Reads a text under the grammar of all tools: how much of it fits, and whether it may end there."""
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer

    tokenizer = make_tokenizer()
    tokens, grammar = from_tokenizer(tokenizer), calls_grammar(all_specs())

    def read(text: str) -> tuple[bool, bool]:
        matcher = LLMatcher(tokens, grammar, log_level=0)
        assert not matcher.get_error()
        ids = tokenizer(text, add_special_tokens=False).input_ids
        return matcher.try_consume_tokens(ids) == len(ids), matcher.is_accepting()

    return read


@pytest.mark.parametrize(("name", "arguments"), FITTING)
def test_a_call_that_fits_may_be_written(judge, name, arguments):
    call = write_calls([ToolCall(name=name, arguments=arguments)])
    for text in (call, f"Let me look. {call}\n{write_calls([ToolCall(name='ki67_cells')])} Done."):
        assert judge(text) == (True, True)


@pytest.mark.parametrize("text", NOT_FITTING)
def test_what_does_not_fit_may_not(judge, text):
    assert judge(text) != (True, True)
    assert judge(text)[0] is False


@pytest.mark.parametrize("text", ["Plain words, <b>marked up</b>.", "", "a < b, {so} it goes"])
def test_words_are_free(judge, text):
    assert judge(text) == (True, True)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_what_can_be_finished_fits(judge, data):
    """A random walk that only ever writes allowed tokens: a call that gets finished is valid for its tool."""
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer
    from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

    tokenizer = make_tokenizer()
    matcher = LLMatcher(from_tokenizer(tokenizer), calls_grammar(all_specs()))
    written = tokenizer("<tool_call>", add_special_tokens=False).input_ids
    matcher.consume_tokens(written)
    mask = allocate_token_bitmask(1, len(tokenizer))
    for _ in range(120):
        fill_next_token_bitmask(matcher, mask)
        bits = ((mask[0][:, None] >> list(range(32))) & 1).flatten()
        allowed = [n for n in range(len(tokenizer)) if bits[n]]
        ending = [n for n in allowed if tokenizer.decode([n]) in ('"', "}", "]", "},")]
        token = data.draw(st.sampled_from(ending if ending and data.draw(st.booleans()) else allowed))
        written.append(token)
        matcher.consume_token(token)
        text = tokenizer.decode(written)
        if text.endswith("</tool_call>"):
            call = json.loads(text.removeprefix("<tool_call>").removesuffix("</tool_call>"))
            jsonschema.validate(call["arguments"], OFFERED[call["name"]])
            break


def test_tools_are_listed_in_a_line_each():
    text = list_tools(SPECS)
    assert "ki67_cells(): Counts nuclei\n" in text
    assert "papers_search(query: str, k?): Searches abstracts of the literature\n" in text
    assert list_tools([]) == ""
