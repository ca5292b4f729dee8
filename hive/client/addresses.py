"""Where the OpenAI API is. The one place of the client that reads the environment."""

import os
from dataclasses import dataclass

from hive.errors import HiveError


@dataclass(frozen=True)
class Address:
    """One OpenAI API."""

    base_url: str  # with /v1
    api_key: str | None = None  # None where none is asked for


def find(base_url: str | None = None, api_key: str | None = None) -> Address:
    """The address that is given; else OPENAI_BASE_URL; else the Hive that runs on this machine.

    A key that is not given is OPENAI_API_KEY for the first two, and one of its own for the local Hive.

    Raises:
        HiveError: there is none.
    """
    if url := base_url or os.environ.get("OPENAI_BASE_URL"):
        return Address(url, api_key or os.environ.get("OPENAI_API_KEY"))
    # Helm and what else runs a Hive is read only where one is needed.
    from hive.connect import connect

    try:
        hive = connect()
    except HiveError as error:
        raise HiveError(
            "no Hive is found: no base_url is given, OPENAI_BASE_URL is not set, and none runs on this machine",
            "give base_url, set OPENAI_BASE_URL, or start one: hive up -f values/local.yaml",
        ) from error
    return Address(f"{hive.gateway_url()}/v1", api_key or hive.api_key())
