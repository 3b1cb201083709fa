"""What the user's own engine flags say about memory."""

import pytest

from rpc_wrapper.engine.memory_flags import MemoryFlags, read_memory_flags
from rpc_wrapper.errors import ConfigError


@pytest.mark.parametrize(
    ("extra", "environ", "expected"),
    [
        ([], {}, MemoryFlags()),
        (["-c", "4096", "-np", "8"], {}, MemoryFlags(ctx_size=4096, n_parallel=8)),
        (["--ctx_size", "1"], {}, MemoryFlags(ctx_size=1)),
        (["-c", "1", "--ctx-size", "2"], {}, MemoryFlags(ctx_size=2)),
        (["-c", "1"], {"LLAMA_ARG_CTX_SIZE": "2"}, MemoryFlags(ctx_size=1)),
        ([], {"LLAMA_ARG_CTX_SIZE": "2", "LLAMA_ARG_UBATCH": "64"}, MemoryFlags(ctx_size=2, n_ubatch=64)),
        (["-ctk", "q8_0", "-ctv", "q4_0"], {}, MemoryFlags(cache_type_k="q8_0", cache_type_v="q4_0")),
        (["-fa", "off", "-sm", "tensor"], {}, MemoryFlags(flash_attn="off", split_mode="tensor")),
        (["-kvu"], {}, MemoryFlags(kv_unified=True)),
        (["-kvu", "--no-kv-unified"], {}, MemoryFlags(kv_unified=False)),
        ([], {"LLAMA_ARG_KV_UNIFIED": "off"}, MemoryFlags(kv_unified=False)),
        (["--swa-full", "-nkvo"], {}, MemoryFlags(swa_full=True, kv_offload=False)),
        (["-md", "d.gguf"], {}, MemoryFlags(other=("-md",))),
        ([], {"LLAMA_ARG_MMPROJ": "p.gguf"}, MemoryFlags(other=("LLAMA_ARG_MMPROJ",))),
    ],
)
def test_flags_and_variables_are_read_as_the_engine_reads_them(extra, environ, expected):
    assert read_memory_flags(extra, environ) == expected


@pytest.mark.parametrize(
    ("extra", "environ", "says"),
    [
        (["-c", "many"], {}, "-c is 'many'"),
        (["-c"], {}, "-c is the last argument"),
        ([], {"LLAMA_ARG_N_PARALLEL": "x"}, "LLAMA_ARG_N_PARALLEL is 'x'"),
    ],
)
def test_a_value_that_is_no_number_is_named(extra, environ, says):
    with pytest.raises(ConfigError) as caught:
        read_memory_flags(extra, environ)
    assert says in str(caught.value)
