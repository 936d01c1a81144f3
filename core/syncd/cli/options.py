"""Options that several commands have, and what is asked before something is changed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from syncd.cli.invocation import Invocation
    from syncd.config import Config
    from syncd.store.selection import Aside, Outgoing, Selection

Command = TypeVar("Command", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON on stdout, only JSON."
)
yes_option = click.option(
    "--yes", is_flag=True, help="Do not ask; needed where nobody can be asked."
)

_GLOB = "GLOB"


def configuration(invocation: Invocation) -> Config:
    """Read the configuration; from here on its secrets are redacted."""
    from syncd.cli.loading import load  # noqa: PLC0415  # `--help` does without the engine

    return load(invocation).config


def selecting(command: Command) -> Command:
    """Give a command the options that name partitions; it takes `which`, a `Selection`."""

    @click.option("--instance", metavar=_GLOB, help="Of these connectors ([connectors.NAME]).")
    @click.option("--account", metavar=_GLOB, help="Of these accounts.")
    @click.option("--feed", metavar=_GLOB, help="Of these feeds.")
    @click.option("--slice", metavar=_GLOB, help="These slices; '' is the whole feed.")
    @wraps(command)
    def selected(
        *args: Any,
        instance: str | None,
        account: str | None,
        feed: str | None,
        slice: str | None,  # noqa: A002  # the word of the model
        **kwargs: Any,
    ) -> Any:
        from syncd.store.selection import Selection  # noqa: PLC0415

        return command(*args, which=Selection(instance, account, feed, slice), **kwargs)

    return selected  # type: ignore[return-value]  # click calls it by its options


def selecting_records(command: Command) -> Command:
    """Give a command the options that name quarantined records; it takes `which`, an `Aside`."""

    @click.option("--instance", metavar=_GLOB, help="Of these connectors ([connectors.NAME]).")
    @click.option("--account", metavar=_GLOB, help="Of these accounts.")
    @click.option("--stream", metavar=_GLOB, help="Of these streams.")
    @click.option(
        "--reason", metavar=_GLOB, help="Set aside for this: decode, transform, key, dump, refused."
    )
    @click.option("--id", "ids", type=int, multiple=True, help="This record; may be given again.")
    @wraps(command)
    def selected(
        *args: Any,
        instance: str | None,
        account: str | None,
        stream: str | None,
        reason: str | None,
        ids: tuple[int, ...],
        **kwargs: Any,
    ) -> Any:
        from syncd.store.selection import Aside  # noqa: PLC0415

        return command(*args, which=Aside(instance, account, stream, reason, ids), **kwargs)

    return selected  # type: ignore[return-value]  # click calls it by its options


def selecting_effects(command: Command) -> Command:
    """Give a command the options that name effects; it takes `which`, an `Outgoing`."""

    @click.option("--instance", metavar=_GLOB, help="Delivered by these connectors.")
    @click.option("--account", metavar=_GLOB, help="With these accounts.")
    @click.option("--kind", metavar=_GLOB, help="Of these kinds.")
    @click.option("--key", metavar=_GLOB, help="Of these keys.")
    @click.option(
        "--state",
        "states",
        type=click.Choice(("pending", "delivering", "delivered", "dead", "discarded")),
        multiple=True,
        help="In this state; may be given again.",
    )
    @click.option("--id", "ids", type=int, multiple=True, help="This one; may be given again.")
    @wraps(command)
    def selected(*args: Any, **kwargs: Any) -> Any:
        from syncd.store.selection import Outgoing  # noqa: PLC0415

        names = ("instance", "account", "kind", "key", "states", "ids")
        which = Outgoing(**{name: kwargs.pop(name) for name in names})
        return command(*args, which=which, **kwargs)

    return selected  # type: ignore[return-value]  # click calls it by its options


def refuse_everything(which: Selection | Aside | Outgoing) -> None:
    """Let pass only what was narrowed down by at least one option.

    Raises: `click.UsageError`.
    """
    if which == type(which)():
        raise click.UsageError("say which: give at least one filter (--instance '*' means all)")


def refuse_unknown(what: str, name: str, known: Iterable[str]) -> None:
    """Let pass only a name that is configured.

    Raises: `click.BadParameter`, with the name that was probably meant.
    """
    from syncd.config.values import did_you_mean  # noqa: PLC0415

    names = list(known)
    if name not in names:
        there = ", ".join(names) or "none"
        raise click.BadParameter(
            f"{name!r} is not configured; there: {there}{did_you_mean(name, names)}",
            param_hint=what,
        )


def confirmed(question: str, *, yes: bool) -> bool:
    """Ask on the terminal whether to go on.

    Raises: `click.UsageError` where there is none.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("nobody can be asked here (stdin is no terminal): add --yes")
    return click.confirm(question, err=True)
