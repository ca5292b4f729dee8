"""A replica's talk with the real agent, which dies and comes back meanwhile."""

import asyncio
import signal

import pytest

from serve_app.lease import AgentClient, LeaseError
from tests.unit.vram_agent.helpers import AgentProcess, Holder, lease_request
from vram_agent.api import MIB, Claim, LeaseRequest, LeaseState


def request(lease_id: str) -> LeaseRequest:
    return LeaseRequest(request_id=lease_id, model="m", bytes=MIB, devices=("host",))


async def restart(agent: AgentProcess) -> None:
    await asyncio.to_thread(agent.stop, signal.SIGKILL)
    await asyncio.to_thread(agent.start)


async def test_one_who_waits_asks_again_when_the_agent_restarts(agent: AgentProcess, holder: Holder) -> None:
    assert holder.do("ask", str(agent.socket), "POST", "/v1/leases", lease_request("first"))[0] == 200
    async with AgentClient(agent.socket) as client:
        waiting = asyncio.create_task(client.acquire(request("second")))
        await asyncio.to_thread(agent.in_state, "second", LeaseState.PENDING)
        await restart(agent)
        await asyncio.to_thread(agent.in_state, "second", LeaseState.PENDING)
        holder.do("ask", str(agent.socket), "POST", "/v1/leases/first/active")
        assert (await waiting).state is LeaseState.STARTING


async def test_a_lease_goes_through_its_life_over_restarts(agent: AgentProcess) -> None:
    async with AgentClient(agent.socket) as client:
        lease = await client.acquire(request("a"))
        await restart(agent)
        assert (await client.activate(lease)).state is LeaseState.ACTIVE
        assert (await client.sleep(lease)).state is LeaseState.SLEEPING
        await restart(agent)
        assert (await client.wake(lease)).state is LeaseState.STARTING
        assert (await client.activate(lease)).state is LeaseState.ACTIVE
        await client.drain(lease)
        assert (await client.state()).leases[0].state is LeaseState.DRAINING


async def test_a_new_agent_is_told_from_the_one_before(agent: AgentProcess) -> None:
    async with AgentClient(agent.socket) as client:
        before = client.generation()
        assert client.generation() == before
        await restart(agent)
        assert client.generation() not in (None, before)
        agent.stop()
        assert client.generation() is None


async def test_a_claim_of_a_lease_that_is_known_is_answered_with_it(agent: AgentProcess) -> None:
    async with AgentClient(agent.socket) as client:
        lease = await client.acquire(request("a"))
        claim = Claim.model_validate(request("a").model_dump() | {"state": LeaseState.ACTIVE})
        assert (await client.claim(claim)).id == lease.id


async def test_a_refusal_is_the_agents_own_words(agent: AgentProcess) -> None:
    async with AgentClient(agent.socket) as client:
        with pytest.raises(LeaseError, match="device GPU-x is not on this node; it has host"):
            await client.acquire(request("a").model_copy(update={"devices": ("GPU-x",)}))
