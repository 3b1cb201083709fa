"""The gate: the only way to a worker from outside. The worker listens on loopback, the gate on the network.

A worker serves one client, waits for ever and believes every size it reads. The gate answers probes in its place, lets
one llama-server in at a time, holds it to the memory budget, drops who never finishes a handshake, and says why.
"""

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import Any

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.errors import TransportError
from rpc_wrapper.link import sockets
from rpc_wrapper.link.budget import Budget
from rpc_wrapper.link.conversation import Conversation
from rpc_wrapper.link.deadline import Deadlines
from rpc_wrapper.link.events import LinkEvent, Lost
from rpc_wrapper.link.guest import Diary, Guest, Refusal, Refusals, TurnedAway
from rpc_wrapper.link.lease import Lease
from rpc_wrapper.link.lobby import Lobby, WorkerFacts
from rpc_wrapper.link.meter import Meter, MeterSnapshot
from rpc_wrapper.link.session import Session, SessionOptions
from rpc_wrapper.link.tls import explain
from rpc_wrapper.link.weights import OnHash
from rpc_wrapper.rpc import ProbeResult, ProbeState, probe
from rpc_wrapper.rpc.messages import DeviceMemoryReply

ABSENT_S = 30.0  # clients read each answer at once: who leaves bytes unread for so long is gone, and its lease too


@dataclass(frozen=True, slots=True)
class GateOptions:
    """How a gate behaves; with a ``context`` only TLS gets in.

    ``hello_timeout_s`` is for the handshakes, ``guest_timeout_s`` for a whole visit that never needs the worker,
    ``handover_s`` for the wait until the holder's previous connection has left the worker, ``lease_s`` for the pauses
    between its connections. ``max_guests`` bounds how many visit at once: for one more, the one that has been there
    longest must go. A llama-server's visit takes milliseconds, so who lingers cannot keep it out.
    """

    host: str = "127.0.0.1"
    port: int = 0
    budget_bytes: int | None = None
    context: ssl.SSLContext | None = None
    deadlines: Deadlines = field(default_factory=Deadlines)
    hello_timeout_s: float = 5.0
    guest_timeout_s: float = 30.0
    handover_s: float = 8.0  # a link loses patience after 10 (Deadlines.reply_s), and would say that we are silent
    lease_s: float = 10.0
    max_guests: int = 256


@dataclass(frozen=True, slots=True)
class GateSnapshot:
    """The gate at one moment; ``refusals`` counts by reason, ``holder`` is the address of the llama-server inside."""

    holder: str | None
    held_s: float
    guests: int
    refusals: Mapping[Refusal, int]
    meter: MeterSnapshot

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self) | {"meter": self.meter.to_json()}


class Gate:
    """Own a worker's address; call :meth:`refresh` once the worker answers, :meth:`forget` when it is gone."""

    def __init__(
        self, worker: Endpoint, options: GateOptions, on_event: Callable[[LinkEvent], None] | None = None
    ) -> None:
        self._worker = worker
        self._options = options
        self._on_event = on_event or (lambda event: None)
        self.on_hash: OnHash | None = None  # see Weights
        self._budget = Budget(options.budget_bytes)
        self._meter = Meter()
        self._lease = Lease(options.lease_s)
        self._turn = asyncio.Lock()  # the worker serves one connection at a time, ours among them
        self._numbers = itertools.count()
        self._facts: WorkerFacts | None = None
        self._guests: dict[Guest, None] = {}  # the longest there first
        self._refusals = Refusals()
        self._diary = Diary()
        self._session: Session | None = None
        self._listener: socket.socket | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Gate":
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def start(self) -> Endpoint:
        """Listen; return where. Raise ConnectError when the port is taken."""
        if self._listener is None:
            self._listener = sockets.listen(self._options.host, self._options.port)
            self._serving = asyncio.get_running_loop().create_task(sockets.accept(self._listener, self._receive))
        return Endpoint(self._options.host, self._listener.getsockname()[1])

    async def aclose(self) -> None:
        """Close the port and cut every connection."""
        serving, self._serving = self._serving, None
        if serving is not None:
            serving.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await serving
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def refresh(self, timeout_s: float = 5.0) -> ProbeResult:
        """Ask the worker who it is, between two clients; until it answered once, everybody is turned away."""
        async with self._turn:
            result = await probe(self._worker, timeout_s=timeout_s)
        if result.state is ProbeState.OK and result.version is not None:
            memory = [DeviceMemoryReply(device.free_bytes, device.total_bytes) for device in result.devices]
            for device, reported in enumerate(memory):
                self._budget.clamp(device, reported)  # in order: it settles their shares
            self._facts = WorkerFacts(result.version, len(memory), lambda device: self._memory(device, memory[device]))
        return result

    def forget(self) -> None:
        """Turn everybody away until the next :meth:`refresh`: the worker is gone."""
        self._facts = None

    @property
    def is_in_use(self) -> bool:
        """Tell whether a client is with the worker; one that has left is not, though the worker may not know yet."""
        return self._session is not None and not self._session.has_engine_left

    def snapshot(self) -> GateSnapshot:
        """Return who is inside, who was turned away, and the figures of the traffic."""
        now = monotonic()
        return GateSnapshot(
            holder=self._lease.holder(now),
            held_s=self._lease.held_s(now),
            guests=len(self._guests),
            refusals=dict(self._refusals.counts),
            meter=self._meter.snapshot(now, self._budget.allocated_bytes),
        )

    def _memory(self, device: int, idle: DeviceMemoryReply) -> DeviceMemoryReply:
        used = self._budget.allocated_bytes.get(device, 0)
        return self._budget.clamp(device, DeviceMemoryReply(max(idle.free_bytes - used, 0), idle.total_bytes))

    async def _receive(self, sock: socket.socket) -> None:
        """Carry one connection from its first byte to its last."""
        try:
            peer = str(sock.getpeername()[0])
        except OSError:
            return  # it left before we looked
        guest = Guest()
        try:
            if await self._visit(sock, guest):
                await self._let_in(peer, guest)
        except TurnedAway as refusal:
            self._refusals.add(peer, refusal)
            sockets.reset_on_close(sock)
        finally:
            guest.end.abort()
            await guest.end.closed.wait()
            sock.close()  # has no effect on one that the event loop has closed

    async def _visit(self, sock: socket.socket, guest: Guest) -> bytes:
        self._guests[guest] = None
        if len(self._guests) > self._options.max_guests:
            oldest = next(iter(self._guests))
            del self._guests[oldest]
            oldest.displace()
        try:
            return await self._welcome(sock, guest)
        finally:
            self._guests.pop(guest, None)

    async def _welcome(self, sock: socket.socket, guest: Guest) -> bytes:
        """Return the first bytes meant for the worker; none when the guest left without needing it."""
        if self._facts is None:
            raise TurnedAway(Refusal.NOT_READY, "the worker is not up")
        sockets.tune(sock, ABSENT_S)
        guest.lobby = Lobby(self._facts)
        try:
            async with asyncio.timeout(self._options.hello_timeout_s) as guest.patience:
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: guest.end, sock, ssl=self._options.context
                )
                await guest.greeted.wait()
            async with asyncio.timeout(self._options.guest_timeout_s) as guest.patience:
                return await guest.opening
        except TimeoutError:
            if guest.is_displaced:
                raise TurnedAway(Refusal.CROWDED, f"{self._options.max_guests} others came after it") from None
            stage = "stayed without asking for anything" if guest.greeted.is_set() else "never finished its handshake"
            raise TurnedAway(Refusal.TOO_SLOW, f"it {stage}") from None
        except OSError as error:
            raise TurnedAway(Refusal.HANDSHAKE, explain(error)) from None

    async def _let_in(self, peer: str, guest: Guest) -> None:
        if not self._lease.take(peer, monotonic()):
            holder = self._lease.holder(monotonic())
            raise TurnedAway(Refusal.BUSY, f"the worker is serving {holder}: wait, or use another backend")
        try:
            async with asyncio.timeout(self._options.handover_s) as handover, self._turn:
                handover.reschedule(None)
                await self._carry(peer, guest)
        except TimeoutError:
            raise TurnedAway(Refusal.BUSY, "another connection from its machine has not left the worker") from None
        finally:
            self._lease.leave(monotonic())

    async def _carry(self, peer: str, guest: Guest) -> None:
        options = self._options
        self._meter.connections += 1
        try:
            backend = await sockets.connect(
                self._worker, timeout_s=options.hello_timeout_s, user_timeout_s=options.deadlines.longest_s
            )
            conversation = Conversation(
                self._worker, next(self._numbers), self._budget, self._meter, options.deadlines, monotonic()
            )
            conversation.weights.on_hash = self.on_hash
            session = Session(conversation, SessionOptions(self._tell, linger_s=None), guest.end)
            self._session = session
            reason = await session.run(backend, opening=guest.opening.result())
        except (OSError, TransportError) as error:
            reason = explain(error)
        finally:
            self._session = None
            self._meter.connections -= 1
        if reason is not None:
            self._diary.write(f"cut off {peer}: {reason}")
            self._on_event(Lost(self._worker, reason))

    def _tell(self, event: LinkEvent) -> None:
        self._diary.write(str(event))
        self._on_event(event)
