"""The official OpenAI client: a question about a picture. Needs Pillow.

python examples/vision.py [PICTURE]
"""

import base64
import io
import os
import sys

from openai import OpenAI
from PIL import Image, ImageDraw

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
models = [card.id for card in client.models.list() if "image" in card.model_dump()["input_modalities"]]
if not models:
    raise SystemExit("No model here takes pictures: add one to the values file")

if sys.argv[1:]:
    picture = Image.open(sys.argv[1]).convert("RGB")
else:
    picture = Image.new("RGB", (224, 224), "white")
    ImageDraw.Draw(picture).ellipse((56, 56, 168, 168), fill="red")
file = io.BytesIO()
picture.save(file, "PNG")
url = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"

answer = client.chat.completions.create(
    model=models[0],
    messages=[
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": url}},
                {"type": "text", "text": "What is in this picture?"},
            ],
        }
    ],
    max_tokens=64,
)
print(answer.choices[0].message.content)
print(answer.usage)
