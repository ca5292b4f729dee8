"""A Helm release: its values, its history, and changes of it. Helm comes with Hive; no `helm` has to be there."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import helm_python
import yaml

from hive import rendering
from hive.errors import HiveError

Json = dict[str, Any]
T = TypeVar("T")
GIVE_UP_SECONDS = 60


class Release:
    """One release in one namespace.

    Raises:
        HiveError: from each method, with what Helm says.
    """

    def __init__(self, name: str, namespace: str, context: str | None) -> None:
        self.name, self.namespace, self._context = name, namespace, context
        self._helm = helm_python.Config(namespace=namespace, kube_context=context)

    def values(self) -> Json:
        """What was said when it was installed or upgraded last, without the chart's defaults."""
        found: Json = self._ask(lambda: self._helm.get_values(self.name)) or {}
        return found

    def latest(self) -> Json | None:
        """Helm's summary of the latest revision, in whatever state, with its `manifest`; None: there is none."""
        try:
            found: Json = self._helm.status(self.name)
        except helm_python.HelmNotFoundError:
            return None
        except helm_python.HelmError as error:
            raise said(type(error).__name__, str(error), self.name) from error
        return found

    def exists(self) -> bool:
        """Whether there is such a release, in whatever state."""
        return self.latest() is not None

    def chart_version(self) -> str:
        """Of the chart that it was made with last."""
        return str(self._ask(lambda: self._helm.status(self.name))["chart_version"])

    def revision(self) -> int:
        """The latest; Helm's history has those before it, to roll back to."""
        return int(self._ask(lambda: self._helm.status(self.name))["revision"])

    def service(self) -> Json:
        """The RayService as it was asked for last."""
        manifest = self._ask(lambda: self._helm.status(self.name))["manifest"]
        objects = yaml.load_all(manifest, rendering.Loader)
        found: Json = next(one for one in objects if one and one["kind"] == "RayService")
        return found

    def upgrade(self, values: Json, description: str) -> None:
        """A new revision with exactly these values, or the first one."""
        self._change("upgrade", values=values, description=description)

    def uninstall(self) -> None:
        """End it and wait until its objects are gone."""
        self._change("uninstall")

    def _change(self, action: str, **arguments: Any) -> None:
        """In a process that is called helm: Helm signs each field of an object with the name of its program, and would
        refuse to change what a person's `helm` has signed, or let that one change what `python` has."""
        request = {
            "action": action,
            "name": self.name,
            "namespace": self.namespace,
            "context": self._context,
            "arguments": arguments,
        }
        program = str(Path(sys.executable).with_name("helm"))  # need not be there; Python finds its environment by it
        with subprocess.Popen(
            [program, "-m", "hive.cluster.helm"],
            executable=sys.executable,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                answer, _ = process.communicate(json.dumps(request))
            except KeyboardInterrupt:
                process.wait(GIVE_UP_SECONDS)  # the terminal told it too
                raise
        if process.returncode:
            try:
                error = json.loads(answer)
            except json.JSONDecodeError:
                error = {"kind": "", "text": f"it ended with {process.returncode}"}
            raise said(error["kind"], error["text"], self.name)

    def _ask(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except helm_python.HelmError as error:
            raise said(type(error).__name__, str(error), self.name) from error


def said(kind: str, text: str, name: str) -> HiveError:
    """Helm's words, with a mend.

    Args:
        kind: name of the error's class.
    """
    if kind == helm_python.HelmNotFoundError.__name__:
        return HiveError(f"there is no release {name}: {text}", "helm list -A; then --release and --namespace")
    if "unreachable" in text:
        return HiveError(f"Helm says: {text}", "kubectl cluster-info; or name another --context")
    if "no matches for kind" in text:
        return HiveError(f"Helm says: {text}", "install KubeRay's operator and its CRDs: hive doctor")
    if "another operation" in text:
        return HiveError(f"Helm says: {text}", f"wait for it; if it died: helm rollback {name}")
    return HiveError(f"Helm says: {text}", f"see the message; what was before comes back with helm rollback {name}")
