"""Hive's own client: one question to one model.

python examples/quickstart.py [MODEL]
"""

import sys

from hive import inference

model = sys.argv[1] if sys.argv[1:] else "gemma-3-270m"
print(inference("What is the capital of France?", model, max_tokens=32))
