"""What ``rpc-wrapper doctor`` says of this machine's certificates, and of the backends it should reach."""

import datetime

from rpc_wrapper.devices import parse_endpoints
from rpc_wrapper.engine.checkup import Finding, Verdict
from rpc_wrapper.errors import ConfigError
from rpc_wrapper.gateway.backends import BackendReport, open_scout
from rpc_wrapper.link.tls import Identity, client_context
from rpc_wrapper.rpc import ProbeState

SOON = datetime.timedelta(days=30)
RENEW = "Make a new one with `rpc-wrapper certs init --host NAME`."


def tls_findings(identity: Identity | None, now: datetime.datetime) -> list[Finding]:
    """Judge the files of this machine as both sides of a connection will; nothing to say when TLS is off."""
    if identity is None:
        return []
    from rpc_wrapper.link.certificates import read_facts  # only then is it worth the time to load

    try:
        client_context(identity)
        facts = read_facts(identity.ca, identity.cert)
    except ConfigError as error:
        return [Finding("certificates", "files", "unusable", Verdict.WRONG, f"{error}.")]
    names = ", ".join(facts.names) or "nobody"
    findings = [Finding("certificates", "names", names), _lifetime(facts.validity.start, facts.validity.end, now)]
    if not facts.is_signed_by_ca:
        advice = f"The other side will refuse it: {identity.cert} and {identity.ca} are not of one CA. {RENEW}"
        findings.append(Finding("certificates", "signature", "of another CA than APP_TLS_CA", Verdict.WRONG, advice))
    if identity.key.stat().st_mode & 0o077:
        advice = f"Others on this machine may read {identity.key}: chmod 600 it."
        findings.append(Finding("certificates", "key", "readable for others", Verdict.NOTICE, advice))
    return findings


def _lifetime(start: datetime.datetime, end: datetime.datetime, now: datetime.datetime) -> Finding:
    value = f"until {end:%Y-%m-%d %H:%M} UTC"
    if now > end:
        return Finding("certificates", "validity", f"expired, {value}", Verdict.WRONG, RENEW)
    if now < start:
        advice = "Compare this machine's clock with the one that made it."
        return Finding("certificates", "validity", f"not before {start:%Y-%m-%d %H:%M} UTC", Verdict.WRONG, advice)
    if end - now < SOON:
        return Finding("certificates", "validity", f"{value}, {(end - now).days} days", Verdict.NOTICE, RENEW)
    return Finding("certificates", "validity", value)


async def backend_findings(endpoints: str, identity: Identity | None) -> list[Finding]:
    """Ask backends, a comma list, as a server would; raise ConfigError when the list or a certificate is wrong."""
    if not endpoints:
        return []
    async with open_scout(client_context(identity) if identity else None) as scout:
        return [_backend(report) for report in await scout.survey(parse_endpoints(endpoints))]


def _backend(report: BackendReport) -> Finding:
    subject, state = str(report.listed), report.state
    if report.is_usable:
        return Finding("backends", subject, f"{state}, {1000 * (report.probe.rtt_s or 0):.1f} ms away")
    verdict = Verdict.NOTICE if state is ProbeState.BUSY else Verdict.WRONG
    return Finding("backends", subject, str(state), verdict, f"{report.detail}.")
