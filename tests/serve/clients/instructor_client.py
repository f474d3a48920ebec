"""instructor: a typed answer by a call that it requires."""

import sys

import instructor
import openai
from pydantic import BaseModel

url, _ = sys.argv[1:]


class get_weather(BaseModel):
    """The weather of a city."""

    city: str


client = instructor.from_openai(openai.OpenAI(base_url=url, api_key="none", max_retries=0), mode=instructor.Mode.TOOLS)
question = [{"role": "user", "content": "What is the weather in Bern?"}]
reply = client.chat.completions.create(model="pathasst", response_model=get_weather, messages=question, max_retries=0)
assert reply.city == "Bern", reply
print("ok")
