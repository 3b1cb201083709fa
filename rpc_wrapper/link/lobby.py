"""Who talks to a gate before anybody needs the worker: probes, and the first bytes of a llama-server.

The three questions a probe asks are answered from what the worker said when it was last asked, so that no probe ever
reaches it: one that stays would starve the engine. The first whole command that needs the worker itself ends the
visit; its bytes are the *opening* of what follows. Who sends half of one stays out, and is out of time soon. No I/O.
"""

from collections.abc import Callable
from dataclasses import dataclass

from rpc_wrapper.rpc.commands import REQUEST_HEADER, SHAPES, Command, ProtocolVersion
from rpc_wrapper.rpc.messages import DeviceCountReply, DeviceMemoryReply, DeviceMemoryRequest, HelloReply

_ANSWERED_HERE = frozenset({Command.HELLO, Command.DEVICE_COUNT, Command.GET_DEVICE_MEMORY})
_NUMBERS = frozenset(Command)
_FIRST_BYTES = 4096  # no other command that can come first is larger than GET_ALLOC_SIZE, 3260 bytes


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What the worker said of itself, and how much of each device may be told; ``memory`` raises no errors."""

    version: ProtocolVersion
    device_count: int
    memory: Callable[[int], DeviceMemoryReply]


@dataclass(frozen=True, slots=True)
class Visit:
    """What some bytes amounted to: answers to send; then an opening, an error, or neither and the visit goes on."""

    answers: bytes = b""
    opening: bytes = b""
    error: str = ""


class Lobby:
    """One connection that has not needed the worker yet."""

    def __init__(self, facts: WorkerFacts) -> None:
        self._facts = facts
        self._buffer = bytearray()
        self.is_greeted = False

    def receive(self, data: bytes) -> Visit:
        """Take bytes; keep at most one incomplete request of them, of :data:`_FIRST_BYTES` and a head."""
        self._buffer += data
        answers = bytearray()
        while len(self._buffer) >= REQUEST_HEADER.size:
            number, size = REQUEST_HEADER.unpack_from(self._buffer)
            error = self._complaint(number, size)
            if error:
                return Visit(bytes(answers), error=error)
            end = REQUEST_HEADER.size + size
            if len(self._buffer) < end:
                break
            if number not in _ANSWERED_HERE:
                return Visit(bytes(answers), opening=bytes(self._buffer))
            payload = bytes(self._buffer[REQUEST_HEADER.size : end])
            del self._buffer[:end]
            answer = self._answer(Command(number), payload)
            if not answer:
                return Visit(
                    bytes(answers), error=f"it asked for a device beyond the {self._facts.device_count} there are"
                )
            answers += answer
        return Visit(bytes(answers))

    def _complaint(self, number: int, size: int) -> str:
        if number not in _NUMBERS:
            return f"it does not speak ggml RPC: there is no command {number}"
        if not SHAPES[Command(number)].request.accepts(size):
            return f"it does not speak our ggml RPC: {Command(number).name} cannot have {size} bytes"
        if not self.is_greeted and number != Command.HELLO:
            return f"it sent {Command(number).name} before HELLO"
        if size > _FIRST_BYTES:
            return f"it sent {size} bytes with {Command(number).name} before it had a buffer for them"
        return ""

    def _answer(self, command: Command, payload: bytes) -> bytes:
        if command is Command.HELLO:
            self.is_greeted = True
            return HelloReply(*self._facts.version).frame()
        if command is Command.DEVICE_COUNT:
            return DeviceCountReply(self._facts.device_count).frame()
        device = DeviceMemoryRequest.unpack(payload).device
        return self._facts.memory(device).frame() if device < self._facts.device_count else b""
