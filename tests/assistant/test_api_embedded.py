"""The API with the embedded models behind it: PathCLIP's vectors and PathAsst's words, through the `openai` client."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import openai
import pytest
from server_parts import Running, data_url, running

from pathasst import weights
from pathasst.assistant.brain import BrainSettings
from pathasst.tools.images import encode_png
from pathasst.tools.protocol import Registry

pytestmark = pytest.mark.skipif(
    not all(weights.present(id) for id in ("pathasst-embedded", "pathclip-embedded", "smollm2-135m", "minilm")),
    reason="the embedded models are not here: pathasst models pull",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from pathasst.assistant.brains.local import LocalBrain

    brain = LocalBrain.open(BrainSettings(max_tokens=24))
    with running(tmp_path_factory.mktemp("served"), Registry(), brain) as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=served.v1, api_key="none", max_retries=0, timeout=600)


def test_vectors_of_texts_and_pictures_lie_in_one_space(client: openai.OpenAI) -> None:
    from skimage import data

    pictures = [
        encode_png(np.ascontiguousarray(data.immunohistochemistry()[:256, :256])),
        encode_png(np.full((64, 64, 3), 250, np.uint8)),
    ]
    texts = client.embeddings.create(model="pathclip", input=["immunohistochemistry with brown DAB staining", "a blood smear"])
    images = client.embeddings.create(model="pathclip", input=[data_url(p) for p in pictures], encoding_format="float")
    words, seen = (
        np.array([e.embedding for e in found.data]) for found in (texts, images)
    )  # texts came as base64, pictures as numbers
    assert words.shape[1] == seen.shape[1]
    assert np.allclose(np.linalg.norm(words, axis=1), 1, atol=1e-3)
    assert np.allclose(np.linalg.norm(seen, axis=1), 1, atol=1e-3)
    again = client.embeddings.create(model="pathclip", input="a blood smear")
    assert np.allclose(again.data[0].embedding, words[1], atol=1e-4)
    with pytest.raises(openai.BadRequestError, match="not both"):
        client.embeddings.create(model="pathclip", input=["text", data_url(pictures[0])])


def test_the_streamed_answer_is_the_whole_one(client: openai.OpenAI, served: Running) -> None:
    asked = {"model": "pathasst", "messages": [{"role": "user", "content": "What does NILM stand for?"}]}
    options = {"extra_body": {"pathasst": {"footer": False}}}
    whole = client.chat.completions.create(**asked, **options)
    pieces = [
        c.choices[0].delta.content or "" for c in client.chat.completions.create(**asked, **options, stream=True) if c.choices
    ]
    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.choices[0].message.content
    assert whole.usage.completion_tokens >= 3
    assert not whole.usage.model_extra["estimated"]
    assert whole.model_extra["pathasst"]["brain"].startswith("pathasst-embedded@")
