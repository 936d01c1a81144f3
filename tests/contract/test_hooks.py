"""The contract with plugins: each hook documented, and bound as its specification says."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
from sources import of_tests

from syncd import (
    Connector,
    Context,
    Credential,
    Cursor,
    Derivation,
    EffectKind,
    Feed,
    Instance,
    Outcome,
    Page,
    Partition,
    Pass,
    Queued,
    Quota,
    Request,
    Route,
    RouteAnswer,
    RouteRequest,
    Slice,
    Stream,
    Transform,
    Upstream,
    Writer,
    Written,
    hookimpl,
    hookspecs,
)
from syncd.errors import HookError
from syncd.plugins import Pipeline, Plugins, found


@attrs.frozen
class Nothing:
    """Settings, or a record, of nothing."""


def connector(name: str = "books") -> Connector:
    stream = Stream("books", Nothing)
    return Connector(
        name=name,
        version="1",
        settings=Nothing,
        feeds=(Feed("books", (stream,), quota="all"),),
        upstream=lambda _, __: Upstream("http://localhost", (Quota("all"),)),
    )


BOOKS = connector()
FEED = BOOKS.feeds[0]
INSTANCE = Instance("books-eu", BOOKS, Nothing(), ())


def begin_books(_: Partition, request: Request, __: datetime) -> Pass:
    return Pass(request.mode, (Cursor(1),))


async def fetch_books(_: Context[Nothing, None], __: Cursor) -> Page:
    raise NotImplementedError  # nobody fetches here


def plugin(**hooks: Callable[..., Any]) -> SimpleNamespace:
    """A plugin with these hooks, given by their names."""
    return SimpleNamespace(**{name: hookimpl(function) for name, function in hooks.items()})


def whole(**more: Callable[..., Any]) -> SimpleNamespace:
    """A plugin that has what a feed cannot be without, and more."""
    needed: dict[str, Callable[..., Any]] = {
        "connectors": lambda: [BOOKS],
        "begin": lambda feed: begin_books if feed is FEED else None,
        "fetch": lambda feed: fetch_books if feed is FEED else None,
    }
    return plugin(**(needed | more))


def bound(**plugins: SimpleNamespace) -> Pipeline:
    return Plugins(plugins).pipeline(INSTANCE, FEED)


def specified() -> dict[str, Callable[..., Any]]:
    marked = inspect.getmembers(hookspecs, lambda each: hasattr(each, "syncd_spec"))
    return dict(marked)


# --- Every hook -----------------------------------------------------------------------------------


def test_every_hook_says_how_many_may_answer() -> None:
    silent = [name for name, hook in specified().items() if "Answers:" not in (hook.__doc__ or "")]

    assert len(specified()) >= 8
    assert silent == []


def test_every_hook_has_a_test() -> None:
    names = {
        function.name
        for source in of_tests()
        for function in source.functions()
        if function.name.startswith("test_hook_")
    }

    assert [
        hook
        for hook in specified()
        if not any(f"{name}_".startswith(f"test_hook_{hook}_") for name in names)
    ] == []


# --- One by one -----------------------------------------------------------------------------------


def test_hook_connectors_gathers_what_all_announce() -> None:
    plugins = Plugins({"a": whole(), "b": plugin(connectors=lambda: [connector("films")])})

    assert sorted(plugins.connectors) == ["books", "films"]


def test_hook_connectors_refuses_two_of_one_name() -> None:
    twice = {"a": whole(), "b": plugin(connectors=lambda: [connector("books")])}

    with pytest.raises(HookError, match="connector books: announced by plugin a and by plugin b"):
        Plugins(twice)


def test_hook_partitions_may_be_left_out() -> None:
    assert bound(a=whole()).partitions is None


def test_hook_partitions_is_bound() -> None:
    async def slices(_: Context[Nothing, None]) -> Sequence[Slice]:
        raise NotImplementedError  # nobody asks here

    assert bound(a=whole(partitions=lambda: slices)).partitions is slices


def test_hook_begin_is_bound_to_the_plugin_that_answers() -> None:
    pipeline = bound(a=whole(), b=plugin(begin=lambda: None, fetch=lambda: None))

    assert (pipeline.begin, pipeline.plugin) == (begin_books, "a")


def test_hook_begin_that_nobody_claims_is_refused() -> None:
    with pytest.raises(HookError, match=r"books-eu\.books: no plugin answers begin"):
        bound(a=plugin(connectors=lambda: [BOOKS], fetch=lambda: fetch_books))


def test_hook_begin_that_would_have_to_be_awaited_is_refused() -> None:
    async def awaited(_: Partition, __: Request, ___: datetime) -> Pass:
        raise NotImplementedError  # nobody begins here

    with pytest.raises(HookError, match="begin must return a plain function"):
        bound(a=whole(begin=lambda: awaited))


def test_hook_fetch_is_bound() -> None:
    assert bound(a=whole()).fetch is fetch_books


def test_hook_fetch_that_nobody_claims_is_refused() -> None:
    with pytest.raises(HookError, match=r"books-eu\.books: no plugin answers fetch"):
        bound(a=plugin(connectors=lambda: [BOOKS], begin=lambda: begin_books))


def test_hook_fetch_that_two_claim_is_refused() -> None:
    with pytest.raises(HookError, match="fetch is answered by a and b"):
        bound(a=whole(), b=plugin(fetch=lambda: fetch_books))


async def _takes_one(_: Any) -> Page:
    raise NotImplementedError  # nobody fetches here


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        ("books", "fetch returned 'books', not a function"),
        (_takes_one, r"fetch returned a function that does not take 2 argument\(s\)"),
        (lambda _, __: None, "fetch must return an async function"),
    ],
)
def test_hook_fetch_of_a_wrong_signature_is_refused(answer: object, complaint: str) -> None:
    with pytest.raises(HookError, match=complaint):
        bound(a=whole(fetch=lambda: answer))


def test_hook_transform_gathers_all_in_their_order() -> None:
    def named(name: str, order: int) -> Transform:
        return Transform(name, 1, lambda record: record, order)

    pipeline = bound(
        a=whole(transform=lambda: [named("last", 9), named("first", -1)]),
        b=plugin(transform=lambda stream: named(f"of_{stream.name}", 3)),
        c=plugin(transform=lambda: None),
    )

    assert [each.name for each in pipeline.transforms["books"]] == ["first", "of_books", "last"]


def test_hook_transform_of_a_wrong_signature_is_refused() -> None:
    takes_nothing: Any = lambda: None  # noqa: E731  # mypy, too, would refuse it
    with pytest.raises(HookError, match=r"books-eu\.books: transform t of plugin a"):
        bound(a=whole(transform=lambda: Transform("t", 1, takes_nothing)))


def test_hook_write_may_be_left_out() -> None:
    assert bound(a=whole()).writes == {}


def test_hook_write_is_bound_by_its_stream() -> None:
    def write(_: Any, rows: Sequence[Any]) -> Written:
        return Written(inserted=len(rows))

    assert bound(a=whole(), b=plugin(write=lambda: write)).writes == {"books": Writer(write)}
    declared = Writer(write, effects=("books.lend",))
    pipeline = bound(a=whole(), b=plugin(write=lambda: declared))
    assert pipeline.writes == {"books": declared}
    assert pipeline.kinds() == pipeline.kinds(["books"]) == {"books.lend"}


def test_hook_write_that_two_claim_is_refused() -> None:
    def write(_: Any, __: Sequence[Any]) -> Written:
        return Written()

    with pytest.raises(HookError, match="write is answered by a and b"):
        bound(a=whole(write=lambda: write), b=plugin(write=lambda: write))


# A feed that is derived from the books, and one that is derived from that.
SHELVES = Feed("shelves", (Stream("shelves", Nothing),), quota="all", derived=True)
ROOMS = Feed("rooms", (Stream("rooms", Nothing),), quota="all", derived=True)
LIBRARY = attrs.evolve(BOOKS, feeds=(FEED, SHELVES, ROOMS))
DERIVED = {
    "shelves": Derivation("SELECT FROM {books}", reads=("books",)),
    "rooms": Derivation("SELECT FROM {shelves}", reads=("shelves",)),
}


def derived(feed: Feed = SHELVES, **others: object) -> Pipeline:
    """Bind a derived feed; `others` are answers in place of the right ones."""
    answers = DERIVED | others
    plugins = Plugins({"a": plugin(derive=lambda stream: answers[stream.name])})
    return plugins.pipeline(Instance("books-eu", LIBRARY, Nothing(), ()), feed)


def test_hook_derive_is_bound_and_no_other_hook_is_asked() -> None:
    assert derived().derivation is DERIVED["shelves"]
    assert derived(ROOMS).plugin == "a"


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (None, r"books-eu\.shelves: no plugin answers derive"),
        ("SELECT 1", r"books-eu\.shelves: derive of plugin a: answered with str"),
        (Derivation("SELECT 1", reads=("films",)), "reads 'films', .*from books, shelves, rooms"),
        (Derivation("SELECT FROM {books}", reads=()), r"names \{books\}, and does not say"),
        (Derivation("SELECT '{}'", reads=()), "a brace of its own is doubled"),
        (Derivation("SELECT '{books'", reads=("books",)), "its select: "),
        (Derivation("SELECT 1", (), {"account": "x"}), "'account' is given by the core"),
        (Derivation("SELECT FROM {rooms}", reads=("rooms",)), "'shelves' is made of itself"),
    ],
)
def test_hook_derive_that_cannot_be_bound_is_refused(answer: object, complaint: str) -> None:
    with pytest.raises(HookError, match=complaint):
        derived(shelves=answer)


@pytest.mark.parametrize(
    ("declared", "complaint"),
    [
        ({"incremental": True}, "incremental: means nothing"),
        ({"paging": "numbered"}, 'paging = "numbered": means nothing'),
        ({"streams": (Stream("shelves", Nothing, version="n"),)}, "version: means nothing"),
        ({"streams": (Stream("shelves", Nothing, on_absent="mark"),)}, "on_absent: means nothing"),
        ({"streams": (Stream("a", Nothing), Stream("b", Nothing))}, "this one has 2"),
    ],
)
def test_hook_derive_is_not_asked_about_a_feed_that_says_how_it_is_fetched(
    declared: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(HookError, match=complaint):
        derived(attrs.evolve(SHELVES, **declared))


async def test_hook_lifespan_gives_the_session() -> None:
    @asynccontextmanager
    async def opened() -> Any:
        yield "session"

    plugins = Plugins({"a": whole(lifespan=lambda instance: opened() if instance else None)})
    lifespan = plugins.lifespan(INSTANCE)

    assert lifespan is not None
    async with lifespan as session:
        assert session == "session"
    assert Plugins({"a": whole()}).lifespan(INSTANCE) is None


async def test_hook_check_gives_the_question() -> None:
    async def ask(_: Context[Nothing, None]) -> str:
        return "the key is accepted"

    assert Plugins({"a": whole(check=lambda: ask)}).check(INSTANCE) is ask
    assert Plugins({"a": whole()}).check(INSTANCE) is None


async def test_hook_refresh_gives_what_renews_a_credential() -> None:
    async def renew(_: Context[Nothing, None], old: Credential) -> Credential:
        return old

    assert Plugins({"a": whole(refresh=lambda: renew)}).refresh(INSTANCE) is renew
    assert Plugins({"a": whole()}).refresh(INSTANCE) is None


def test_hook_refresh_of_a_wrong_signature_is_refused() -> None:
    with pytest.raises(HookError, match=r"refresh returned a function that does not take 2"):
        Plugins({"a": whole(refresh=lambda: _takes_one)}).refresh(INSTANCE)


async def test_hook_deliver_gives_what_delivers_a_kind() -> None:
    kind = EffectKind("a.parcel", "all")

    async def send(_: Context[Nothing, None], __: Sequence[Queued]) -> Mapping[int, Outcome]:
        return {}

    assert Plugins({"a": whole(deliver=lambda: send)}).deliver(INSTANCE, kind) is send
    with pytest.raises(HookError, match="no plugin answers deliver"):
        Plugins({"a": whole()}).deliver(INSTANCE, kind)
    with pytest.raises(HookError, match="deliver returned a function that does not take 2"):
        Plugins({"a": whole(deliver=lambda: _takes_one)}).deliver(INSTANCE, kind)


# --- Mistakes of an author ------------------------------------------------------------------------


def _heard(_: Nothing, __: RouteRequest) -> RouteAnswer:
    raise NotImplementedError  # nobody asks here


async def _awaited(_: Nothing, __: RouteRequest) -> RouteAnswer:
    raise NotImplementedError  # nobody asks here


def test_hook_routes_gives_what_is_served() -> None:
    route = Route("POST", "/webhook", _heard)

    assert Plugins({"a": whole(routes=lambda: [route])}).routes(INSTANCE) == (route,)
    assert Plugins({"a": whole()}).routes(INSTANCE) == ()


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (Route("POST", "/webhook", _heard), "wanted a sequence of routes"),
        ([_heard], "wanted a sequence of routes"),
        ([Route("post", "/webhook", _heard)], "the method 'post' is none of"),
        ([Route("POST", "webhook", _heard)], "the path 'webhook' is none such as /webhook"),
        ([Route("POST", "/a/", _heard)], "the path '/a/' is none such as /webhook"),
        ([Route("POST", "/a/../b", _heard)], "the path '/a/../b' is none such as /webhook"),
        ([Route("POST", "/webhook", _heard)] * 2, "POST /webhook is there twice"),
        (
            [Route("POST", "/webhook", cast("Any", _awaited))],
            "handler must return a plain function",
        ),
        ([Route("POST", "/webhook", cast("Any", lambda _: None))], "does not take 2 argument"),
    ],
)
def test_hook_routes_that_cannot_be_served_are_refused(answer: object, complaint: str) -> None:
    with pytest.raises(HookError, match=re.escape(complaint)):
        Plugins({"a": whole(routes=lambda: answer)}).routes(INSTANCE)


def test_a_misspelt_hook_is_refused() -> None:
    with pytest.raises(HookError, match=r"plugin a: .*'fech'"):
        Plugins({"a": plugin(fech=lambda: None)})


def test_a_hook_that_asks_for_what_it_is_not_given_is_refused() -> None:
    with pytest.raises(HookError, match=r"(?s)plugin a: .*cursor"):
        Plugins({"a": plugin(fetch=lambda cursor: cursor)})


# --- Plugins that are installed -------------------------------------------------------------------


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution that offers a plugin named `stranger`; the folder where its module is."""
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[syncd.plugins]\nstranger = stranger_of_syncd\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "stranger_of_syncd", raising=False)
    return tmp_path / "stranger_of_syncd.py"


def test_a_plugin_that_is_not_enabled_is_found_and_not_imported(installed: Path) -> None:
    installed.write_text("raise RuntimeError('imported')\n")

    plugins = Plugins.load(["cars"])

    assert ("stranger", "stranger") in [(each.name, each.distribution) for each in found()]
    assert "cars" in plugins.connectors
    assert "stranger_of_syncd" not in sys.modules


def test_an_enabled_plugin_that_cannot_be_imported_is_named(installed: Path) -> None:
    installed.write_text("raise RuntimeError('no such luck')\n")

    with pytest.raises(HookError, match=r"plugin stranger \(stranger\): .*no such luck"):
        Plugins.load(["stranger"])


def test_an_enabled_plugin_of_a_stranger_announces_its_connectors(installed: Path) -> None:
    installed.write_text(
        "import syncd\n"
        "upstream = lambda settings, account: syncd.Upstream('http://localhost', ())\n"
        "@syncd.hookimpl\n"
        "def connectors():\n"
        "    return [syncd.Connector('strange', '1', object, (), upstream)]\n"
    )

    assert list(Plugins.load(["stranger"]).connectors) == ["strange"]


def test_bundled_plugins_are_found_as_any_other() -> None:
    assert ("cars", "syncd") in [(each.name, each.distribution) for each in found()]
