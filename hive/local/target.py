"""The Hive of this machine as a target: what `hive up` started, and the values file that it was started with."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gateway import keys
from hive import agent_api, keys_of_all, ray_nodes, rendering, replica_logs, serve_api, values_file
from hive.errors import HiveError
from hive.local import checks, driver
from hive.local.run import Folders, Run, load
from hive.rendering import Json, Rendered
from hive.serve_api import Application, ServeApi
from hive.target import Edit, Report, Watch, told
from vram_agent.api import State


@dataclass(frozen=True)
class LocalHive:
    """A running local Hive; see `hive.target.Target`."""

    run: Run
    where: Folders

    @property
    def name(self) -> str:
        return "this machine"

    def gateway_url(self) -> str:
        return self.run.gateway_url

    def addresses(self) -> list[str]:
        return [self.run.gateway_url]

    def api_key(self) -> str | None:
        return keys_of_all.choose(keys.read(self.where.keys), self.values())

    def applications(self) -> list[Application]:
        """The models; all of them are on the one node."""
        node = self.state().node
        found = serve_api.applications(self.serve.details())
        for replica in (replica for app in found for replica in app.replicas):
            replica.node = node
        return found

    def states(self) -> dict[str, State]:
        state = self.state()
        return {state.node: state}

    def values(self) -> Json:
        return rendering.read_values(Path(self.run.values))

    def change(self, edits: Sequence[Edit], report: Report, watch: Watch) -> None:
        """Edit the file that this Hive was started with, and make it so."""
        file = Path(self.run.values)
        text = values_file.edit(values_file.read(file), edits)
        rendered = checks.prepare(rendering.parse_values(text, file.name), self.where)
        if why := self.restarts_all(rendered):
            raise HiveError(f"{file}: {why}; nothing was changed", driver.ANEW)
        serve = self.serve
        there = ray_nodes.standing(serve.nodes(), serve.details(), rendered.serve_config)
        checks.check_fit(rendered, self.state().devices, self.where, there)
        values_file.write(file, text)
        report(f"{file}: {told(edits)}")
        run = driver.start(rendered, file, self.where, report)
        for change in driver.apply(run, self.where, rendered, file, report):
            report(str(change))
        driver.wait(run, self.where, rendered, watch)

    def logs(self, model: str, follow: bool) -> Iterator[str]:
        return replica_logs.lines(*self.dashboard(), model, follow)

    def dashboard(self) -> tuple[str, dict[str, str]]:
        return self.run.dashboard_url, self.where.headers()

    def deployed(self) -> Json:
        return serve_api.deployed_config(self.serve.details())

    def render(self, values: Json) -> Rendered:
        return rendering.render_values(values)

    def restarts_all(self, rendered: Rendered) -> str | None:
        same = checks.digest(rendered) == self.run.cluster
        return None if same else "pods, ports or the agent change, so all of Ray must be started anew"

    def worker_cpus(self) -> int | None:
        return os.cpu_count()

    @property
    def serve(self) -> ServeApi:
        return ServeApi(*self.dashboard())

    def state(self) -> State:
        """What the one agent says.

        Raises:
            HiveError: it is dead.
        """
        return agent_api.read_state(self.run.agent_url)


def find(where: Folders) -> LocalHive:
    """The running Hive.

    Raises:
        HiveError: none runs.
    """
    run = load(where)
    if run is None:
        raise HiveError(
            "no Hive runs here", "start one: hive up -f values/local.yaml; or name a release: hive --release"
        )
    return LocalHive(run, where)
