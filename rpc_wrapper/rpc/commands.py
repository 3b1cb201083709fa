"""The commands of the ggml RPC protocol: who answers, with how many bytes, and which versions talk to each other.

Everything here restates ``enum rpc_cmd``, the packed structs and ``rpc_serve_client`` of ggml-rpc.cpp, version 7.0.0.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import NamedTuple, Self

from rpc_wrapper.errors import ProtocolError

REQUEST_HEADER = struct.Struct("<BQ")  # command, payload bytes
REPLY_HEADER = struct.Struct("<Q")  # payload bytes; no command: replies are matched by order

TENSOR_BYTES = 296  # sizeof(rpc_tensor)
MAX_SOURCES = 10  # GGML_MAX_SRC
MAX_GRAPH_BYTES = 256 * 1024 * 1024  # ours: some 800,000 tensors, far more than any model has


class Command(IntEnum):
    """One request a client can make; the number is the first byte on the wire."""

    ALLOC_BUFFER = 0
    GET_ALIGNMENT = 1
    GET_MAX_SIZE = 2
    BUFFER_GET_BASE = 3
    FREE_BUFFER = 4
    BUFFER_CLEAR = 5
    SET_TENSOR = 6
    SET_TENSOR_HASH = 7
    GET_TENSOR = 8
    COPY_TENSOR = 9
    GRAPH_COMPUTE = 10
    GET_DEVICE_MEMORY = 11
    INIT_TENSOR = 12
    GET_ALLOC_SIZE = 13
    HELLO = 14
    DEVICE_COUNT = 15
    GRAPH_RECOMPUTE = 16
    MEMSET_TENSOR = 17


@dataclass(frozen=True, slots=True)
class PayloadSize:
    """How many bytes a payload may have; ``most`` is None where only the receiver's memory limits it."""

    least: int
    most: int | None

    def accepts(self, size: int) -> bool:
        """Tell whether a payload of ``size`` bytes is well-formed."""
        return self.least <= size and (self.most is None or size <= self.most)


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of one command's request and of its reply; ``reply`` is None for a command that is never answered."""

    request: PayloadSize
    reply: PayloadSize | None

    @property
    def answers(self) -> bool:
        """Tell whether the worker replies to the command, exactly once."""
        return self.reply is not None


def _exactly(size: int) -> PayloadSize:
    return PayloadSize(size, size)


def _shape(request: int | PayloadSize, reply: int | PayloadSize | None) -> Shape:
    return Shape(
        _exactly(request) if isinstance(request, int) else request,
        _exactly(reply) if isinstance(reply, int) else reply,
    )


SHAPES: Mapping[Command, Shape] = MappingProxyType(
    {
        Command.ALLOC_BUFFER: _shape(12, 16),
        Command.GET_ALIGNMENT: _shape(4, 8),
        Command.GET_MAX_SIZE: _shape(4, 8),
        Command.BUFFER_GET_BASE: _shape(8, 8),
        Command.FREE_BUFFER: _shape(8, None),
        Command.BUFFER_CLEAR: _shape(9, None),
        Command.SET_TENSOR: _shape(PayloadSize(TENSOR_BYTES + 8, None), None),
        Command.SET_TENSOR_HASH: _shape(TENSOR_BYTES + 16, 1),
        Command.GET_TENSOR: _shape(TENSOR_BYTES + 16, PayloadSize(0, None)),
        Command.COPY_TENSOR: _shape(2 * TENSOR_BYTES, 1),
        Command.GRAPH_COMPUTE: _shape(PayloadSize(12, MAX_GRAPH_BYTES), None),
        Command.GET_DEVICE_MEMORY: _shape(4, 16),
        Command.INIT_TENSOR: _shape(TENSOR_BYTES, None),
        Command.GET_ALLOC_SIZE: _shape(4 + (1 + MAX_SOURCES) * TENSOR_BYTES, 8),
        Command.HELLO: _shape(24, 28),
        Command.DEVICE_COUNT: _shape(0, 4),
        Command.GRAPH_RECOMPUTE: _shape(4, None),
        Command.MEMSET_TENSOR: _shape(TENSOR_BYTES + 17, None),
    }
)


class ProtocolVersion(NamedTuple):
    """A version of the protocol; one byte each on the wire."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``7.0.0``, with or without a leading v; raise ProtocolError for anything else."""
        try:
            major, minor, patch = (int(part) for part in text.removeprefix("v").split("."))
            return cls(*struct.pack("BBB", major, minor, patch))
        except (ValueError, struct.error):
            raise ProtocolError(f"{text!r} is not a protocol version: write it like {PINNED}") from None

    def accepts(self, server: "ProtocolVersion") -> bool:
        """Tell whether a client of this version works with that server (``negotiate_hello``, ggml-rpc.cpp)."""
        return server.major == self.major and server.minor <= self.minor


PINNED = ProtocolVersion(7, 0, 0)  # RPC_PROTO_*_VERSION, ggml-rpc.h
