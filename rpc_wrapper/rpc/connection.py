"""One client connection of the ggml RPC protocol, without any I/O.

``send`` turns a request into bytes; ``receive_data`` takes whatever the network delivered (``b""`` is its end);
``next_event`` says what that amounts to. A reply carries no command, so the connection keeps the queue of replies it
awaits: the head of the queue is the only reply that can come next, and its size is known before its first byte.
That is also the bound on memory: never more is kept than the awaited replies weigh, plus one byte as evidence that
the peer said too much. After the first violation the connection is in error for good.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from rpc_wrapper.errors import LocalProtocolError, RemoteProtocolError
from rpc_wrapper.rpc.commands import REPLY_HEADER, Command
from rpc_wrapper.rpc.messages import Reply, Request


@dataclass(frozen=True, slots=True)
class NeedData:
    """Nothing can be said before more bytes arrive."""


@dataclass(frozen=True, slots=True)
class ConnectionClosed:
    """The peer closed between two replies; ``awaiting`` is the command it left unanswered, if any."""

    awaiting: Command | None = None


Event = Reply | ConnectionClosed | NeedData

NEED_DATA = NeedData()


class _State(Enum):
    NEW = auto()  # HELLO was not sent yet
    OPEN = auto()
    ERROR = auto()


class Connection:
    """The client's side of one connection."""

    def __init__(self) -> None:
        self._state = _State.NEW
        self._awaited: deque[tuple[Command, type[Reply]]] = deque()
        self._buffer = bytearray()
        self._is_eof = False

    def __repr__(self) -> str:
        commands = ", ".join(command.name for command, _ in self._awaited)
        return f"<Connection {self._state.name}, awaiting [{commands}], {len(self._buffer)} bytes buffered>"

    @property
    def buffered_bytes(self) -> int:
        """Return how many received bytes are kept; never more than :attr:`limit_bytes`."""
        return len(self._buffer)

    @property
    def limit_bytes(self) -> int:
        """Return the most the connection keeps now: the awaited replies and one byte more."""
        return sum(REPLY_HEADER.size + reply.layout.size for _, reply in self._awaited) + 1

    @property
    def is_idle(self) -> bool:
        """Tell whether the peer owes us nothing, so that closing surprises nobody."""
        return not self._awaited

    def send(self, request: Request) -> bytes:
        """Return the bytes to write; raise LocalProtocolError when it is not the moment for this request."""
        if self._state is _State.ERROR:
            raise LocalProtocolError(f"{request.command.name} after the connection failed: open another one")
        if self._is_eof:
            raise LocalProtocolError(f"{request.command.name} after the peer closed: open another connection")
        if len(self._buffer) == self.limit_bytes:
            raise self._failure("the peer sent bytes that nobody asked for")
        if (request.command is Command.HELLO) is not (self._state is _State.NEW):
            raise LocalProtocolError(f"{request.command.name} now: HELLO comes first, and once")
        frame = request.frame()
        self._state = _State.OPEN
        if request.reply is not None:
            self._awaited.append((request.command, request.reply))
        return frame

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer; ``b""`` says that it closed."""
        if not data:
            self._is_eof = True
        elif self._is_eof:
            raise LocalProtocolError("data was received after its end")
        elif self._state is not _State.ERROR:
            self._buffer += data[: self.limit_bytes - len(self._buffer)]

    def next_event(self) -> Event:
        """Return the next reply, NEED_DATA, or ConnectionClosed; raise RemoteProtocolError on any violation."""
        if self._state is _State.ERROR:
            raise RemoteProtocolError("the connection failed earlier and cannot be used")
        if not self._awaited:
            return self._between_replies()
        command, reply = self._awaited[0]
        self._check_size(command, reply)
        if len(self._buffer) < REPLY_HEADER.size + reply.layout.size:
            return self._incomplete(command)
        self._awaited.popleft()
        return self._take(reply)

    def _between_replies(self) -> Event:
        if self._buffer:
            raise self._failure("the peer sent bytes that nobody asked for")
        return ConnectionClosed() if self._is_eof else NEED_DATA

    def _check_size(self, command: Command, reply: type[Reply]) -> None:
        if len(self._buffer) < REPLY_HEADER.size:
            return
        (size,) = REPLY_HEADER.unpack_from(self._buffer)
        if size == reply.layout.size:
            return
        start = bytes(self._buffer[: REPLY_HEADER.size])
        if start.startswith(b"HTTP/"):
            raise self._failure("the peer answered in HTTP: this is the port of a web server")
        raise self._failure(f"the reply to {command.name} announces {size} bytes instead of {reply.layout.size}")

    def _incomplete(self, command: Command) -> Event:
        if not self._is_eof:
            return NEED_DATA
        if self._buffer:
            raise self._failure(f"the peer closed {len(self._buffer)} bytes into its reply to {command.name}")
        return ConnectionClosed(command)

    def _take(self, reply: type[Reply]) -> Reply:
        end = REPLY_HEADER.size + reply.layout.size
        payload = bytes(self._buffer[REPLY_HEADER.size : end])
        del self._buffer[:end]
        return reply.unpack(payload)

    def _failure(self, message: str) -> RemoteProtocolError:
        self._state = _State.ERROR
        self._buffer.clear()
        return RemoteProtocolError(message)
