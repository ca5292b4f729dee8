"""The official OpenAI client: a small search by meaning.

python examples/embeddings.py [MODEL]
"""

import math
import os
import sys
from operator import mul

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
models = [card.id for card in client.models.list() if card.model_dump()["output_modalities"] == ["embedding"]]
if not models:
    raise SystemExit("No model here makes embeddings: add one to the values file")
model = sys.argv[1] if sys.argv[1:] else models[0]


def embed(texts: list[str]) -> list[list[float]]:
    return [one.embedding for one in client.embeddings.create(model=model, input=texts).data]


def cosine(left: list[float], right: list[float]) -> float:
    dot: float = sum(map(mul, left, right))
    return dot / math.hypot(*left) / math.hypot(*right)


documents = [
    "How to reset your password",
    "Opening hours of the library",
    "Which forms of payment we take",
    "What to do when a parcel is late",
]
question = "I can't log in"
(asked,) = embed([question])
scores = {text: cosine(asked, found) for text, found in zip(documents, embed(documents), strict=True)}
print(question)
for text in sorted(scores, key=lambda text: -scores[text]):
    print(f"  {scores[text]:.3f} {text}")
