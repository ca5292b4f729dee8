"""The official OpenAI client: the model calls a function of yours, and answers with what that returned.

python examples/tools.py [MODEL]
"""

import json
import os
import sys
from typing import Any

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
models = [card.id for card in client.models.list() if "generate" in card.model_dump()["tasks"]]
model = sys.argv[1] if sys.argv[1:] else models[0]


def weather(city: str) -> str:
    return json.dumps({"city": city, "sky": "clear", "celsius": 21})


messages: list[Any] = [{"role": "user", "content": "How is the weather in Paris?"}]
tool: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city, now",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
asked = client.chat.completions.create(
    model=model,
    messages=messages,
    tools=[tool],
    tool_choice={"type": "function", "function": {"name": "weather"}},  # "auto" leaves it to the model
    max_tokens=200,
    frequency_penalty=1,  # small models like to repeat themselves
)
message = asked.choices[0].message
messages.append(message)
for call in message.tool_calls or []:
    if call.type == "function":
        result = weather(**json.loads(call.function.arguments))
        print(f"{call.function.name}({call.function.arguments}) = {result}")
        messages.append({"role": "tool", "tool_call_id": call.id, "content": result})

answer = client.chat.completions.create(model=model, messages=messages, max_tokens=64)
print(answer.choices[0].message.content)
