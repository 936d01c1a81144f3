"""What `syncd check` found: one line each, and what follows for the exit code. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from syncd.accounts import Effective, none_message
from syncd.cli import ending, wording
from syncd.cli.questions import Server, Standing
from syncd.config import Config
from syncd.config.accounts import unfit_quotas
from syncd.daemon import pool_size
from syncd.errors import InvalidConfig, SyncdError
from syncd.model import Credential, Route
from syncd.plugins import Found
from syncd.progress import Anew, Wanted, choose_pass
from syncd.store.registry import Life

EXPIRES_SOON_DAYS = 30  # as `credential.expiring` is told


@attrs.frozen
class Finding:
    """One thing that was looked at. `code` is the exit code where it is not as it must be."""

    what: str
    said: str
    code: int = ending.FINE
    details: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.code == ending.FINE


def failed(what: str, error: SyncdError) -> Finding:
    """Return what an error means for the thing that was looked at."""
    return Finding(what, str(error), ending.code_of(error))


def problems(error: SyncdError) -> list[Finding]:
    """Return one finding for each problem of a configuration."""
    if not isinstance(error, InvalidConfig):
        return [failed("configuration", error)]
    return [
        Finding(
            "configuration",
            f"{error.file}: {problem.key or '(file)'}: {problem.what}",
            ending.CONFIGURATION,
        )
        for problem in error.problems
    ]


def configuration(config: Config) -> list[Finding]:
    """Say what is configured, and what is not wrong but not wise either."""
    size = ", ".join(
        wording.counted(len(those), noun)
        for those, noun in ((config.instances, "connector"), (config.jobs, "job"))
    )
    warnings = [Finding("warning", warning) for warning in config.warnings]
    private = [
        Finding(f"connector {each.name}", "may reach private addresses (private_network = true)")
        for each in config.instances.values()
        if each.private_network
    ]
    return [Finding("configuration", f"{config.file}: {size}"), *warnings, *private]


def routes(config: Config, served: Mapping[str, Sequence[Route]]) -> list[Finding]:
    """Say what plugins serve, by instance, and where."""
    where = config.admin.listen
    said = f"served on {where}" if where else "not served: [admin] listen is not configured"
    return [
        Finding(f"route {route.method} /plugins/{instance}{route.path}", said)
        for instance, theirs in served.items()
        for route in theirs
    ]


def quotas(config: Config) -> list[Finding]:
    """Say what is kept to, where the configuration has its word in it."""
    kept = {
        f"quota {instance.name}.{quota.key}": wording.quota(quota)
        for instance in config.instances.values()
        for account in (instance.accounts if instance.quotas else ())
        for quota in instance.upstream(account).quotas
        if quota.key in instance.quotas
    }
    return [Finding(what, f"{said} (configured)") for what, said in kept.items()]


def accounts(known: Mapping[str, Effective]) -> list[Finding]:
    """Say which accounts cannot be worked on, and where there is none at all."""
    result = []
    for name, effective in known.items():
        result += [
            Finding(f"account {name}.{account}", said, ending.CONFIGURATION)
            for account, said in effective.refused.items()
        ]
        result += [
            Finding(problem.key, problem.what, ending.CONFIGURATION)
            for problem in unfit_quotas(effective.instance)
        ]
        if not effective.instance.accounts and not effective.refused:
            result.append(failed(f"connector {name}", none_message(effective.instance)))
    return result


def plugins(installed: Sequence[Found], enabled: Iterable[str]) -> list[Finding]:
    """Say which plugins there are; only those that are enabled are imported."""
    named = set(enabled)
    return [
        Finding(
            f"plugin {each.name}",
            f"{'enabled' if each.name in named else 'found, not enabled'} ({each.distribution})",
        )
        for each in installed
    ]


def database(server: Server) -> Finding:
    """Judge the server."""
    said = f"postgresql {server.version} answers"
    if server.read_only:
        what = f"{said}, but is a standby and takes no writes; name the primary"
        return Finding("database", what, ending.CONFIGURATION)
    return Finding("database", said)


def control_tables(missing: Sequence[str], *, own: bool) -> Finding:
    """Judge the control tables; `own`: nobody but this configuration uses the server."""
    if not missing:
        return Finding("control tables", "are of this program's version")
    lacking = f"lack {wording.counted(len(missing), 'migration')} ({', '.join(missing)})"
    if own:
        return Finding("control tables", f"{lacking}; the next run applies them")
    return Finding("control tables", f"{lacking}; run `syncd migrate`", ending.CONFIGURATION)


def connections(config: Config, life: Life) -> Finding:
    """Say how many connections a process will hold here at most."""
    wanted = config.database.pool_max
    allowed = pool_size(wanted, life)
    others = life.daemons - 1
    beside = f", beside {wording.counted(others, 'other process')}" if others else ""
    where = f"the server allows {life.max_connections}{beside}"
    if allowed < wanted:
        said = f"{allowed} at most, of the {wanted} that pool_max asks for; {where}"
    else:
        said = f"{allowed} at most; {where}"
    return Finding("connections", said)


def sharing(config: Config, life: Life) -> Finding:
    """Say who keeps to the quotas together."""
    others = life.daemons - 1
    if config.quota.ledger != "off":
        return Finding("quotas", f"kept by all processes together, through {config.quota.ledger}")
    said = "kept by each process by itself"
    if others:
        said += f', and {others} more may use as much; with [quota] shared = "postgres", together'
    return Finding("quotas", said)


def data_table(name: str, statements: Sequence[str], *, may_create: bool) -> Finding:
    """Say what a run would do to a table before it begins."""
    what = f"table {name}"
    if not statements:
        return Finding(what, "fits")
    planned = f"{wording.counted(len(statements), 'statement')} will be run by the next run"
    creates = any(statement.startswith("CREATE SCHEMA") for statement in statements)
    if creates and not may_create:
        return Finding(
            what,
            "its schema is missing, and this user may not create it; run the first of these "
            "statements as another user",
            ending.CONFIGURATION,
            tuple(statements),
        )
    return Finding(what, planned, details=tuple(statements))


def next_pass(what: str, standing: Standing | None, wanted: Wanted, *, now: datetime) -> Finding:
    """Say which pass a partition will walk next, and why; `None`: it never ran."""
    if standing is not None and standing.parked is not None:
        said = f"parked: {standing.parked}; mend it, then run `syncd resume`"
        return Finding(what, said, ending.FAILED)
    covered: Mapping[str, Any] = standing.covered if standing else {}
    watermark = standing.watermark if standing else None
    chosen = choose_pass(None, wanted, watermark=watermark, covered=covered, now=now)
    assert isinstance(chosen, Anew), "no open pass was handed in"
    since = f" since {chosen.since.isoformat(timespec='seconds')}" if chosen.since else ""
    return Finding(what, f"the next pass is {chosen.mode}{since} ({chosen.why})")


def expiry(what: str, expires_at: datetime, *, now: datetime) -> Finding:
    """Say how long a credential is good for that only a person can renew."""
    days = (expires_at - now).total_seconds() / 86400
    moment = expires_at.isoformat(timespec="seconds")
    if days <= 0:
        return Finding(what, f"expired at {moment}; renew it", ending.FAILED)
    said = f"expires in {wording.counted(int(days), 'day')}, at {moment}"
    return Finding(what, f"{said}; renew it" if days < EXPIRES_SOON_DAYS else said)


def credential(what: str, kept: Credential, *, now: datetime) -> Finding:
    """Say how a credential of the vault stands."""
    renewable = kept.refresh_token is not None
    ends_at = kept.refresh_expires_at if renewable else kept.access_expires_at
    if ends_at is not None:
        found = expiry(what, ends_at, now=now)
        said = f"{'refresh' if renewable else 'access'} token {found.said}"
        return attrs.evolve(found, said=said)
    return Finding(what, "is in the vault; nobody knows when it expires")


def exit_code(findings: Iterable[Finding]) -> int:
    """Return the exit code for everything that was found."""
    return ending.worst(finding.code for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """Write one line for each finding, its details indented below it."""
    lines = []
    for each in findings:
        lines.append(f"{'ok' if each.ok else 'FAILED':<6}  {each.what}: {each.said}")
        lines += [f"        {detail}" for detail in each.details]
    return "\n".join(lines)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what `--json` prints."""
    return {
        "exit_code": exit_code(findings),
        "checks": [
            {"what": e.what, "ok": e.ok, "said": e.said, "details": e.details} for e in findings
        ],
    }
