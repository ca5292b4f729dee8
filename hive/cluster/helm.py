"""`python -m hive.cluster.helm`: one change of a release, asked for as JSON on stdin. See `release.Release`."""

import json
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import helm_python

from hive import rendering

HOOK_SECONDS = 600  # the Job after an upgrade has 300


def upgrade(helm: helm_python.Config, context: helm_python.HelmContext, name: str, said: dict[str, Any]) -> None:
    """A new revision with exactly these values; the first one where there is no release."""
    chart = rendering.load_chart()
    more: dict[str, Any] = {"context": context, "timeout": HOOK_SECONDS, "description": said["description"]}
    try:
        helm.status(name)
    except helm_python.HelmNotFoundError:
        helm.install(chart, name, said["values"], **more)
    else:
        helm.upgrade(chart, name, said["values"], reset_values=True, **more)


def uninstall(helm: helm_python.Config, _: helm_python.HelmContext, name: str, __: dict[str, Any]) -> None:
    """End it and wait until its objects are gone."""
    helm.uninstall(name, wait="watcher", timeout=HOOK_SECONDS)


ACTIONS: dict[str, Callable[[helm_python.Config, helm_python.HelmContext, str, dict[str, Any]], None]] = {
    "upgrade": upgrade,
    "uninstall": uninstall,
}


def main() -> None:
    """In a thread, because Go keeps Ctrl-C waiting; with it Helm gives up, and says so in the history."""
    said = json.load(sys.stdin)
    context = helm_python.HelmContext()
    helm = helm_python.Config(namespace=said["namespace"], kube_context=said["context"])
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(ACTIONS[said["action"]], helm, context, said["name"], said["arguments"])
        try:
            done.result()
        except KeyboardInterrupt:
            context.cancel()
            sys.exit(130)
        except helm_python.HelmError as error:
            print(json.dumps({"kind": type(error).__name__, "text": str(error)}))
            sys.exit(1)


if __name__ == "__main__":
    main()
