"""The VRAM agent's public door."""

import httpx

from hive.errors import HiveError
from vram_agent.api import State


def read_state(url: str) -> State:
    """Devices and leases.

    Raises:
        HiveError: no agent answers.
    """
    try:
        response = httpx.get(f"{url}/v1/state", timeout=10)
        response.raise_for_status()
    except httpx.HTTPError as error:
        raise HiveError(
            f"no VRAM agent answers at {url} ({error!r})",
            "`hive up` starts it again on this machine; on a cluster see its pod",
        ) from error
    return State.model_validate_json(response.text)


def answers(url: str) -> bool:
    """Whether an agent is up."""
    try:
        return httpx.get(f"{url}/v1/state", timeout=5).is_success
    except httpx.HTTPError:
        return False
