"""What goes over the wire to the engine."""

from dataclasses import replace

import pytest

from rpc_wrapper.gateway.endpoints import EngineEndpoint, Kind, find_endpoint
from rpc_wrapper.gateway.errors import Refusal
from rpc_wrapper.gateway.exchange import DirectExchange, EngineRequest, new_client
from tests.gateway.serve import FakeUpstream, engine

REQUEST = EngineRequest(
    endpoint=find_endpoint("POST", "/completion"),
    method="POST",
    query=b"",
    headers=[(b"authorization", b"Bearer sesame")],
    body=b'{"prompt":"sesame"}',
    request_id="r1",
    ready_wait_s=1.0,
)


@pytest.mark.parametrize(
    ("query", "raw_path"),
    [
        (b"", b"/completion"),
        (b"a=%2F&b=1+2", b"/completion?a=%2F&b=1+2"),
        ("猫=🐈".encode(), b"/completion?%E7%8C%AB=%F0%9F%90%88"),
        (b"a=\x00\x7f ", b"/completion?a=%00%7F%20"),
    ],
)
def test_the_query_stays_and_is_ascii(query, raw_path):
    assert replace(REQUEST, query=query).raw_path == raw_path


def test_a_path_of_the_client_is_quoted():
    odd = EngineEndpoint("/models/猫 ?x", (), Kind.LIGHT)
    assert replace(REQUEST, endpoint=odd).raw_path == b"/models/%E7%8C%AB%20%3Fx"


def test_a_printed_request_tells_no_secrets():
    assert "sesame" not in repr(REQUEST)


async def test_a_header_that_cannot_be_repeated_is_the_clients_fault():
    async with engine() as fake, new_client() as client:
        exchange = DirectExchange(client, FakeUpstream(fake.target))
        with pytest.raises(Refusal, match="malformed"):
            async with exchange(replace(REQUEST, headers=[(b"x-odd", b"a\nb")])):
                pass


async def test_leaving_early_closes_the_connection():
    stream = replace(REQUEST, body=b'{"prompt":"a","stream":true}')
    async with engine("--stall-after-tokens", "1") as fake, new_client() as client:
        async with DirectExchange(client, FakeUpstream(fake.target))(stream) as answer:
            assert answer.status == 200
            assert await anext(answer.chunks)
        await fake.ledger(cancelled=1)
