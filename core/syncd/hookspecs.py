"""The contract with plugins: hooks bind, functions run.

Hooks are called synchronously, once, while a pipeline is built; do no I/O in them. They return
plain typed functions, and those run: the hot path never passes through pluggy. A hook returns
`None` for an instance, feed or stream that is not the plugin's own. Unclaimed, contested and
misspelt hooks, and functions of a wrong signature, are a `HookError` naming plugin and stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pluggy

from syncd.model import (
    AsyncTransform,
    Begin,
    Check,
    Connector,
    Deliver,
    Derivation,
    EffectKind,
    Feed,
    Fetch,
    Instance,
    Partitions,
    Refresh,
    Route,
    Stream,
    Transform,
    Write,
    Writer,
)

PROJECT = "syncd"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def connectors() -> Sequence[Connector]:  # type: ignore[empty-body]
    """Announce connectors: name, version, settings class, feeds and streams, quotas.

    Answers: all plugins; names are unique, else `HookError`.
    """


@hookspec
def partitions(instance: Instance[Any], feed: Feed) -> Partitions | None:
    """Return the function that says which slices of an account's feed there are.

    Returns:
        `async (ctx) -> slices`, asked at the start of a job for every account. `ctx.http` may be
        used (a brand's id is a look-up). Each slice is leased and walked by itself.

    Answers: one or none. None means one slice, the whole feed.
    """


@hookspec
def begin(instance: Instance[Any], feed: Feed) -> Begin | None:
    """Return the pure function that answers a request with a pass's first cursors.

    Returns:
        `(partition, request, now) -> Pass`. It may widen `incremental` to `full` (a window older
        than the upstream keeps). `request.since` is `None` exactly when `request.mode` is full.

    Answers: exactly one.
    """


@hookspec
def fetch(instance: Instance[Any], feed: Feed) -> Fetch | None:
    """Return the function that fetches one page.

    Returns:
        `async (ctx, cursor) -> Page`: one page, never a generator. A failed page is never an empty
        page: raise instead. `Page.records` holds `Record(raw, parent)`, or finished objects of the
        stream's record class where a record is put together from several answers.

    Raises (from the returned function): `Throttled`, `Unavailable`, `Unauthorized`,
        `Unintelligible`, `CursorExpired`. Anything else is a bug of the plugin: the cursor fails,
        and the event names plugin and hook.

    Answers: exactly one.
    """


@hookspec
def transform(
    instance: Instance[Any], stream: Stream
) -> Transform | AsyncTransform | Sequence[Transform | AsyncTransform] | None:
    """Return pure functions of one record: keep, change, drop (`None`) or split (a list).

    They run in ascending `order`, from any plugin, in a thread together with the decoding. Raising
    sends that one record to quarantine.

    An `AsyncTransform`, at most one for a stream, awaits another API with the records of a page.

    Raises (from its function): as the function of `fetch`, and to the same effect.

    Answers: all.
    """


@hookspec
def write(instance: Instance[Any], stream: Stream) -> Write | Writer | None:
    """Return what writes a batch's rows, in place of the built-in upsert.

    Returns:
        `(connection, rows) -> Written`, inside the batch's transaction. It has no effect outside
        the connection, and neither commits nor rolls back. Where effects follow from rows it is
        returned in a `Writer`, which names their kinds; `Written.effects` are enqueued. A `Writer`
        may also say that rows may come in any order: `quarantine replay` hands it those only then.

    Answers: one or none.
    """


@hookspec
def deliver(instance: Instance[Any], kind: EffectKind) -> Deliver | None:
    """Return the function that delivers effects of one kind.

    Returns:
        `async (ctx, effects) -> {effect.id: outcome}`: `Delivered`, `Retry` or `Dead` for each.
        Send the key along where the provider honours one: an effect whose outcome is unknown is
        delivered again with the same key. Where it honours none, look up what it has before you
        create: what it does not tell of at once may be made twice even so. One that is missing in
        the answer is unknown. Where only time helps, as at the end of a plan's quota, say
        `Retry(reason, seconds, counts=False)`: it costs none of the kind's `attempts_max`.

    Raises (from the returned function): as `fetch`. All of the call's effects are then tried again;
        `Unintelligible` with a bulk halves it, to find those that the provider cannot take.

    Answers: exactly one for each of the connector's `effects`.
    """


@hookspec
def derive(instance: Instance[Any], stream: Stream) -> Derivation | None:
    """Return the SELECT that a derived stream is made with, and the streams it reads.

    Asked for the stream of each feed that says `derived`, which has no `begin`, `fetch` and
    `transform`. What it filters by comes from `instance.settings` and goes into the parameters,
    never into the statement.

    Answers: exactly one for such a stream.
    """


@hookspec
def lifespan(instance: Instance[Any]) -> AbstractAsyncContextManager[object] | None:
    """Return an async context manager around all runs of an instance; its value is `ctx.session`.

    Answers: one or none. None means `ctx.session` is `None`.
    """


@hookspec
def check(instance: Instance[Any]) -> Check | None:
    """Return the cheap question that `syncd check` puts to an account (is the credential taken?).

    Returns:
        `async (ctx) -> str`: one line for the operator; raise a `SourceError` where it fails.

    Answers: one or none.
    """


@hookspec
def refresh(instance: Instance[Any]) -> Refresh | None:
    """Return the function that trades an account's credential for the next one.

    Returns:
        `async (ctx, credential) -> Credential`, called when the access token is about to expire or
        was refused; `credential.refresh_token` may be `None`. `ctx.http` sends no credential;
        nobody else renews this account's meanwhile. Ask by ``ctx.http.post(url, form={...})``,
        which is never sent twice once it may have been heard. What is answered is stored before it
        is used.

    Raises (from the returned function): `Unauthorized` where the refresh token is dead
        (`invalid_grant`): the account waits for a person. A token endpoint that answers 401 to an
        unknown client says nothing of the account: name such statuses in `also`, read the error,
        and raise `Unintelligible`. Anything but `Unauthorized` fails the request that needed it.

    Answers: one or none. Needed where the upstream has `authorize` and its tokens expire.
    """


@hookspec
def routes(instance: Instance[Any]) -> Sequence[Route] | None:
    """Return what the daemon serves for an instance below ``/plugins/INSTANCE`` (webhooks).

    Returns:
        Routes; `handler` is `(settings, request) -> RouteAnswer`, pure, and called in a thread. It
        checks who is asking before anything else, and answers 401 to others. The records that it
        answers with are written as those of pages are, and its status is sent once they are
        committed: until then the sender hears nothing, or 503, and comes again.

    Raises (from the handler): anything; the sender hears 500, and the event names plugin and path.

    Answers: one or none. Served by `syncd serve` where ``[admin] listen`` is configured.
    """
