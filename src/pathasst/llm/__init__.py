"""One client for every text LLM used in curation, instruction and as a brain: any OpenAI-compatible server, or in this process.

JSON that keeps a schema, retries, answers on disk, cost and budget. Knows no room.
"""

from pathasst.llm.client import Client, connect
from pathasst.llm.messages import LLMMessage, Reply
from pathasst.llm.settings import PRESETS, LLMSettings

__all__ = ["PRESETS", "Client", "LLMSettings", "LLMMessage", "Reply", "connect"]
