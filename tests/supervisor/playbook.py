"""Drive a Lifecycle by a script of events, without an event loop."""

from rpc_wrapper.supervisor.actions import Action
from rpc_wrapper.supervisor.events import Event
from rpc_wrapper.supervisor.lifecycle import Lifecycle
from rpc_wrapper.supervisor.restart import RestartPolicy
from rpc_wrapper.supervisor.status import State

STOP_GRACE_S, FENCE_GRACE_S = 3.0, 0.5


class Playbook:
    """Play events one by one, and hold each against the actions and the state it must lead to.

    ``play.on(event, action, ..., state=...)`` returns the playbook; ``play.after(s)`` lets time pass.
    """

    def __init__(self, policy: RestartPolicy | None = None) -> None:
        self.life = Lifecycle(
            policy or RestartPolicy(jitter=0),
            stop_grace_s=STOP_GRACE_S,
            fence_grace_s=FENCE_GRACE_S,
            jitter=lambda: 0.0,
        )
        self.now = 1000.0

    def after(self, seconds: float) -> "Playbook":
        self.now += seconds
        return self

    def on(self, event: Event, *actions: Action, state: State) -> "Playbook":
        done = self.life.handle(event, self.now)
        assert done == list(actions), f"after {event}: wanted {actions}, got {done}"
        assert self.life.state is state, f"after {event}: wanted {state}, got {self.life.state}"
        return self

    def because(self, text: str) -> "Playbook":
        assert text in self.life.reason, f"{text!r} is not in {self.life.reason!r}"
        return self
