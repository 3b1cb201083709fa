"""Follow one connection between the engine and a worker: what may pass, what is rewritten, what it cost.

Bytes of either side go in, bytes for both sides come out (:class:`Step`); no I/O, the time is an argument. Replies
carry no command and are matched to the requests that answer, by order. The engine asks one thing at a time
(``rpc_dispatcher::work`` in ggml-rpc.cpp), so a long queue of unanswered requests is not an engine's.
"""

from collections import deque
from dataclasses import dataclass, field

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.link.budget import REFUSAL, Budget
from rpc_wrapper.link.deadline import Deadlines, Watch
from rpc_wrapper.link.events import LinkEvent, Refused, Silence
from rpc_wrapper.link.frames import Frame, FrameReader, Head, Malformed
from rpc_wrapper.link.meter import Meter
from rpc_wrapper.link.stages import Stages
from rpc_wrapper.link.weights import SET_TENSOR_OVERHEAD, Weights
from rpc_wrapper.rpc.commands import REPLY_HEADER, REQUEST_HEADER, SHAPES, Command
from rpc_wrapper.rpc.messages import (
    AllocBufferReply,
    AllocBufferRequest,
    DeviceMemoryReply,
    DeviceMemoryRequest,
    FreeBufferRequest,
    HelloRequest,
)

MAX_AWAITED = 64

_HELD_REPLIES = frozenset({Command.ALLOC_BUFFER, Command.GET_DEVICE_MEMORY, Command.SET_TENSOR_HASH})
_HELD_REQUESTS = _HELD_REPLIES | {Command.HELLO, Command.FREE_BUFFER}
_SHAPES = [SHAPES.get(command) for command in Command]  # by number: one lookup per frame
_COMMANDS = list(Command)

Chunk = bytes | memoryview


@dataclass(slots=True)
class Step:
    """What to do after some bytes came in; with an ``error`` both sides must be cut off."""

    to_backend: list[Chunk] = field(default_factory=list)
    to_engine: list[Chunk] = field(default_factory=list)
    events: list[LinkEvent] = field(default_factory=list)
    error: str | None = None


@dataclass(slots=True)
class _Awaited:
    command: Command
    asked_at: float
    device: int = 0
    size_bytes: int = 0  # reserved by an ALLOC_BUFFER, or hashed by a SET_TENSOR_HASH
    is_ours: bool = False  # asked by us: the engine must not see the answer


class Conversation:
    """One connection; ``number`` tells it from the link's others."""

    def __init__(
        self, endpoint: Endpoint, number: int, budget: Budget, meter: Meter, deadlines: Deadlines, now: float
    ) -> None:
        self._endpoint = endpoint
        self._number = number
        self._budget = budget
        self._meter = meter
        self._watch = Watch(endpoint, deadlines, now)
        self._requests = FrameReader(REQUEST_HEADER.size, self._read_request_head)
        self._replies = FrameReader(REPLY_HEADER.size, self._read_reply_head)
        self._awaited: deque[_Awaited] = deque()
        self._answering: deque[_Awaited] = deque()  # their heads were read, their frames are still to come
        self._passing = Command.HELLO  # whose reply's payload runs through
        self._is_greeted = False
        self._is_closed = False
        self._stages = Stages(meter)
        self._now = now
        self.weights = Weights(meter)

    def greet(self, now: float) -> bytes:
        """Return a HELLO of our own for the backend, and keep its answer to ourselves."""
        self._is_greeted = True
        self._await(_Awaited(Command.HELLO, now, is_ours=True), now)
        return HelloRequest().frame()

    def from_engine(self, data: Chunk, now: float) -> Step:
        """Take bytes from the engine."""
        self._now = now
        self._meter.moved(len(data), 0, now)
        step = Step()
        for piece in self._requests.feed(data):
            if isinstance(piece, Frame):
                self._request(piece, step)
            elif isinstance(piece, Malformed):
                step.error = step.error or f"the engine's side broke the protocol: {piece.reason}"
            else:
                step.to_backend.append(piece)
            if step.error:
                break
        return step

    def from_backend(self, data: Chunk, now: float) -> Step:
        """Take bytes from the backend."""
        self._now = now
        self._meter.moved(0, len(data), now)
        self._watch.moved(now)
        step = Step()
        for piece in self._replies.feed(data):
            if isinstance(piece, Frame):
                self._reply(piece, step)
            elif isinstance(piece, Malformed):
                step.error = f"the backend broke the protocol: {piece.reason}"
            else:
                step.to_engine.append(piece)
        return step

    def overdue(self, unsent_bytes: int, now: float) -> Silence | None:
        """Return the backend's silence, once, when it outlasts its deadline."""
        if self._answering:
            awaited: Command | None = self._answering[0].command
        elif not self._replies.is_between_frames:
            awaited = self._passing
        else:
            awaited = self._awaited[0].command if self._awaited else None
        return self._watch.overdue(awaited, unsent_bytes, now)

    def close(self) -> None:
        """Give back what the connection held in the budget; the second call does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        for awaited in (*self._answering, *self._awaited):
            if awaited.command is Command.ALLOC_BUFFER:
                self._budget.settle(self._number, awaited.device, awaited.size_bytes, REFUSAL)
        self._answering.clear()
        self._awaited.clear()
        self._budget.release(self._number)

    @property
    def is_idle(self) -> bool:
        """Tell whether the backend owes no answer."""
        return not self._awaited and self._replies.is_between_frames

    @property
    def awaited(self) -> str:
        """Return which command is unanswered, for a message; "nothing" when none is."""
        return self._awaited[0].command.name if self._awaited else "nothing"

    def _read_request_head(self, head: bytes) -> Head | Malformed:
        number, size = REQUEST_HEADER.unpack(head)
        shape = _SHAPES[number] if number < len(_SHAPES) else None
        if shape is None:
            return Malformed(f"there is no command {number}")
        if not self._is_greeted and number != Command.HELLO:
            return Malformed(f"{_COMMANDS[number].name} came before HELLO")
        if not shape.request.accepts(size) or size > self._limit_bytes(number):
            return Malformed(f"{_COMMANDS[number].name} cannot have {size} bytes")
        self._is_greeted = True
        return Head(number, size, number in _HELD_REQUESTS)

    def _limit_bytes(self, number: int) -> int:
        """Bound what the worker would allocate for a message before it looks at it."""
        if number == Command.SET_TENSOR:
            return self._budget.owned_bytes(self._number) + SET_TENSOR_OVERHEAD
        if number == Command.GRAPH_COMPUTE and self._budget.budget_bytes is not None:
            return self._budget.budget_bytes
        return 1 << 63

    def _request(self, frame: Frame, step: Step) -> None:
        command = _COMMANDS[frame.command]
        self._meter.requested(command, frame.size)
        self._watch.requested(command, frame.size)
        if frame.payload is not None:
            self._held_request(command, frame.payload, step)
        elif SHAPES[command].answers:
            self._await(_Awaited(command, self._now), self._now)
        elif command is Command.SET_TENSOR:
            self.weights.sent(frame.size)
        elif command in (Command.GRAPH_COMPUTE, Command.GRAPH_RECOMPUTE):
            self.weights.are_complete()
            self._stages.graph(self._now)
        if len(self._awaited) > MAX_AWAITED:
            step.error = f"the engine's side left more than {MAX_AWAITED} requests unanswered"

    def _held_request(self, command: Command, payload: bytes, step: Step) -> None:
        awaited = _Awaited(command, self._now)
        if command is Command.HELLO:
            payload = HelloRequest().pack()  # no capabilities: the connection stays on TCP, where we can follow it
        elif command is Command.FREE_BUFFER:
            self._budget.free(self._number, FreeBufferRequest.unpack(payload).remote_ptr)
        elif command is Command.GET_DEVICE_MEMORY:
            awaited.device = DeviceMemoryRequest.unpack(payload).device
        elif command is Command.SET_TENSOR_HASH:
            awaited.size_bytes = self.weights.asked(payload)
        elif not self._reserve(awaited, AllocBufferRequest.unpack(payload), step):
            return
        step.to_backend.append(REQUEST_HEADER.pack(command, len(payload)) + payload)
        if SHAPES[command].answers:
            self._await(awaited, self._now)

    def _reserve(self, awaited: _Awaited, asked: AllocBufferRequest, step: Step) -> bool:
        awaited.device, awaited.size_bytes = asked.device, asked.size_bytes
        if self._budget.reserve(asked.device, asked.size_bytes):
            return True
        left = self._budget.left_bytes(asked.device) or 0
        step.events.append(Refused(self._endpoint, asked.device, asked.size_bytes, left))
        if self._awaited:
            step.error = f"a refused ALLOC_BUFFER overtook the answer to {self.awaited}"
        step.to_engine.append(REFUSAL.frame())
        return False

    def _await(self, awaited: _Awaited, now: float) -> None:
        if not self._awaited:
            self._watch.asked(now)
        self._awaited.append(awaited)

    def _read_reply_head(self, head: bytes) -> Head | Malformed:
        (size,) = REPLY_HEADER.unpack(head)
        if not self._awaited:
            return Malformed(f"{size} bytes came unasked")
        awaited = self._awaited.popleft()
        self._answering.append(awaited)
        shape = SHAPES[awaited.command].reply
        if shape is None or not shape.accepts(size):
            return Malformed(f"an answer to {awaited.command.name} cannot have {size} bytes")
        return Head(awaited.command, size, awaited.is_ours or awaited.command in _HELD_REPLIES)

    def _reply(self, frame: Frame, step: Step) -> None:
        awaited = self._answering.popleft()
        self._passing = awaited.command
        self._stages.answered(awaited.command, awaited.asked_at, self._now)
        self._watch.answered(self._now)
        if frame.payload is None or awaited.is_ours:
            return
        payload = frame.payload
        if awaited.command is Command.GET_DEVICE_MEMORY:
            payload = self._budget.clamp(awaited.device, DeviceMemoryReply.unpack(payload)).pack()
        elif awaited.command is Command.ALLOC_BUFFER:
            reply = AllocBufferReply.unpack(payload)
            self._budget.settle(self._number, awaited.device, awaited.size_bytes, reply)
        else:
            self.weights.answered(awaited.size_bytes, is_found=bool(payload[0]))
        step.to_engine.append(REPLY_HEADER.pack(len(payload)) + payload)
