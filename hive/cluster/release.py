"""A Helm release: its values, its history, and upgrades of it. Helm runs inside this process."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import helm_python
import yaml

from hive import rendering
from hive.errors import HiveError

Json = dict[str, Any]
T = TypeVar("T")
HOOK_SECONDS = 600  # the Job after an upgrade has 300


class Release:
    """One release in one namespace.

    Raises:
        HiveError: from each method, with what Helm says.
    """

    def __init__(self, name: str, namespace: str, context: str | None) -> None:
        self.name, self.namespace = name, namespace
        self._helm = helm_python.Config(namespace=namespace, kube_context=context)

    def values(self) -> Json:
        """What was said when it was installed or upgraded last, without the chart's defaults."""
        found: Json = self._ask(lambda: self._helm.get_values(self.name)) or {}
        return found

    def exists(self) -> bool:
        """Whether there is such a release, in whatever state."""
        try:
            self._helm.status(self.name)
        except helm_python.HelmNotFoundError:
            return False
        except helm_python.HelmError as error:
            raise _said(error, self.name) from error
        return True

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
        """A new revision with exactly these values. Ctrl-C makes Helm give up, and it says so in the history."""
        chart, context = rendering.load_chart(), helm_python.HelmContext()
        more: dict[str, Any] = {
            "context": context,
            "namespace": self.namespace,
            "timeout": HOOK_SECONDS,
            "description": description,
        }
        if self.exists():
            self._run(lambda: self._helm.upgrade(chart, self.name, values, reset_values=True, **more), context)
        else:
            self._run(lambda: self._helm.install(chart, self.name, values, **more), context)

    def uninstall(self) -> None:
        """End it and wait until its objects are gone."""
        self._ask(lambda: self._helm.uninstall(self.name, wait="watcher", timeout=HOOK_SECONDS))

    def _run(self, act: Callable[[], T], context: helm_python.HelmContext) -> T:
        """In a thread of its own, because Go keeps Ctrl-C waiting."""
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(self._ask, act)
            try:
                return done.result()
            except KeyboardInterrupt:
                context.cancel()
                raise

    def _ask(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except helm_python.HelmError as error:
            raise _said(error, self.name) from error


def _said(error: helm_python.HelmError, name: str) -> HiveError:
    """Helm's words, with a mend."""
    text = str(error)
    if isinstance(error, helm_python.HelmNotFoundError):
        return HiveError(f"there is no release {name}: {text}", "helm list -A; then --release and --namespace")
    if "no matches for kind" in text:
        return HiveError(f"Helm says: {text}", "install KubeRay's operator and its CRDs: hive doctor")
    if "another operation" in text:
        return HiveError(f"Helm says: {text}", f"wait for it; if it died: helm rollback {name}")
    return HiveError(f"Helm says: {text}", f"see the message; what was before comes back with helm rollback {name}")
