"""The official OpenAI client: what is said in a recording. Without one it sends a second of a tone.

python examples/audio.py [RECORDING]
"""

import io
import math
import os
import struct
import sys
import wave
from pathlib import Path

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:8080/v1"),
    api_key=os.environ.get("OPENAI_API_KEY", "none"),
)
models = [card.id for card in client.models.list() if "transcription" in card.model_dump()["tasks"]]
if not models:
    raise SystemExit("No model here transcribes: add one to the values file")


def tone(hertz: int = 440, rate: int = 16000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        heights = (round(8000 * math.sin(2 * math.pi * hertz * i / rate)) for i in range(rate))
        sound.writeframes(b"".join(struct.pack("<h", height) for height in heights))
    return file.getvalue()


name, content = (sys.argv[1], Path(sys.argv[1]).read_bytes()) if sys.argv[1:] else ("tone.wav", tone())
answer = client.audio.transcriptions.create(model=models[0], file=(name, content), language="en")
print(f"{models[0]} hears in {name}: {answer.text}")
