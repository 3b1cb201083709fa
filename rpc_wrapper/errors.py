"""The exception tree; each message is one sentence with the number that is wrong and what to do next.

::

    RPCWrapperError                    what a user may see: never a traceback
    ├── ConfigError                    a setting is wrong; found before anything starts
    ├── EngineError                    the llama.cpp programs are missing, too old or cannot compute here
    ├── ProtocolError                  ggml RPC was not spoken as agreed
    │   ├── LocalProtocolError         by us: a bug
    │   └── RemoteProtocolError        by the peer
    │       └── VersionMismatch        by a peer of another protocol version
    ├── TransportError                 the network said no
    │   ├── ConnectError               nobody answers there
    │   └── ReadTimeout                connected, then silence: busy with another client, or frozen
    ├── GGUFError                      the model file is not what it should be
    ├── PlanError                      the request for a plan makes no sense
    │   └── DoesNotFit                 it makes sense, but memory is short
    ├── ProcessError                   a child process misbehaved
    │   └── StartFailed                it never became ready
    └── UpstreamError                  the engine cannot answer this request now
        ├── NotReady                   not yet, or not at the moment (503)
        └── QueueFull                  too many are waiting already (429)
"""


class RPCWrapperError(Exception):
    """Base of everything this package raises on purpose."""

    exit_code = 1


class ConfigError(RPCWrapperError):
    """A setting, option or file of settings is wrong."""

    exit_code = 2


class EngineError(RPCWrapperError):
    """A llama.cpp program is missing, does not start, or lacks what we need."""


class ProtocolError(RPCWrapperError):
    """The ggml RPC protocol was violated; use one of the two subclasses."""


class LocalProtocolError(ProtocolError):
    """We violated the protocol: a bug in the caller."""


class RemoteProtocolError(ProtocolError):
    """The peer violated the protocol; the connection cannot be used any more."""


class VersionMismatch(RemoteProtocolError):
    """The peer speaks another version of the protocol."""


class TransportError(RPCWrapperError):
    """The network did not carry what we sent."""


class ConnectError(TransportError):
    """No connection could be made."""


class ReadTimeout(TransportError):
    """A connection was made and then stayed silent past its deadline."""


class GGUFError(RPCWrapperError):
    """A model file is missing, unreadable, truncated or not a GGUF."""


class PlanError(RPCWrapperError):
    """A plan was asked for that cannot exist, whatever the memory."""


class DoesNotFit(PlanError):
    """The model does not fit the devices.

    ``shortfall_bytes`` maps a device's label to how many bytes it lacks; ``remedies`` are the cheapest ways out,
    each a sentence.
    """

    def __init__(self, message: str, shortfall_bytes: dict[str, int], remedies: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.shortfall_bytes = shortfall_bytes
        self.remedies = remedies


class ProcessError(RPCWrapperError):
    """A child process did not do what it was asked."""


class StartFailed(ProcessError):
    """A child exited, or was given up, before it was ever ready.

    ``reason`` is one of the words of :class:`rpc_wrapper.engine.loadlog.Failure`; ``last_lines`` are its last words.
    """

    def __init__(self, message: str, *, reason: str, returncode: int | None, last_lines: tuple[str, ...]) -> None:
        super().__init__(message)
        self.reason = reason
        self.returncode = returncode
        self.last_lines = last_lines


class UpstreamError(RPCWrapperError):
    """The engine cannot answer this request now."""


class NotReady(UpstreamError):
    """The engine is not ready; ``retry_after_s`` is a fair time to come back."""

    def __init__(self, message: str, retry_after_s: float = 5.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class QueueFull(UpstreamError):
    """More requests wait than ``APP_MAX_QUEUE`` allows."""
