"""LangChain: an answer as an instance of a pydantic model. Needs langchain-openai.

python examples/langchain_structured_output.py [MODEL]
"""

import os
import sys
from typing import Literal

from langchain_openai import ChatOpenAI
from openai import OpenAI
from pydantic import BaseModel, SecretStr

url = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
key = os.environ.get("OPENAI_API_KEY", "none")
models = [
    card.id for card in OpenAI(base_url=url, api_key=key).models.list() if "generate" in card.model_dump()["tasks"]
]


class Ticket(BaseModel):
    """Where a request belongs."""

    team: Literal["billing", "support", "sales"]
    urgent: bool


chat = ChatOpenAI(
    model=sys.argv[1] if sys.argv[1:] else models[0], base_url=url, api_key=SecretStr(key), max_completion_tokens=100
)
ticket = chat.with_structured_output(Ticket, method="json_schema").invoke("I was charged twice, please help today!")
print(repr(ticket))
