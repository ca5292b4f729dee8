"""What happens to requests while replicas, keys, models and the gateway's own parts come and go."""

import os
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.gateway.conftest import MODEL, VALUES
from tests.gateway.site import KEYS, SECONDS, Site, wait_for


def test_an_event_is_passed_on_when_it_comes(site: Site) -> None:
    (replica,) = site.dashboard.replicas["right"]
    replica.go_on.clear()
    with site.http() as http, http.stream("POST", "/v1/completions", json={"model": "right", "do": "stream"}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == 'data: {"n": 1}'  # the second one has not been made yet
        replica.proceed()
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_a_client_that_leaves_ends_the_work_of_the_replica(site: Site) -> None:
    (replica,) = site.dashboard.replicas["right"]
    replica.gone.clear()
    replica.asking.clear()
    with site.http() as http, ThreadPoolExecutor() as pool:
        asked = pool.submit(http.post, "/v1/completions", json={"model": "right", "do": "hang"})
        assert replica.asking.wait(SECONDS)
        http.close()
        assert replica.gone.wait(SECONDS)
        with pytest.raises(httpx.HTTPError):
            asked.result(SECONDS)


def test_a_stream_whose_replica_dies_never_looks_whole(site: Site) -> None:
    """The transfer breaks off, which every client notices; it has no proper end."""
    (replica,) = site.dashboard.replicas["right"]
    replica.go_on.clear()
    body = {"model": "right", "do": "die_midway"}
    with site.http() as http, http.stream("POST", "/v1/completions", json=body) as answer:
        lines = answer.iter_lines()
        assert next(lines) == 'data: {"n": 1}'
        replica.proceed()
        with pytest.raises(httpx.RemoteProtocolError):
            list(lines)


def test_a_replica_that_is_gone_costs_no_request(site: Site) -> None:
    """Between its death and the moment when Serve knows."""
    (first,) = site.dashboard.replicas["left"]
    second = site.add("left")
    second.end()
    assert {site.chat("left").json()["replica"] for _ in range(10)} == {first.port}
    site.become("left", [first])


def test_a_replica_that_drains_finishes_its_stream_and_gets_nothing_new(site: Site) -> None:
    (first,) = site.dashboard.replicas["left"]
    second = site.add("left")
    site.become("left", [second])
    second.go_on.clear()
    with site.http() as http, http.stream("POST", "/v1/completions", json={"model": "left", "do": "stream"}) as answer:
        lines = answer.iter_lines()
        next(lines)
        site.become("left", [first])
        before = len(second.asked)
        assert all(site.chat("left").json()["replica"] == first.port for _ in range(5))
        assert len(second.asked) == before
        second.proceed()
        assert [line for line in lines if line][-1] == "data: [DONE]"
    second.end()


def test_replicas_come_and_go_under_load_and_no_request_is_lost(site: Site) -> None:
    done = threading.Event()

    def ask() -> set[int]:
        statuses = set()
        with site.http() as http:
            while not done.is_set():
                statuses.add(http.post("/v1/completions", json={"model": "left"}).status_code)
        return statuses

    with ThreadPoolExecutor() as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        (first,) = site.dashboard.replicas["left"]
        for _ in range(3):
            more = site.add("left")
            site.become("left", [first])
            more.end()
        done.set()
        assert [asked.result(SECONDS) for asked in asking] == [{200}] * 4


def test_a_key_is_replaced_without_a_restart(site: Site) -> None:
    """Both are good for a while, then the new one alone."""
    pids = {name: site.pid(name) for name in ("envoy", "discovery")}
    old, new = KEYS["alice"], "sk-alice-9876543210"

    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{site.run.gateway_url}/v1/models", headers=headers).status_code

    file = site.where.keys / "alice"
    file.write_text(f"{old}\n{new}\n")
    wait_for("the new key is good", lambda: status(new) == 200)
    assert status(old) == 200
    file.write_text(f"{new}\n")
    wait_for("the old key is not", lambda: status(old) == 401)
    assert status(new) == 200
    file.write_text(f"{old}\n")
    wait_for("it is as it was", lambda: (status(old), status(new)) == (200, 401))
    assert {name: site.pid(name) for name in pids} == pids


def test_models_come_and_go_without_a_restart(site: Site) -> None:
    pid = site.pid("envoy")
    assert site.update(models=VALUES["models"] | {"fresh": MODEL}) is False
    wait_for("the new model is known", lambda: site.chat("fresh").status_code == 503)
    replica = site.add("fresh")
    assert site.chat("fresh").json()["path"] == "/models/fresh/v1/chat/completions"
    assert site.update() is False
    wait_for("it is not known any more", lambda: site.chat("fresh").status_code == 404)
    site.dashboard.replicas.pop("fresh")
    replica.end()
    assert site.pid("envoy") == pid


def test_requests_go_on_while_discovery_is_dead_and_a_dead_part_is_started_again(site: Site) -> None:
    os.kill(site.pid("discovery"), signal.SIGKILL)
    assert site.chat("right").status_code == 200
    wait_for("its death is seen", lambda: [started.name for started in site.run.dead()] == ["discovery"])
    assert site.update() is True
    assert site.run.dead() == []
    wait_for("the replicas are known", lambda: site.chat("right").status_code == 200)


def test_headers_that_never_end_do_not_hold_a_connection(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.ports["gateway"]), timeout=SECONDS) as slow:
        slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: hive\r\n")
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_a_pod_that_goes_away_waits_for_its_requests(site: Site) -> None:
    """What preStop asks: answered when no request is under way."""
    (replica,) = site.dashboard.replicas["right"]
    replica.go_on.clear()
    idle = f"http://127.0.0.1:{site.ports['gatewayMetrics']}/idle"
    with ThreadPoolExecutor() as pool, site.http() as http:
        with http.stream("POST", "/v1/completions", json={"model": "right", "do": "stream"}) as answer:
            lines = answer.iter_lines()
            next(lines)
            waiting = pool.submit(httpx.get, idle, timeout=60)
            with pytest.raises(TimeoutError):
                waiting.result(6)
            replica.proceed()
            list(lines)
        assert waiting.result(SECONDS).text == "idle\n"
