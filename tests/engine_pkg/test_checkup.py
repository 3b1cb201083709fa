"""The judgement over gathered facts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rpc_wrapper.devices import MIB
from rpc_wrapper.engine.binaries import Engine
from rpc_wrapper.engine.checkup import NEEDED_FLAGS, Facts, Finding, Verdict, examine, gather, is_usable, to_json
from rpc_wrapper.engine.loadlog import Failure
from rpc_wrapper.engine.machine import CPU, CgroupLimits, PortUser
from rpc_wrapper.engine.selftest import SelfTest

ENGINE = Engine(Path("/e/llama-server"), Path("/e/ggml-rpc-server"), "0.5.0", "7.0.0")
GOOD = Facts(
    engine=ENGINE,
    engine_error="",
    server_flags=frozenset(NEEDED_FLAGS),
    worker_devices={"CPU": "a processor (8 MiB, 8 MiB free)"},
    self_test=SelfTest(None, "32 tokens read.", 100.0),
    cpu=CPU("A CPU", frozenset({"avx2"})),
    cpu_count=2,
    threads=2,
    limits=CgroupLimits(None, None),
    is_container=False,
    available_bytes=8192 * MIB,
    limit_bytes=16384 * MIB,
    port_users=(),
)


def finding(facts: Facts, subject: str) -> Finding:
    return next(found for found in examine(facts) if found.subject.startswith(subject))


def test_a_good_machine_is_usable_without_advice():
    findings = examine(GOOD)
    assert is_usable(findings)
    assert all(found.verdict is Verdict.OK and not found.advice for found in findings)


@pytest.mark.parametrize(
    ("changes", "subject", "verdict", "says"),
    [
        ({"engine": None, "engine_error": "run scripts/setup"}, "programs", Verdict.WRONG, "run scripts/setup"),
        ({"server_flags": frozenset(NEEDED_FLAGS) - {"--rpc"}}, "flags", Verdict.WRONG, "GGML_RPC=ON"),
        ({"self_test": SelfTest(Failure.ILLEGAL_INSTRUCTION, "do this")}, "self-test", Verdict.WRONG, "do this"),
        ({"self_test": None}, "self-test", Verdict.NOTICE, "--model"),
        ({"engine": replace(ENGINE, protocol="8.0.0")}, "RPC protocol", Verdict.WRONG, "7.0.0"),
        ({"engine": replace(ENGINE, protocol=None)}, "RPC protocol", Verdict.NOTICE, "scripts/setup"),
        ({"limits": CgroupLimits(0.5, None)}, "quota", Verdict.NOTICE, "0.5"),
        ({"cpu": CPU("A CPU", frozenset({"amx_tile"}))}, "AMX", Verdict.NOTICE, "--no-repack"),
        ({"available_bytes": 100 * MIB}, "available", Verdict.NOTICE, "100 MiB"),
        ({"port_users": (PortUser(8080, 12, "nginx"),)}, "8080", Verdict.NOTICE, "another port"),
    ],
)
def test_each_trouble_is_named_with_advice(changes, subject, verdict, says):
    facts = replace(GOOD, **changes)
    found = finding(facts, subject)
    assert found.verdict is verdict
    assert says in found.advice
    assert is_usable(examine(facts)) == (verdict is not Verdict.WRONG)


def test_who_has_a_port_is_said():
    assert finding(replace(GOOD, port_users=(PortUser(8080, 12, "nginx"),)), "8080").value == "taken by nginx (pid 12)"
    assert (
        finding(replace(GOOD, port_users=(PortUser(8080, None, None),)), "8080").value == "taken by an unknown program"
    )


def test_the_report_is_json():
    report = json.loads(json.dumps(to_json(examine(GOOD))))
    assert report["usable"] is True
    assert {"section", "subject", "value", "verdict", "advice"} == set(report["findings"][0])


def test_gathering_without_an_engine_still_reports_the_machine(tmp_path):
    facts = gather(tmp_path, None)
    assert facts.engine is None
    assert str(tmp_path) in facts.engine_error
    assert facts.cpu_count >= 1
    assert not is_usable(examine(facts))
