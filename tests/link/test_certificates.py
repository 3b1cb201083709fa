import datetime
import stat

import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from rpc_wrapper.cli.certs import app
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.link.certificates import Validity, make_ca, make_leaf, read_ca
from rpc_wrapper.link.tls import Identity, client_context, server_context

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def names(cert: x509.Certificate) -> list[str]:
    found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(name.value) for name in found]


@pytest.mark.parametrize("host", ["backend-cpu", "192.168.1.5", "fd00::1"])
def test_a_certificate_is_for_its_host_only(host):
    leaf = make_leaf(make_ca(Validity.days(1, NOW)), host, Validity.days(1, NOW))
    assert names(leaf.cert) == [host]


def test_days_begin_an_hour_ago():
    cert = make_ca(Validity.days(30, NOW)).cert
    assert cert.not_valid_before_utc == NOW - datetime.timedelta(hours=1)
    assert cert.not_valid_after_utc == NOW + datetime.timedelta(days=30)


def run(*args: str) -> Result:
    return CliRunner().invoke(app, ["init", *args], catch_exceptions=False)


def test_init_writes_what_both_sides_load(tmp_path):
    assert run("--host", "main", "--host", "fd00::1", "-o", str(tmp_path)).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ca.crt", "ca.key", "fd00__1.crt", "fd00__1.key", "main.crt", "main.key"
    ]  # fmt: skip
    identity = Identity(tmp_path / "ca.crt", tmp_path / "main.crt", tmp_path / "main.key")
    client_context(identity)
    server_context(identity)
    assert stat.S_IMODE((tmp_path / "main.key").stat().st_mode) == 0o600


def test_a_ca_that_is_there_signs_again(tmp_path):
    run("--host", "main", "-o", str(tmp_path))
    before = (tmp_path / "ca.crt").read_bytes()
    run("--host", "late", "--host", "main", "-o", str(tmp_path))
    assert (tmp_path / "ca.crt").read_bytes() == before
    late = x509.load_pem_x509_certificate((tmp_path / "late.crt").read_bytes())
    late.verify_directly_issued_by(read_ca(tmp_path, NOW).cert)


def test_the_ca_outlives_what_it_signs(tmp_path):
    assert "Valid until" in run("--host", "main", "--days", "30", "-o", str(tmp_path)).output
    assert read_ca(tmp_path, NOW).cert.not_valid_after_utc > NOW + datetime.timedelta(days=365)


def test_no_certificate_outlives_its_ca(tmp_path):
    today = datetime.datetime.now(datetime.UTC)
    ca = make_ca(Validity.days(9, today))
    ca.write(tmp_path, "ca")
    run("--host", "main", "-o", str(tmp_path))
    main = x509.load_pem_x509_certificate((tmp_path / "main.crt").read_bytes())
    assert main.not_valid_after_utc == ca.cert.not_valid_after_utc


def test_a_ca_that_has_ended_signs_nothing(tmp_path):
    """All that it signs would be refused as expired, and the advice would be to make a new one."""
    make_ca(Validity.days(1, datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))).write(tmp_path, "ca")
    with pytest.raises(ConfigError, match=r"ended on 2020-01-02: name an empty folder"):
        run("--host", "main", "-o", str(tmp_path))
    assert not (tmp_path / "main.crt").exists()


def test_a_ca_whose_key_is_kept_elsewhere_is_not_replaced(tmp_path):
    run("--host", "main", "-o", str(tmp_path))
    (tmp_path / "ca.key").unlink()
    before = (tmp_path / "ca.crt").read_bytes()
    with pytest.raises(ConfigError, match="bring the key back"):
        run("--host", "late", "-o", str(tmp_path))
    assert (tmp_path / "ca.crt").read_bytes() == before


def test_the_key_of_another_ca_is_told(tmp_path):
    for folder in (tmp_path, tmp_path / "other"):
        run("--host", "main", "-o", str(folder))
    (tmp_path / "other" / "ca.key").rename(tmp_path / "ca.key")
    with pytest.raises(ConfigError, match="is not the key of the ca"):
        run("--host", "late", "-o", str(tmp_path))


def test_a_backend_as_it_is_listed_is_told_to_leave_its_port_out(tmp_path):
    with pytest.raises(ConfigError, match=r"write --host box1$"):
        run("--host", "box1:50052", "-o", str(tmp_path))


@pytest.mark.parametrize("host", ["../up", "ca", "", "a b", "..", "-o", "a..b", "x" * 65, "fd00::1::2"])
def test_a_name_that_is_none_is_refused(host, tmp_path):
    with pytest.raises(ConfigError, match="is not a host"):
        run("--host", host, "-o", str(tmp_path))


def test_a_broken_ca_is_named(tmp_path):
    (tmp_path / "ca.key").write_text("no key")
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(ConfigError, match="cannot be read"):
        run("--host", "main", "-o", str(tmp_path))
