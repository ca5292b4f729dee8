"""Hive's own client: many prompts at once. Answers come in the order of the prompts, and one that fails loses no other.

python examples/batch.py [MODEL]
"""

import sys

from hive import inference_batch

model = sys.argv[1] if sys.argv[1:] else "gemma-3-270m"
countries = ["France", "Italy", "Japan", "Kenya", "Peru", "Norway", "Egypt", "Canada"]

answers = inference_batch([f"What is the capital of {country}?" for country in countries], model, max_tokens=16)
for country, answer in zip(countries, answers, strict=True):
    print(f"{country}: {answer}")
