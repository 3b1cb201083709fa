"""llama-server's own arguments become settings where both mean the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpc_wrapper.config import from_llama_args, load_settings
from rpc_wrapper.config.llama_args import FLAGS
from rpc_wrapper.config.settings import Settings

# The run line of the single-host server recipe: eight slots that share 4096 tokens.
RUN_LINE = (
    "--chat-template vicuna --threads-batch 8 --threads-http 8 --model /llamacpp/model/vicuna-13b-v1.5.Q8_0.gguf "
    "--ctx-size 4096 --embeddings --parallel 8 --cont-batching --flash-attn --n-gpu-layers 96 "
    "--host 0.0.0.0 --port 20080"
)


def test_the_run_line_of_the_recipe_becomes_settings():
    mapped = from_llama_args(RUN_LINE.split(), parallel=4)
    settings = load_settings({"mode": "server", **mapped.settings}, {}).settings
    assert mapped.rest == ()
    assert settings.chat_template == "vicuna"
    assert (settings.threads_batch, settings.threads_http) == (8, 8)
    assert str(settings.model) == "/llamacpp/model/vicuna-13b-v1.5.Q8_0.gguf"
    assert (settings.ctx_size, settings.parallel) == (512, 8)
    assert settings.embeddings is True
    assert settings.flash_attn == "on"
    assert settings.gpu_layers == 96
    assert (settings.bind, settings.port) == ("0.0.0.0", 20080)
    assert "--ctx-size 4096 over 8 slots is taken as APP_CTX_SIZE=512" in mapped.notes
    assert "--cont-batching is dropped: continuous batching is the engine's default" in mapped.notes
    assert len(mapped.notes) == 12


@pytest.mark.parametrize(
    ("line", "settings", "rest"),
    [
        ("", {}, ""),
        ("--temp 0.7 --mlock", {}, "--temp 0.7 --mlock"),
        ("-c 4096", {"ctx_size": "1024"}, ""),
        ("-c 4096 -np 2", {"ctx_size": "2048", "parallel": "2"}, ""),
        ("-c 4096 --kv-unified", {}, "-c 4096 --kv-unified"),
        ("-c 0", {}, "-c 0"),
        ("-np -1", {}, "-np -1"),
        ("-ngl auto", {}, "-ngl auto"),
        ("-ngl -1", {}, "-ngl -1"),
        ("-ngl 0", {"gpu_layers": "0"}, ""),
        ("-sm row", {}, "-sm row"),
        ("-sm tensor", {"split_mode": "tensor"}, ""),
        ("-fa", {"flash_attn": "on"}, ""),
        ("-fa --temp 1", {"flash_attn": "on"}, "--temp 1"),
        ("-fa off --temp 1", {"flash_attn": "off"}, "--temp 1"),
        ("--flash-attn 0", {"flash_attn": "off"}, ""),
        ("--flash-attn auto", {"flash_attn": "auto"}, ""),
        ("-m a.gguf -m b.gguf", {"model": "b.gguf"}, ""),
        ("--model", {}, "--model"),
        ("--api-key secret --device CUDA0", {}, "--api-key secret --device CUDA0"),
        ("--rpc h1:1,h2:2", {"rpc_backends": "h1:1,h2:2"}, ""),
    ],
)
def test_what_is_ambiguous_stays_the_engines(line, settings, rest):
    mapped = from_llama_args(line.split(), parallel=4)
    assert mapped.settings == settings
    assert mapped.rest == tuple(rest.split())
    assert len(mapped.notes) == len(settings)


def test_values_with_spaces_survive():
    mapped = from_llama_args(["--alias", "my model", "-m", "/models/my model.gguf"], parallel=1)
    assert mapped.rest == ("--alias", "my model")
    assert mapped.settings == {"model": "/models/my model.gguf"}


def test_every_flag_names_a_setting_and_no_spelling_twice():
    assert {flag.field for flag in FLAGS} <= set(Settings.model_fields)
    names = [name for flag in FLAGS for name in flag.names]
    assert len(names) == len(set(names))


OURS = {name for flag in FLAGS for name in flag.names} | {"-cb", "--cont-batching"}


@given(st.lists(st.text().filter(lambda word: word not in OURS)))
def test_arguments_we_do_not_own_pass_unchanged(args):
    mapped = from_llama_args(args, parallel=4)
    assert (mapped.settings, mapped.rest, mapped.notes) == ({}, tuple(args), ())
