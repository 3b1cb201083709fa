"""Names and addresses become sources, or a sentence that says what to do."""

import re

import pytest

from rpc_wrapper.config import Settings
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.pull import CATALOGUE, resolve

DIGEST = "ab" * 32


def test_the_entries_are_complete_and_distinct() -> None:
    assert len({entry.name for entry in CATALOGUE}) == len(CATALOGUE)
    for entry in CATALOGUE:
        assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
        assert entry.ram_bytes > entry.size_bytes > 0
        assert entry.source().file.endswith(".gguf")


def test_the_model_that_app_model_names_by_default_can_be_pulled() -> None:
    assert Settings.model_validate({}).model.name in {entry.source().file for entry in CATALOGUE}


def test_a_name_is_looked_up_whatever_its_case() -> None:
    source = resolve("TinyLlama-1.1B")
    assert source.url.endswith("/tinyllama-1.1b-chat-v1.0.Q4_0.gguf")
    assert source.size_bytes == 637_699_456


def test_a_mirror_replaces_the_hub() -> None:
    assert resolve("llama-3.2-1b", hub="http://mirror:8000/").url.startswith("http://mirror:8000/bartowski/")


def test_a_url_names_its_file() -> None:
    source = resolve("https://host/a/b%20c.gguf?download=true", sha256=DIGEST.upper())
    assert (source.file, source.sha256, source.size_bytes) == ("b c.gguf", DIGEST, None)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("tinylama", r"did you mean tinyllama-1\.1b"),
        ("zzz", "--list"),
        ("ftp://host/m.gguf", "not an http or https URL"),
        ("https:///m.gguf", "not an http or https URL"),
        ("https://[host/m.gguf", "is no URL .*Invalid IPv6"),
        ("https://host/model.safetensors", r"not in a \.gguf file"),
        ("https://host/", "no file"),
        ("https://host/..%2f..%2fetc%2fpasswd", r"not in a \.gguf file"),
    ],
)
def test_what_cannot_be_pulled_is_refused_with_a_way_out(wanted: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        resolve(wanted)


def test_a_name_in_a_url_cannot_leave_the_folder() -> None:
    assert resolve("https://host/x/..%2f..%2fevil.gguf").file == "evil.gguf"


def test_a_digest_must_be_one() -> None:
    with pytest.raises(ConfigError, match="64 hexadecimal"):
        resolve("tinyllama-1.1b", sha256="abc")
