"""Make a private CA and certificates for the machines of one cluster; each serves for both ends of a connection."""

import contextlib
import datetime
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rpc_wrapper.errors import ConfigError

CA_NAME = "rpc-wrapper CA"
_CLOCK_SKEW = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    cert: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def write(self, directory: Path, stem: str, owner: int | None = None) -> tuple[Path, Path]:
        """Write ``stem.crt`` and ``stem.key``, the key for its owner only; return both paths.

        ``owner`` is the user id of who will read the key, when that is not us.
        """
        cert, key = directory / f"{stem}.crt", directory / f"{stem}.key"
        with contextlib.suppress(FileNotFoundError):
            key.unlink()  # an existing file would keep its wider rights
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(
                self.key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        if owner is not None:
            os.chown(key, owner, -1)
        cert.write_bytes(self.cert.public_bytes(serialization.Encoding.PEM))
        return cert, key


@dataclass(frozen=True, slots=True)
class Validity:
    """From when to when a certificate counts, in UTC."""

    start: datetime.datetime
    end: datetime.datetime

    @classmethod
    def days(cls, count: int, now: datetime.datetime) -> "Validity":
        """Begin an hour ago, for clocks that differ, and end ``count`` days from now."""
        return cls(now - _CLOCK_SKEW, now + datetime.timedelta(days=count))

    def within(self, ca: x509.Certificate) -> "Validity":
        """Return the part of it in which the CA counts as well."""
        return Validity(max(self.start, ca.not_valid_before_utc), min(self.end, ca.not_valid_after_utc))


def make_ca(validity: Validity) -> Pair:
    """Make a CA that can sign certificates and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(CA_NAME, CA_NAME, key, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=True), critical=True)
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def make_leaf(ca: Pair, host: str, validity: Validity) -> Pair:
    """Make a certificate for one host name or address, signed by ``ca``."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(host, CA_NAME, key, validity)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    builder = builder.add_extension(x509.SubjectAlternativeName([_name_of(host)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(usage, critical=False)
    builder = builder.add_extension(issuer, critical=False)
    return Pair(builder.sign(ca.key, hashes.SHA256()), key)


def has_ca(directory: Path) -> bool:
    """Tell whether a CA was written there; raise ConfigError when its key has gone: a new one would replace it."""
    if (directory / "ca.crt").exists() and not (directory / "ca.key").exists():
        raise ConfigError(
            f"{directory} has ca.crt but no ca.key to sign with: bring the key back, or name an empty folder for a new "
            "CA, which every machine then needs"
        )
    return (directory / "ca.key").exists()


def read_ca(directory: Path, now: datetime.datetime) -> Pair:
    """Read a CA that was written as ``ca``; raise ConfigError when it cannot be read, or cannot sign any more."""
    try:
        cert = x509.load_pem_x509_certificate((directory / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((directory / "ca.key").read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:  # TypeError: the key has a password
        raise ConfigError(f"the CA in {directory} cannot be read ({error}): name another folder") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
        raise ConfigError(f"{directory / 'ca.key'} is not the key of the ca.crt beside it: name another folder")
    if cert.not_valid_after_utc <= now:
        raise ConfigError(
            f"the CA in {directory} ended on {cert.not_valid_after_utc:%Y-%m-%d}: name an empty folder for a new one, "
            "and give every machine its ca.crt and a new pair"
        )
    return Pair(cert, key)


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """What a machine's own certificate says: for whom it is, from when to when, and whether our CA signed it."""

    names: tuple[str, ...]
    validity: Validity
    is_signed_by_ca: bool


def read_facts(ca: Path, cert: Path) -> CertificateFacts:
    """Read a certificate and the CA's; raise ConfigError naming the file that is none."""
    authority, own = _read_certificate(ca), _read_certificate(cert)
    try:
        own.verify_directly_issued_by(authority)
        is_signed = True
    except (ValueError, TypeError, InvalidSignature):
        is_signed = False
    try:
        found = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        found = x509.SubjectAlternativeName([])
    names = tuple(str(name.value) for name in found)
    return CertificateFacts(names, Validity(own.not_valid_before_utc, own.not_valid_after_utc), is_signed)


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}): check the path and its rights") from None
    except ValueError:
        raise ConfigError(
            f"{path} is no certificate in PEM: name the file that `rpc-wrapper certs init` wrote"
        ) from None


def _builder(subject: str, issuer: str, key: ec.EllipticCurvePrivateKey, validity: Validity) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_common_name(subject))
        .issuer_name(_common_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _name_of(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
