"""The agent as it is run: `python -m vram_agent` on this machine's RAM, asked by real processes, killed, restarted."""

import contextlib
import http.client
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.conftest import NewAgent
from tests.unit.vram_agent.helpers import DEADLINE, AgentProcess, Holder, eventually, lease_request
from tests.unit.vram_agent.holder import UnixConnection
from vram_agent.api import GIB, MIB, EventKind, Lease, LeaseState, Refusal, State


def take(agent: AgentProcess, holder: Holder, lease_id: str, size: int = 64 * MIB) -> Lease:
    status, body = holder.do("ask", str(agent.socket), "POST", "/v1/leases", lease_request(lease_id, size))
    assert status == 200, body
    return Lease.model_validate(body)


def call(agent: AgentProcess, holder: Holder, method: str, url: str) -> int:
    status: int = holder.do("ask", str(agent.socket), method, url)[0]
    return status


@contextlib.contextmanager
def wait_in_line(agent: AgentProcess, lease_id: str) -> Iterator[None]:
    """The test's own process waits for a lease, until it hangs up."""
    connection = UnixConnection(str(agent.socket))
    connection.request("POST", "/v1/leases", json.dumps(lease_request(lease_id)))
    agent.in_state(lease_id, LeaseState.PENDING)
    yield
    connection.close()


def read(agent: AgentProcess, url: str) -> tuple[int, str]:
    """A request to the public port."""
    connection = http.client.HTTPConnection("127.0.0.1", agent.port)
    connection.request("GET", url)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


class TestLease:
    def test_is_bound_to_the_caller(self, agent: AgentProcess, holder: Holder) -> None:
        lease = take(agent, holder, "r1")
        assert (lease.id, lease.model, lease.bytes) == ("r1", "model-r1", 64 * MIB)
        assert (lease.pid, lease.state) == (holder.pid, LeaseState.STARTING)
        seen = State.model_validate_json(read(agent, "/v1/state")[1])
        assert (seen.node, [entry.id for entry in seen.leases]) == ("test-node", ["r1"])
        assert seen.devices[0].leased == 64 * MIB

    def test_same_request_id_gets_the_same_lease(self, agent: AgentProcess, holder: Holder) -> None:
        assert take(agent, holder, "r1") == take(agent, holder, "r1")

    def test_no_other_process_can_touch_it(
        self, agent: AgentProcess, holder: Holder, new_holder: Callable[[], Holder]
    ) -> None:
        take(agent, holder, "r1")
        thief = new_holder()
        for method, url in [("POST", "/v1/leases/r1/active"), ("DELETE", "/v1/leases/r1")]:
            status, body = thief.do("ask", str(agent.socket), method, url)
            assert status == 403
            assert body["error"] == f"lease r1 belongs to process {holder.pid}, not to {thief.pid}"
        status, body = thief.do("ask", str(agent.socket), "POST", "/v1/leases", lease_request("r1"))
        assert status == 409
        assert body["error"] == f"request r1 belongs to process {holder.pid}, not to {thief.pid}"
        agent.in_state("r1", LeaseState.STARTING)

    def test_activation_measures_the_holder(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1", GIB)
        holder.do("hold", 64 * MIB)
        assert call(agent, holder, "POST", "/v1/leases/r1/active") == 200
        lease = agent.in_state("r1", LeaseState.ACTIVE)
        assert 64 * MIB <= lease.used["host"] < 128 * MIB

    def test_ends_when_the_holder_has_drained_it_and_left(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1")
        assert call(agent, holder, "DELETE", "/v1/leases/r1") == 204
        agent.sampled_again()
        agent.in_state("r1", LeaseState.DRAINING)
        holder.kill()
        agent.gone("r1")

    def test_ends_when_the_holder_is_killed_and_leaves_nothing(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1")
        holder.kill()
        agent.gone("r1")

    def test_a_surviving_child_keeps_it(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1", GIB)
        (child,) = holder.fork(64 * MIB)
        eventually(lambda: child in agent.state().leases[0].pids, "the child is seen")
        holder.kill()
        lease = agent.in_state("r1", LeaseState.ORPHANED)
        assert (lease.pids, agent.device("host").leased) == ((child,), GIB)

    def test_the_next_engine_starts_when_the_first_is_active(
        self, agent: AgentProcess, holder: Holder, new_holder: Callable[[], Holder]
    ) -> None:
        take(agent, holder, "first")
        second = new_holder()
        second.tell("ask", str(agent.socket), "POST", "/v1/leases", lease_request("second"))
        agent.in_state("second", LeaseState.PENDING)
        assert call(agent, holder, "POST", "/v1/leases/first/active") == 200
        status, body = second.answer()
        assert (status, body["state"], body["pid"]) == (200, "STARTING", second.pid)


class TestRefusal:
    def test_has_the_figures_and_the_holders(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1")
        asked = agent.device("host").total
        status, body = holder.do("ask", str(agent.socket), "POST", "/v1/leases", lease_request("r2", asked))
        refusal = Refusal.model_validate(body)
        assert (status, refusal.device, refusal.asked) == (409, "host", asked)
        assert 0 < refusal.free < asked
        assert any("model-r1 (STARTING" in who for who in refusal.holders)
        assert agent.lease("r2") is None

    def test_of_a_device_that_is_not_here(self, agent: AgentProcess) -> None:
        status, body = agent.ask("POST", "/v1/leases", lease_request("r1", 1, "GPU-x"))
        assert (status, body["error"]) == (409, "device GPU-x is not on this node; it has host")

    @pytest.mark.parametrize("wrong", [{"byts": 1}, {"bytes": 0}, {"devices": "host"}])
    def test_of_a_request_that_is_not_valid(self, agent: AgentProcess, wrong: dict[str, object]) -> None:
        status, body = agent.ask("POST", "/v1/leases", lease_request("r1") | wrong)
        assert status == 400
        assert next(iter(wrong)) in body["error"]

    def test_of_a_lease_that_is_not_there(self, agent: AgentProcess) -> None:
        status, body = agent.ask("DELETE", "/v1/leases/nobody")
        assert (status, body["error"]) == (404, "there is no lease nobody")

    def test_a_waiter_that_disconnects_leaves_the_queue(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "first")
        with wait_in_line(agent, "second"):
            assert agent.in_state("second", LeaseState.PENDING).pid == os.getpid()
        agent.gone("second")
        agent.in_state("first", LeaseState.STARTING)


class TestPublicPort:
    def test_metrics_show_what_is_reserved(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1")
        families = text_string_to_metric_families(read(agent, "/metrics")[1])
        samples = {s.name: s for family in families for s in family.samples if "kind" not in s.labels}
        charged = samples["hive_lease_charged_bytes"]
        labels = {"node": "test-node", "device": "host", "model": "model-r1", "state": "STARTING"}
        assert (charged.labels, charged.value) == (labels, 64 * MIB)
        assert samples["hive_device_leased_bytes"].value == 64 * MIB
        assert samples["hive_device_broken"].value == 0
        assert samples["hive_device_sample_age_seconds"].value < DEADLINE
        assert samples["hive_start_wait_seconds_count"].value == 1

    def test_metrics_count_refusals_by_reason(self, agent: AgentProcess, holder: Holder) -> None:
        total = agent.device("host").total
        holder.do("ask", str(agent.socket), "POST", "/v1/leases", lease_request("r1", total))
        holder.do("ask", str(agent.socket), "POST", "/v1/leases", lease_request("r2", 1, "GPU-x"))
        families = text_string_to_metric_families(read(agent, "/metrics")[1])
        found = {
            s.labels["reason"]: s.value for f in families for s in f.samples if s.name == "hive_lease_refusals_total"
        }
        assert found == {"no_room": 1, "device": 1, "queue_full": 0, "conflict": 0, "invalid": 0}

    def test_metrics_show_how_far_an_engine_is_from_its_budget(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1", GIB)
        holder.do("hold", 64 * MIB)
        call(agent, holder, "POST", "/v1/leases/r1/active")
        families = text_string_to_metric_families(read(agent, "/metrics")[1])
        samples = {s.name: s.value for f in families for s in f.samples if s.labels.get("model") == "model-r1"}
        used = samples["hive_lease_used_bytes"]
        assert 64 * MIB <= used < 128 * MIB
        assert samples["hive_lease_drift_bytes"] == used - GIB

    def test_changes_nothing(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1")
        connection = http.client.HTTPConnection("127.0.0.1", agent.port)
        connection.request("DELETE", "/v1/leases/r1")
        assert connection.getresponse().status == 404
        connection.close()
        agent.in_state("r1", LeaseState.STARTING)

    def test_is_healthy(self, agent: AgentProcess) -> None:
        assert read(agent, "/healthz") == (200, '{"broken": {}}')


class TestLife:
    def test_a_lease_survives_kill_minus_nine_of_the_agent(self, agent: AgentProcess, holder: Holder) -> None:
        before = take(agent, holder, "r1")
        agent.stop(signal.SIGKILL)
        assert agent.socket.exists(), "it had no time to clean up"
        agent.start()
        after = agent.in_state("r1", LeaseState.STARTING)
        assert (after.pid, after.bytes) == (holder.pid, before.bytes)
        assert after.since == pytest.approx(before.since, abs=1)
        assert call(agent, holder, "POST", "/v1/leases/r1/active") == 200
        holder.kill()
        agent.gone("r1")

    def test_a_holder_that_died_meanwhile_is_noticed(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1")
        agent.stop(signal.SIGKILL)
        holder.kill()
        agent.start()
        agent.gone("r1")

    def test_a_place_in_the_queue_does_not_survive_the_agent(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "first")
        with wait_in_line(agent, "second"):
            agent.stop(signal.SIGKILL)
            agent.start()
        assert [lease.id for lease in agent.state().leases] == ["first"]

    def test_a_torn_ledger_is_rebuilt_from_those_who_hold_leases(
        self, agent: AgentProcess, holder: Holder, new_holder: Callable[[], Holder]
    ) -> None:
        """Nobody else gets anything before they had time to say so."""
        take(agent, holder, "r1")
        call(agent, holder, "POST", "/v1/leases/r1/active")
        agent.stop(signal.SIGKILL)
        torn = agent.ledger_file.read_bytes()[:-10]
        agent.ledger_file.write_bytes(torn)
        agent.start()
        assert agent.state().leases == ()
        assert agent.ledger_file.with_suffix(".corrupt").read_bytes() == torn
        (event,) = agent.state().events
        assert event.kind is EventKind.LEDGER
        assert "can't be trusted (" in event.text

        newcomer = new_holder()
        newcomer.tell("ask", str(agent.socket), "POST", "/v1/leases", lease_request("r2"))
        agent.in_state("r2", LeaseState.PENDING)
        claim = lease_request("r1") | {"state": "ACTIVE"}
        status, body = holder.do("ask", str(agent.socket), "PUT", "/v1/leases/r1", claim)
        assert (status, body["state"], body["pid"]) == (200, "ACTIVE", holder.pid)
        agent.in_state("r2", LeaseState.PENDING)
        assert newcomer.answer()[0] == 200
        assert {lease.id for lease in agent.state().leases} == {"r1", "r2"}

    def test_a_claim_of_what_is_known_changes_nothing(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1")
        claim = lease_request("r1") | {"state": "ACTIVE"}
        assert holder.do("ask", str(agent.socket), "PUT", "/v1/leases/r1", claim)[1]["state"] == "STARTING"
        status, body = holder.do("ask", str(agent.socket), "PUT", "/v1/leases/r2", claim)
        assert (status, body["error"]) == (400, "the address and the body name two different leases")

    def test_sigterm_ends_it_cleanly(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "r1")
        assert agent.stop() == 0
        assert not agent.socket.exists()
        assert "Traceback" not in agent.log.read_text()
        agent.start()
        agent.in_state("r1", LeaseState.STARTING)

    def test_sigterm_does_not_wait_for_waiters(self, agent: AgentProcess, holder: Holder) -> None:
        take(agent, holder, "first")
        with wait_in_line(agent, "second"):
            assert agent.stop() == 0


class TestStartThatFails:
    """Exit code 1, and a first line that says what is wrong."""

    @staticmethod
    def error(agent: AgentProcess) -> str:
        assert agent.launch().wait() == 1
        lines = [line for line in agent.log.read_text().splitlines() if not line.startswith("{")]
        assert lines[0].startswith("ERROR: ")
        assert all(line.startswith("FIX: ") for line in lines[1:])
        return lines[0]

    @pytest.mark.parametrize(
        "variable", ["HIVE_AGENT_SOCKET", "HIVE_AGENT_PORT", "HIVE_DEVICE_KIND", "HIVE_SAFETY_MIB"]
    )
    def test_without_a_variable(self, new_agent: NewAgent, variable: str) -> None:
        assert variable in self.error(new_agent(**{variable: None}))

    @pytest.mark.parametrize(
        ("variable", "value"), [("HIVE_DEVICE_KIND", "tpu"), ("HIVE_HEADROOM_MIB", "2Gi"), ("HIVE_AGENT_PORT", "http")]
    )
    def test_with_a_wrong_value(self, new_agent: NewAgent, variable: str, value: str) -> None:
        assert repr(value) in self.error(new_agent(**{variable: value}))

    def test_on_a_taken_port(self, new_agent: NewAgent) -> None:
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            agent = new_agent(HIVE_AGENT_PORT=str(port))
            assert str(port) in self.error(agent)
        assert not agent.socket.exists()

    def test_beside_another_agent_on_the_same_socket(self, agent: AgentProcess, new_agent: NewAgent) -> None:
        assert f"another agent serves {agent.socket}" in self.error(new_agent())
        assert agent.ask("GET", "/v1/state")[0] == 200

    def test_does_not_take_the_socket_of_the_agent_that_runs(self, agent: AgentProcess, new_agent: NewAgent) -> None:
        self.error(new_agent(HIVE_AGENT_PORT=str(agent.port)))
        assert agent.ask("GET", "/v1/state")[0] == 200

    def test_in_a_folder_that_can_not_be_made(self, new_agent: NewAgent, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        self.error(new_agent(HIVE_AGENT_SOCKET=str(tmp_path / "file" / "agent.sock")))
