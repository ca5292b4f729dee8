"""The load generator's process: a line of JSON in, a line of JSON out; ends with its stdin.

    {"loads": [{url, model, tokenizer, prompt, answer, requests, at_once, streamed, seed, salt}, ...]}

Loads of one line run at once.
"""

import asyncio
import json
import os
import sys
from typing import Any


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM prints as it is imported and as it measures
    from benchmarks.serving_speed import vllm_load

    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        try:
            answer: dict[str, Any] = {"results": asyncio.run(vllm_load.run(json.loads(line)["loads"]))}
        except Exception as error:
            answer = {"error": repr(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
