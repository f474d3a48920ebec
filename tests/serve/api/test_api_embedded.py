"""The API with the embedded models behind it: PathCLIP's vectors and PathAsst's words, through the `openai` client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openai
import pytest
from server_parts import Running, data_url, running

from pathasst.assistant.brains.settings import BrainSettings
from pathasst.core import weights
from pathasst.imaging.pictures import encode_png
from pathasst.tools.protocol import Registry


def needs(*ids: str) -> pytest.MarkDecorator:
    here = all(weights.present(id) for id in ids)
    return pytest.mark.skipif(not here, reason=f"{', '.join(ids)} not here: pathasst models pull")


def client(served: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=served.v1, api_key="none", max_retries=0, timeout=600)


@needs("pathclip-lite", "minilm")
def test_vectors_of_texts_and_pictures_lie_in_one_space(tmp_path: Path) -> None:
    with running(tmp_path, Registry()) as served:
        _vectors(client(served))


def _vectors(client: openai.OpenAI) -> None:
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


@needs("pathasst-embedded", "pathclip-embedded", "smollm2-135m", "minilm")
def test_the_streamed_answer_is_the_whole_one(tmp_path: Path) -> None:
    from pathasst.assistant.brains.local import LocalBrain

    asked = {"model": "pathasst", "messages": [{"role": "user", "content": "What does NILM stand for?"}]}
    options = {"extra_body": {"pathasst": {"footer": False}}}
    with running(tmp_path, Registry(), LocalBrain.open(BrainSettings(max_tokens=24))) as served:
        create = client(served).chat.completions.create
        whole = create(**asked, **options)
        pieces = [c.choices[0].delta.content or "" for c in create(**asked, **options, stream=True) if c.choices]
    assert "".join(pieces) == whole.choices[0].message.content
    assert whole.choices[0].message.content
    assert whole.usage.completion_tokens >= 3
    assert not whole.usage.model_extra["estimated"]
    assert whole.model_extra["pathasst"]["brain"].startswith("pathasst-embedded@")
