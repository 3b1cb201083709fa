"""llama-server's metrics go through with a label, or not at all."""

import pytest

from rpc_wrapper.gateway.metrics.engine import engine_families
from rpc_wrapper.metrics.exposition import render

TEXT = """# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 9
# HELP llamacpp:n_tokens_max Largest observed sequence length (prompt + generation)
# TYPE llamacpp:n_tokens_max counter
llamacpp:n_tokens_max 26
# HELP llamacpp:requests_processing Number of requests processing
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing 0
# HELP llamacpp:spec_decode_num_accepted_tokens_per_pos_total Accepted tokens per draft position
# TYPE llamacpp:spec_decode_num_accepted_tokens_per_pos_total counter
llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 5
"""


def test_every_sample_keeps_its_name_and_gets_its_group():
    lines = render(engine_families(TEXT, "llama-server")).decode().splitlines()
    assert 'llamacpp:prompt_tokens_total{group="llama-server"} 9.0' in lines
    assert 'llamacpp:n_tokens_max{group="llama-server"} 26.0' in lines
    assert "# TYPE llamacpp:n_tokens_max gauge" in lines
    assert 'llamacpp:spec_decode_num_accepted_tokens_per_pos_total{group="llama-server",position="0"} 5.0' in lines


@pytest.mark.parametrize("text", ["", "<html>", '{"error": {"code": 501}}', "llamacpp:x{ 1"])
def test_what_is_no_exposition_is_left_out(text):
    assert engine_families(text, "g") == []
