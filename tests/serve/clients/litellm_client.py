"""LiteLLM as people write it, and its errors as their proxies sort them."""

import sys

import litellm

url, picture = sys.argv[1:]
litellm.telemetry = False
asked = {"model": "openai/pathasst", "api_base": url, "api_key": "none", "num_retries": 0}
reply = litellm.completion(messages=[{"role": "user", "content": "hello"}], **asked)
assert "It was: hello" in reply.choices[0].message.content and reply.usage.total_tokens > 0
pieces = litellm.completion(messages=[{"role": "user", "content": "hello"}], stream=True, **asked)
assert "It was: hello" in "".join(piece.choices[0].delta.content or "" for piece in pieces)
parts = [{"type": "text", "text": "count them"}, {"type": "image_url", "image_url": {"url": picture}}]
assert "5 dark spots" in litellm.completion(messages=[{"role": "user", "content": parts}], **asked).choices[0].message.content
try:
    litellm.completion(messages=[{"role": "user", "content": "hello"}], **{**asked, "model": "openai/gpt-4o"})
except litellm.NotFoundError as error:
    assert "gpt-4o" in str(error)
else:
    raise AssertionError("an unknown model was answered")
print("ok")
