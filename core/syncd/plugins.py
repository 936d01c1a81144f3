"""Plugins: found by entry points, imported only when enabled, bound once into plain functions.

The hot path never passes through pluggy: `Plugins.pipeline` calls the hooks of one feed, checks who
answered and with what, and returns the functions that run.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import attrs
import pluggy

from syncd import derivations, hookspecs
from syncd.border import in_thread
from syncd.contract import fault_of_kind
from syncd.errors import HookError, PluginError
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
    Writer,
)

GROUP = "syncd.plugins"

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")  # of routes
_PATH = re.compile(r"(/(?!\.\.?(/|$))[A-Za-z0-9._~-]+)+")  # of routes: no escapes (RFC 3986 2.3)


@attrs.frozen
class Found:
    """A plugin that some installed distribution offers; it is not imported by being found."""

    name: str
    distribution: str
    entry_point: EntryPoint


def found() -> list[Found]:
    """Return what is installed, by name. Nothing is imported."""
    points = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    # A name stands among the metadata, which with a README take 4 ms to read.
    name_of = cache(lambda distribution: distribution.name if distribution else "?")
    return [Found(point.name, name_of(point.dist), point) for point in points]


@attrs.frozen
class Pipeline:
    """The functions that serve one feed of one instance."""

    instance: Instance[Any]
    feed: Feed
    begin: Begin
    fetch: Fetch
    partitions: Partitions | None
    transforms: Mapping[str, tuple[Transform | AsyncTransform, ...]]  # by stream, in their order
    writes: Mapping[str, Writer]  # by stream, where a plugin writes itself
    plugin: str  # that fetches, or derives: for errors
    derivation: Derivation | None = None  # of a derived feed, which is not fetched

    def kinds(self, streams: Iterable[str] | None = None) -> frozenset[str]:
        """Return the kinds of effects that rows of these streams, or of all, may have."""
        wanted = list(self.transforms if streams is None else streams)
        written = {kind for s in wanted if s in self.writes for kind in self.writes[s].effects}
        made = {kind for s in wanted for each in self.transforms[s] for kind in each.effects}
        return frozenset(written | made)


class Plugins:
    """The plugins of one process."""

    def __init__(self, modules: Mapping[str, ModuleType | object]) -> None:
        """Register modules (or objects with hook implementations) under their names.

        Raises: `HookError` for misspelt hooks and connectors of one name.
        """
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for name, module in modules.items():
            try:
                self._manager.register(module, name)
            except pluggy.PluginValidationError as error:
                raise HookError(f"plugin {name}", str(error), "see syncd.hookspecs") from error
        self._refuse_misspelt()
        self.connectors = self._connectors()

    @classmethod
    def load(cls, enabled: Iterable[str]) -> Plugins:
        """Import the enabled plugins; others that are installed stay untouched.

        A name that nobody offers is left to the configuration's check, which can say where it
        stands.
        """
        modules = {}
        wanted = set(enabled)
        for each in found():
            if each.name in wanted:
                try:
                    modules[each.name] = each.entry_point.load()
                except Exception as error:  # a plugin's import may raise anything
                    raise HookError(
                        f"plugin {each.name} ({each.distribution})",
                        f"cannot be imported: {type(error).__name__}: {error}",
                        "mend or remove the distribution",
                    ) from error
        return cls(modules)

    def _refuse_misspelt(self) -> None:
        """Refuse functions marked as hooks that no hook is named after."""
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as error:
            name = self._manager.get_name(error.plugin)
            raise HookError(f"plugin {name}", str(error), "see syncd.hookspecs") from error

    def _connectors(self) -> dict[str, Connector]:
        connectors: dict[str, Connector] = {}
        owners: dict[str, str] = {}
        for plugin, announced in self._ask("connectors"):
            for connector in announced:
                if connector.name in connectors:
                    raise HookError(
                        f"connector {connector.name}",
                        f"announced by plugin {owners[connector.name]} and by plugin {plugin}",
                        "enable one of them",
                    )
                connectors[connector.name] = connector
                owners[connector.name] = plugin
        return connectors

    def _ask(self, hook: str, **arguments: Any) -> list[tuple[str, Any]]:
        """Return what each plugin answers, with its name; those that answer `None` are left out."""
        answers = []
        caller = getattr(self._manager.hook, hook)
        for implementation in caller.get_hookimpls():
            given = [arguments[name] for name in implementation.argnames]
            answer = _bound(implementation, hook, given)
            if answer is not None:
                answers.append((implementation.plugin_name, answer))
        return answers

    def _one(self, hook: str, where: str, *, needed: bool, **arguments: Any) -> tuple[str, Any]:
        answers = self._ask(hook, **arguments)
        if len(answers) > 1:
            names = " and ".join(sorted(name for name, _ in answers))
            raise HookError(where, f"{hook} is answered by {names}", "enable one of them")
        if not answers:
            if needed:
                raise HookError(where, f"no plugin answers {hook}", "see syncd.hookspecs")
            return "", None
        return answers[0]

    def pipeline(self, instance: Instance[Any], feed: Feed) -> Pipeline:
        """Bind one feed of one instance.

        Raises: `HookError` for unclaimed and contested hooks and for wrong signatures.
        """
        if feed.derived:
            return self._derived(instance, feed)
        where = f"{instance.name}.{feed.name}"
        for name in instance.connector.request_settings:
            if not hasattr(instance.settings, name):
                said = f"its connector's request_settings name {name!r}, and there are none such"
                raise HookError(where, said, "mend the plugin")
        whose = {"instance": instance, "feed": feed}
        _, begin = self._one("begin", where, needed=True, **whose)
        plugin, fetch = self._one("fetch", where, needed=True, **whose)
        _, slices = self._one("partitions", where, needed=False, **whose)
        _fits(where, "begin", begin, takes=3, awaited=False)
        _fits(where, "fetch", fetch, takes=2, awaited=True)
        if slices is not None:
            _fits(where, "partitions", slices, takes=1, awaited=True)
        return Pipeline(
            instance=instance,
            feed=feed,
            begin=begin,
            fetch=fetch,
            partitions=slices,
            transforms={s.name: self._transforms(instance, s) for s in feed.streams},
            writes=self._writes(instance, feed.streams),
            plugin=plugin,
        )

    def _derived(self, instance: Instance[Any], feed: Feed) -> Pipeline:
        """Bind a derived feed, which is asked for nothing but its derivation."""
        stream = derivations.only_stream(instance, feed)
        plugin, derivation = self._derivation(instance, stream)
        where = f"{instance.name}.{stream.name}: derive of plugin {plugin}"
        derivations.refuse_circle(where, stream.name, self._reads(instance))
        return Pipeline(
            instance=instance,
            feed=feed,
            begin=derivations.begin,
            fetch=derivations.fetch,
            partitions=None,
            transforms={stream.name: ()},
            writes={},
            plugin=plugin,
            derivation=derivation,
        )

    def _derivation(self, instance: Instance[Any], stream: Stream) -> tuple[str, Derivation]:
        where = f"{instance.name}.{stream.name}"
        plugin, answer = self._one("derive", where, needed=True, instance=instance, stream=stream)
        where = f"{where}: derive of plugin {plugin}"
        derivations.refuse_wrong(where, instance.connector, answer)
        return plugin, answer

    def derived(self, instance: Instance[Any]) -> dict[str, Derivation]:
        """Return what the derived streams of an instance are made of, by stream.

        Raises: `HookError`.
        """
        return {
            stream.name: self._derivation(instance, stream)[1]
            for feed in instance.connector.feeds
            if feed.derived
            for stream in feed.streams
        }

    def _reads(self, instance: Instance[Any]) -> dict[str, tuple[str, ...]]:
        return {name: each.reads for name, each in self.derived(instance).items()}

    def _transforms(
        self, instance: Instance[Any], stream: Stream
    ) -> tuple[Transform | AsyncTransform, ...]:
        gathered: list[Transform | AsyncTransform] = []
        for plugin, answer in self._ask("transform", instance=instance, stream=stream):
            for each in [answer] if isinstance(answer, (Transform, AsyncTransform)) else answer:
                where = f"{instance.name}.{stream.name}: transform {each.name} of plugin {plugin}"
                awaited = isinstance(each, AsyncTransform)
                _fits(where, "transform", each.function, takes=1 + awaited, awaited=awaited)
                gathered.append(each)
        awaiting = [each.name for each in gathered if isinstance(each, AsyncTransform)]
        if len(awaiting) > 1:
            said = f"{' and '.join(sorted(awaiting))} await, and one may"
            raise HookError(f"{instance.name}.{stream.name}", said, "make one of them")
        return tuple(sorted(gathered, key=lambda each: (each.order, each.name)))

    def _writes(self, instance: Instance[Any], streams: Sequence[Stream]) -> dict[str, Writer]:
        writes = {}
        for stream in streams:
            where = f"{instance.name}.{stream.name}"
            _, write = self._one("write", where, needed=False, instance=instance, stream=stream)
            if write is not None:
                writer = write if isinstance(write, Writer) else Writer(write)
                _fits(where, "write", writer.function, takes=2, awaited=False)
                writes[stream.name] = writer
        return writes

    def lifespan(self, instance: Instance[Any]) -> AbstractAsyncContextManager[object] | None:
        """Return the context manager around all runs of an instance, where a plugin has one."""
        _, answer = self._one("lifespan", instance.name, needed=False, instance=instance)
        return answer  # type: ignore[no-any-return]  # pluggy is blind to types

    def check(self, instance: Instance[Any]) -> Check | None:
        """Return the question that `syncd check` puts to each account, where a plugin has one."""
        _, answer = self._one("check", instance.name, needed=False, instance=instance)
        return answer  # type: ignore[no-any-return]  # pluggy is blind to types

    def deliver(self, instance: Instance[Any], kind: EffectKind) -> Deliver:
        """Return what delivers effects of a kind that an instance's connector declares.

        Raises: `HookError`.
        """
        where = f"{instance.name}: effects of kind {kind.name}"
        if (fault := fault_of_kind(kind)) is not None:
            raise HookError(where, fault, "mend the plugin")
        _, answer = self._one("deliver", where, needed=True, instance=instance, kind=kind)
        _fits(where, "deliver", answer, takes=2, awaited=True)
        return answer  # type: ignore[no-any-return]  # pluggy is blind to types

    def refresh(self, instance: Instance[Any]) -> Refresh | None:
        """Return what trades an account's credential for the next one, where a plugin has it."""
        _, answer = self._one("refresh", instance.name, needed=False, instance=instance)
        if answer is not None:
            _fits(instance.name, "refresh", answer, takes=2, awaited=True)
        return answer  # type: ignore[no-any-return]  # pluggy is blind to types

    def routes(self, instance: Instance[Any]) -> tuple[Route, ...]:
        """Return what the daemon serves for an instance, where a plugin has anything.

        Raises: `HookError` where it cannot be served.
        """
        plugin, answer = self._one("routes", instance.name, needed=False, instance=instance)
        where = f"{instance.name}: routes of plugin {plugin}"
        for problem in unfit_routes(answer or ()):
            raise HookError(where, problem, "see syncd.hookspecs")
        for route in answer or ():
            _fits(f"{where}: {route.path}", "handler", route.handler, takes=2, awaited=False)
        return tuple(answer or ())


def unfit_routes(answer: object) -> Iterator[str]:
    """Say what is wrong with a plugin's routes."""
    if not isinstance(answer, Sequence) or not all(isinstance(each, Route) for each in answer):
        yield f"wanted a sequence of routes, got {answer!r}"
        return
    seen = set()
    for route in answer:
        if route.method not in METHODS:
            yield f"{route.path}: the method {route.method!r} is none of {', '.join(METHODS)}"
        if not _PATH.fullmatch(route.path):
            yield f"the path {route.path!r} is none such as /webhook"
        if (route.method, route.path) in seen:
            yield f"{route.method} {route.path} is there twice"
        seen.add((route.method, route.path))


def _bound(implementation: pluggy.HookImpl, hook: str, given: Sequence[Any]) -> Any:
    """Call a hook, which binds functions and does nothing else."""
    where = f"plugin {implementation.plugin_name}"
    try:
        with in_thread(where, hook, KeyboardInterrupt):
            return implementation.function(*given)
    except PluginError as error:
        raise HookError(where, error.what, "mend or disable the plugin") from error


def _fits(
    where: str, hook: str, function: Callable[..., Any], *, takes: int, awaited: bool
) -> None:
    """Refuse a function that a hook returned when it cannot be called as it will be."""
    if not callable(function):
        raise HookError(where, f"{hook} returned {function!r}, not a function", "return one")
    try:
        inspect.signature(function).bind(*range(takes))
    except (TypeError, ValueError) as error:
        raise HookError(
            where, f"{hook} returned a function that does not take {takes} argument(s)", str(error)
        ) from error
    if inspect.iscoroutinefunction(function) != awaited:
        kind = "an async" if awaited else "a plain"
        raise HookError(where, f"{hook} must return {kind} function", "see syncd.hookspecs")
