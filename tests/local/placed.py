"""A model that is placed as the real ones are, and holds nothing: for tests of where replicas go."""

import random
import time
from typing import Any

from ray import serve

from serve_app.order import wait_for_larger

MOST_BUILD_SECONDS = 1.0  # a real build imports vLLM, and which one is done first is chance


@serve.deployment(name="Model")
class Placed:
    """Takes a place."""


def build(args: dict[str, Any]) -> serve.Application:
    """The import path in place of `serve_app.model:build`."""
    time.sleep(random.uniform(0, MOST_BUILD_SECONDS))
    wait_for_larger(args["name"])
    return Placed.bind()
