"""Remember every request inside, and carry it over the loss of an engine."""

from rpc_wrapper.gateway.journal.config import ResumeConfig, WatchConfig
from rpc_wrapper.gateway.journal.entry import Journal
from rpc_wrapper.gateway.journal.exchange import ResumingExchange
from rpc_wrapper.gateway.journal.vigil import Vigil
from rpc_wrapper.gateway.journal.watchdog import Silence

__all__ = ["Journal", "ResumeConfig", "ResumingExchange", "Silence", "Vigil", "WatchConfig"]
