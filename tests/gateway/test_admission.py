"""The line: its bounds, its order, and that no place is ever lost."""

import asyncio

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rpc_wrapper.errors import NotReady, QueueFull
from rpc_wrapper.gateway.admission import Doors, Gate, Line


def test_bounds_are_exact():
    line = Line(slots=4, max_queue=32)
    tickets = [line.enter() for _ in range(36)]
    with pytest.raises(QueueFull, match="4 requests run and 32 wait"):
        line.enter()
    assert [line.may_run(ticket) for ticket in tickets] == [True] * 4 + [False] * 32
    line.leave(tickets[20])
    line.enter()


def test_draining_refuses_newcomers_only():
    line = Line(1, 1)
    first, second = line.enter(), line.enter()
    line.draining = True
    with pytest.raises(NotReady, match="being drained"):
        line.enter()
    assert line.leave(first) == second


def test_repr_tells_the_state():
    line = Line(2, 5)
    line.enter()
    assert repr(line) == "<Line open, 1/2 run, 0/5 wait>"


class LineMachine(RuleBasedStateMachine):
    """Come and go in any order: first come, first served, and never a free slot while somebody waits."""

    def __init__(self):
        super().__init__()
        self.line = Line(slots=2, max_queue=3)
        self.inside: list[int] = []

    @rule()
    def come(self):
        if len(self.inside) == 5:
            with pytest.raises(QueueFull):
                self.line.enter()
        else:
            self.inside.append(self.line.enter())

    @rule(data=st.data())
    def go(self, data):
        if self.inside:
            ticket = data.draw(st.sampled_from(self.inside))
            self.inside.remove(ticket)
            promoted = self.line.leave(ticket)
            assert promoted is None or self.line.may_run(promoted)

    @invariant()
    def the_first_two_run(self):
        assert [ticket for ticket in self.inside if self.line.may_run(ticket)] == self.inside[:2]
        assert self.line.waiting == max(0, len(self.inside) - 2)


TestLineMachine = LineMachine.TestCase


async def test_turns_come_in_order():
    gate = Gate(Line(1, 10))
    order: list[int] = []

    async def visit(number: int) -> None:
        async with gate.place(60):
            order.append(number)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for number in range(8):
            group.create_task(visit(number))
    assert order == list(range(8))
    await gate.wait_empty()


async def test_waiting_ends_with_a_sentence():
    gate = Gate(Line(1, 1))
    async with gate.place(60):
        with pytest.raises(NotReady, match=r"in 0\.01 s"):
            async with gate.place(0.01):
                pass
        assert gate.line.waiting == 0


async def test_a_cancelled_wait_frees_its_place():
    gate = Gate(Line(1, 2))
    async with gate.place(60):
        visits = [asyncio.create_task(_visit(gate)) for _ in range(2)]
        await asyncio.sleep(0)
        assert gate.line.waiting == 2
        visits[0].cancel()
        await asyncio.wait(visits[:1])
        assert gate.line.waiting == 1
    await visits[1]
    assert not gate.line.running


async def test_a_turn_given_to_a_cancelled_waiter_goes_on_to_the_next():
    gate = Gate(Line(1, 2))
    first = gate.place(60)
    await first.__aenter__()
    cancelled = asyncio.create_task(_visit(gate))
    following = asyncio.create_task(_visit(gate))
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)  # the turn is given ...
    cancelled.cancel()  # ... and its owner cancelled before it could run
    async with asyncio.timeout(5):
        await following
        await gate.wait_empty()


async def _visit(gate: Gate) -> None:
    async with gate.place(60):
        pass


def doors() -> Doors:
    return Doors([Gate(Line(1, 1)), Gate(Line(1, 1))])


def test_doors_close_and_open_together():
    both = doors()
    assert both.to_json() == {"status": "open", "running": 0, "waiting": 0}
    both.close()
    both.close()
    assert both.are_closed
    assert both.to_json()["status"] == "drained"
    both.open()
    assert not both.are_closed


async def test_doors_that_close_for_good_stay_closed():
    both = doors()
    assert await both.drain(1.0)
    with pytest.raises(NotReady, match="shutting down and stays closed"):
        both.open()
    assert both.are_closed
