import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.link.fnv import fnv1a, hash_of


@pytest.mark.parametrize(
    ("data", "digest"), [(b"", 0xCBF29CE484222325), (b"a", 0xAF63DC4C8601EC8C), (b"foobar", 0x85944171F73967E8)]
)
def test_the_hash_is_the_published_one(data, digest):
    assert fnv1a(data) == digest
    assert fnv1a(data[1:], fnv1a(data[:1])) == digest


@given(st.binary(max_size=600), st.integers(0, (1 << 64) - 1))
def test_the_hash_is_that_of_the_plain_loop(data, state):
    plain = state
    for byte in data:
        plain = ((plain ^ byte) * 0x100000001B3) % (1 << 64)
    assert fnv1a(data, state) == plain


def test_a_file_s_hash_is_its_name(tmp_path):
    (tmp_path / "x").write_bytes(b"foobar")
    assert hash_of(tmp_path / "x") == "85944171f73967e8"
