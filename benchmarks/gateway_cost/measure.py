"""Asking: latency over one connection, and streams that stay open. Times in seconds."""

import asyncio
import http.client
import json
import time

LOOPBACK = "127.0.0.1"
MESSAGES = [{"role": "user", "content": "What is the capital of France? " * 8}]


def latencies(port: int, path: str, model: str, requests: int) -> list[float]:
    """Of so many requests, one after the other, over one connection.

    Raises:
        RuntimeError: one was not answered with 200.
    """
    body = json.dumps({"model": model, "messages": MESSAGES})
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    connection.connect()
    found = []
    try:
        for _ in range(requests):
            began = time.perf_counter()
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
            found.append(time.perf_counter() - began)
            if answer.status != 200:
                raise RuntimeError(f"port {port}, {path}: {answer.status} {content[:300]!r}")
    finally:
        connection.close()
    return found


class OpenStreams:
    """So many streams that have had their first event and stay open until the block ends."""

    def __init__(self, port: int, path: str, model: str, count: int) -> None:
        body = json.dumps({"model": model, "stream": True, "messages": MESSAGES}).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: {LOOPBACK}\r\nContent-Type: application/json\r\n"
        self._request = head.encode() + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._port = port
        self._count = count
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "OpenStreams":
        await asyncio.gather(*(self._open() for _ in range(self._count)))
        return self

    async def __aexit__(self, *_: object) -> None:
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _open(self) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        self._writers.append(writer)
        writer.write(self._request)
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"a stream was answered with {status!r}")
        await reader.readuntil(b"data: ")
