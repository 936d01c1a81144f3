"""The catalogue of events: closed, documented, and described by a schema that log lines keep."""

from __future__ import annotations

import ast
import io
import itertools
import json
import re
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import attrs
import jsonschema  # type: ignore[import-untyped]
import pytest
from sources import ROOT, core, shipped

from syncd.event_schema import generate
from syncd.events import Event, Level, catalogue
from syncd.observe import Observer

COMMITTED = ROOT / "schemas/syncd_schemas/events.schema.json"
NAMES = sorted(catalogue())

SAMPLES: dict[Any, list[Any]] = {
    bool: [True, False],
    int: [0, 190_000],
    float: [0.0, 1.5, 3],
    str: ["", 'a "quoted" line\nand ümlauts'],
    NoneType: [None],
}


def samples(annotation: Any) -> list[Any]:
    """Values that a field of this type may have."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    members = get_args(annotation) or (annotation,)
    return [value for member in members for value in SAMPLES[member]]


def instances(kind: type[Event]) -> list[Event]:
    """Events of a class that together show every sample of every field."""
    types = get_type_hints(kind)
    fields = {field.name: samples(types[field.name]) for field in attrs.fields(kind)}
    longest = max(len(values) for values in fields.values())
    return [
        kind(**{name: values[i % len(values)] for name, values in fields.items()})
        for i in range(longest)
    ]


def logged(*events: Event) -> list[dict[str, Any]]:
    """The lines that the log makes of events."""
    stream = io.StringIO()
    observer = Observer(stream=stream, level="debug")
    for event in events:
        observer.emit(event)
    assert observer.flush()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture(scope="module")
def validator() -> jsonschema.protocols.Validator:
    schema = json.loads(COMMITTED.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


# --- The catalogue --------------------------------------------------------------------------------


def test_every_event_has_a_name_of_its_own_and_a_level() -> None:
    # attrs makes a class with slots in place of the one that was written, which goes with the next
    # collection.
    kinds = [kind for kind in Event.__subclasses__() if "__attrs_attrs__" in vars(kind)]

    assert len({kind.name for kind in kinds}) == len(kinds) > 15
    assert [kind.name for kind in kinds if not re.fullmatch(r"[a-z]+\.[a-z]+", kind.name)] == []
    assert [kind.name for kind in kinds if kind.level not in get_args(Level)] == []


def test_every_event_says_what_happened() -> None:
    assert [name for name, kind in catalogue().items() if not kind.__dict__.get("__doc__")] == []


def test_no_field_hides_what_the_log_adds_to_a_line() -> None:
    added = {"event", "level", "timestamp"}

    assert [
        name for name, kind in catalogue().items() if added & set(attrs.fields_dict(kind))
    ] == []


def test_events_are_declared_in_the_catalogue_only() -> None:
    declared = {
        source.module
        for source in shipped()
        for node in source.nodes(ast.ClassDef)
        for base in node.bases
        if ast.unparse(base).rpartition(".")[2] == "Event"
        and source.imported.get("Event") == "syncd.events.event.Event"
    }

    topics = ("credentials", "database", "effects", "jobs", "pages", "process", "routes", "runs")
    assert declared == {f"syncd.events.{topic}" for topic in topics}


def test_no_event_is_named_that_is_not_in_the_catalogue() -> None:
    nouns = "|".join({name.partition(".")[0] for name in NAMES})
    like_an_event = re.compile(rf"({nouns})\.[a-z]+(ed|ing|lost|unknown|progress)")
    named = {
        node.value: source.at(node)
        for source in shipped()
        for node in source.nodes(ast.Constant)
        if isinstance(node.value, str) and like_an_event.fullmatch(node.value)
    }

    assert set(named) & set(NAMES)
    assert {name: where for name, where in named.items() if name not in NAMES} == {}


def test_every_event_of_the_catalogue_happens_somewhere() -> None:
    mentioned = {
        dotted
        for source in core()
        if source.module != "syncd.events"
        for call in source.nodes(ast.Call)
        if isinstance(call.func, ast.Name)
        and (dotted := source.imported.get(call.func.id, "")).startswith("syncd.events.")
    }

    assert [
        kind.name
        for kind in catalogue().values()
        if f"syncd.events.{kind.__name__}" not in mentioned
    ] == []


# --- The schema -----------------------------------------------------------------------------------


def test_the_committed_schema_is_what_the_classes_generate() -> None:
    """Else: `make schemas`."""
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == generate()


@pytest.mark.parametrize("name", NAMES)
def test_every_logged_event_keeps_the_schema(
    name: str, validator: jsonschema.protocols.Validator
) -> None:
    for line in logged(*instances(catalogue()[name])):
        assert line["event"] == name
        validator.validate(line)


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_refuses_a_line_that_lacks_a_field_or_has_another(
    name: str, validator: jsonschema.protocols.Validator
) -> None:
    (line,) = logged(instances(catalogue()[name])[0])
    fewer = [{k: v for k, v in line.items() if k != missing} for missing in line]
    wrong = [line | {"surprise": 1}, line | {"event": "nothing.happened"}, line | {"level": "loud"}]

    assert [bad for bad in itertools.chain(fewer, wrong) if validator.is_valid(bad)] == []


def test_a_field_that_a_line_cannot_carry_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @attrs.frozen
    class Bad:
        """Something happened that no line can carry."""

        name = "run.bad"
        level = "info"
        seen: set[str]

    monkeypatch.setattr("syncd.event_schema.catalogue", lambda: {"run.bad": Bad})
    with pytest.raises(TypeError, match="set"):
        generate()
