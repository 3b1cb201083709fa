"""Reading llama-server's log. The lines were printed by the pinned engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.engine.loadlog import LoadLog, Phase, device_label, worker_devices

TWO_WORKERS = """0.00.006.747 I cmn  common_param: device_info:
0.00.006.757 I cmn  common_param:   - CPU     : AMD EPYC (24105 MiB, 24105 MiB free)
0.00.007.150 I cmn  common_param:   - RPC0    : 127.0.0.1:51711 (24105 MiB, 24105 MiB free)
0.00.007.514 I cmn  common_param:   - RPC1    : 127.0.0.1:51712 (24105 MiB, 24105 MiB free)
0.00.009.702 I srv    load_model: loading model 'tiny.gguf'
0.00.011.055 I llama_prepare_model_devices: using device RPC0 (127.0.0.1:51711) (unknown id) - 24105 MiB free
0.00.011.456 I llama_prepare_model_devices: using device RPC1 (127.0.0.1:51712) (unknown id) - 24105 MiB free
0.00.013.641 I load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
{slots}0.00.024.932 I load_tensors: offloading output layer to GPU
0.00.024.951 I load_tensors: offloading 7 repeating layers to GPU
0.00.024.952 I load_tensors: offloaded 9/9 layers to GPU
0.00.024.962 I load_tensors:   CPU_Mapped model buffer size =     0.06 MiB
0.00.024.964 I load_tensors: RPC0[127.0.0.1:51711] model buffer size =     2.00 MiB
0.00.024.964 I load_tensors: RPC0[127.0.0.1:51712] model buffer size =     1.26 MiB
0.00.032.045 I llama_context: constructing llama_context
0.00.032.214 I llama_context:        CPU  output buffer size =     0.01 MiB
0.00.032.783 I llama_kv_cache: RPC0[127.0.0.1:51711] KV buffer size =     5.00 MiB
0.00.036.029 I llama_kv_cache: RPC0[127.0.0.1:51712] KV buffer size =     3.00 MiB
0.00.036.163 I llama_kv_cache: size =    8.00 MiB (  1024 cells,   8 layers,  4/4 seqs), K (f16):    4.00 MiB
0.00.038.264 I llama_context: pipeline parallelism enabled
0.00.043.450 I sched_reserve: RPC0[127.0.0.1:51711] compute buffer size =     9.66 MiB
0.00.043.470 I sched_reserve: RPC0[127.0.0.1:51712] compute buffer size =     9.70 MiB
0.00.043.472 I sched_reserve:        CPU compute buffer size =     5.96 MiB
0.00.145.811 I cmn  common_init_: warming up the model with an empty run - please wait ...
0.00.158.737 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 1024, kv_unified = 'false'
0.00.056.353 I srv  llama_server: listening on http://127.0.0.1:51713
"""
DEBUG_SLOTS = "".join(
    f"0.00.014.782 D load_tensors: layer {slot:3} assigned to device RPC{int(slot > 4)}, is_swa = 0\n"
    for slot in range(9)
)
TENSOR_MODE = """0.00.064.617 I llama_prepare_model_devices: using device Meta() (Meta()) (unknown id) - 48211 MiB free
0.00.122.025 I load_tensors: offloaded 9/9 layers to GPU
0.00.122.063 I load_tensors:   CPU_Mapped model buffer size =     0.06 MiB
0.00.122.088 I load_tensors:       Meta() model buffer size =     1.64 MiB
0.00.464.038 I llama_kv_cache:     Meta() KV buffer size =     1.00 MiB
0.00.466.463 I llama_kv_cache: size =    2.00 MiB (  1024 cells,   8 layers,  1/1 seqs), K (f16):    1.00 MiB
0.00.479.276 I sched_reserve:     Meta() compute buffer size =     5.13 MiB
"""


def read(text: str) -> LoadLog:
    log = LoadLog()
    for line in text.splitlines():
        log.feed(line)
    return log


EXPECTED = ("RPC0",) * 5 + ("RPC1",) * 4


@pytest.mark.parametrize("slots", ["", DEBUG_SLOTS], ids=["-lv 4", "-lv 5"])
def test_the_placement_of_every_slot_is_read_at_both_verbosities(slots):
    log = read(TWO_WORKERS.format(slots=slots))
    assert log.placement == dict(enumerate(EXPECTED))
    assert log.blocks() == {"127.0.0.1:51711": 5, "127.0.0.1:51712": 3}


def test_buffers_belong_to_their_device_by_label():
    log = read(TWO_WORKERS.format(slots=""))
    assert set(log.buffers) == {"CPU", "127.0.0.1:51711", "127.0.0.1:51712"}
    first = log.buffers["127.0.0.1:51711"]
    assert (first.model_bytes, first.kv_bytes) == (2 << 20, 5 << 20)
    assert first.compute_bytes == round(9.66 * (1 << 20))
    assert first.total_bytes == first.model_bytes + first.kv_bytes + first.compute_bytes
    assert log.buffers["CPU"].output_bytes == round(0.01 * (1 << 20))


def test_the_rest_of_the_summary():
    log = read(TWO_WORKERS.format(slots=""))
    assert (log.offloaded, log.ctx_per_slot, log.pipeline_parallel) == ((9, 9), 1024, True)
    assert log.is_listening
    assert log.progress == "listening"


def test_progress_moves_with_the_lines():
    log, seen = LoadLog(), []
    for line in TWO_WORKERS.format(slots="").splitlines():
        log.feed(line)
        if log.phase not in seen:
            seen.append(log.phase)
    assert seen == list(Phase)


def test_what_follows_the_start_changes_nothing():
    text = TWO_WORKERS.format(slots="")
    assert read(text + "x: RPC0[127.0.0.1:51711] KV buffer size =     5.00 MiB\n").buffers == read(text).buffers


def test_blocks_on_the_host_come_first_and_an_output_alone_counts():
    text = TWO_WORKERS.format(slots="").replace(
        "RPC0[127.0.0.1:51711] KV buffer size =     5.00", "       CPU KV buffer size =     5.00"
    )
    text = text.replace("RPC0[127.0.0.1:51712] KV", "RPC0[127.0.0.1:51711] KV")
    assert tuple(read(text).placement.values()) == ("CPU",) * 5 + ("RPC0",) * 3 + ("RPC1",)


def test_two_caches_add_up():
    text = TWO_WORKERS.format(slots="").replace("8 layers,  4/4", "4 layers,  4/4")
    caches = [line for line in text.splitlines() if "llama_kv_cache" in line]
    more = text.replace(caches[-1], "\n".join([caches[-1], *caches[:2], caches[-1]]))
    assert sum(read(more).blocks().values()) >= 8 - 1


def test_a_placement_that_does_not_add_up_is_not_guessed():
    assert read(TWO_WORKERS.format(slots="").replace("8 layers,", "6 layers,")).placement == {}


def test_tensor_mode_has_no_placement():
    log = read(TENSOR_MODE)
    assert log.tensor_parallel
    assert (log.placement, log.blocks()) == ({}, {})


@pytest.mark.parametrize(
    ("buffer", "label"),
    [
        ("RPC0[10.0.0.1:50052]", "10.0.0.1:50052"),
        ("RPC1[10.0.0.1:50052]", "10.0.0.1:50052#1"),
        ("CPU", "CPU"),
        ("CPU_Mapped", "CPU"),
        ("CPU_REPACK", "CPU"),
        ("CUDA_Host", "CPU"),
        ("CUDA0", "CUDA0"),
    ],
)
def test_labels(buffer, label):
    assert device_label(buffer) == label


@given(lines=st.lists(st.text(max_size=80)))
def test_no_line_breaks_the_reader(lines):
    log = LoadLog()
    for line in lines:
        log.feed(line)
    assert log.placement == {}


def test_a_worker_lists_its_devices():
    lines = [
        "Devices:",
        "  CUDA0: A card (1000 MiB, 900 MiB free)",
        "  CPU: AMD EPYC (24105 MiB, 24105 MiB free)",
        "  x",
    ]
    assert worker_devices(lines) == ("CUDA0", "CPU")
