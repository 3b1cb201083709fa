"""Keep one child process alive, and never two.

The words: a *child* is a supervised engine program; a *launch* is what it is started with; an *event* has happened
(past tense), an *action* is to be done (imperative); a *setback* is one failed attempt; to *fence* is to make sure
that a child is gone before anything else is done; *work* is what runs beside the child while a state lasts.

``Lifecycle`` decides (pure), ``Runner`` does, ``Effects`` is what the caller knows of the program. See design.md.
"""

from rpc_wrapper.supervisor.duties import Clock
from rpc_wrapper.supervisor.effects import Effects, FaultSeen, PermanentFailure
from rpc_wrapper.supervisor.launch import Launch
from rpc_wrapper.supervisor.lifecycle import Lifecycle
from rpc_wrapper.supervisor.process import Child
from rpc_wrapper.supervisor.restart import RestartPolicy
from rpc_wrapper.supervisor.runner import Runner
from rpc_wrapper.supervisor.status import (
    Diagnosis,
    Exit,
    Fault,
    FaultKind,
    Occurrence,
    Readiness,
    Recovery,
    Snapshot,
    State,
)

__all__ = [
    "Child",
    "Clock",
    "Diagnosis",
    "Effects",
    "Exit",
    "Fault",
    "FaultKind",
    "FaultSeen",
    "Launch",
    "Lifecycle",
    "Occurrence",
    "PermanentFailure",
    "Readiness",
    "Recovery",
    "RestartPolicy",
    "Runner",
    "Snapshot",
    "State",
]
