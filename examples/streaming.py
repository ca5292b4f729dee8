"""The official OpenAI client: an answer while it is written, then what it took.

python examples/streaming.py [MODEL]
"""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
models = [card.id for card in client.models.list() if "generate" in card.model_dump()["tasks"]]

for chunk in client.chat.completions.create(
    model=sys.argv[1] if sys.argv[1:] else models[0],
    messages=[{"role": "user", "content": "Which rivers flow through Paris and Rome?"}],
    max_tokens=64,
    stream=True,
    stream_options={"include_usage": True},
):
    for choice in chunk.choices:
        print(choice.delta.content or "", end="", flush=True)
    if chunk.usage:  # the last one, without choices
        print(f"\n{chunk.usage.prompt_tokens} tokens asked, {chunk.usage.completion_tokens} answered")
