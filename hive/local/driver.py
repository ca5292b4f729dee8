"""Bring a local Hive up, change it, and bring it down."""

import os
import secrets
import shlex
import shutil
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from hive import agent_api, ray_nodes, rendering, serve_api
from hive.changes import Change, compare
from hive.errors import HiveError
from hive.local import gateway, processes
from hive.local.checks import assign, check_fit, check_ports, digest
from hive.local.run import Folders, Run, load
from hive.rendering import ROOT, Container, Rendered
from hive.serve_api import ServeApi
from hive.settling import Settling
from hive.target import Report, Watch

LOOPBACK = "127.0.0.1"
START_SECONDS = 120
DRAIN_SECONDS = 90
END_SECONDS = 20
ANEW = "start it anew: hive down, then hive up -f VALUES"
OBJECT_STORE_BYTES = 100_000_000  # replicas pass no large objects


def start(rendered: Rendered, values_file: Path, where: Folders, report: Report) -> Run:
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
        raise HiveError(f"of the running Hive, {names} died; see {where.logs}", ANEW)
    if run.cluster != cluster:
        raise HiveError(
            "this changes the pods, the ports or the agent, and Ray must be restarted for it; nothing was changed",
            ANEW,
        )
    return run


def apply(run: Run, where: Folders, rendered: Rendered, values_file: Path, report: Report) -> list[Change]:
    """Make what was rendered of this file the target state; returns what that changes.

    Raises:
        HiveError: the models do not fit; nothing was changed.
    """
    serve = ServeApi(run.dashboard_url, where.headers())
    details = serve.details()
    there = ray_nodes.standing(serve.nodes(), details, rendered.serve_config)
    check_fit(rendered, agent_api.read_state(run.agent_url).devices, where, there)
    changes = compare(serve_api.deployed_config(details), rendered.serve_config)
    settled = all(application.ready for application in serve_api.applications(details))
    if changes or not settled:
        serve.apply(rendered.serve_config)
    if gateway.update(run, rendered.gateway, _gateway_environment(run, rendered, where), where):
        report("The gateway is started anew")
    run.values = str(values_file.resolve())
    run.save(where)
    return changes


def wait(run: Run, where: Folders, rendered: Rendered, watch: Watch) -> None:
    """Wait until every model serves.

    Args:
        watch: called with every look.

    Raises:
        HiveError: a model can't be served; the others go on. Or a part of Hive died.
    """
    serve = ServeApi(run.dashboard_url, where.headers())
    names = {app["name"] for app in rendered.serve_config["applications"]}
    settling = Settling(names, time.monotonic())
    while True:
        found, state = serve_api.applications(serve.details()), agent_api.read_state(run.agent_url)
        watch(found, {state.node: state})
        if settling.done(found, time.monotonic()):
            gateway.wait_for(names, run, where)
            return
        if dead := run.dead():
            raise HiveError(f"{dead[0].name} (pid {dead[0].pid}) died; see {where.logs}", ANEW)
        time.sleep(1)


def stop(where: Folders, report: Report) -> None:
    """End the Hive of these folders: replicas first, so that leases are given back, then Ray, then the agent."""
    run = load(where)
    started = run.processes if run else []
    if run is not None:
        alive = [process for started in reversed(run.processes) if (process := started.process())]
        if len(alive) == len(run.processes):
            report("Stopping the models")
            _drain(run, where)
        report("Stopping Ray and the VRAM agent")
        for process in alive:  # workers, then the head, then the agent
            processes.end([process], END_SECONDS)
    processes.end(processes.strays(where, started), END_SECONDS)
    where.run_file.unlink(missing_ok=True)
    shutil.rmtree(where.runtime, ignore_errors=True)


# -- starting --------------------------------------------------------------------------------------------------------


def _start(rendered: Rendered, values_file: Path, cluster: str, where: Folders, report: Report) -> Run:
    ports = rendered.ports
    check_ports(rendered)
    run = Run(
        values=str(values_file.resolve()),
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
    try:
        report("Starting the VRAM agent")
        _start_agent(run, where, rendered)
        devices = agent_api.read_state(run.agent_url).devices
        workers = assign(rendered, [device.id for device in devices])
        check_fit(rendered, devices, where)

        report("Starting Ray's head")
        head = replace(rendered.head, command=_ray_start(_head_flags(rendered), where.ray))
        _launch(run, where, "head", head, gateway.job_environment(run, rendered.gateway, where))
        serve = ServeApi(run.dashboard_url, where.headers())
        processes.wait_until(serve.answers, run.processes[-1], where, START_SECONDS)
        for number, (group, names) in enumerate(workers):
            report(f"Starting Ray's worker {number} on {', '.join(names)}")
            command = _ray_start(_worker_flags(group, ports["gcs"]), where.ray / str(number))
            env = {
                "HIVE_DEVICES": ",".join(names),
                "HIVE_CPUS": str(os.cpu_count()),
                "KUBERAY_GEN_RAY_START_CMD": shlex.join(command),
            }
            _launch(run, where, f"worker-{number}", group.container, env)
            # Serve must know all workers when it places the first model, or small ones go where a large one has to.
            processes.wait_until(partial(_registered, serve, number + 1), run.processes[-1], where, START_SECONDS)
        report("Starting the gateway")
        gateway.start(run, rendered.gateway, _gateway_environment(run, rendered, where), where)
    except BaseException:
        run.save(where)
        stop(where, lambda _: None)
        raise
    run.save(where)
    return run


def _registered(serve: ServeApi, workers: int) -> bool:
    try:
        return serve.alive_nodes() >= 1 + workers  # and the head
    except HiveError:  # this part of the dashboard may come later than the rest
        return False


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
    """KubeRay's part: rayStartParams become flags. A dashboard on this machine is for this machine. Jobs run on its
    head, which shares the workers' RAM anyway: a Ray node for them alone would only take some more."""
    return {"head": "", **rendered.head_params, "dashboard-host": LOOPBACK, "num-cpus": str(os.cpu_count())}


def _worker_flags(group: rendering.WorkerGroup, gcs_port: int) -> dict[str, str]:
    return {"address": f"{LOOPBACK}:{gcs_port}", **group.start_params}


def _ray_start(flags: dict[str, str], folder: Path) -> list[str]:
    """With a folder of its own for each node: one that gets a job's files replaces those of another node in the same
    place, while the job runs there."""
    common = {
        "node-ip-address": LOOPBACK,
        "object-store-memory": str(OBJECT_STORE_BYTES),
        # Several Ray nodes share this host, so none of them takes these by number.
        "dashboard-agent-listen-port": "0",
        "metrics-export-port": "0",
        "temp-dir": str(folder),
        "block": "",
    }
    pairs = (flags | common).items()
    return ["ray", "start", *(f"--{name}={value}" if value else f"--{name}" for name, value in pairs)]


def _make_token(where: Folders) -> None:
    where.token.touch(mode=0o600)
    where.token.write_text(secrets.token_hex(32))


# -- ending ----------------------------------------------------------------------------------------------------------


def _drain(run: Run, where: Folders) -> None:
    """Let Serve end its replicas and wait for the leases; what does not end by itself is ended by its process."""
    deadline = time.monotonic() + DRAIN_SECONDS
    try:
        ServeApi(run.dashboard_url, where.headers()).shut_down()
        while agent_api.read_state(run.agent_url).leases and time.monotonic() < deadline:
            time.sleep(0.5)
    except HiveError:
        return
