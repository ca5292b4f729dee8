"""Logs of a model's replicas, through Ray's dashboard, which fetches them from the node where each one runs.

A replica writes three: what it and vLLM print (out, err), and Serve's own file.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from hive.errors import HiveError
from hive.serve_api import Json, ServeApi

LAST_LINES = 1000  # of each log
LOOK_SECONDS = 5  # between two looks for new replicas
RAYS_OWN = (":job_id:", ":actor_name:")
TIMEOUT = httpx.Timeout(30, read=None)  # a log that is followed may be silent


@dataclass(frozen=True)
class Log:
    """One file."""

    replica: str
    query: tuple[tuple[str, str], ...]


def lines(url: str, headers: Mapping[str, str], model: str, follow: bool) -> Iterator[str]:
    """Lines of the logs; with several replicas each begins with its own.

    Raises:
        HiveError: there is no such model or no log of it, or the dashboard does not answer.
    """
    serve = ServeApi(url, headers)
    found = logs_of(serve.details(), model)
    with httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT) as http:
        if not follow:
            several = len({log.replica for log in found}) > 1
            nothing = True
            for log in found:
                for line in _read(http, log, "file"):
                    nothing = False
                    yield f"{log.replica}: {line}" if several else line
            if nothing:
                raise HiveError(f"{model} has written nothing yet", f"hive logs {model} --follow")
            return
        yield from _follow(http, serve, model, found)


def logs_of(details: Json, model: str) -> list[Log]:
    """The logs of the replicas that Serve lists, or where it lists none, of those that died last.

    Raises:
        HiveError: there is no such model.
    """
    if model not in details["applications"]:
        names = ", ".join(sorted(details["applications"])) or "none"
        raise HiveError(f"no model {model!r} is asked for now", f"those that are: {names}")
    found = []
    for deployment in details["applications"][model]["deployments"].values():
        for replica in deployment["replicas"] or deployment.get("recent_dead_replicas") or []:
            found += _logs(replica)
    return found


def _logs(replica: Json) -> list[Log]:
    name, found = replica["replica_id"], []
    if actor := replica.get("actor_id"):
        found += [Log(name, (("actor_id", actor), ("suffix", suffix))) for suffix in ("err", "out")]
    if (file := replica.get("log_file_path")) and (node := replica.get("node_id")):
        found.append(Log(name, (("node_id", node), ("filename", file.lstrip("/")))))
    return found


def _follow(http: httpx.Client, serve: ServeApi, model: str, found: list[Log]) -> Iterator[str]:
    """A thread for each log; each ends with its stream, or with this process."""
    heard: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    seen: set[Log] = set()

    def listen(log: Log) -> None:
        for line in _read(http, log, "stream"):
            heard.put((log.replica, line))

    while True:
        for log in found:
            if log not in seen:
                seen.add(log)
                threading.Thread(target=listen, args=(log,), daemon=True).start()
        several = len({log.replica for log in seen}) > 1
        until = time.monotonic() + LOOK_SECONDS
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(queue.Empty):
                replica, line = heard.get(timeout=left)
                yield f"{replica}: {line}" if several else line
        found = logs_of(serve.details(), model)


def _read(http: httpx.Client, log: Log, media: str) -> Iterator[str]:
    """One log's lines. A log that is not there is one that nothing was written to."""
    query: dict[str, Any] = dict(log.query) | {"lines": LAST_LINES, "filter_ansi_code": "true"}
    if media == "stream":
        query["interval"] = 0.5
    try:
        with http.stream("GET", f"/api/v0/logs/{media}", params=query) as answer:
            if answer.is_error:
                return
            rest = ""
            for text in answer.iter_text():
                *whole, rest = (rest + text).split("\n")
                for line in whole:
                    shown = line.rsplit("\r", 1)[-1]  # a progress bar's last state
                    if shown and not shown.startswith(RAYS_OWN):
                        yield shown
            if rest:
                yield rest
    except httpx.HTTPError as error:
        if media == "file":
            raise HiveError(f"the dashboard breaks off a log of {log.replica} ({error!r})", "hive doctor") from error
        # One that is followed ends with its node.
