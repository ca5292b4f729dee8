"""The official OpenAI client: one question, with the models that serve.

python examples/openai_client.py [MODEL]
"""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
models = [card.id for card in client.models.list() if "generate" in card.model_dump()["tasks"]]
print("Models that generate text:", ", ".join(models))

answer = client.chat.completions.create(
    model=sys.argv[1] if sys.argv[1:] else models[0],
    messages=[{"role": "user", "content": "What is the capital of France?"}],
    max_tokens=32,
)
print(answer.choices[0].message.content)
print(answer.usage)
