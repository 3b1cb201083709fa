import datetime
from dataclasses import replace
from pathlib import Path

import pytest

from rpc_wrapper.cli.reach import backend_findings, tls_findings
from rpc_wrapper.engine.checkup import Verdict
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.link.certificates import Pair, Validity, make_ca, make_leaf
from rpc_wrapper.link.tls import server_context
from tests.fakes.rpc_server import Options, running
from tests.link.test_tls import EXPIRED, FOREIGN_CA, HOST, OUR_CA, VALID, identity, tls_worker

NOW = datetime.datetime.now(datetime.UTC)
LONG = Validity.days(365, NOW)
EARLY = Validity(NOW + datetime.timedelta(days=1), NOW + datetime.timedelta(days=365))


def judged(folder: Path, leaf: Pair) -> dict[str, tuple[Verdict, str]]:
    """Return what is found of a certificate, by subject: how bad, and all that is said."""
    return {
        each.subject: (each.verdict, each.value + each.advice) for each in tls_findings(identity(folder, leaf), NOW)
    }


def test_without_tls_there_is_nothing_to_say():
    assert tls_findings(None, NOW) == []


def test_a_good_certificate_is_named_and_dated(tmp_path):
    found = judged(tmp_path / "x", make_leaf(OUR_CA, "box1", LONG))
    assert found["names"] == (Verdict.OK, "box1")
    assert found["validity"] == (Verdict.OK, f"until {LONG.end:%Y-%m-%d %H:%M} UTC")
    assert set(found) == {"names", "validity"}


@pytest.mark.parametrize(
    ("leaf", "subject", "verdict", "words"),
    [
        (make_leaf(OUR_CA, "box1", EXPIRED), "validity", Verdict.WRONG, "certs init"),
        (make_leaf(OUR_CA, "box1", EARLY), "validity", Verdict.WRONG, "clock"),
        (make_leaf(OUR_CA, "box1", VALID), "validity", Verdict.NOTICE, "certs init"),
        (make_leaf(FOREIGN_CA, "box1", LONG), "signature", Verdict.WRONG, "another CA"),
        (make_ca(LONG), "signature", Verdict.WRONG, "another CA"),
    ],
    ids=["expired", "early", "soon over", "foreign", "self-signed"],
)
def test_what_the_other_side_would_refuse_is_found_before(leaf, subject, verdict, words, tmp_path):
    found = judged(tmp_path / "x", leaf)
    assert found[subject][0] is verdict
    assert words in found[subject][1]


def test_a_key_that_others_may_read_is_noticed(tmp_path):
    files = identity(tmp_path / "x", make_leaf(OUR_CA, "box1", LONG))
    files.key.chmod(0o644)
    assert [each.verdict for each in tls_findings(files, NOW) if each.subject == "key"] == [Verdict.NOTICE]


def test_a_missing_file_is_named(tmp_path):
    files = replace(identity(tmp_path / "x", make_leaf(OUR_CA, "box1", LONG)), cert=tmp_path / "nowhere.crt")
    (found,) = tls_findings(files, NOW)
    assert found.verdict is Verdict.WRONG
    assert "APP_TLS_CERT" in found.advice
    assert "nowhere.crt" in found.advice


async def test_backends_are_asked_as_a_server_would():
    async with running() as (free, _):
        good, bad = await backend_findings(f"{free}+agent=1,127.0.0.1:1+agent=2", None)
    assert (good.subject, good.verdict) == (str(free), Verdict.OK)
    assert bad.verdict is Verdict.WRONG
    assert "refused" in bad.advice
    assert await backend_findings("", None) == []


async def test_a_silent_backend_may_only_be_busy():
    async with running(Options(silent=True)) as (silent, _):
        (found,) = await backend_findings(f"{silent}+agent=1", None)
    assert found.verdict is Verdict.NOTICE


async def test_over_tls_the_reason_of_a_refusal_is_told(tmp_path):
    ours = identity(tmp_path / "ours", make_leaf(OUR_CA, "main", VALID))
    theirs = server_context(identity(tmp_path / "theirs", make_leaf(OUR_CA, HOST, EXPIRED)))
    async with tls_worker(theirs) as endpoint:
        (found,) = await backend_findings(f"{endpoint}+agent=1", ours)
    assert found.verdict is Verdict.WRONG
    assert "expired" in found.advice


async def test_a_list_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="malformed"):
        await backend_findings("box1", None)
