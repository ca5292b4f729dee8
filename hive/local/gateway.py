"""The gateway on this machine: Envoy and what is beside it, with the files that the chart rendered."""

import os
import subprocess
from collections.abc import Mapping

import httpx

from gateway import keys
from hive.errors import HiveError
from hive.local import processes
from hive.local.run import Folders, Run
from hive.rendering import ENVOY_FILE, Gateway

NAMES = ("discovery", "envoy")
START_SECONDS = 30
END_SECONDS = 10


def check_keys(gateway: Gateway, where: Folders) -> None:
    """Refuse a gateway that would let nobody in.

    Raises:
        HiveError: it asks for keys, and there is none.
    """
    if gateway.asks_for_keys and not api_key(where):
        raise HiveError(
            f"gateway.keysSecret: {where.keys} has no API keys; here that folder stands for the Secret",
            f"make one: mkdir -p {where.keys} && openssl rand -hex 24 > {where.keys}/me",
        )


def api_key(where: Folders) -> str | None:
    """One of this machine's own keys that the gateway takes."""
    return next((key for own in keys.read(where.keys).values() for key in own), None)


def job_environment(run: Run, gateway: Gateway, where: Folders) -> dict[str, str]:
    """What a job finds the models by, as the chart has it on workers for jobs: the address, and the key of the client
    `jobs`, where there is one."""
    found = keys.read(where.keys).get("jobs") if gateway.asks_for_keys else None
    return {"OPENAI_BASE_URL": f"{run.gateway_url}/v1"} | ({"OPENAI_API_KEY": found[0]} if found else {})


def start(run: Run, gateway: Gateway, env: Mapping[str, str], where: Folders) -> None:
    """Start both processes, with these files.

    Raises:
        HiveError: one does not come up.
    """
    write(gateway, where)
    prepared = subprocess.run(
        gateway.prepare.command, env=dict(env), cwd=where.gateway, capture_output=True, text=True, check=False
    )
    if prepared.returncode:
        raise HiveError(f"the gateway can't be prepared: {prepared.stderr[-2000:]}", "see the message")
    for name, container in (("discovery", gateway.discovery), ("envoy", gateway.envoy)):
        run.processes.append(processes.start(name, container.command, env, where, where.gateway))
        run.save(where)
    processes.wait_until(lambda: answers(run.gateway_url), run.processes[-1], where, START_SECONDS)


def update(run: Run, gateway: Gateway, env: Mapping[str, str], where: Folders) -> bool:
    """Take over other models, routes and clients while it runs; start it anew where Envoy can't, or one half is dead.

    Returns whether it was started anew.
    """
    written = where.gateway / "config" / ENVOY_FILE
    same = written.exists() and written.read_text() == gateway.files[ENVOY_FILE]
    if same and not {started.name for started in run.dead()} & set(NAMES):
        write(gateway, where)
        return False
    ours = [started for started in run.processes if started.name in NAMES]
    processes.end([process for started in ours if (process := started.process())], END_SECONDS)
    run.processes = [started for started in run.processes if started.name not in NAMES]
    start(run, gateway, env, where)
    return True


def write(gateway: Gateway, where: Folders) -> None:
    """Replace each file whole: Envoy reads one when it is moved into place."""
    config = where.gateway / "config"
    config.mkdir(parents=True, exist_ok=True)
    (where.gateway / "run").mkdir(mode=0o700, exist_ok=True)
    for name, text in gateway.files.items():
        if not (config / name).exists() or (config / name).read_text() != text:
            fresh = config / f".{name}"
            fresh.write_text(text)
            os.replace(fresh, config / name)


def answers(url: str) -> bool:
    """Whether Envoy takes requests."""
    try:
        return httpx.get(f"{url}/healthz", timeout=5).is_success
    except httpx.HTTPError:
        return False


def wait_for(models: set[str], run: Run, where: Folders) -> None:
    """Wait until the gateway knows where these serve.

    Raises:
        HiveError: it does not find out.
    """
    discovery = next(started for started in run.processes if started.name == "discovery")
    processes.wait_until(lambda: models <= _serving(where), discovery, where, START_SECONDS)


def _serving(where: Folders) -> set[str]:
    """What the gateway lists for somebody who may use every model; each key may stand for fewer."""
    transport = httpx.HTTPTransport(uds=str(where.gateway / "run" / "discovery.sock"))
    try:
        with httpx.Client(transport=transport, timeout=5) as http:
            answer = http.get("http://gateway/v1/models").raise_for_status()
    except httpx.HTTPError:
        return set()
    return {card["id"] for card in answer.json()["data"]}
