"""HTTP over a unix socket with the standard library alone, so that a process which uses it starts fast and small."""

import http.client
import json
import socket
from typing import Any


class UnixConnection(http.client.HTTPConnection):
    """One connection; `timeout` in seconds, None for ever."""

    def __init__(self, path: str, timeout: float | None = None) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(path: str, method: str, url: str, body: object = None, timeout: float | None = None) -> tuple[int, Any]:
    """One request: the status and the answer's JSON.

    Raises:
        OSError: nobody listens, or no answer came in time (TimeoutError; the connection is closed).
        http.client.HTTPException: the listener ended before it answered.
    """
    connection = UnixConnection(path, timeout)
    try:
        connection.request(method, url, None if body is None else json.dumps(body))
        response = connection.getresponse()
        text = response.read()
    finally:
        connection.close()
    return response.status, json.loads(text) if text else None
