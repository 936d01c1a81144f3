"""Sizes, names, and what is never written: read from the sources of everything that is shipped."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from sources import Source, core, shipped

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

# Names that say where a thing was put, not what it is.
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers"}

# Who may ask for the time, or for chance, by itself; everybody else is given a clock or a `Random`,
# so that a test can give another.
CLOCKS_AND_DICE = {
    "syncd.clock": "it is the clock that others are given",
    "syncd.observe": "a line of the log says when it was written",
    "syncd.daemon": "it makes the process's one `Random` and its name",
    "syncd.embedded.cluster": "it invents the password of a new cluster",
    "syncd.embedded.locks": "it waits in a thread, before there is a Trio or a database",
    "syncd.embedded.server": "the deadline of that waiting",
    "syncd.embedded.unprivileged": "the deadline of that waiting",
    "syncd.cli.screen": "it draws for a human, now",
    "syncd.cli.demonstrating": "it says how long the demo took",
    "syncd.cli.checking": "it asks what is due now, also where no database answers",
    "syncd.cli.database": "it gives its connections their `Random`",
    "syncd.cli.upstreams": "it asks upstreams where no database tells the time",
    "syncd.run": "it draws the identity of a lease",
    "syncd.credentials": "likewise",
    "syncd.lanes": "likewise, of a claim on effects",
    "syncd.watchdog": "a thread beside Trio and its clock",
}

CLOCKS = re.compile(
    r"time\.(time|monotonic|perf_counter|process_time|clock_gettime|sleep|localtime|gmtime)(_ns)?"
    r"|datetime\.datetime\.(now|utcnow|today)|datetime\.date\.today"
)
DICE = re.compile(r"random\.(?!Random\b)\w+|secrets\.\w+|uuid\.uuid[14]|os\.urandom")


def test_no_module_is_longer_than_it_can_be_read() -> None:
    lengths = {str(source.path): len(source.lines) for source in shipped()}

    assert len(lengths) > 50
    assert {path: n for path, n in lengths.items() if n > MODULE_LINES_MAX} == {}


def test_no_function_is_longer_than_a_screen() -> None:
    lengths = {
        f"{source.at(function)} {function.name}": function.end_lineno - function.lineno + 1
        for source in shipped()
        for function in source.functions()
        if function.end_lineno is not None
    }

    assert len(lengths) > 300
    assert {name: n for name, n in lengths.items() if n > FUNCTION_LINES_MAX} == {}


def test_modules_are_named_for_what_they_do() -> None:
    words = {
        str(source.path): set(re.split(r"[._]", source.module.lower())) for source in shipped()
    }

    assert {path for path, said in words.items() if said & FORBIDDEN_NAMES} == set()


def test_nothing_catches_what_must_pass() -> None:
    """Cancellation, an interrupt and an exit are nobody's to swallow."""
    bare = [
        source.at(handler)
        for source in shipped()
        for handler in source.nodes(ast.ExceptHandler)
        if handler.type is None or "BaseException" in caught(handler.type)
    ]

    assert bare == []


def test_whoever_catches_everything_says_why() -> None:
    """In the same line, or as the first thing in the block."""
    catching = [
        (source.at(handler), source.lines[handler.lineno - 1 : handler.lineno + 1])
        for source in shipped()
        for handler in source.nodes(ast.ExceptHandler)
        if handler.type is not None and "Exception" in caught(handler.type)
    ]

    assert catching
    assert [
        where
        for where, (line, first) in catching
        if not reason(line) and not first.strip().startswith("#")
    ] == []


def caught(type_: ast.expr) -> set[str]:
    """The names of the exceptions that a handler catches."""
    return {node.id for node in ast.walk(type_) if isinstance(node, ast.Name)}


def reason(line: str) -> str:
    """What a line's comment says, switched-off rules aside."""
    _, _, comment = line.partition("#")
    said = re.sub(r"noqa(: *[A-Z]+\d+(, *[A-Z]+\d+)*)?", "", comment)
    return said.strip(" #-:,")


def test_a_reason_is_more_than_a_rule_switched_off() -> None:
    assert reason("except Exception:  # noqa: BLE001  # a plugin's") == "a plugin's"
    assert reason("except Exception:  # noqa: BLE001 - foreign code") == "foreign code"
    assert reason("except Exception:  # noqa: BLE001") == ""
    assert reason("except Exception:") == ""


def test_every_shield_has_a_deadline() -> None:
    """A shielded wait without one would hold the process against its own end."""
    shields = [
        (source.at(node), bounded(node))
        for source in shipped()
        for node in source.nodes(ast.Call)
        if any(each.arg == "shield" for each in node.keywords)
    ]
    assigned = [
        source.at(node)
        for source in shipped()
        for node in source.nodes(ast.Attribute)
        if node.attr == "shield" and isinstance(node.ctx, ast.Store)
    ]

    assert shields
    assert [where for where, has_deadline in shields if not has_deadline] == []
    assert assigned == []


def bounded(call: ast.Call) -> bool:
    """Whether a cancel scope ends by itself, as it is made."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    if name in {"move_on_after", "fail_after", "move_on_at", "fail_at"}:
        return True
    return any(each.arg in {"deadline", "relative_deadline"} for each in call.keywords)


def test_time_and_chance_are_given_except_where_a_reason_stands() -> None:
    asking = {
        source.module: source.at(node)
        for source in core()
        for node, dotted in asks_for_time_or_chance(source)
    }

    assert {where for module, where in asking.items() if module not in CLOCKS_AND_DICE} == set()
    assert set(CLOCKS_AND_DICE) - set(asking) == set()  # no reason outlives its need


def asks_for_time_or_chance(source: Source) -> Iterator[tuple[ast.expr, str]]:
    for node, dotted in source.mentions():
        if CLOCKS.fullmatch(dotted) or DICE.fullmatch(dotted):
            yield node, dotted
    for call in source.nodes(ast.Call):
        if (
            isinstance(call.func, ast.Name)
            and source.imported.get(call.func.id) == "random.Random"
            and not call.args
        ):
            yield call, "random.Random"  # seeded by chance
