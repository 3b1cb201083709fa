"""The messages we speak ourselves, as frozen values that pack to and unpack from the bytes of ggml's packed structs.

A request is framed as ``u8 command | u64 size | payload`` and a reply as ``u64 size | payload``, little-endian.
Field names are ggml's (ggml-rpc.cpp, ``struct rpc_msg_*``), with units added.
"""

from dataclasses import astuple, dataclass
from struct import Struct
from struct import error as StructError
from typing import ClassVar, Self

from rpc_wrapper.errors import LocalProtocolError, RemoteProtocolError
from rpc_wrapper.rpc.commands import REPLY_HEADER, REQUEST_HEADER, Command, ProtocolVersion


class Message:
    """A payload of fixed size whose dataclass fields, in order, are the fields of ``layout``."""

    __slots__ = ()
    layout: ClassVar[Struct]

    def pack(self) -> bytes:
        """Return the payload; raise LocalProtocolError when a field does not fit its width."""
        fields = astuple(self)  # type: ignore[call-overload]
        try:
            payload = self.layout.pack(*fields)
        except StructError as exc:
            raise LocalProtocolError(f"{self} cannot be sent: {exc}") from exc
        if self.layout.unpack(payload) != fields:  # struct pads and cuts byte strings without a word
            raise LocalProtocolError(f"{self} cannot be sent: a byte string has not the length of {self.layout.format}")
        return payload

    @classmethod
    def unpack(cls, payload: bytes) -> Self:
        """Read a payload; raise RemoteProtocolError when it is not exactly ``layout.size`` bytes."""
        if len(payload) != cls.layout.size:
            raise RemoteProtocolError(f"{cls.__name__} has {len(payload)} bytes instead of {cls.layout.size}")
        return cls(*cls.layout.unpack(payload))


class Reply(Message):
    """What a worker answers."""

    __slots__ = ()

    def frame(self) -> bytes:
        """Return the reply as it goes over the wire, header included."""
        payload = self.pack()
        return REPLY_HEADER.pack(len(payload)) + payload


class Request(Message):
    """What a client asks; ``reply`` is the type of the answer, None when there is none."""

    __slots__ = ()
    command: ClassVar[Command]
    reply: ClassVar[type[Reply] | None] = None

    def frame(self) -> bytes:
        """Return the request as it goes over the wire, header included."""
        payload = self.pack()
        return REQUEST_HEADER.pack(self.command, len(payload)) + payload


@dataclass(frozen=True, slots=True)
class HelloReply(Reply):
    """The worker's protocol version and what its transport can do beyond TCP."""

    layout = Struct("<BBBx24s")
    major: int
    minor: int
    patch: int
    conn_caps: bytes = bytes(24)

    @property
    def version(self) -> ProtocolVersion:
        """Return the three numbers as one comparable value."""
        return ProtocolVersion(self.major, self.minor, self.patch)


@dataclass(frozen=True, slots=True)
class HelloRequest(Request):
    """The first message of every connection; all-zero capabilities keep it on plain TCP."""

    command = Command.HELLO
    reply = HelloReply
    layout = Struct("<24s")
    conn_caps: bytes = bytes(24)


@dataclass(frozen=True, slots=True)
class OldHelloReply(Reply):
    """The worker's version as protocols before capabilities sent it."""

    layout = Struct("<BBB")
    major: int
    minor: int
    patch: int

    @property
    def version(self) -> ProtocolVersion:
        """Return the three numbers as one comparable value."""
        return ProtocolVersion(self.major, self.minor, self.patch)


@dataclass(frozen=True, slots=True)
class OldHelloRequest(Request):
    """HELLO as protocols before capabilities expected it: empty."""

    command = Command.HELLO
    reply = OldHelloReply
    layout = Struct("<")


@dataclass(frozen=True, slots=True)
class DeviceCountReply(Reply):
    """How many devices the worker exposes."""

    layout = Struct("<I")
    device_count: int


@dataclass(frozen=True, slots=True)
class DeviceCountRequest(Request):
    """Ask how many devices there are."""

    command = Command.DEVICE_COUNT
    reply = DeviceCountReply
    layout = Struct("<")


@dataclass(frozen=True, slots=True)
class DeviceMemoryReply(Reply):
    """One device's memory as its driver reports it; of a CPU that is the whole host's."""

    layout = Struct("<QQ")
    free_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class DeviceMemoryRequest(Request):
    """Ask for the memory of device number ``device``; the worker closes when it has no such device."""

    command = Command.GET_DEVICE_MEMORY
    reply = DeviceMemoryReply
    layout = Struct("<I")
    device: int


@dataclass(frozen=True, slots=True)
class AllocBufferReply(Reply):
    """Where the buffer is and how big it became; both 0 when it was refused."""

    layout = Struct("<QQ")
    remote_ptr: int
    remote_size_bytes: int

    @property
    def is_refused(self) -> bool:
        """Tell whether the worker could not allocate."""
        return self.remote_ptr == 0


@dataclass(frozen=True, slots=True)
class AllocBufferRequest(Request):
    """Ask for ``size_bytes`` on one device."""

    command = Command.ALLOC_BUFFER
    reply = AllocBufferReply
    layout = Struct("<IQ")
    device: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FreeBufferRequest(Request):
    """Give a buffer back; the worker does not answer."""

    command = Command.FREE_BUFFER
    layout = Struct("<Q")
    remote_ptr: int
