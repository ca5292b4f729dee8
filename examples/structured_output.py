"""Hive's own client: an answer as an instance of a pydantic model.

python examples/structured_output.py [MODEL]
"""

import sys
from typing import Literal

from pydantic import BaseModel

from hive import inference


class Review(BaseModel):
    """What a customer thinks."""

    sentiment: Literal["good", "bad", "mixed"]
    topic: Literal["price", "quality", "delivery"]
    recommends: bool


model = sys.argv[1] if sys.argv[1:] else "gemma-3-270m"
review = inference(
    "What does this customer think? 'It came two days late, but it is the best kettle that I ever had.'",
    model,
    structured_output=Review,
    max_tokens=100,
)
print(repr(review))
