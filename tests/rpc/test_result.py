import pytest

from rpc_wrapper.rpc.result import ProbeState


@pytest.mark.parametrize("state", ProbeState)
def test_alive_means_ok_or_busy_and_final_means_the_wrong_program(state):
    assert state.is_alive is (state in {ProbeState.OK, ProbeState.BUSY})
    assert state.is_final is (state in {ProbeState.NOT_RPC, ProbeState.WRONG_VERSION})
