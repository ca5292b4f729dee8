"""This side of the load generator: a process that has vLLM's benchmark loaded (`load_worker`)."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.serving_speed.targets import clean_environment
from hive.rendering import ROOT

END_SECONDS = 10


@dataclass(frozen=True)
class Load:
    """What the worker sends; times that come back are in seconds."""

    url: str
    model: str
    tokenizer: str  # a folder
    prompt: int  # tokens
    answer: int  # tokens
    requests: int
    at_once: int
    streamed: bool
    seed: int  # of the prompts
    salt: str  # of the prefix cache


class Worker:
    """A context manager: it ends with the block, whatever happened."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def __enter__(self) -> "Worker":
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.serving_speed.load_worker"],
                cwd=ROOT,
                env=clean_environment() | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,  # Ctrl-C is for the parent, which ends it
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # it keeps nothing
        self._process.wait(END_SECONDS)

    def wait(self) -> None:
        """Until it has loaded vLLM."""
        self._answer()

    def run(self, *loads: Load) -> list[Mapping[str, Any]]:
        """All of these at once; what each found.

        Raises:
            RuntimeError: the worker failed, not a request.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"loads": [asdict(load) for load in loads]}) + "\n")
        self._process.stdin.flush()
        results: list[Mapping[str, Any]] = self._answer()["results"]
        return results

    def _answer(self) -> Mapping[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-12:])
            raise RuntimeError(f"the load generator failed: {answer['error']}\n{tail}")
        return dict(answer)
