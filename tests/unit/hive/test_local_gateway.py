"""The gateway of a local Hive, without its processes: keys, files, and what it is asked before models are up."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest
import yaml

from hive.errors import HiveError
from hive.local import gateway, processes
from hive.local.driver import _reached
from hive.local.run import Folders, Run, Started, born
from hive.rendering import Container, Gateway, render

OPEN = Container(command=[], env={})
ASKING = Container(command=[], env={"HIVE_KEYS_DIR": "/gateway/keys"})
FILES = {"envoy.yaml": "1", "routes.yaml": "2", "gateway.json": "3"}


def pod(discovery: Container = OPEN, **files: str) -> Gateway:
    return Gateway(OPEN, discovery, OPEN, FILES | {name.replace("_", "."): text for name, text in files.items()}, "::1")


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """With its runtime folder inside the test's own."""
    monkeypatch.setattr(Folders, "runtime", property(lambda _: tmp_path / "r"))
    return Folders(tmp_path / "state")


def put(where: Folders, client: str, text: str) -> None:
    where.keys.mkdir(parents=True, exist_ok=True)
    (where.keys / client).write_text(text)


def test_a_gateway_that_would_let_nobody_in_is_refused_with_the_mend(where: Folders) -> None:
    for _ in range(2):
        with pytest.raises(
            HiveError, match=r"ERROR: gateway.keysSecret(.|\n)*FIX: make one: mkdir -p .*openssl"
        ) as error:
            gateway.check_keys(pod(ASKING), where)
        assert str(where.keys) in str(error.value)
        where.keys.mkdir(parents=True, exist_ok=True)
    put(where, "me", "a-long-key\n")
    gateway.check_keys(pod(ASKING), where)


def test_keys_that_the_gateway_would_not_take_are_none(where: Folders) -> None:
    """Too short, or of nobody: it would start, and refuse whoever comes."""
    put(where, "me", "short")
    put(where, ".hidden", "a-long-key")
    put(where, "no client", "a-long-key")
    assert gateway.api_key(where) is None
    with pytest.raises(HiveError, match="has no API keys"):
        gateway.check_keys(pod(ASKING), where)


def test_a_gateway_that_asks_for_none_needs_none(where: Folders) -> None:
    gateway.check_keys(pod(), where)


def test_the_first_good_key_is_this_machines_own(where: Folders) -> None:
    put(where, "b", "key-of-b-1\n")
    put(where, "a", "\n  key-of-a-1\r\nkey-of-a-2\n")
    assert gateway.api_key(where) == "key-of-a-1"


def test_no_keys_folder_is_no_key(where: Folders) -> None:
    assert gateway.api_key(where) is None


def test_a_job_finds_the_address_and_the_key_of_its_own_client_alone(where: Folders) -> None:
    address = {"OPENAI_BASE_URL": "http://g/v1"}
    put(where, "me", "sk-of-mine-0001")
    assert gateway.job_environment(run(), pod(ASKING), where) == address
    put(where, "jobs", "sk-of-jobs-0001\nsk-of-jobs-0002")
    assert gateway.job_environment(run(), pod(ASKING), where) == address | {"OPENAI_API_KEY": "sk-of-jobs-0001"}
    assert gateway.job_environment(run(), pod(), where) == address


def files(where: Folders) -> dict[str, tuple[str, int]]:
    """What Envoy would read, and which file on the disk each one is."""
    folder = where.gateway / "config"
    return {path.name: (path.read_text(), path.stat().st_ino) for path in folder.iterdir()}


def test_files_are_written_and_those_that_changed_are_replaced_whole(where: Folders) -> None:
    """Envoy takes over what is moved into place, and nothing that is written to."""
    gateway.write(pod(), where)
    before = files(where)
    assert {name: text for name, (text, _) in before.items()} == FILES
    gateway.write(pod(), where)
    assert files(where) == before
    gateway.write(pod(routes_yaml="new"), where)
    after = files(where)
    assert after.pop("routes.yaml")[0] == "new"
    assert after == {name: file for name, file in before.items() if name != "routes.yaml"}


def test_nobody_else_reads_what_is_written_for_envoy(where: Folders) -> None:
    """Keys are in there."""
    gateway.write(pod(), where)
    assert (where.gateway / "run").stat().st_mode & 0o077 == 0


def run(*started: Started) -> Run:
    return Run("v", "d", "http://d", "http://a", "http://s", "http://g", list(started))


def alive(name: str) -> Started:
    """This process, in the place of one that was started."""
    me = processes.psutil.Process()
    return Started(name, me.pid, born(me))


def test_models_that_come_and_go_need_no_restart(where: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is ended, or started: not even where another part of Hive is dead."""
    monkeypatch.setattr(processes, "end", lambda *_: pytest.fail("a process was ended"))
    gateway.write(pod(), where)
    hive = run(Started("agent", 2**22 + 1, 0), alive("discovery"), alive("envoy"))
    assert gateway.update(hive, pod(routes_yaml="new"), {}, where) is False
    assert files(where)["routes.yaml"][0] == "new"


@pytest.mark.parametrize(
    ("changed", "dead"),
    [({"envoy_yaml": "new"}, None), ({}, "envoy"), ({}, "discovery")],
    ids=["bootstrap", "dead envoy", "dead discovery"],
)
def test_both_halves_are_started_anew_where_envoy_can_not_take_it_over_or_one_is_dead(
    changed: dict[str, str], dead: str | None, where: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both: an Envoy alone would have nobody to tell it of replicas. What is no gateway stays."""
    ended: list[object] = []
    fresh: list[Gateway] = []
    monkeypatch.setattr(processes, "end", lambda found, _: ended.extend(found))
    monkeypatch.setattr(gateway, "start", lambda run, pod, env, where: fresh.append(pod))
    gateway.write(pod(), where)
    halves = [Started(name, 2**22 + 1, 0) if name == dead else alive(name) for name in gateway.NAMES]
    hive = run(alive("agent"), *halves)
    assert gateway.update(hive, pod(**changed), {}, where) is True
    assert fresh == [pod(**changed)]
    assert len(ended) == (1 if dead else 2)
    assert [started.name for started in hive.processes] == ["agent"]


@pytest.fixture
def listing(where: Folders) -> Iterator[list[bytes]]:
    """Discovery's socket; answers are taken from the end."""
    bodies: list[bytes] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = bodies.pop() if self.path == "/v1/models" else b""
            self.send_response(200 if body else 500)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

        def address_string(self) -> str:
            return "a socket"

    (where.gateway / "run").mkdir(parents=True)
    with UnixStreamServer(str(where.gateway / "run/discovery.sock"), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield bodies
        server.shutdown()
        thread.join()


def test_models_are_up_when_discovery_lists_them_all_to_who_may_use_all(where: Folders, listing: list[bytes]) -> None:
    """No key is used: the first client's may stand for fewer models."""
    listing += [b'{"data": [{"id": "b"}, {"id": "a"}]}', b'{"data": [{"id": "a"}]}', b""]
    gateway.wait_for({"a", "b"}, run(alive("discovery")), where)
    assert listing == []


def test_a_discovery_that_is_dead_is_said_with_its_last_words(where: Folders) -> None:
    where.logs.mkdir(parents=True)
    (where.logs / "discovery.log").write_text("the reason\n")
    with pytest.raises(HiveError, match=r"discovery ended(.|\n)*the reason"):
        gateway.wait_for({"a"}, run(Started("discovery", 2**22 + 1, 0)), where)


def test_nobody_answers_at_a_port_that_is_free() -> None:
    assert gateway.answers(f"http://127.0.0.1:{processes.free_ports(1)[0]}") is False


@pytest.mark.parametrize(
    ("host", "reached"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("10.1.2.3", "10.1.2.3")],
)
def test_where_the_gateway_listens_is_reached_by_an_address(host: str, reached: str) -> None:
    assert _reached(host) == reached


def test_the_chart_says_what_runs_and_whether_keys_are_asked_for(tmp_path: Path) -> None:
    """The commands are those of the pod's containers, and the files those of its ConfigMap."""
    values = tmp_path / "values.yaml"
    for own, asks in (({"keysSecret": "k"}, True), ({"anonymous": True}, False), ({"host": "127.0.0.1"}, False)):
        values.write_text(yaml.safe_dump({"models": {"m": {"source": "./m", "vram": "1Gi"}}, "gateway": own}))
        found = render(values).gateway
        assert found.prepare.command == ["python", "-m", "gateway", "prepare"]
        assert found.discovery.command == ["python", "-m", "gateway"]
        assert found.envoy.command[:3] == ["envoy", "--config-path", "config/envoy.yaml"]
        assert found.files.keys() == {"envoy.yaml", "routes.yaml", "gateway.json"}
        assert found.asks_for_keys is asks
        assert found.host == own.get("host", "0.0.0.0")
