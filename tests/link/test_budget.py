from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.link.budget import REFUSAL, Budget
from rpc_wrapper.rpc.messages import AllocBufferReply, DeviceMemoryReply

GIB = 1 << 30


def test_without_a_budget_everything_is_allowed_and_counted():
    budget = Budget()
    assert budget.reserve(0, 1 << 60)
    budget.settle(1, 0, 1 << 60, AllocBufferReply(7, 100))
    assert budget.allocated_bytes == {0: 100}
    assert budget.left_bytes(0) is None
    assert budget.clamp(0, DeviceMemoryReply(5, 6)) == DeviceMemoryReply(5, 6)


def test_the_worker_s_own_size_counts_not_the_one_asked_for():
    budget = Budget(1000)
    budget.reserve(0, 100)
    budget.settle(1, 0, 100, AllocBufferReply(7, 128))
    assert budget.left_bytes(0) == 872


def test_a_refusal_by_the_worker_gives_the_reservation_back():
    budget = Budget(1000)
    budget.reserve(0, 900)
    assert not budget.reserve(0, 200)
    budget.settle(1, 0, 900, REFUSAL)
    assert budget.reserve(0, 200)


def test_a_connection_s_end_frees_what_it_holds_and_nothing_else():
    budget = Budget(1000)
    for connection in (1, 2):
        budget.reserve(0, 300)
        budget.settle(connection, 0, 300, AllocBufferReply(7, 300))
    budget.release(1)
    budget.free(1, 7)
    assert budget.allocated_bytes == {0: 300}
    assert budget.owned_bytes(2) == 300


def test_devices_share_one_budget_in_order():
    budget = Budget(3 * GIB)
    assert budget.clamp(0, DeviceMemoryReply(GIB, 2 * GIB)) == DeviceMemoryReply(GIB, 2 * GIB)
    assert budget.clamp(1, DeviceMemoryReply(64 * GIB, 64 * GIB)) == DeviceMemoryReply(GIB, GIB)
    assert not budget.reserve(1, 2 * GIB)


def test_memory_in_use_is_not_free():
    budget = Budget(1000)
    budget.reserve(0, 400)
    assert budget.clamp(0, DeviceMemoryReply(5000, 8000)) == DeviceMemoryReply(600, 1000)


STEPS = st.lists(
    st.tuples(st.sampled_from(["alloc", "free", "release", "ask"]), st.integers(0, 2), st.integers(0, 600)), max_size=60
)


@given(STEPS)
def test_no_order_of_calls_exceeds_the_budget_or_goes_below_zero(steps):
    budget = Budget(1000)
    for number, (what, device, size) in enumerate(steps):
        match what:
            case "alloc":
                if budget.reserve(device, size):
                    budget.settle(device, device, size, AllocBufferReply(number + 1, size))
            case "free":
                budget.free(device, size % (number + 1))
            case "release":
                budget.release(device)
            case "ask":
                assert budget.clamp(device, DeviceMemoryReply(size, size)).total_bytes <= size
        assert 0 <= sum(budget.allocated_bytes.values()) <= 1000
        assert all(used > 0 for used in budget.allocated_bytes.values())
