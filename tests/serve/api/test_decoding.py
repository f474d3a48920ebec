"""What clients ask of an answer besides the question: its form, its length, a call; honoured or refused, never passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
import openai
import pydantic
import pytest
from assistant_parts import ChatServer, message
from server_parts import RuleBrain, Running, data_url, running

from pathasst.assistant.answer import Answer, Step
from pathasst.assistant.brain import parse_brain
from pathasst.assistant.brains.remote import RemoteBrain
from pathasst.assistant.grounding import Grounding
from pathasst.core.records import Annotation, ToolCall, ToolResult
from pathasst.imaging.pictures import encode_png
from pathasst.serve.api.decoding import limited
from pathasst.serve.structured import filled
from pathasst.tools.protocol import Registry


class Count(pydantic.BaseModel):
    """What a tool's numbers fill."""

    answer: str
    count: int
    notices: list[str]


class Diagnosis(pydantic.BaseModel):
    """What nothing here knows."""

    answer: str
    grade: Literal["low", "high"]
    survival_months: float


def tool(name: str = "report", **properties: Any) -> dict:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


@pytest.fixture
def composed(tmp_path: Path, registry: Registry) -> Iterator[Running]:
    """A server whose answers are composed from results, as those of the embedded brain are."""
    with running(tmp_path, registry, RuleBrain(grounding=Grounding.COMPOSED)) as server:
        yield server


@pytest.fixture
def client(composed: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=composed.v1, api_key="none needed", max_retries=0)


@pytest.fixture
def remote(tmp_path: Path, registry: Registry, chat_server: ChatServer) -> Iterator[Running]:
    """A server whose brain is another server, which writes what it is scripted to."""
    brain = RemoteBrain.open(parse_brain(f"{chat_server.url}#small"))
    with running(tmp_path, registry, brain) as server:
        yield server


def question(words: str, picture: np.ndarray | None = None) -> list[Any]:
    parts: list[dict] = [{"type": "text", "text": words}]
    if picture is not None:
        parts.append({"type": "image_url", "image_url": {"url": data_url(encode_png(picture))}})
    return [{"role": "user", "content": parts}]


def script(server: ChatServer, *texts: str) -> None:
    """Let the brain's server answer with these, one after the other."""
    left = iter(texts)
    server.answer = lambda body: (200, message(next(left)))


# models


def test_an_unknown_model_is_refused(composed: Running, client: openai.OpenAI) -> None:
    for call in (
        lambda: client.chat.completions.create(model="gpt-4o", messages=question("Hello")),
        lambda: client.responses.create(model="gpt-4o", input="Hello"),
        lambda: client.embeddings.create(model="text-embedding-3-small", input="Hello"),
        lambda: client.models.retrieve("gpt-4o"),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            call()
        assert refused.value.body["code"] == "model_not_found" and refused.value.body["param"] == "model"
    for name in ("pathasst", composed.brain.name):
        assert client.chat.completions.create(model=name, messages=question("Hello")).model == name


# response_format


def test_a_schema_is_filled_from_results(client: openai.OpenAI, spots: np.ndarray) -> None:
    answer = client.chat.completions.parse(model="pathasst", messages=question("Count the spots.", spots), response_format=Count)
    parsed = answer.choices[0].message.parsed
    assert parsed is not None and parsed.count == 5
    assert "not for diagnosis" in parsed.notices[-1]
    assert json.loads(answer.choices[0].message.content)["answer"] == parsed.answer  # JSON alone, without a footer


def test_what_no_result_holds_is_refused_by_name(client: openai.OpenAI, spots: np.ndarray) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.parse(model="pathasst", messages=question("Count.", spots), response_format=Diagnosis)
    error = refused.value.body
    assert error["code"] == "schema_not_fillable" and error["param"] == "response_format"
    assert "grade" in error["message"] and "survival_months" in error["message"] and "count" in error["message"]


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            {"properties": {"count": {"type": ["integer", "null"]}, "grade": {"type": ["string", "null"]}}},
            {"count": 5, "grade": None},
        ),
        ({"properties": {"darkCount": {"type": "number"}}, "required": ["darkCount"]}, {"darkCount": 5}),
        (
            {"properties": {"count": {"$ref": "#/$defs/n"}}, "required": ["count"], "$defs": {"n": {"type": "integer"}}},
            {"count": 5},
        ),
        ({"properties": {"r": {"properties": {"count": {"type": "integer"}}, "required": ["count"]}}}, {"r": {"count": 5}}),
        ({"properties": {"kind": {"const": "count"}, "count": {"type": "integer"}}}, {"kind": "count", "count": 5}),
        (
            {"properties": {"cells": {"type": "array", "maxItems": 5, "items": {"properties": {"label": {"type": "string"}}}}}},
            {"cells": [{"label": "spot"}] * 5},
        ),
    ],
)
def test_schemas_as_programs_write_them(composed: Running, spots: np.ndarray, schema: dict, value: dict) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", **schema}}}
    body = {"messages": question("Count.", spots), "response_format": form}
    answer = httpx.post(f"{composed.v1}/chat/completions", json=body, timeout=60).json()
    assert json.loads(answer["choices"][0]["message"]["content"]) == value


def test_names_mean_one_number() -> None:
    """A name may leave out units, and nothing else; where several numbers would do, none does."""
    numbers = {"cells": 17, "cells_per_mm2": 259.4, "index_percent": 49.3, "median_area_px": 80.0, "class": "HSIL"}
    mark = Annotation(kind="point", label="positive", coordinates=[3.0, 4.0])
    result = ToolResult(name="ki67_cells", numbers=numbers, annotations=[mark])
    call = ToolCall(name="ki67_cells")
    answer = Answer(question="q", text="a", steps=[Step(asked=call, call=call, result=result)])
    number = {"type": "number"}
    points = {"type": "array", "items": {"properties": {"x": number, "label": {"type": "string"}}}}

    def value(name: str, schema: dict) -> Any:
        return filled({"type": "object", "properties": {name: schema}}, answer).get(name)

    assert value("cells", {"type": "integer"}) == 17 and value("cells", points) == [{"x": 3.0, "label": "positive"}]
    assert value("ki67_index", number) == value("index", number) == 49.3
    assert value("ki67CellsPerMm2", number) == 259.4
    assert value("grade", {"enum": ["LSIL", "HSIL"]}) == "HSIL"
    for name in ("area", "percent", "tumour_cells", "mitoses", "ki67"):
        assert value(name, number) is None, name


def test_any_json_object(client: openai.OpenAI, spots: np.ndarray) -> None:
    answer = client.chat.completions.create(
        model="pathasst", messages=question("Count.", spots), response_format={"type": "json_object"}
    )
    value = json.loads(answer.choices[0].message.content)
    assert value["results"] == [{"tool": "count_dark", "count": 5}] and "5 dark spots" in value["answer"]


def test_a_streamed_schema_is_whole_json(client: openai.OpenAI, spots: np.ndarray) -> None:
    messages = question("Count.", spots)
    with client.chat.completions.stream(model="pathasst", messages=messages, response_format=Count) as stream:
        assert stream.get_final_completion().choices[0].message.parsed.count == 5


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ({"type": "nonesuch"}, "no JSON schema"),
        ({"type": "object", "properties": {"answer": {"type": "string", "pattern": "(?=x)x"}}}, "linear time"),
        (
            {"type": "object", "properties": {"answer": {"$ref": "http://127.0.0.1:9/x"}}, "required": ["answer"]},
            "cannot be used|fill",
        ),
        ({"type": "object", "properties": {f"x{n}": {"type": "string"} for n in range(5000)}}, "characters"),
    ],
)
def test_schemas_that_could_harm_are_refused(composed: Running, schema: dict, says: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    refused = httpx.post(
        f"{composed.v1}/chat/completions", json={"messages": question("Hello"), "response_format": form}, timeout=60
    )
    assert refused.status_code == 400
    assert any(word in refused.json()["error"]["message"] for word in says.split("|"))


def test_endless_references_cost_a_bounded_number_of_steps(composed: Running) -> None:
    names = [f"a{n}" for n in range(40)]
    defs = {
        a: {"type": "object", "properties": {"l": {"$ref": f"#/$defs/{b}"}, "r": {"$ref": f"#/$defs/{b}"}}}
        for a, b in pairwise(names)
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#/$defs/a0", "$defs": defs}}}
    refused = httpx.post(
        f"{composed.v1}/chat/completions", json={"messages": question("Hello"), "response_format": form}, timeout=20
    )
    assert refused.status_code == 400 and "properties" in refused.json()["error"]["message"]


def test_a_brain_that_writes_is_held_to_the_schema(remote: Running, chat_server: ChatServer) -> None:
    script(chat_server, "No tool is needed here.", '{"answer": "Spots.", "count": 7, "notices": []}', "Well.", "no JSON")
    client = openai.OpenAI(base_url=remote.v1, api_key="x", max_retries=0)
    answer = client.chat.completions.parse(model="pathasst", messages=question("What?"), response_format=Count, temperature=0.4)
    assert answer.choices[0].message.parsed.count == 7
    form = chat_server.requests[-1]["response_format"]
    assert form["type"] == "json_schema" and "count" in form["json_schema"]["schema"]["properties"]
    assert "response_format" not in chat_server.requests[0] and chat_server.requests[0]["temperature"] == 0.4
    assert any("7" in notice for notice in answer.model_extra["pathasst"]["notices"])  # a figure without a source is named
    with pytest.raises(openai.InternalServerError, match="does not fit"):
        client.chat.completions.parse(model="pathasst", messages=question("What?"), response_format=Count)


# tool_choice


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "report"}}])
def test_a_forced_call_is_filled_from_results(client: openai.OpenAI, spots: np.ndarray, choice: Any) -> None:
    tools = [tool(count={"type": "integer"}, summary={"type": "string"})]
    answer = client.chat.completions.create(model="pathasst", messages=question("Count.", spots), tools=tools, tool_choice=choice)
    call = answer.choices[0].message.tool_calls[0]
    assert answer.choices[0].finish_reason == "tool_calls" and call.function.name == "report"
    assert json.loads(call.function.arguments)["count"] == 5


def test_a_forced_call_takes_arguments_that_the_words_say(client: openai.OpenAI) -> None:
    tools = [tool("order", stain={"type": "string", "enum": ["ki67", "her2"]})]
    answer = client.chat.completions.create(
        model="pathasst", messages=question("Please order a her2 stain."), tools=tools, tool_choice="required"
    )
    assert json.loads(answer.choices[0].message.tool_calls[0].function.arguments) == {"stain": "her2"}


def test_a_forced_call_without_its_arguments_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="mitoses"):
        client.chat.completions.create(
            model="pathasst", messages=question("Hello"), tools=[tool(mitoses={"type": "integer"})], tool_choice="required"
        )


def test_a_brain_that_writes_is_told_of_the_choice(remote: Running, chat_server: ChatServer) -> None:
    script(chat_server, "I call nothing.")
    client = openai.OpenAI(base_url=remote.v1, api_key="x", max_retries=0)
    choice: Any = {"type": "function", "function": {"name": "report"}}
    with pytest.raises(openai.InternalServerError, match="tool_choice requires it"):
        client.chat.completions.create(
            model="pathasst", messages=question("Hello"), tools=[tool()], tool_choice=choice, max_tokens=9, seed=3, stop=["\n"]
        )
    sent = chat_server.requests[-1]
    assert sent["tool_choice"] == choice and (sent["max_tokens"], sent["seed"], sent["stop"]) == (9, 3, ["\n"])


# length, stop words, sampling


def test_length_and_stop_words(client: openai.OpenAI, spots: np.ndarray) -> None:
    whole = client.chat.completions.create(
        model="pathasst", messages=question("Count.", spots), extra_body={"pathasst": {"footer": False}}
    )
    words = whole.choices[0].message.content
    cut = client.chat.completions.create(
        model="pathasst", messages=question("Count.", spots), max_tokens=2, extra_body={"pathasst": {"footer": False}}
    )
    assert cut.choices[0].message.content == " ".join(words.split()[:2])
    assert cut.choices[0].finish_reason == "length" and cut.usage.completion_tokens == 2
    stopped = client.chat.completions.create(
        model="pathasst", messages=question("Count.", spots), stop=["dark"], extra_body={"pathasst": {"footer": False}}
    )
    assert stopped.choices[0].message.content == words.split("dark")[0]
    chunks = list(client.chat.completions.create(model="pathasst", messages=question("Count.", spots), max_tokens=2, stream=True))
    streamed = "".join(c.choices[0].delta.content or "" for c in chunks)
    assert streamed.startswith(f"{' '.join(words.split()[:2])}\n\n---") and chunks[-1].choices[0].finish_reason == "length"


def test_limited() -> None:
    def count(text: str) -> int:
        return len(text.split())

    assert limited("one two three", (), None, count) == ("one two three", "stop")
    assert limited("one two three", (), 3, count) == ("one two three", "stop")
    assert limited("one two three", (), 2, count) == ("one two", "length")
    assert limited("one two three", (" three", "two"), 9, count) == ("one ", "stop")
    assert limited("", ("x",), 1, count) == ("", "stop")


@pytest.mark.parametrize(
    "fields",
    [
        {"logprobs": True},
        {"logit_bias": {"5": 1}},
        {"frequency_penalty": 0.5},
        {"presence_penalty": 1},
        {"modalities": ["text", "audio"]},
        {"functions": [{"name": "x"}]},
        {"n": 2},
        {"temperature": 3},
        {"max_tokens": 0},
        {"tool_choice": "required"},
        {"stop": [""]},
    ],
)
def test_what_is_not_offered_is_refused(composed: Running, fields: dict) -> None:
    refused = httpx.post(f"{composed.v1}/chat/completions", json={"messages": question("Hello"), **fields}, timeout=60)
    assert refused.status_code == 400 and next(iter(fields)) in refused.json()["error"]["message"]


def test_what_changes_nothing_is_let_through(composed: Running) -> None:
    """As Open WebUI, LangChain and LiteLLM send them."""
    fields = {"logprobs": False, "frequency_penalty": 0, "logit_bias": {}, "n": 1, "temperature": 0.7, "seed": 1, "user": "a"}
    answer = httpx.post(f"{composed.v1}/chat/completions", json={"messages": question("Hello"), **fields}, timeout=60).json()
    assert "nothing is sampled" in answer["pathasst"]["decoding"]


def test_a_brain_without_such_settings_says_so(tmp_path: Path, registry: Registry) -> None:
    with running(tmp_path, registry) as served:
        refused = httpx.post(
            f"{served.v1}/chat/completions", json={"messages": question("Hello"), "temperature": 0.5}, timeout=60
        )
    assert refused.status_code == 400 and "temperature" in refused.json()["error"]["message"]


# odd requests


def test_many_calls_in_one_turn(composed: Running) -> None:
    calls = [{"id": f"c{n}", "type": "function", "function": {"name": "report", "arguments": "{}"}} for n in range(200)]
    results = [{"role": "tool", "tool_call_id": f"c{n}", "content": f"result {n}"} for n in range(200)]
    messages = [*question("Hello"), {"role": "assistant", "content": None, "tool_calls": calls}, *results]
    answer = httpx.post(f"{composed.v1}/chat/completions", json={"messages": messages, "tools": [tool()]}, timeout=60)
    assert "result 199" in answer.json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("path", ["chat/completions", "responses"])
def test_half_a_character_is_no_server_error(composed: Running, path: str) -> None:
    body = '{"input": "a \\ud800 b", "messages": [{"role": "user", "content": "a \\ud800 b"}]}'
    answer = httpx.post(f"{composed.v1}/{path}", content=body, headers={"content-type": "application/json"}, timeout=60)
    assert answer.status_code in (200, 400) and ("error" in answer.json()) == (answer.status_code == 400)


WEBUI = """### Task:
{task}
### Guidelines:
- Prioritize accuracy.
### Output:
JSON format: {{ "{name}": "…" }}
### Chat History:
<chat_history>
USER: how many nuclei of this field are Ki-67 positive, please?
ASSISTANT: 49.3 % (68 of 138).
</chat_history>"""


@pytest.mark.parametrize(
    ("task", "name", "value"),
    [
        (
            "Generate a concise, 3-5 word title with an emoji summarizing the chat history.",
            "title",
            "How many nuclei of this field",
        ),
        ("Generate 1-3 broad tags categorizing the main themes of the chat history", "tags", ["Health", "Pathology", "Ki67"]),
        ("Suggest 3-5 relevant follow-up questions or prompts", "follow_ups", None),
        ("Analyze the chat history to determine the necessity of generating search queries", "queries", []),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_open_webui_asks_behind_a_persons_back(
    composed: Running, client: openai.OpenAI, task: str, name: str, value: Any, stream: bool
) -> None:
    messages = question(WEBUI.format(task=task, name=name))
    answer = client.chat.completions.create(model="pathasst", messages=messages, stream=stream)
    parts = [c.choices[0].delta.content or "" for c in answer] if stream else [answer.choices[0].message.content]
    given = json.loads("".join(parts))
    assert given[name] == value if value is not None else all("Ki67" in question for question in given[name]) and given[name]
    assert composed.brain.given == []  # neither brain nor tools were asked
