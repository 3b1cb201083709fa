"""The ggml RPC protocol, as a client speaks it.

A *request* is ``u8 command | u64 size | payload``, a *reply* ``u64 size | payload``, all little-endian and packed. A
reply does not name its command, so replies are matched to requests by order; seven commands are never answered. The
first request is HELLO, whose reply carries the worker's protocol version: major must be equal, minor not newer than
ours. On any error the worker closes without a word. It serves one client at a time and lets the others wait in
silence, which is why *busy* is a :class:`ProbeState` of its own.

``commands`` lists the commands and their sizes, ``messages`` packs and unpacks those we speak, ``connection`` is the
protocol without I/O; ``resolve`` finds addresses and ``client`` puts the connection on a socket; ``result`` is what a
probe returns, ``agent`` what the agent beside the worker says, and ``report`` shows both.
"""

from rpc_wrapper.rpc.client import Client, Tls, connect, probe, probe_all
from rpc_wrapper.rpc.commands import PINNED, SHAPES, Command, ProtocolVersion
from rpc_wrapper.rpc.connection import NEED_DATA, Connection, ConnectionClosed, NeedData
from rpc_wrapper.rpc.resolve import UnresolvableHost, resolve
from rpc_wrapper.rpc.result import DeviceMemory, ProbeResult, ProbeState

__all__ = [
    "NEED_DATA",
    "PINNED",
    "SHAPES",
    "Client",
    "Command",
    "Connection",
    "ConnectionClosed",
    "DeviceMemory",
    "NeedData",
    "ProbeResult",
    "ProbeState",
    "ProtocolVersion",
    "Tls",
    "UnresolvableHost",
    "connect",
    "probe",
    "probe_all",
    "resolve",
]
