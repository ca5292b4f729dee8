"""The VRAM agent as a replica sees it: ask for a lease, say when the engine has started or sleeps, give it back."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from vram_agent.api import Claim, Lease, LeaseRequest, Refusal, State

CONNECT_RETRIES = 5  # httpx waits 0, 0.5, 1, 2, 4 s between them: an agent's restart takes less
ASKS = 5  # an agent that dies at each request must not be asked for ever


class LeaseError(RuntimeError):
    """The agent refused, or can't be reached; the message says what to do."""


class AgentClient:
    """Talks to the agent of this node over its unix socket.

    Args:
        socket: the agent's socket.
    """

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        transport = httpx.AsyncHTTPTransport(uds=str(socket), retries=CONNECT_RETRIES)
        # A lease may be waited for as long as another engine loads; a dead agent closes the connection.
        self._http = httpx.AsyncClient(
            transport=transport, base_url="http://agent", timeout=httpx.Timeout(10, read=None)
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        await self._http.aclose()

    def generation(self) -> tuple[int, int] | None:
        """Tells one agent from the next: each makes its socket anew. None while there is none."""
        try:
            found = os.stat(self.socket)
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_ctime_ns

    async def state(self) -> State:
        """The node's devices and leases.

        Raises:
            LeaseError: the agent can't be reached.
        """
        return State.model_validate_json(await self._send("GET", "/v1/state"))

    async def acquire(self, request: LeaseRequest) -> Lease:
        """Lease memory for this process, and wait until its engine may start.

        Raises:
            LeaseError: refused, with the figures; or no agent comes back.
        """
        return Lease.model_validate_json(await self._send("POST", "/v1/leases", request.model_dump_json()))

    async def claim(self, claim: Claim) -> Lease:
        """Tell a new agent what the one before it had granted. It usually knows, and then nothing changes.

        Raises:
            LeaseError: the agent can't be reached, or does not agree.
        """
        answer = await self._send("PUT", f"/v1/leases/{claim.request_id}", claim.model_dump_json())
        return Lease.model_validate_json(answer)

    async def activate(self, lease: Lease) -> Lease:
        """Say that the engine has started; returns the lease as just measured.

        Raises:
            LeaseError: the lease is gone.
        """
        return Lease.model_validate_json(await self._send("POST", f"/v1/leases/{lease.id}/active"))

    async def sleep(self, lease: Lease) -> Lease:
        """Say that the engine sleeps; returns the lease with what it keeps.

        Raises:
            LeaseError: the lease is gone or not active.
        """
        return Lease.model_validate_json(await self._send("POST", f"/v1/leases/{lease.id}/sleep"))

    async def wake(self, lease: Lease) -> Lease:
        """Get the whole budget back and wait until the engine may wake.

        Raises:
            LeaseError: refused, with the figures; the engine must sleep on.
        """
        return Lease.model_validate_json(await self._send("POST", f"/v1/leases/{lease.id}/wake"))

    async def drain(self, lease: Lease) -> None:
        """Give the lease back; its bytes are free when this process and its children are gone.

        Raises:
            LeaseError: the agent can't be reached.
        """
        await self._send("DELETE", f"/v1/leases/{lease.id}")

    async def _send(self, method: str, path: str, body: str | None = None) -> str:
        """Every request may be sent twice: the agent knows leases by id. An agent that restarts breaks connections."""
        for attempt in range(ASKS):
            try:
                response = await self._http.request(method, path, content=body)
                break
            except httpx.TransportError as error:
                lost = isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.WriteError)
                if not lost or attempt == ASKS - 1:
                    raise LeaseError(
                        f"no VRAM agent answers at {self.socket} ({error!r}). "
                        "FIX: check that the agent runs on this node"
                    ) from error
        if response.is_error:
            raise LeaseError(Refusal.model_validate_json(response.text).error)
        return response.text
