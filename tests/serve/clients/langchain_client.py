"""LangChain as people write it: a plain call, a stream, a picture, a tool of one's own, a structured answer."""

import sys

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

url, picture = sys.argv[1:]
chat = ChatOpenAI(base_url=url, api_key="none", model="pathasst", max_retries=0)
assert "It was: hello" in chat.invoke("hello").content
assert "It was: hello" in "".join(chunk.content for chunk in chat.stream("hello"))
parts = [{"type": "text", "text": "count them"}, {"type": "image_url", "image_url": {"url": picture}}]
assert "5 dark spots" in chat.invoke([HumanMessage(parts)]).content


class get_weather(BaseModel):
    """The weather of a city."""

    city: str


(call,) = chat.bind_tools([get_weather]).invoke("What is the weather in Bern?").tool_calls
assert (call["name"], call["args"]) == ("get_weather", {"city": "Bern"}), call
print("ok")
