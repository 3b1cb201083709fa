"""Reading a program's --help."""

import stat
from pathlib import Path

import pytest

from rpc_wrapper.engine.flags import accepted_flags, parse_help
from rpc_wrapper.errors import EngineError

SERVER_HELP = """----- common params -----

-h,    --help, --usage                  print usage and exit
--version                               show version and build info
-c,    --ctx-size N                     size of the prompt context (default: 0, 0 = loaded from model)
                                        (env: LLAMA_ARG_CTX_SIZE)
-kvo,  --kv-offload, -nkvo, --no-kv-offload
                                        whether to enable KV cache offloading (default: enabled)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use ('on', 'off', or 'auto', default: 'auto')
                                        --not-an-option in a text that goes on
--draft, --draft-n, --draft-max N       the argument has been removed. use --spec-draft-n-max or
                                        --spec-ngram-mod-n-max
--fim-qwen-1.5b-default                 use default Qwen 2.5 Coder 1.5B
"""
WORKER_HELP = """Usage: ggml-rpc-server [options]

options:
  -h, --help                       show this help message and exit
  -t, --threads N                  number of threads for the CPU device (default: 1)
  -c, --cache                      enable local file cache
"""


def test_every_name_of_an_option_is_found():
    assert parse_help(SERVER_HELP) == {
        *("-h", "--help", "--usage", "--version", "-c", "--ctx-size"),
        *("-kvo", "--kv-offload", "-nkvo", "--no-kv-offload", "-fa", "--flash-attn", "--fim-qwen-1.5b-default"),
    }


def test_an_indented_list_is_read_too():
    assert parse_help(WORKER_HELP) == {"-h", "--help", "-t", "--threads", "-c", "--cache"}


def test_a_removed_flag_is_not_accepted():
    assert not {"--draft", "--draft-n", "--draft-max"} & parse_help(SERVER_HELP)


def test_text_without_options_has_none():
    assert parse_help("usage: ls - list\n\n----- params -----\n") == frozenset()


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_both_streams_are_read_and_the_answer_is_remembered(tmp_path):
    program = script(tmp_path / "p", f"echo '--one  text'; echo '--two  text' >&2; echo x >> {tmp_path}/calls")
    assert accepted_flags(program) == accepted_flags(program) == {"--one", "--two"}
    assert (tmp_path / "calls").read_text() == "x\n"


@pytest.mark.parametrize(
    ("body", "says"), [("exit 3", "ended with 3"), ("echo hello", "lists no flag"), ("echo no >&2; exit 1", "(no)")]
)
def test_a_program_that_cannot_say_is_an_error_with_advice(tmp_path, body, says):
    with pytest.raises(EngineError) as caught:
        accepted_flags(script(tmp_path / "p", body))
    assert says in str(caught.value)


def test_a_missing_program_is_an_error(tmp_path):
    with pytest.raises(EngineError, match="cannot be read"):
        accepted_flags(tmp_path / "nothing")
