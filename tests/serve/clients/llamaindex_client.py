"""LlamaIndex's OpenAI-like model: completion by chat, a conversation, a stream."""

import sys

from llama_index.core.base.llms.types import ChatMessage
from llama_index.llms.openai_like import OpenAILike

url, _ = sys.argv[1:]
model = OpenAILike(model="pathasst", api_base=url, api_key="none", is_chat_model=True, max_retries=0)
assert "It was: hello" in str(model.complete("hello"))
history = [ChatMessage(role="user", content="first"), ChatMessage(role="assistant", content="yes")]
assert "Question 2" in str(model.chat([*history, ChatMessage(role="user", content="second")]))
assert "It was: hello" in list(model.stream_chat([ChatMessage(role="user", content="hello")]))[-1].message.content
print("ok")
