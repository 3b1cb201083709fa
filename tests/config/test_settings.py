"""Defaults, contradictions and the one piece of arithmetic of Settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rpc_wrapper.config import Settings, load_settings
from rpc_wrapper.errors import ConfigError


def test_the_eight_names_of_the_original_image_keep_their_defaults():
    settings = load_settings({}, {}, in_container=True).settings
    assert settings.mode == "backend"
    assert settings.bind == "0.0.0.0"
    assert settings.port == 50052
    assert settings.mem == 1024
    assert [str(endpoint) for endpoint in settings.rpc_backends] == ["backend-cuda:50052", "backend-cpu:50052"]
    assert str(settings.model) == "/app/models/TinyLlama-1.1B-q4_0.gguf"
    assert settings.repeat_penalty == 1.0
    assert settings.gpu_layers == 99


def test_outside_a_container_the_bind_is_loopback():
    assert load_settings({}, {}).settings.bind == "127.0.0.1"


@pytest.mark.parametrize(
    ("environ", "port", "agent_port"),
    [
        ({}, 50052, 50053),
        ({"APP_MODE": "server"}, 8080, 8081),
        ({"APP_MODE": "none"}, 50052, 50053),
        ({"APP_PORT": "9000"}, 9000, 9001),
        ({"APP_PORT": "9000", "APP_AGENT_PORT": "7"}, 9000, 7),
    ],
)
def test_ports_follow_the_mode_and_each_other(environ, port, agent_port):
    settings = load_settings({}, environ).settings
    assert (settings.port, settings.agent_port) == (port, agent_port)


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        Settings().mem = 1


def test_every_setting_is_described_in_one_sentence():
    for name, info in Settings.model_fields.items():
        assert info.description, name
        assert info.description.endswith("."), name


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"APP_PORT": "5", "APP_AGENT_PORT": "5"}, "both 5"),
        ({"APP_LINK_OVERRIDES": "a:1+mbit=0"}, "mbit=0 is no bandwidth"),
        ({"APP_LINK": "direct", "APP_LINK_OVERRIDES": "a:1+mbit=9"}, "APP_LINK_OVERRIDES need APP_LINK=relay"),
        (
            {"APP_TOKEN_DELAY_MIN_S": "0.2", "APP_TOKEN_DELAY_MAX_S": "0.1"},
            "0.2 is more than APP_TOKEN_DELAY_MAX_S=0.1",
        ),
        ({"APP_BOUNDARIES": "0-7,8-21"}, "needs APP_STRATEGY=custom, not memory"),
        ({"APP_STRATEGY": "custom"}, "needs APP_BOUNDARIES"),
        ({"APP_FLASH_ATTN": "off", "APP_CACHE_TYPE_V": "q8_0"}, "APP_CACHE_TYPE_V=q8_0 needs flash attention"),
        ({"APP_FLASH_ATTN": "off", "APP_SPLIT_MODE": "tensor"}, "APP_SPLIT_MODE=tensor needs flash attention"),
    ],
)
def test_contradictions_are_refused(environ, message):
    with pytest.raises(ConfigError, match=message):
        load_settings({}, environ)


def test_a_quantised_k_cache_alone_does_not_need_flash_attention():
    assert load_settings({}, {"APP_FLASH_ATTN": "off", "APP_CACHE_TYPE_K": "q8_0"}).settings.cache_type_k == "q8_0"


def test_boundaries_with_custom_are_kept_without_blanks():
    settings = load_settings({}, {"APP_STRATEGY": "custom", "APP_BOUNDARIES": "0-7, 8-21"}).settings
    assert settings.boundaries == "0-7,8-21"


@given(st.integers(2, 200), st.data())
def test_a_split_layer_leaves_exactly_its_blocks_on_the_server(block_count, data):
    split = data.draw(st.integers(1, block_count - 1))
    n_gpu_layers = Settings(split_layer=split).n_gpu_layers(block_count)
    assert max(block_count + 1 - n_gpu_layers, 0) == split  # llama.cpp's first offloaded slot


@pytest.mark.parametrize(("gpu_layers", "expected"), [(99, 23), (23, 23), (5, 5), (0, 0)])
def test_gpu_layers_are_limited_to_what_the_model_has(gpu_layers, expected):
    assert Settings(gpu_layers=gpu_layers).n_gpu_layers(22) == expected


def test_both_may_be_set_when_they_mean_the_same():
    assert Settings(split_layer=11, gpu_layers=12).n_gpu_layers(22) == 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(split_layer=22), "APP_SPLIT_LAYER=22 is out of range: this model has 22 blocks, use 1 to 21"),
        (Settings(split_layer=11, gpu_layers=99), "means APP_GPU_LAYERS=12 for 22 blocks, but APP_GPU_LAYERS=99"),
    ],
)
def test_a_split_that_cannot_be_is_refused_with_numbers(settings, message):
    with pytest.raises(ConfigError, match=message):
        settings.n_gpu_layers(22)
