"""What is asked of every target. Data alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

TINY, GEMMA = "tiny", "gemma-3-270m"
SHORT, LONG = 32, 512  # tokens of a prompt, without the chat template
ANSWER = 16  # tokens


@dataclass(frozen=True)
class Case:
    """One load: so many requests of one kind, so many of them at once."""

    model: str
    prompt: int  # tokens
    at_once: int
    requests: int
    streamed: bool = True
    beside: "Case | None" = None  # the load on another model at the same time

    @property
    def name(self) -> str:
        how = "" if self.streamed else ", not streamed"
        other = "" if self.beside is None else f", beside {self.beside.model} ({self.beside.at_once} at once)"
        return f"{self.model}, {self.prompt} tokens, {self.at_once} at once{how}{other}"

    def views(self) -> "list[Case]":
        """This case; a mix also as the other model sees it."""
        if self.beside is None:
            return [self]
        return [self, replace(self.beside, beside=replace(self, beside=None))]


@dataclass(frozen=True)
class Plan:
    """Cases of one model, or of the mix, and how many rounds they get."""

    rounds: int
    cases: Sequence[Case]


# Requests are counted so that one measurement takes one to four seconds on two quiet cores.
TINY_PLAN = Plan(
    rounds=3,
    cases=(
        Case(TINY, SHORT, 1, 30),
        Case(TINY, SHORT, 8, 64),
        Case(TINY, SHORT, 32, 128),
        Case(TINY, LONG, 1, 20),
        Case(TINY, LONG, 8, 40),
        Case(TINY, LONG, 32, 64),
        Case(TINY, SHORT, 1, 30, streamed=False),
        Case(TINY, SHORT, 8, 64, streamed=False),
        Case(TINY, SHORT, 32, 128, streamed=False),
    ),
)
GEMMA_PLAN = Plan(
    rounds=2,
    cases=(
        Case(GEMMA, SHORT, 1, 5),
        Case(GEMMA, SHORT, 8, 16),
        Case(GEMMA, SHORT, 32, 32),
        Case(GEMMA, LONG, 1, 2),
    ),
)
MIX_PLAN = Plan(rounds=2, cases=(Case(TINY, SHORT, 4, 80, beside=Case(GEMMA, SHORT, 4, 8)),))
QUICK_PLAN = Plan(
    rounds=1,
    cases=(
        Case(TINY, SHORT, 1, 10),
        Case(TINY, SHORT, 8, 32),
        Case(TINY, SHORT, 32, 64),
        Case(TINY, LONG, 8, 16),
        Case(TINY, SHORT, 8, 32, streamed=False),
    ),
)
