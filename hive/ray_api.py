"""The REST API of Ray's dashboard."""

from collections.abc import Mapping
from typing import Any

import httpx

from hive.errors import HiveError

Json = dict[str, Any]


class RayApi:
    """Talks to one dashboard.

    Args:
        url: like http://127.0.0.1:8265.
        headers: that it asks for.
        timeout: seconds for each call.

    Raises:
        HiveError: from each call, when it does not answer or refuses.
    """

    def __init__(self, url: str, headers: Mapping[str, str], timeout: float = 30) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout)

    def nodes(self) -> list[Json]:
        """Ray's nodes, those that died too, with all that they registered."""
        found: list[Json] = self._ask("GET", "/api/v0/nodes", params={"detail": "true"}).json()["data"]["result"][
            "result"
        ]
        return found

    def _ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.HTTPError as error:
            raise HiveError(
                f"Ray's dashboard at {self.url} does not answer ({error!r})",
                "look into the logs of Ray's head; on this machine also: hive down, hive up",
            ) from error
        if answer.is_error:
            raise HiveError(f"Ray's {path} answers {answer.status_code}: {answer.text[-2000:]}", "see the message")
        return answer
