"""OpenAI's Responses API, asked by the real client over loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pydantic
import pytest
from server_parts import RuleBrain, Running, data_url, running

from pathasst.assistant.grounding import Grounding
from pathasst.imaging.pictures import encode_png
from pathasst.tools.protocol import Registry

TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": None,
}


class Count(pydantic.BaseModel):
    answer: str
    count: int


@pytest.fixture
def served(tmp_path: Path, registry: Registry) -> Iterator[Running]:
    with running(tmp_path, registry) as server:
        yield server


@pytest.fixture
def client(served: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=served.v1, api_key="none needed", max_retries=0)


def asked(text: str, *pictures: bytes) -> list[Any]:
    parts = [{"type": "input_image", "image_url": data_url(p), "detail": "auto"} for p in pictures]
    return [{"role": "user", "content": [{"type": "input_text", "text": text}, *parts]}]


def test_words(client: openai.OpenAI) -> None:
    response = client.responses.create(model="pathasst", input="Hello", instructions="Be brief.")
    assert response.status == "completed" and "It was: Hello" in response.output_text
    assert "not for diagnosis" in response.output_text
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens > 2
    assert response.model_extra["pathasst"]["ran"] == []


def test_a_picture_runs_the_tool(client: openai.OpenAI, spots: np.ndarray) -> None:
    response = client.responses.create(model="pathasst", input=asked("Count the spots.", encode_png(spots)))
    assert "5 dark spots" in response.output_text
    assert response.model_extra["pathasst"]["ran"][0]["numbers"] == {"count": 5}


def test_a_stream_ends_in_the_same_response(client: openai.OpenAI, spots: np.ndarray) -> None:
    with client.responses.stream(model="pathasst", input=asked("Count the spots.", encode_png(spots))) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds and "5 dark spots" in final.output_text


def test_a_conversation_goes_on_by_id(served: Running, client: openai.OpenAI, spots: np.ndarray) -> None:
    first = client.responses.create(model="pathasst", input=asked("Find papers.", encode_png(spots)))
    second = client.responses.create(model="pathasst", input="Count the spots.", previous_response_id=first.id)
    assert "[PMID 11111111] and ~~[PMID 99999999]~~" in second.output_text  # what the first retrieved may be cited
    assert client.responses.retrieve(first.id).output_text == first.output_text
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="pathasst", input="And now?", previous_response_id=first.id)
    unstored = client.responses.create(model="pathasst", input="Hello", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unstored.id)


def test_responses_belong_to_their_key(tmp_path: Path, registry: Registry) -> None:
    from pathasst.serve.keys import KEYS, KeyStore

    store = KeyStore(tmp_path / KEYS)
    secrets = [store.add(name)[1] for name in ("a", "b")]
    with running(tmp_path, registry, keys_required=True) as served:
        mine, other = (openai.OpenAI(base_url=served.v1, api_key=s, max_retries=0) for s in secrets)
        response = mine.responses.create(model="pathasst", input="Hello")
        assert mine.responses.retrieve(response.id).id == response.id
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(response.id)


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_the_client(client: openai.OpenAI, stream: bool) -> None:
    messages = asked("How is the weather?")
    if stream:
        with client.responses.stream(model="pathasst", input=messages, tools=[TOOL]) as events:
            response = events.get_final_response()
    else:
        response = client.responses.create(model="pathasst", input=messages, tools=[TOOL])
    call = response.output[0]
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "get_weather", {"city": "Bern"})
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    for more in (
        {"input": [*messages, call.model_dump(exclude={"parsed_arguments"}), output]},
        {"input": [output], "previous_response_id": response.id},
    ):
        again = client.responses.create(model="pathasst", tools=[TOOL], **more)  # type: ignore[arg-type]
        assert "The tool said: Sunny." in again.output_text


def test_json_of_a_schema(tmp_path: Path, registry: Registry, spots: np.ndarray) -> None:
    with running(tmp_path, registry, RuleBrain(grounding=Grounding.COMPOSED)) as served:
        client = openai.OpenAI(base_url=served.v1, api_key="x", max_retries=0)
        response = client.responses.parse(model="pathasst", input=asked("Count.", encode_png(spots)), text_format=Count)
        assert response.output_parsed is not None and response.output_parsed.count == 5
        cut = client.responses.create(model="pathasst", input=asked("Count.", encode_png(spots)), max_output_tokens=2)
        assert cut.status == "incomplete" and cut.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"input": "x", "tools": [{"type": "web_search"}]}, "web_search"),
        ({"input": [{"type": "computer_call_output"}]}, "computer_call_output"),
        ({"input": "x", "background": True}, "background"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input.0.role"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": "x"}]}, "tools"),
        ({"input": []}, "input"),
        ({"input": " "}, "no question"),
    ],
)
def test_errors_have_openais_shape(served: Running, body: dict, says: str) -> None:
    answer = httpx.post(f"{served.v1}/responses", json=body, timeout=60)
    assert answer.status_code == 400
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"} and says in answer.json()["error"]["message"]
