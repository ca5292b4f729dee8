"""Logs of a model's replicas, through Ray's dashboard, which fetches them from the node where each one runs."""

from collections.abc import Iterator, Mapping


def lines(url: str, headers: Mapping[str, str], model: str, follow: bool) -> Iterator[str]:
    raise NotImplementedError
