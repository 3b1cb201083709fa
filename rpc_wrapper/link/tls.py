"""Mutual TLS 1.3 between a link and a gate: the contexts, and what their refusals mean.

Both sides show a certificate of the one CA; the connecting side also checks that the backend's certificate carries the
name or address it was listed under. All of it is Python's ``ssl``.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rpc_wrapper.errors import ConfigError

# X509_V_ERR_*, openssl/x509_vfy.h: what the one who checks a certificate finds.
_VERDICTS = {
    7: "its certificate was not signed by our CA",
    9: "its certificate is not valid yet: compare the clocks of both machines",
    10: "its certificate has expired: make a new one with `rpc-wrapper certs init`",
    18: "its certificate is self-signed: make one with `rpc-wrapper certs init`",
    19: "its certificate comes from another CA than ours",
    20: "its certificate comes from another CA than ours",
    21: "its certificate comes from another CA than ours",
    26: "its certificate is not meant for this purpose: make one with `rpc-wrapper certs init`",
    62: "its certificate is for another name: make one with `rpc-wrapper certs init --host NAME`",
    64: "its certificate is for another address: make one with `rpc-wrapper certs init --host ADDRESS`",
}
# SSL_R_*, openssl/sslerr.h: what the other one is told, and what comes of two sides that disagree about TLS at all.
_ALERTS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it demands a certificate: set APP_TLS_CERT and APP_TLS_KEY",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no certificate: it needs APP_TLS_CERT and APP_TLS_KEY",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not know the CA of our certificate: both sides need the same APP_TLS_CA",
    "TLSV1_ALERT_DECRYPT_ERROR": "it does not trust the signature of our certificate: both need the same APP_TLS_CA",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "our certificate has expired: make a new one with `rpc-wrapper certs init`",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "our certificate is not meant for this purpose",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it does not speak TLS 1.3",
    "UNSUPPORTED_PROTOCOL": "it does not speak TLS 1.3",
    "WRONG_VERSION_NUMBER": "it does not speak TLS: set APP_TLS=require on both sides",
    "RECORD_LAYER_FAILURE": "it does not speak TLS: set APP_TLS=require on both sides",
    "PACKET_LENGTH_TOO_LONG": "it does not speak TLS: set APP_TLS=require on both sides",
    "HTTP_REQUEST": "it does not speak TLS: set APP_TLS=require on both sides",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """The three files of one side, PEM: the common CA, its own certificate and that one's key."""

    ca: Path
    cert: Path
    key: Path


def client_context(identity: Identity) -> ssl.SSLContext:
    """Return the context of the side that connects; raise ConfigError naming the file that is wrong."""
    return _context(ssl.PROTOCOL_TLS_CLIENT, identity)


def server_context(identity: Identity) -> ssl.SSLContext:
    """Return the context of the side that listens, which demands a certificate; raise ConfigError likewise."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, identity)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def _context(protocol: int, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load("APP_TLS_CA", identity.ca, lambda: context.load_verify_locations(identity.ca))
    for setting, path in (("APP_TLS_CERT", identity.cert), ("APP_TLS_KEY", identity.key)):
        _load(setting, path, path.read_bytes)
    _load("APP_TLS_CERT", identity.cert, lambda: context.load_cert_chain(identity.cert, identity.key))
    return context


def _load(setting: str, path: Path, load: Callable[[], object]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"{setting}: the key in APP_TLS_KEY does not belong to {path}: name the pair") from None
        raise ConfigError(f"{setting}: {path} is not the PEM file it should be ({error.reason})") from None
    except OSError as error:
        raise ConfigError(
            f"{setting}: {path} cannot be read ({error.strerror}): check the path and its rights"
        ) from None


def explain(error: BaseException) -> str:
    """Say in a clause why a connection failed; for a refusal by TLS, which of the known reasons it was."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _VERDICTS.get(error.verify_code, f"its certificate was refused ({error.verify_message})")
    if isinstance(error, ssl.SSLError):
        return _ALERTS.get(error.reason or "", f"TLS failed ({error.reason or error})")
    if isinstance(error, ConnectionError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
