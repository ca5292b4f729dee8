"""From a values file to answers, on real parts. The tests share one Hive and run in order; each leaves it serving."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import psutil
import pytest
from playwright.sync_api import expect

from hive import rendering
from hive.errors import HiveError
from hive.local import checks, driver, processes
from hive.serve_api import applications
from tests.browser import chromium
from tests.local.conftest import Sandbox, engine_of, make_sandbox, tiny, wait_for
from vram_agent import processes as processes_of_agent
from vram_agent.api import GIB, MIB, LeaseState

pytestmark = [pytest.mark.serving, pytest.mark.timeout(600)]
KILLS = int(os.environ.get("HIVE_KILLS", "2"))  # rounds; each takes a minute and a half


def kill_agent(sandbox: Sandbox) -> None:
    agent = next(started for started in sandbox.hive.run.processes if started.name == "agent")
    os.kill(agent.pid, signal.SIGKILL)
    wait_for("the agent ends", lambda: agent.process() is None, seconds=10)


def recovered(sandbox: Sandbox, old: set[str]) -> bool:
    """Whether Serve's replicas are those that hold the leases, all active and none of the old ones."""
    leases = sandbox.hive.state().leases
    found = applications(sandbox.hive.serve.details())
    replicas = {replica.pid for app in found for replica in app.replicas}
    active = {lease.pid for lease in leases if lease.state is LeaseState.ACTIVE and lease.id not in old}
    return all(app.ready for app in found) and len(leases) == 2 and active == replicas


def check_ledger(sandbox: Sandbox) -> None:
    """The leases have every engine process that there is, and the bytes that the kernel counts for them."""
    state = sandbox.hive.state()
    replicas = {lease.pid for lease in state.leases}
    engines = {p.pid for p in psutil.process_iter(["name"]) if "VLLM::" in p.info["name"] and ours(p, replicas)}
    assert engines <= {pid for lease in state.leases for pid in lease.pids}
    (host,) = state.devices
    assert host.leased == sum(lease.bytes for lease in state.leases)
    assert not host.over
    for lease in state.leases:
        resident = sum(processes_of_agent.resident(pid) or 0 for pid in lease.pids)
        assert lease.used["host"] == pytest.approx(resident, abs=256 * MIB)


def ours(process: psutil.Process, replicas: set[int]) -> bool:
    """A process of these replicas, or one that lost its replica and should be gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool({process.ppid()} & (replicas | {1}))
    return False


def serves(sandbox: Sandbox, model: str, *, without: int = 0) -> bool:
    """Whether the model serves, and not with the replica of this PID: Serve lists one for a while after its death."""
    found = {app.name: app for app in applications(sandbox.hive.serve.details())}
    return model in found and found[model].ready and without not in {replica.pid for replica in found[model].replicas}


@contextlib.contextmanager
def held(pid: int) -> Iterator[None]:
    """The process stands still."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """A running Hive with the models `left` and `right`; ended afterwards, whatever happened."""
    sandbox = make_sandbox(tmp_path_factory.mktemp("hive"))
    try:
        done = sandbox.up({"left": tiny(), "right": tiny()})
        assert done.returncode == 0, done.stdout + done.stderr
        yield sandbox
    finally:
        driver.stop(sandbox.where, print)
        shutil.rmtree(sandbox.where.ray, ignore_errors=True)


@pytest.fixture
def load(sandbox: Sandbox) -> Iterator[None]:
    """Requests to both models without a pause; what fails while a replica is away is asked again."""
    done = threading.Event()

    def ask(model: str) -> None:
        while not done.is_set():
            with contextlib.suppress(Exception):  # whatever a dying replica answers
                sandbox.chat(model)

    threads = [threading.Thread(target=ask, args=(model,)) for model in ("left", "right")]
    for thread in threads:
        thread.start()
    yield
    done.set()
    for thread in threads:
        thread.join()


def test_both_models_answer_over_the_openai_api(sandbox: Sandbox) -> None:
    for model in ("left", "right"):
        assert sandbox.chat(model) in ("length", "stop")
        client = sandbox.client()
        assert [served.id for served in client.models.list()] == ["left", "right"]
        completion = client.completions.create(model=model, prompt="hello", max_tokens=3)
        assert completion.usage is not None
        assert completion.usage.prompt_tokens > 0
        chunks = list(
            client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": "hello"}], max_tokens=6, stream=True
            )
        )
        assert len(chunks) > 2, "the answer came in one piece"
        assert chunks[-1].choices[0].finish_reason in ("length", "stop")


def test_the_page_shows_what_runs_and_asks_it(sandbox: Sandbox) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(sandbox.hive.run.gateway_url)
        expect(page.locator(".device")).to_contain_text("RAM of", timeout=60_000)
        for model in ("left", "right"):
            expect(page.locator(".device tr", has_text=model)).to_contain_text("2.50 GiB")
            expect(page.locator("#models tr", has_text=model).locator(".badge")).to_have_text("RUNNING")
        page.get_by_label("Question").fill("hello")
        page.get_by_role("button", name="Ask").click()
        expect(page.locator("#cost")).to_contain_text("tokens", timeout=60_000)
        assert page.locator("#answer").inner_text() != ""


def test_a_model_has_an_address_of_its_own_too(sandbox: Sandbox) -> None:
    for root in (sandbox.hive.run.serve_url, sandbox.hive.run.gateway_url):
        client = openai.OpenAI(base_url=f"{root}/models/left/v1", api_key="unused", max_retries=0, timeout=120)
        assert [served.id for served in client.models.list()] == ["left"]
        assert client.completions.create(model="left", prompt="hello", max_tokens=2).choices


def test_clients_that_leave_abort_their_generations(sandbox: Sandbox) -> None:
    """The engine stands still until they have left: a small model would be done before anyone can leave. Four run at a
    time, so those that it starts before it hears of all are few.
    """

    def vllm(name: str, of: str = "") -> float:
        lines = [line for line in sandbox.metrics().splitlines() if line.startswith(f"ray_vllm_{name}{{")]
        return sum(float(line.split()[-1]) for line in lines if 'model_name="left"' in line and of in line)

    def whole_answers() -> float:
        return vllm("request_success_total", of='finished_reason="length"')

    def ask() -> Any:
        return client.completions.create(stream=True, stream_options={"include_usage": True}, **body)

    clients = 24
    client = sandbox.client()
    body: dict[str, Any] = {"model": "left", "prompt": "hello", "max_tokens": 400, "extra_body": {"ignore_eos": True}}
    before = whole_answers()
    with held(engine_of(*sandbox.leases("left"))), ThreadPoolExecutor(clients) as pool:
        for stream in list(pool.map(lambda _: ask(), range(clients))):
            stream.close()
        stays = ask()
    *_, last = stays
    assert last.usage.completion_tokens == 400
    wait_for(
        "vLLM has counted the one that stayed, and is idle",
        lambda: whole_answers() > before and vllm("num_requests_running") + vllm("num_requests_waiting") == 0,
        seconds=60,
    )
    assert whole_answers() - before < clients / 2


def test_an_unknown_model_is_a_404(sandbox: Sandbox) -> None:
    with pytest.raises(openai.NotFoundError):
        sandbox.client().chat.completions.create(model="nobody", messages=[{"role": "user", "content": "hello"}])


def test_the_models_share_one_device_within_their_budgets(sandbox: Sandbox) -> None:
    state = sandbox.hive.state()
    assert [device.id for device in state.devices] == ["host"]
    assert {lease.model for lease in state.leases} == {"left", "right"}
    for lease in state.leases:
        assert lease.state is LeaseState.ACTIVE
        assert lease.devices == ("host",)
        assert 0 < lease.used["host"] <= lease.bytes
        assert lease.pid in sandbox.pids()[lease.model]
        assert len(lease.pids) >= 3, "replica, EngineCore and worker belong to the lease"
    assert state.devices[0].leased == sum(lease.bytes for lease in state.leases)


def test_status_shows_models_and_vram_to_people(sandbox: Sandbox) -> None:
    done = sandbox.command("status")
    assert done.returncode == 0
    for word in ("left", "right", "RUNNING", "host", "VRAM", str(sandbox.ports["gateway"])):
        assert word in done.stdout


def test_up_again_changes_nothing(sandbox: Sandbox) -> None:
    before = sandbox.pids()
    done = sandbox.up({"left": tiny(), "right": tiny()})
    assert done.returncode == 0
    assert "Nothing to change" in done.stdout
    assert sandbox.pids() == before


def test_one_more_replica_restarts_nothing(sandbox: Sandbox) -> None:
    before = sandbox.pids()
    done = sandbox.up({"left": tiny(replicas=2), "right": tiny()})
    assert done.returncode == 0, done.stderr
    assert "left changes in place" in done.stdout
    after = sandbox.pids()
    assert before["left"] < after["left"]
    assert len(after["left"]) == 2
    assert after["right"] == before["right"]


def test_one_replica_less_finishes_its_streams_and_loses_no_request(sandbox: Sandbox) -> None:
    done = threading.Event()

    def ask() -> int:
        """Requests one after the other, each a stream read to its end; how many there were."""
        count = 0
        with sandbox.client() as client:
            while not done.is_set():
                stream = client.completions.create(
                    model="left", prompt="hello", max_tokens=100, extra_body={"ignore_eos": True}, stream=True
                )
                assert [chunk.choices[0].finish_reason for chunk in stream][-1] == "length"
                count += 1
        return count

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask) for _ in range(3)]
        try:
            assert sandbox.up({"left": tiny(), "right": tiny()}).returncode == 0
        finally:
            done.set()
        assert all(asked.result(120) > 0 for asked in asking)
    assert len(sandbox.pids()["left"]) == 1
    assert sandbox.up({"left": tiny(replicas=2), "right": tiny()}).returncode == 0


def test_an_edit_of_one_model_a_new_one_and_one_replica_less_leave_the_rest_alone(sandbox: Sandbox) -> None:
    before = sandbox.pids()
    embedder = tiny(engine={"runner": "pooling", "convert": "embed"})
    done = sandbox.up({"left": tiny(), "right": tiny(maxModelLen=256), "embedder": embedder})
    assert done.returncode == 0, done.stderr
    after = sandbox.pids()
    assert after["left"] < before["left"], "of two replicas, one stayed"
    assert after["right"].isdisjoint(before["right"])
    vector = sandbox.client().embeddings.create(model="embedder", input="hello").data[0].embedding
    assert len(vector) == 128
    with pytest.raises(openai.BadRequestError, match="256"):
        sandbox.client().completions.create(model="right", prompt="hello " * 400, max_tokens=1)


def test_a_removed_model_stops_and_gives_its_lease_back(sandbox: Sandbox) -> None:
    before = sandbox.pids()
    done = sandbox.up({"left": tiny(), "right": tiny(maxModelLen=256)})
    assert done.returncode == 0, done.stderr
    assert "embedder stops" in done.stdout
    wait_for("the lease of embedder ends", lambda: not sandbox.leases("embedder"))
    assert sandbox.pids() == {name: before[name] for name in ("left", "right")}


MISTAKES = {
    "unknown key": ({"left": tiny(), "right": tiny(replica=2)}, ["right.replica", "replicas"]),
    "wrong unit": ({"left": tiny(vram="22G i")}, ["models.left.vram", "22Gi"]),
    "bad name": ({"Left!": tiny()}, ["Left!", "DNS label"]),
    "too large together": ({"left": tiny(vram="900Gi"), "right": tiny()}, ["left", "900.00 GiB", "lower vram"]),
    "too small for the model": (
        {"left": tiny(vram="1Gi"), "right": tiny()},
        ["models.left", "KV cache", "set vram to"],
    ),
    "no model there": ({"left": tiny(source="./nowhere")}, ["models.left.source", "nowhere", "config.json"]),
    "broken template": ({"left": tiny(chatTemplate="{% for m in messages %}")}, ["models.left.chatTemplate", "line 1"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_clear_message_and_changes_nothing(sandbox: Sandbox, mistake: str) -> None:
    models, words = MISTAKES[mistake]
    before = sandbox.pids()
    done = sandbox.up(models)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for word in ["ERROR: ", "FIX: ", *words]:
        assert word in done.stderr
    assert sandbox.pids() == before
    assert [card.id for card in sandbox.client().models.list()] == ["left", "right"]
    assert sandbox.chat("left") in ("length", "stop")


def test_a_mistaken_engine_argument_keeps_the_running_version(sandbox: Sandbox) -> None:
    before = sandbox.pids()
    done = sandbox.up({"left": tiny(engine={"no_such_argument": 1}), "right": tiny(maxModelLen=256)})
    assert done.returncode == 1
    assert "no_such_argument" in done.stderr
    assert {lease.pid for lease in sandbox.leases("left")} == before["left"]
    assert sandbox.chat("left") in ("length", "stop")
    assert sandbox.up({"left": tiny(), "right": tiny(maxModelLen=256)}).returncode == 0
    assert sandbox.pids() == before


HOG = """
import httpx, sys
agent = httpx.Client(transport=httpx.HTTPTransport(uds=sys.argv[1]), base_url="http://agent", timeout=60)
lease = {"request_id": "hog", "model": "hog", "bytes": int(sys.argv[2]), "devices": ["host"]}
agent.post("/v1/leases", json=lease).raise_for_status()
agent.post("/v1/leases/hog/active").raise_for_status()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def hog(sandbox: Sandbox) -> Iterator[None]:
    """Another process that leases nearly all that is free."""
    size = sandbox.hive.state().devices[0].free - GIB
    command = [sys.executable, "-c", HOG, str(sandbox.where.socket), str(size)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield
        process.kill()
    wait_for("the hog's lease ends", lambda: not sandbox.leases("hog"), seconds=20)


@pytest.mark.usefixtures("hog")
def test_a_model_without_room_is_refused_with_the_figures_and_the_rest_serves(sandbox: Sandbox) -> None:
    """The config goes straight to Serve, as it does in a cluster: Ray still sees room, and the agent refuses."""
    values = sandbox.values({"left": tiny(), "right": tiny(maxModelLen=256), "third": tiny()})
    rendered = checks.prepare(rendering.read_values(values), sandbox.where)
    sandbox.hive.serve.apply(rendered.serve_config)
    with pytest.raises(HiveError) as refused:
        driver.wait(sandbox.hive.run, sandbox.where, rendered, lambda *_: None)
    for words in ("third asked for 2.50 GiB (2684354560 bytes) of host", "hog (ACTIVE", "left (ACTIVE"):
        assert words in str(refused.value)
    assert sandbox.chat("left") in ("length", "stop")


def test_the_refused_model_can_be_removed(sandbox: Sandbox) -> None:
    before = sandbox.pids()
    assert sandbox.up({"left": tiny(), "right": tiny(maxModelLen=256)}).returncode == 0
    assert sandbox.pids() == {name: before[name] for name in ("left", "right")}


def test_kill_9_of_a_replica_gives_its_lease_back_and_it_serves_again(sandbox: Sandbox) -> None:
    (lease,) = sandbox.leases("left")
    others = sandbox.pids()["right"]
    os.kill(lease.pid, signal.SIGKILL)
    wait_for("the killed replica's lease ends", lambda: lease.id not in {one.id for one in sandbox.leases("left")})
    wait_for("its engine's processes are gone", lambda: not any(map(psutil.pid_exists, lease.pids)), seconds=20)
    wait_for("left serves again", lambda: serves(sandbox, "left", without=lease.pid))
    assert sandbox.chat("left") in ("length", "stop")
    assert sandbox.pids()["right"] == others


def test_a_replica_ends_with_its_engine_and_a_new_one_serves(sandbox: Sandbox) -> None:
    (lease,) = sandbox.leases("right")
    os.kill(engine_of(lease), signal.SIGKILL)
    wait_for("the replica ends", lambda: not psutil.pid_exists(lease.pid), seconds=20)
    wait_for("right serves again", lambda: serves(sandbox, "right", without=lease.pid))
    assert sandbox.chat("right") in ("length", "stop")


def test_a_busy_port_is_named_with_its_owner(sandbox: Sandbox) -> None:
    """Another Hive's values with this Hive's serve port."""
    other = Sandbox(sandbox.folder / "other", dict(sandbox.ports))
    (other.folder / "models").mkdir(parents=True)
    (other.folder / "models" / "tiny").symlink_to(sandbox.folder / "models" / "tiny")
    done = other.up({"left": tiny()})
    assert done.returncode == 1
    assert f"ports.dashboard: {sandbox.ports['dashboard']} is taken by" in done.stderr
    assert "FIX: " in done.stderr
    assert not other.where.run_file.exists()


def test_a_dead_agent_is_started_again_and_the_models_go_on(sandbox: Sandbox) -> None:
    before = sandbox.pids()
    kill_agent(sandbox)
    diagnosis = sandbox.command("doctor")
    assert diagnosis.returncode == 1
    assert "failed   agent (pid" in diagnosis.stdout
    done = sandbox.up({"left": tiny(), "right": tiny(maxModelLen=256)})
    assert done.returncode == 0, done.stderr
    assert "The VRAM agent died; starting it again" in done.stdout
    assert sandbox.pids() == before
    assert {lease.pid for lease in sandbox.hive.state().leases} == {pid for pids in before.values() for pid in pids}


def test_a_lost_ledger_is_rebuilt_from_the_replicas(sandbox: Sandbox) -> None:
    """They notice the new agent's socket and claim what they hold."""
    before = {lease.pid: lease for lease in sandbox.hive.state().leases}
    kill_agent(sandbox)
    (sandbox.where.runtime / "leases.json").write_text("torn")
    assert sandbox.up({"left": tiny(), "right": tiny(maxModelLen=256)}).returncode == 0
    wait_for("both leases are back", lambda: len(sandbox.hive.state().leases) == 2, seconds=20)
    after = {lease.pid: lease for lease in sandbox.hive.state().leases}
    assert {pid: (a.id, a.model, a.bytes, a.state) for pid, a in after.items()} == {
        pid: (b.id, b.model, b.bytes, b.state) for pid, b in before.items()
    }
    assert "claims 2.50 GiB of host for left" in sandbox.command("status").stdout


@pytest.mark.timeout(300 * KILLS)
@pytest.mark.usefixtures("load")
def test_kills_of_each_part_under_load_end_with_a_ledger_that_is_true(sandbox: Sandbox) -> None:
    """One model loses its replica, the other its engine; while both come back, the agent is killed too."""
    for round_number in range(KILLS):
        leases = {lease.model: lease for lease in sandbox.hive.state().leases}
        os.kill(leases["left"].pid, signal.SIGKILL)
        os.kill(engine_of(leases["right"]), signal.SIGKILL)
        old = {lease.id for lease in leases.values()}
        if round_number % 2:  # in half of the rounds the agent is dead when the replicas come back
            wait_for("new leases", lambda: {lease.id for lease in sandbox.hive.state().leases} - old)  # noqa: B023
        kill_agent(sandbox)
        values = sandbox.folder / "values.yaml"
        rendered = checks.prepare(rendering.read_values(values), sandbox.where)
        driver.start(rendered, values, sandbox.where, print)
        wait_for("both serve again, on new leases", lambda: recovered(sandbox, old))  # noqa: B023
        check_ledger(sandbox)


def test_down_leaves_nothing(sandbox: Sandbox) -> None:
    started = sandbox.hive.run.processes
    assert len(processes.strays(sandbox.where, started)) > len(started)
    done = sandbox.command("down")
    assert done.returncode == 0, done.stderr
    assert processes.strays(sandbox.where, started) == []
    assert not sandbox.where.runtime.exists(), "the agent's socket and its leases are gone"
    assert sandbox.command("status").returncode == 1
