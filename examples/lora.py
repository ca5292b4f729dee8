"""The official OpenAI client: the same question to a model and to each LoRA adapter of it.

python examples/lora.py
"""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
parents = {card.id: card.model_dump()["parent"] for card in client.models.list()}
adapters = {name: parent for name, parent in parents.items() if parent}
if not adapters:
    raise SystemExit("No model here has adapters: add some to its entry in the values file")

for name in sorted({*adapters, *adapters.values()}):
    answer = client.completions.create(model=name, prompt="Dear customer,", max_tokens=32, temperature=0)
    kind = f"adapter of {adapters[name]}" if name in adapters else "model"
    print(f"{name} ({kind}): {answer.choices[0].text}")
