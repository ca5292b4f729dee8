"""LangChain: a prompt, a model and a parser in a chain, then the same as a stream. Needs langchain-openai.

python examples/langchain_chat.py [MODEL]
"""

import os
import sys

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from openai import OpenAI
from pydantic import SecretStr

url = os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1")
key = os.environ.get("OPENAI_API_KEY", "none")
models = [
    card.id for card in OpenAI(base_url=url, api_key=key).models.list() if "generate" in card.model_dump()["tasks"]
]

chat = ChatOpenAI(
    model=sys.argv[1] if sys.argv[1:] else models[0], base_url=url, api_key=SecretStr(key), max_completion_tokens=32
)
chain = ChatPromptTemplate.from_template("What is the capital of {country}?") | chat | StrOutputParser()
print(chain.invoke({"country": "France"}))
for piece in chain.stream({"country": "Italy"}):
    print(piece, end="", flush=True)
print()
