"""Bring a local Hive up, change it, and bring it down."""

import hashlib
import json
import os
import secrets
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hive import agent_api, placement, rendering, serve_api, templates
from hive.changes import Change, compare
from hive.errors import HiveError, HiveErrors
from hive.local import gateway, processes
from hive.local.run import Folders, Run, load
from hive.rendering import ROOT, Container, Rendered
from hive.serve_api import Application, ServeApi
from serve_app import checkpoint, lora, sizing
from serve_app.args import ModelArgs
from vram_agent.api import MIB, Device, State

LOOPBACK = "127.0.0.1"
START_SECONDS = 120
DRAIN_SECONDS = 90
END_SECONDS = 20
RECOVERY_SECONDS = 300  # for Serve to replace a replica that died
OBJECT_STORE_BYTES = 100_000_000  # replicas pass no large objects

Report = Callable[[str], None]


@dataclass(frozen=True)
class LocalHive:
    """A running local Hive and how to reach its parts."""

    run: Run
    where: Folders

    @property
    def serve(self) -> ServeApi:
        return ServeApi(self.run.dashboard_url, self.where.token)

    def state(self) -> State:
        """Devices and leases.

        Raises:
            HiveError: the agent is dead.
        """
        return agent_api.read_state(self.run.agent_url)

    def applications(self) -> list[Application]:
        """The models.

        Raises:
            HiveError: Ray is dead.
        """
        return serve_api.applications(self.serve.details())


def find(where: Folders) -> LocalHive:
    """The running Hive.

    Raises:
        HiveError: none runs.
    """
    run = load(where)
    if run is None:
        raise HiveError("no Hive runs here", "start one: hive up -f values/local.yaml")
    return LocalHive(run, where)


def prepare(values_file: Path, where: Folders) -> Rendered:
    """Render and check everything that can be known before anything is touched.

    Raises:
        HiveError: each mistake, with its mend.
    """
    rendered = rendering.render(values_file)
    errors = templates.check(rendered.serve_config) + _missing_sources(rendered, where)
    if errors:
        raise HiveErrors(errors)
    gateway.check_keys(rendered.gateway, where)
    return rendered


def start(rendered: Rendered, values_file: Path, where: Folders, report: Report) -> LocalHive:
    """The running Hive, started if there is none.

    Raises:
        HiveError: a port is taken, a part died, or this edit needs a restart; a running Hive stays as it is.
    """
    cluster = digest(rendered)
    run = load(where)
    if run is not None and len(run.dead()) == len(run.processes):
        report("The last Hive ended without `hive down`; its remains are cleared away")
        stop(where, report)
        run = None
    if run is None:
        return _start(rendered, values_file, cluster, where, report)
    if run.cluster == cluster and {started.name for started in run.dead()} - set(gateway.NAMES) == {"agent"}:
        report("The VRAM agent died; starting it again")
        _start_agent(run, where, rendered)
    if dead := [started for started in run.dead() if started.name not in gateway.NAMES]:
        names = ", ".join(f"{started.name} (pid {started.pid})" for started in dead)
        raise HiveError(f"of the running Hive, {names} died; see {where.logs}", "start it anew: make stop && make run")
    if run.cluster != cluster:
        raise HiveError(
            "this changes the pods, the ports or the agent, and Ray must be restarted for it; nothing was changed",
            "start it anew: make stop && make run",
        )
    return LocalHive(run, where)


def apply(hive: LocalHive, rendered: Rendered, report: Report) -> list[Change]:
    """Make the rendered config the target state; returns what that changes.

    Raises:
        HiveError: the models do not fit; nothing was changed.
    """
    check_fit(rendered, hive.state().devices, hive.where)
    details = hive.serve.details()
    changes = compare(serve_api.deployed_config(details), rendered.serve_config)
    settled = all(application.ready for application in serve_api.applications(details))
    if changes or not settled:
        hive.serve.apply(rendered.serve_config)
    if gateway.update(hive.run, rendered.gateway, _gateway_environment(hive.run, rendered, hive.where), hive.where):
        report("The gateway is started anew")
    return changes


def wait(hive: LocalHive, rendered: Rendered, watch: Callable[[list[Application], State], None]) -> None:
    """Wait until every model serves.

    Args:
        watch: called with every look.

    Raises:
        HiveError: a model can't be served; the others go on. Or a part of Hive died.
    """
    names = {app["name"] for app in rendered.serve_config["applications"]}
    sick_until = time.monotonic() + RECOVERY_SECONDS
    while True:
        found = hive.applications()
        watch(found, hive.state())
        sick = [app for app in found if app.status == "UNHEALTHY"]
        if not sick:
            sick_until = time.monotonic() + RECOVERY_SECONDS
        if failed := [app for app in found if app.failed] or (sick if time.monotonic() > sick_until else []):
            raise HiveErrors([_failure(app, hive) for app in failed])
        if {app.name for app in found} == names and all(app.ready for app in found):
            gateway.wait_for(names, hive.run, hive.where)
            return
        if dead := hive.run.dead():
            raise HiveError(f"{dead[0].name} (pid {dead[0].pid}) died; see {hive.where.logs}", "make stop && make run")
        time.sleep(1)


def stop(where: Folders, report: Report) -> None:
    """End the Hive of these folders: replicas first, so that leases are given back, then Ray, then the agent."""
    run = load(where)
    started = run.processes if run else []
    if run is not None:
        alive = [process for started in reversed(run.processes) if (process := started.process())]
        if len(alive) == len(run.processes):
            report("Stopping the models")
            _drain(LocalHive(run, where))
        report("Stopping Ray and the VRAM agent")
        for process in alive:  # workers, then the head, then the agent
            processes.end([process], END_SECONDS)
    processes.end(processes.strays(where, started), END_SECONDS)
    where.run_file.unlink(missing_ok=True)
    shutil.rmtree(where.runtime, ignore_errors=True)


def check_fit(rendered: Rendered, devices: Iterable[Device], where: Folders) -> None:
    """Refuse what can't be placed on these devices.

    Raises:
        HiveError: with the figures.
    """
    by_id = {device.id: device for device in devices}
    assigned = assign(rendered, list(by_id))
    workers = [[by_id[name].allocatable for name in names] for _, names in assigned]
    wanted = placement.wants(rendered.serve_config)
    if problem := placement.unplaceable(wanted, workers):
        raise HiveError(problem, "lower vram or replicas of a model, turn one off (replicas: 0), or free memory")
    _check_budgets(rendered, {group.gpus_per_worker: by_id[names[0]].kind for group, names in assigned}, where)
    # Every worker of this host registers all its CPUs.
    if problem := placement.too_many_cpus(wanted, len(workers) * (os.cpu_count() or 1)):
        raise HiveError(problem, "lower models.*.cpu: it is what Ray counts, not a limit; or replicas")


def assign(rendered: Rendered, devices: list[str]) -> list[tuple[rendering.WorkerGroup, list[str]]]:
    """Devices for every worker of every group, in order.

    Raises:
        HiveError: there are fewer devices than the groups ask for.
    """
    left = list(devices)
    assigned = []
    for group in rendered.groups:
        for _ in range(group.replicas):
            if len(left) < group.gpus_per_worker:
                raise HiveError(
                    f"workerGroups.{group.name} asks for {group.replicas} x {group.gpus_per_worker} devices; "
                    f"this machine has {len(devices)}: {', '.join(devices)}",
                    f"lower workerGroups.{group.name}.replicas or gpusPerWorker",
                )
            assigned.append((group, left[: group.gpus_per_worker]))
            left = left[group.gpus_per_worker :]
    return assigned


# -- starting --------------------------------------------------------------------------------------------------------


def _start(rendered: Rendered, values_file: Path, cluster: str, where: Folders, report: Report) -> LocalHive:
    ports = rendered.ports
    _check_ports(rendered)
    run = Run(
        values=str(values_file),
        cluster=cluster,
        dashboard_url=f"http://{LOOPBACK}:{ports['dashboard']}",
        agent_url=f"http://{LOOPBACK}:{ports['agent']}",
        serve_url=f"http://{_reached(rendered.http_host)}:{ports['serve']}",
        gateway_url=f"http://{_reached(rendered.gateway.host)}:{ports['gateway']}",
    )
    where.models.mkdir(parents=True, exist_ok=True)
    where.runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.rmtree(where.ray, ignore_errors=True)
    _make_token(where)
    hive = LocalHive(run, where)
    try:
        report("Starting the VRAM agent")
        _start_agent(run, where, rendered)
        devices = [device.id for device in hive.state().devices]
        workers = assign(rendered, devices)
        check_fit(rendered, hive.state().devices, where)

        report("Starting Ray's head")
        head = replace(rendered.head, command=_ray_start(_head_flags(rendered), where))
        _launch(run, where, "head", head)
        processes.wait_until(hive.serve.answers, run.processes[-1], where, START_SECONDS)
        for number, (group, names) in enumerate(workers):
            report(f"Starting Ray's worker {number} on {', '.join(names)}")
            env = {
                "HIVE_DEVICES": ",".join(names),
                "KUBERAY_GEN_RAY_START_CMD": shlex.join(_ray_start(_worker_flags(group, ports["gcs"]), where)),
            }
            _launch(run, where, f"worker-{number}", group.container, env)
        report("Starting the gateway")
        gateway.start(run, rendered.gateway, _gateway_environment(run, rendered, where), where)
    except BaseException:
        run.save(where)
        stop(where, lambda _: None)
        raise
    run.save(where)
    return hive


def _start_agent(run: Run, where: Folders, rendered: Rendered) -> None:
    """First in the list, so that it ends last. Engines go on without an agent, and a new one finds their leases."""
    run.processes = [started for started in run.processes if started.name != "agent"]
    _launch(run, where, "agent", rendered.agent)
    run.processes.insert(0, run.processes.pop())
    run.save(where)
    processes.wait_until(lambda: agent_api.answers(run.agent_url), run.processes[0], where, START_SECONDS)


def _launch(run: Run, where: Folders, name: str, container: Container, more: dict[str, str] | None = None) -> None:
    run.processes.append(processes.start(name, container.command, _environment(container, where) | (more or {}), where))
    run.save(where)


def _environment(container: Container, where: Folders) -> dict[str, str]:
    """The container's environment, with this machine's places in place of a pod's."""
    here = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "PYTHONPATH": str(ROOT),
        "HIVE_AGENT_SOCKET": str(where.socket),
        "HIVE_MODELS_DIR": str(where.models),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(where.token),
        # `stop` has drained the replicas before Ray is asked to end.
        "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    }
    if "HIVE_AGENT_HOST" in container.env:
        here["HIVE_AGENT_HOST"] = LOOPBACK
    own = ("HOME", "HF_HOME")  # the user's own, with the hub's cache
    pod = {name: value for name, value in container.env.items() if name not in own}
    return {**os.environ, **pod, **here}


def _gateway_environment(run: Run, rendered: Rendered, where: Folders) -> dict[str, str]:
    here = _environment(rendered.gateway.discovery, where) | {
        "HIVE_DASHBOARD_URL": run.dashboard_url,
        "HIVE_TOKEN_FILE": str(where.token),
    }
    if "HIVE_AGENTS" in here:
        here["HIVE_AGENTS"] = f"{LOOPBACK}:{rendered.ports['agent']}"
        here["HIVE_GATEWAYS"] = f"{_reached(rendered.gateway.host)}:{rendered.ports['gatewayMetrics']}"
    return here | ({"HIVE_KEYS_DIR": str(where.keys)} if rendered.gateway.asks_for_keys else {})


def _reached(host: str) -> str:
    """Where what listens there is reached from this machine."""
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104
    return f"[{host}]" if ":" in host else host


def _head_flags(rendered: Rendered) -> dict[str, str]:
    """KubeRay's part: rayStartParams become flags. A dashboard on this machine is for this machine."""
    return {"head": "", **rendered.head_params, "dashboard-host": LOOPBACK}


def _worker_flags(group: rendering.WorkerGroup, gcs_port: int) -> dict[str, str]:
    return {"address": f"{LOOPBACK}:{gcs_port}", **group.start_params}


def _ray_start(flags: dict[str, str], where: Folders) -> list[str]:
    common = {
        "node-ip-address": LOOPBACK,
        "object-store-memory": str(OBJECT_STORE_BYTES),
        # Several Ray nodes share this host, so none of them takes these by number.
        "dashboard-agent-listen-port": "0",
        "metrics-export-port": "0",
        "block": "",
    }
    if "head" in flags:
        common["temp-dir"] = str(where.ray)
    pairs = (flags | common).items()
    return ["ray", "start", *(f"--{name}={value}" if value else f"--{name}" for name, value in pairs)]


def _make_token(where: Folders) -> None:
    where.token.touch(mode=0o600)
    where.token.write_text(secrets.token_hex(32))


def _check_ports(rendered: Rendered) -> None:
    errors = []
    for name, port in rendered.ports.items():
        if owner := processes.port_owner(port):
            errors.append(
                HiveError(f"ports.{name}: {port} is taken by {owner}", f"end that, or set ports.{name} to a free port")
            )
    if errors:
        raise HiveErrors(errors)


def _missing_sources(rendered: Rendered, where: Folders) -> list[HiveError]:
    """Models and adapters that name a folder in which there is none."""
    errors = []
    for app in rendered.serve_config["applications"]:
        args = app["args"]
        wanted = [("source", args["source"], "model", checkpoint.CONFIG)]
        wanted += [
            (f"adapters.{n}", source, "adapter", checkpoint.ADAPTER_CONFIG) for n, source in args["adapters"].items()
        ]
        for key, source, what, file in wanted:
            folder = where.models / source
            if checkpoint.is_folder(source) and not (folder / file).exists():
                errors.append(
                    HiveError(
                        f"models.{app['name']}.{key}: {folder} holds no {what} (no {file})",
                        f"put the {what} there, or name one of the hub as owner/name",
                    )
                )
    return errors


def _check_budgets(rendered: Rendered, kinds: Mapping[int, str], where: Folders) -> None:
    """Refuse a budget that can't hold its model, where the model's files are here to tell."""
    errors = []
    for app in rendered.serve_config["applications"]:
        args = app["args"]
        if not all(map(checkpoint.is_folder, [args["source"], *args["adapters"].values()])):
            continue
        try:
            found = checkpoint.read_folder(where.models / args["source"])
            kind = kinds[args["tensorParallel"]]
            ranks = [checkpoint.read_adapter_rank(where.models / source) for source in args["adapters"].values()]
            engine = sizing.Engine.of(ModelArgs.model_validate(args).engine_kwargs(ranks), found.config, kind)
            sizing.divide(found, engine, kind, args["vramMib"] * MIB)
        except (sizing.BudgetError, checkpoint.CheckpointError, lora.RankError) as error:
            what, _, fix = str(error).partition(". FIX: ")
            errors.append(HiveError(f"models.{app['name']}: {what}", fix or "put the whole model there"))
    if errors:
        raise HiveErrors(errors)


def digest(rendered: Rendered) -> str:
    """Of all that only a restart of Ray can change. Not of the packages' code: replicas import that when they start."""
    content = [rendered.ray_cluster, rendered.agent.env, rendered.ports, rendered.serve_config["http_options"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


# -- ending ----------------------------------------------------------------------------------------------------------


def _drain(hive: LocalHive) -> None:
    """Let Serve end its replicas and wait for the leases; what does not end by itself is ended by its process."""
    deadline = time.monotonic() + DRAIN_SECONDS
    try:
        hive.serve.shut_down()
        while hive.state().leases and time.monotonic() < deadline:
            time.sleep(0.5)
    except HiveError:
        return


def _failure(app: Application, hive: LocalHive) -> HiveError:
    """Most reasons carry their own mend."""
    what, _, fix = app.reason.partition("FIX: ")
    return HiveError(f"{app.name}: {what}", fix or f"see its log in {hive.where.ray}/session_latest/logs/serve")
