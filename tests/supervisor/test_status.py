"""What there is to know, in words and as JSON."""

import json

import pytest

from rpc_wrapper.supervisor.status import (
    Diagnosis,
    Exit,
    Fault,
    FaultKind,
    Occurrence,
    Snapshot,
    State,
    describe_returncode,
)


@pytest.mark.parametrize(
    ("returncode", "words"),
    [
        (0, "exit code 0"),
        (1, "exit code 1"),
        (-11, "killed by SIGSEGV"),
        (-9, "killed by SIGKILL"),
        (134, "exit code 134, which means SIGABRT"),
        (137, "exit code 137, which means SIGKILL"),
        (128, "exit code 128"),
        (255, "exit code 255"),
        (-64, "killed by SIGRTMAX"),
        (-200, "killed by signal 200"),
    ],
)
def test_return_codes_in_words(returncode: int, words: str) -> None:
    assert describe_returncode(returncode) == words


@pytest.mark.parametrize(
    ("diagnosis", "words"),
    [
        (Diagnosis(), "exit code 1"),
        (Diagnosis("bad_model"), "exit code 1 (bad_model)"),
        (Diagnosis("bad_model", "fetch it again"), "exit code 1 (bad_model): fetch it again"),
        (Diagnosis("unknown", "read its log"), "exit code 1: read its log"),
    ],
)
def test_an_exit_in_words(diagnosis: Diagnosis, words: str) -> None:
    assert str(Exit(1, diagnosis)) == words


def test_only_what_we_can_have_caused_is_orderly():
    assert [code for code in (0, 1, -6, -9, -15, 134) if Exit(code).is_orderly] == [0, -9, -15]


def test_a_snapshot_survives_json():
    fault = Fault(FaultKind.SILENCE, "no token", backend="b:1", phase="decode", detected_after_s=2.5)
    history = (Occurrence(4, 12.5, State.FENCING, "no token", "FaultFound", fault),)
    snapshot = Snapshot("engine", State.BACKOFF, 1.5, "why", last_exit=Exit(134), history=history, argv=("a b", "c"))
    plain = json.loads(json.dumps(snapshot.to_json()))
    assert plain["state"] == "backoff"
    assert plain["argv"] == ["a b", "c"]
    assert plain["last_exit"]["text"] == "exit code 134, which means SIGABRT"
    assert plain["history"][0]["fault"]["detected_after_s"] == 2.5
