"""From measured answers to figures. Pure; times in seconds, milliseconds where a name says so."""

import math
from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel

from hive.bench.load import Answer, Failure, Load


class Quantiles(BaseModel):
    """Milliseconds."""

    p50: float
    p99: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Quantiles | None":
        if not seconds:
            return None
        return cls(p50=1000 * quantile(seconds, 0.5), p99=1000 * quantile(seconds, 0.99))


class Result(BaseModel):
    """`hive bench --json`. Times in milliseconds, but `seconds`."""

    load: Load
    ran_on: list[str]  # the model's replicas and their devices
    seconds: float
    answered: int
    errors: dict[str, int]  # by kind
    input_tokens: int
    output_tokens: int
    output_tokens_per_second: float
    requests_per_second: float
    time_to_first_token: Quantiles | None
    inter_token: Quantiles | None  # of each answer the mean time from one token to the next; None: no answer has two
    latency: Quantiles | None  # of whole requests


def result(load: Load, ran_on: list[str], outcomes: Sequence[Answer | Failure], seconds: float) -> Result:
    """All figures of one run."""
    answers = [one for one in outcomes if isinstance(one, Answer)]
    tokens = sum(one.output_tokens for one in answers)
    return Result(
        load=load,
        ran_on=ran_on,
        seconds=seconds,
        answered=len(answers),
        errors=dict(Counter(one.kind for one in outcomes if isinstance(one, Failure))),
        input_tokens=sum(one.input_tokens for one in answers),
        output_tokens=tokens,
        output_tokens_per_second=tokens / seconds,
        requests_per_second=len(answers) / seconds,
        time_to_first_token=Quantiles.of([one.first for one in answers]),
        inter_token=Quantiles.of(
            [(one.last - one.first) / (one.output_tokens - 1) for one in answers if one.output_tokens > 1]
        ),
        latency=Quantiles.of([one.last for one in answers]),
    )


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of the others does not pass, between neighbours as numpy does; NaN of nothing."""
    if not values:
        return math.nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
