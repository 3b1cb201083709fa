"""What links tell is kept until somebody has heeded it."""

import asyncio

import pytest

from rpc_wrapper.devices import Endpoint
from rpc_wrapper.gateway.news import News
from rpc_wrapper.link.events import Lost, Refused, Silence
from rpc_wrapper.supervisor import FaultKind

A, B = Endpoint("a", 1), Endpoint("b", 1)


async def test_a_fault_outlives_the_one_who_waited_for_it():
    news = News()
    waiting = asyncio.create_task(news.first_fault())
    await asyncio.sleep(0)
    news.tell(Lost(A, "it closed"))
    waiting.cancel()  # by the exit that the loss has caused
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert [fault.backend for fault in news.drain()] == ["a:1"]
    assert news.drain() == []


async def test_every_kind_of_event_is_what_it_means():
    news = News()
    news.tell(Refused(A, 0, 1 << 20, 0))
    news.tell(Silence(A, "GET_TENSOR", 31.0, 30.0))
    news.tell(Lost(B, "it closed"))
    assert (await news.first_fault()).backend == "a:1"
    silence, loss = news.drain()
    assert (silence.kind, silence.detected_after_s, silence.deadline_s) == (FaultKind.SILENCE, 31.0, 30.0)
    assert (loss.kind, loss.backend, loss.detected_after_s) == (FaultKind.CONNECTION, "b:1", 0.0)


async def test_what_was_drained_is_waited_for_anew():
    news = News()
    news.tell(Lost(A, "it closed"))
    news.drain()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(news.first_fault(), 0.05)
