"""Links: every byte between llama-server and a backend is watched, bounded and, when asked, encrypted.

The *link* stands beside llama-server, one per backend; the *gate* stands before a worker and belongs to its agent. Both
carry *sessions*, one per connection, and follow each by a *conversation* that knows the protocol and does no I/O.

======================  ===============================================================
who may say what        ``frames`` ``conversation`` ``lobby``
how much memory         ``budget``
who is inside           ``lease``
what it cost            ``meter``
when quiet is silent    ``deadline``
a slower network        ``delay``
sockets                 ``sockets`` ``end`` ``line`` ``session`` ``relay`` ``gate``
certificates            ``tls`` ``certificates``
the worker's disk       ``cache``
======================  ===============================================================
"""

from rpc_wrapper.link.deadline import Deadlines
from rpc_wrapper.link.delay import Network
from rpc_wrapper.link.events import LinkEvent, Lost, Refused, Silence
from rpc_wrapper.link.gate import Gate, GateOptions, GateSnapshot
from rpc_wrapper.link.guest import Refusal
from rpc_wrapper.link.meter import MeterSnapshot
from rpc_wrapper.link.relay import Link, LinkOptions
from rpc_wrapper.link.session import Security

__all__ = [
    "Deadlines",
    "Gate",
    "GateOptions",
    "GateSnapshot",
    "Link",
    "LinkEvent",
    "LinkOptions",
    "Lost",
    "MeterSnapshot",
    "Network",
    "Refusal",
    "Refused",
    "Security",
    "Silence",
]
