"""A Helm release as a target."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from gateway import keys
from hive import agent_api, catalog, keys_of_all, placement, ray_nodes, rendering, replica_logs, serve_api, values_file
from hive.changes import compare
from hive.cluster.kubernetes import Kubernetes, port, runs
from hive.cluster.objects import different, nodes_by_address, outside, waiting
from hive.cluster.release import Release
from hive.errors import HiveError
from hive.plan import scenario
from hive.rendering import Json, Rendered
from hive.serve_api import Application, ServeApi
from hive.settling import Settling
from hive.target import Edit, Report, Watch, told
from release.changes import listed, outdated, running, templates
from vram_agent.api import State

WAIT_SECONDS = 3600  # for large models to be fetched
CONNECTIONS = 8
LOOK_SECONDS = 2


class ClusterHive:
    """One release; see `hive.target.Target`."""

    def __init__(self, kubernetes: Kubernetes, release: Release, file: Path | None) -> None:
        self.kubernetes, self.release, self._file = kubernetes, release, file
        self._headers: dict[str, str] | None = None  # of Ray's dashboard

    @classmethod
    def open(cls, release: str, namespace: str | None, context: str | None, file: Path | None = None) -> "ClusterHive":
        """Through the kubeconfig. Whether there is such a release is seen at the first question.

        Raises:
            HiveError: there is no kubeconfig, or no cluster answers.
        """
        kubernetes = Kubernetes(namespace, context)
        return cls(kubernetes, Release(release, kubernetes.namespace, context), file)

    @property
    def name(self) -> str:
        return f"release {self.release.name} in namespace {self.release.namespace}"

    def gateway_url(self) -> str:
        return self._forward("gateway", "http")

    def addresses(self) -> list[str]:
        labels = self._labels("gateway")
        services, ingresses = (self.kubernetes.get(kind, labels) for kind in ("services", "ingresses"))
        return outside(services, ingresses)

    def api_key(self) -> str | None:
        """From the Secret that `gateway.keysSecret` names, where this user may read it."""
        values = self.values()
        name = (values.get("gateway") or {}).get("keysSecret")
        own = (self.kubernetes.secret(name) or {}) if name else {}
        return keys_of_all.choose(keys.parse(own), values)

    def applications(self) -> list[Application]:
        """The models. PIDs are those of the pods' own and mean nothing outside, so they are left out."""
        return self._placed(self._details())

    def states(self) -> dict[str, State]:
        """Of every agent that runs."""
        pods = [pod for pod in self._pods("agent") if runs(pod)]
        if not pods:
            return {}
        labels, number = self._labels("agent"), port(pods, "http")
        nodes = [pod["spec"]["nodeName"] for pod in pods]
        urls = [self.kubernetes.forward(labels, number, node) for node in nodes]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return dict(zip(nodes, pool.map(agent_api.read_state, urls), strict=True))

    def values(self) -> Json:
        return self.release.values()

    def change(self, edits: Sequence[Edit], report: Report, watch: Watch) -> None:
        """Edit the release's values, or the file that they are kept in, and upgrade the release."""
        self._same_chart()
        values = self.values()
        if self._file:
            text = values_file.edit(values_file.read(self._file), edits)
            wanted = rendering.parse_values(text, str(self._file))
            if others := different(values_file.edited(values, edits), wanted):
                report(f"{self._file} also differs from the release in: {', '.join(others)}")
        else:
            wanted = values_file.edited(values, edits)
        self.check(wanted)
        if self._file:
            values_file.write(self._file, text)
        said = told(edits)
        self.apply(wanted, f"hive: {said}", report)
        report(f"{said}: revision {self.release.revision()} of {self.name}")
        if not self._file:
            report(
                "No file has this edit, only the release: "
                f"helm get values {self.release.name} -n {self.release.namespace} > values.yaml"
            )
        self.wait(report, watch)

    def logs(self, model: str, follow: bool) -> Iterator[str]:
        return replica_logs.lines(*self.dashboard(), model, follow)

    def dashboard(self) -> tuple[str, dict[str, str]]:
        if self._headers is None:
            token = self._ray_token()
            self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        return self._forward("head", "dashboard"), self._headers

    def deployed(self) -> Json:
        return serve_api.deployed_config(self._details())

    def render(self, values: Json) -> Rendered:
        return rendering.render_values(values, self.release.name, self.release.namespace)

    def restarts_all(self, rendered: Rendered) -> str | None:
        """With `rollout.podTemplate: Recreate` an edit of a pod's template ends the cluster; else it lands nowhere."""
        wanted = templates({"spec": {"rayClusterConfig": rendered.ray_cluster}})
        now = templates(self.release.service())
        changed = [group for group, digest in wanted.items() if now.get(group, digest) != digest]
        if not changed or rendered.rollout != "Recreate":
            return None
        return f"the pods of {', '.join(changed)} change, and rollout.podTemplate is Recreate: Ray is started anew"

    def worker_cpus(self) -> int | None:
        return None

    # -- what an upgrade is made of ----------------------------------------------------------------------------------

    def check(self, values: Json) -> None:
        """Refuse what the chart refuses, and replicas that the workers which run have no room for.

        Raises:
            HiveError: with the mend; nothing was changed.
        """
        rendered = self.render(values)
        there = self._standing(rendered)
        if not there.workers or sum(group.most for group in scenario.groups(rendered)) > len(there.workers):
            return  # more workers come, of sizes that nobody knows yet
        if problem := placement.without_room(placement.wants(rendered.serve_config), there):
            raise HiveError(problem, "lower vram or replicas of a model, turn one off (replicas: 0), or add a GPU")

    def apply(self, values: Json, description: str, report: Report) -> None:
        """Upgrade the release, or install it.

        Raises:
            HiveError: Helm does not do it.
        """
        report("Helm upgrades the release" if self.release.exists() else "Helm installs the release")
        self.release.upgrade(values, description)
        service = self.release.service()
        if old := outdated([pod for pod in self._ray_pods() if runs(pod)], templates(service)):
            report(
                f"These pods run an older template: {listed(old)}. They are made anew, with all models away meanwhile, "
                "by an upgrade with rollout.podTemplate: Recreate"
            )

    def wait(self, report: Report, watch: Watch) -> None:
        """Wait until Ray Serve has heard what the release asks for, and every model serves.

        Raises:
            HiveError: a model can't be served, the others go on; or nothing more came of it for an hour.
        """
        wanted = yaml.load(self.release.service()["spec"]["serveConfigV2"], rendering.Loader)  # noqa: S506 (a SafeLoader)
        names = {app["name"] for app in wanted["applications"]}
        deadline = time.monotonic() + WAIT_SECONDS
        settling = Settling(names, time.monotonic())
        said = set[str]()
        while time.monotonic() < deadline:
            heard, found, news = self._look(wanted)
            watch(found, self._states_that_answer())
            for line in news:
                if line not in said:
                    said.add(line)
                    report(line)
            if heard and settling.done(found, time.monotonic()) and self._listed(names):
                return
            time.sleep(LOOK_SECONDS)
        raise HiveError(
            f"{self.name} is not as asked for after {WAIT_SECONDS} s", "it goes on without this command: hive status"
        )

    def _look(self, wanted: Json) -> tuple[bool, list[Application], list[str]]:
        """Whether Serve has heard, its models, and what is in the way."""
        stuck = waiting(self.kubernetes.get("pods", f"app.kubernetes.io/instance={self.release.name}"))
        try:
            details = self._details()
        except HiveError:
            return False, [], stuck or ["Ray's head starts"]
        if compare(serve_api.deployed_config(details), wanted):
            return False, serve_api.applications(details), [*stuck, "KubeRay's operator brings it to Ray Serve"]
        return True, self._placed(details), stuck

    def _states_that_answer(self) -> dict[str, State]:
        try:
            return self.states()
        except HiveError:
            return {}

    def _listed(self, names: set[str]) -> bool:
        """Whether the gateway lists these, as far as somebody with our key can know."""
        key = self.api_key()
        if key is None and self._asks_for_keys():
            return True
        try:
            return names <= catalog.cards(self.gateway_url(), key).keys()
        except HiveError:
            return False

    def _asks_for_keys(self) -> bool:
        return bool((self.values().get("gateway") or {}).get("keysSecret"))

    def _same_chart(self) -> None:
        """An edit of one value must not bring another version of everything."""
        ours, theirs = rendering.chart_version(), self.release.chart_version()
        if ours != theirs:
            raise HiveError(
                f"{self.name} is of chart {theirs}, and this `hive` has chart {ours}",
                f"upgrade the release first: hive --release {self.release.name} up -f VALUES",
            )

    # -- parts of the release ----------------------------------------------------------------------------------------

    def _labels(self, component: str) -> str:
        return f"app.kubernetes.io/instance={self.release.name},app.kubernetes.io/component={component}"

    def _pods(self, component: str) -> list[Json]:
        return self.kubernetes.get("pods", self._labels(component))

    def _ray_pods(self) -> list[Json]:
        return self.kubernetes.get("pods", f"app.kubernetes.io/instance={self.release.name},ray.io/is-ray-node=yes")

    def _forward(self, component: str, name: str) -> str:
        labels = self._labels(component)
        if component == "head" and (cluster := self._cluster()):  # a second one may come up beside it
            labels += f",ray.io/cluster={cluster}"
        return self.kubernetes.forward(labels, port(self.kubernetes.get("pods", labels), name))

    def _cluster(self) -> str | None:
        """Name of the RayCluster that counts."""
        found = self.kubernetes.get("rayservices.ray.io", f"app.kubernetes.io/instance={self.release.name}")
        return running(found[0]) if found else None

    def _details(self) -> Json:
        """What Ray Serve says of its applications."""
        return ServeApi(*self.dashboard()).details()

    def _placed(self, details: Json) -> list[Application]:
        """The models in what Serve says, with the nodes of their replicas."""
        found = serve_api.applications(details)
        nodes = nodes_by_address(self._ray_pods())
        for replica in (replica for app in found for replica in app.replicas):
            replica.node, replica.pid = nodes.get(replica.node, replica.node), None
        return found

    def _ray_token(self) -> str | None:
        """Ray's own; None where it asks for none.

        Raises:
            HiveError: it may not be read.
        """
        options = self.release.service()["spec"]["rayClusterConfig"]["authOptions"]
        if options["mode"] != "token":
            return None
        name = options["secretName"]
        token = (self.kubernetes.secret(name) or {}).get("auth_token")
        if token is None:
            raise HiveError(
                f"the Secret {name} with Ray's token can't be read",
                f"ask for the right to: kubectl -n {self.release.namespace} get secret {name}",
            )
        return token

    def _standing(self, rendered: Rendered) -> placement.Standing:
        """What is there for these values; nothing where Ray does not answer."""
        try:
            serve = ServeApi(*self.dashboard())
            nodes, details = serve.nodes(), serve.details()
        except HiveError:
            return placement.Standing([])
        there = ray_nodes.standing(nodes, details, rendered.serve_config)
        return placement.Standing(there.workers) if self.restarts_all(rendered) else there
