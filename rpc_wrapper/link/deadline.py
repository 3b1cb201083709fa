"""When is a quiet backend a silent one?

Every RPC socket of the engine waits for ever. A deadline for each answer, scaled to the work the backend was given
since its last one, tells a slow worker from a frozen one. The clock starts again with every byte that moves.

How long a graph may take grows with its input: activations and the attention mask, which is the larger part of a long
prompt. What a MiB of it costs differs a thousandfold between backends, so it is learnt from the answers.
"""

from dataclasses import dataclass

from rpc_wrapper.devices import MIB, Endpoint
from rpc_wrapper.link.events import Silence
from rpc_wrapper.rpc.commands import Command

# Commands whose work grows with a buffer: memory is cleared, a cached tensor is read from disk.
_BULK = frozenset({Command.ALLOC_BUFFER, Command.BUFFER_CLEAR, Command.MEMSET_TENSOR, Command.SET_TENSOR_HASH})
_GRAPH = frozenset({Command.GRAPH_COMPUTE, Command.GRAPH_RECOMPUTE})

_SLACK = 8.0  # times what is usual: nobody is silent who is only busier than before
_WEIGHT = 0.3  # of the newest answer in what is usual


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a backend may stay quiet, in seconds, by what it is doing.

    ``graph_s_per_mib`` is the most that is granted per MiB of a graph's input, and what is granted until its pace is
    known. The first graph of a connection also pays for page faults and for kernels compiled on demand.
    """

    reply_s: float = 10.0
    bulk_s: float = 120.0
    graph_s: float = 30.0
    graph_s_per_mib: float = 30.0
    first_graph_s: float = 300.0

    @property
    def longest_s(self) -> float:
        """Return the longest a healthy backend may leave bytes unread, whatever it does: a floor for TCP timeouts."""
        return max(self.reply_s, self.bulk_s, self.graph_s, self.first_graph_s)


class Watch:
    """Watch one connection; ask :meth:`overdue` now and then."""

    def __init__(self, endpoint: Endpoint, deadlines: Deadlines, now: float) -> None:
        self._endpoint = endpoint
        self._deadlines = deadlines
        self._moved_at = now  # last sign of life, or the start of the wait when that came later
        self._unsent_bytes = 0
        self._last_command = Command.HELLO
        self._is_warm = False
        self._is_told = False
        self._asked_at = now
        self._pace_s_per_mib: float | None = None
        self._forget_work()

    def requested(self, command: Command, size: int) -> None:
        """Note a request on its way to the backend."""
        self._last_command = command
        if command in _GRAPH:
            self._graphs += 1
        elif command is Command.SET_TENSOR:
            self._input_bytes += size
        elif command in _BULK:
            self._is_bulk = True

    def asked(self, now: float) -> None:
        """Note that the backend, which owed nothing, owes an answer from now on."""
        self._asked_at = now
        self._alive(now)

    def answered(self, now: float) -> None:
        """Note that an answer arrived: the work it stood for is done."""
        if self._graphs and self._is_warm:
            self._learn(now - self._asked_at)
        self._is_warm = self._is_warm or self._graphs > 0
        self._asked_at = now
        self._forget_work()
        self._alive(now)

    def moved(self, now: float) -> None:
        """Note bytes from the backend, whatever they are."""
        self._alive(now)

    def overdue(self, awaited: Command | None, unsent_bytes: int, now: float) -> Silence | None:
        """Return the silence, once, when the wait has outlasted its deadline.

        ``awaited`` is the request whose answer is due, ``unsent_bytes`` what the network has not taken from us yet.
        """
        if unsent_bytes != self._unsent_bytes or (awaited is None and not unsent_bytes):
            self._unsent_bytes = unsent_bytes
            self._alive(now)
        command = awaited if awaited is not None else self._last_command
        waited_s, deadline_s = now - self._moved_at, self._deadline_s(command)
        if self._is_told or waited_s <= deadline_s:
            return None
        self._is_told = True
        return Silence(self._endpoint, command.name, waited_s, deadline_s)

    def _deadline_s(self, command: Command) -> float:
        limits = self._deadlines
        allowed = [limits.reply_s]
        is_loading = command is Command.SET_TENSOR and not self._is_warm  # weights, which it may write to its cache
        if self._is_bulk or command in _BULK or is_loading:
            allowed.append(limits.bulk_s)
        if self._graphs:
            scaled_s = limits.graph_s * self._graphs + self._s_per_mib() * self._input_bytes / MIB
            allowed.append(scaled_s if self._is_warm else max(scaled_s, limits.first_graph_s))
        elif command is Command.SET_TENSOR and self._is_warm:  # the next graph's input
            allowed.append(limits.graph_s)
        return max(allowed)

    def _s_per_mib(self) -> float:
        most = self._deadlines.graph_s_per_mib
        return most if self._pace_s_per_mib is None else min(most, _SLACK * self._pace_s_per_mib)

    def _learn(self, waited_s: float) -> None:
        """Take in how long an answer took that stood for graphs."""
        if not self._input_bytes:
            return
        pace = waited_s * MIB / self._input_bytes
        known = self._pace_s_per_mib
        self._pace_s_per_mib = pace if known is None else (1 - _WEIGHT) * known + _WEIGHT * pace

    def _alive(self, now: float) -> None:
        self._moved_at = now
        self._is_told = False

    def _forget_work(self) -> None:
        self._graphs = 0
        self._input_bytes = 0
        self._is_bulk = False
