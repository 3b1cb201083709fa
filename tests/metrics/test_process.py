"""The load of processes, as metrics."""

from rpc_wrapper.metrics.exposition import render
from rpc_wrapper.metrics.process import process_families
from rpc_wrapper.usage import Usage


def test_a_process_that_is_gone_has_no_series():
    text = render(process_families({"gateway": Usage(1.25, 4096), "llama-server": None})).decode()
    assert 'rpcw_process_cpu_seconds_total{process="gateway"} 1.25' in text
    assert 'rpcw_process_resident_memory_bytes{process="gateway"} 4096.0' in text
    assert "llama-server" not in text
