"""One gateway for all tests of this folder; each leaves it as it was."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.site import Site

MODEL: dict[str, Any] = {"source": "./tiny", "vram": "1Gi"}
VALUES: dict[str, Any] = {
    "models": {
        "left": MODEL | {"aliases": ["gpt-4o", "org/left:v1.2"], "adapters": {"left-lora": "./lora"}},
        "right": MODEL,
        "idle": MODEL,  # no replica of it runs
        "off": MODEL | {"replicas": 0},
    },
    "workerGroups": {"gpu": {"replicas": 4}},
    "gateway": {
        "host": "127.0.0.1",
        "keysSecret": "hive-keys",
        "clients": {"bob": {"models": ["right"], "requestsPerMinute": 100}, "carol": {"requestsPerMinute": 2}},
        "maxBodyMib": 9,
        "idleTimeoutSeconds": 8,
    },
}


@pytest.fixture(scope="session", name="site")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("gateway"), VALUES)
    try:
        site.start()
        site.add("left")
        site.add("right")
        yield site
    finally:
        site.end()
        shutil.rmtree(site.where.runtime, ignore_errors=True)
