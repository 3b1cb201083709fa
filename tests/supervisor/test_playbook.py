"""The playbook itself can fail."""

import pytest

from rpc_wrapper.supervisor.actions import Prepare
from rpc_wrapper.supervisor.events import StartRequested
from rpc_wrapper.supervisor.status import State
from tests.supervisor.playbook import Playbook


def test_right_script_passes():
    Playbook().on(StartRequested(), Prepare(), state=State.PREPARING).because("start requested")


def test_wrong_action_state_or_reason_fails():
    with pytest.raises(AssertionError, match="wanted"):
        Playbook().on(StartRequested(), state=State.PREPARING)
    with pytest.raises(AssertionError, match="wanted"):
        Playbook().on(StartRequested(), Prepare(), state=State.READY)
    with pytest.raises(AssertionError, match="is not in"):
        Playbook().because("nonsense")


def test_time_passes_on_demand():
    play = Playbook()
    before = play.now
    assert play.after(2.5).now == before + 2.5
