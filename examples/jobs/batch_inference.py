"""A job: ask a model all questions of a JSONL file, with Ray Data, through the gateway. A line of JSON for each answer.

ray job submit --working-dir examples/jobs --entrypoint-num-cpus 1 -- python batch_inference.py questions.jsonl [MODEL]

A job finds the gateway and its key in its environment: OPENAI_BASE_URL, OPENAI_API_KEY.
"""

import json
import sys
from typing import Any

import ray
from openai import AsyncOpenAI, OpenAI, OpenAIError

Row = dict[str, Any]


class Ask:
    """Sends 16 questions at a time, which is Ray Data's habit with a coroutine."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.client = AsyncOpenAI(max_retries=8)  # where a model starts (503) or a client asks too much (429)

    async def __call__(self, row: Row) -> Row:
        """The row with its answer, or with why there is none: one that fails loses no other."""
        messages: Any = [{"role": "user", "content": row["question"]}]
        try:
            said = await self.client.chat.completions.create(model=self.model, messages=messages, max_tokens=32)
        except OpenAIError as error:
            return row | {"answer": None, "error": str(error)}
        return row | {"answer": said.choices[0].message.content, "error": None}


def main(questions: str, model: str | None = None) -> int:
    """How many have no answer."""
    cards = OpenAI().models.list()
    model = model or next(card.id for card in cards if "generate" in card.model_dump()["tasks"])
    # Leave the progress bars to a terminal: these lines are the job's log.
    ray.data.DataContext.get_current().enable_progress_bars = False
    # Reading and asking wait more than they work. All their CPUs must be free at once, beside that of this process.
    rows = ray.data.read_json(questions, num_cpus=0.25)
    pool = ray.data.ActorPoolStrategy(size=1)  # more of them ask more at a time
    answers = rows.map(Ask, fn_constructor_args=(model,), compute=pool, num_cpus=0.25)
    failed = 0
    for answer in answers.iter_rows():
        print(json.dumps(answer), flush=True)
        failed += answer["error"] is not None
    return failed


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) > 0)
