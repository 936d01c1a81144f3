"""Tables: attrs classes, whose annotations say what kind each key is."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import attrs

from syncd.config.kinds import (
    DURATION,
    FLAG,
    INTEGER,
    NUMBER,
    SIZE,
    Choice,
    FilePath,
    Hidden,
    Kind,
    Many,
    Named,
    Plain,
    Text,
    WordOrHidden,
    Words,
)
from syncd.config.reading import INVALID, Invalid, Reading
from syncd.config.values import Range, Unit, dotted, nearest, shown
from syncd.errors import HookError
from syncd.model import Secret

_FACTORY: Final[Any] = attrs.Factory  # a class, which its type stub calls a function


@attrs.frozen
class Setting:
    """One key of a table: a field of its class."""

    key: str  # in the file: the field's name, without the unit of a duration or a size
    name: str  # of the field
    kind: Kind
    field: attrs.Attribute[Any]

    @property
    def required(self) -> bool:
        return self.field.default is attrs.NOTHING

    @property
    def about(self) -> str:
        """What the key means, as the field's metadata ``about`` says, and its bounds."""
        bounds = self.field.validator
        said = str(self.field.metadata.get("about", ""))
        if isinstance(bounds, Range):
            said = f"{said} ({bounds.least_text} to {bounds.most_text})".lstrip()
        return said

    @property
    def default(self) -> Any:
        """The value without the key, as TOML writes it; `None` where there is none to write."""
        value = self.field.default
        if isinstance(value, _FACTORY):
            value = None if value.takes_self else value.factory()
        return None if value in (None, (), {}) or self.required else self.kind.write(value)

    def schema(self) -> dict[str, Any]:
        schema = self.kind.schema()
        bounds = self.field.validator
        if isinstance(bounds, Range) and isinstance(self.kind, Plain):
            schema |= {"minimum": bounds.least, "maximum": bounds.most}
        if self.default is not None:
            schema["default"] = self.default
        return ({"description": self.about} if self.about else {}) | schema


@attrs.frozen
class Table:
    """A TOML table that becomes an attrs class; `also` are keys that somebody else reads."""

    cls: type[Any]
    also: tuple[str, ...] = ()

    @property
    def wanted(self) -> str:
        return "table"

    def read(self, value: Any, key: str, reading: Reading) -> Any | Invalid:
        return self.build(self.fields(value, key, reading), key, reading)

    def fields(
        self, value: Any, key: str, reading: Reading, *, named: Mapping[str, Any] | None = None
    ) -> dict[str, Any] | Invalid:
        """Read every key by itself: `INVALID` stands where one is wrong, nothing where none is.

        `named` are fields whose value stands elsewhere: the name of the table itself.
        """
        if not isinstance(value, Mapping):
            return reading.unwanted(key, value, "wanted a table")
        settings = settings_of(self.cls)
        refuse_unknown(value, [*self.also, *(s.key for s in settings)], key, reading)
        fields = dict(named or {})
        for setting in settings:
            where = f"{key}.{setting.key}"
            if setting.key in value:
                fields[setting.name] = setting.kind.read(value[setting.key], where, reading)
            elif setting.required:
                about = f": {setting.about}" if setting.about else ""
                what = f"missing, of type {setting.kind.wanted}{about}"
                fields[setting.name] = reading.problem(where, what)
        for setting in settings:
            self._validate(setting, fields, value, f"{key}.{setting.key}", reading)
        return fields

    def build(self, fields: dict[str, Any] | Invalid, key: str, reading: Reading) -> Any | Invalid:
        """Make the object, unless a field is wrong."""
        if fields is INVALID or INVALID in fields.values():
            return INVALID
        alias = {field.name: field.alias for field in attrs.fields(self.cls)}
        given = {alias[name]: value for name, value in fields.items()}
        return reading.foreign(lambda: self.cls(**given), key)

    def _validate(
        self,
        setting: Setting,
        fields: dict[str, Any],
        value: Mapping[str, Any],
        key: str,
        reading: Reading,
    ) -> None:
        """Ask a field's validator by itself, so that each field's objection is heard.

        Where it looks at a field that is not right yet, or the field has a converter, the
        constructor asks it.
        """
        validator = setting.field.validator
        if setting.key not in value or validator is None or setting.field.converter is not None:
            return
        if fields[setting.name] is INVALID:
            return
        known = {
            f.name: f.default for f in attrs.fields(self.cls) if _has_plain_default(f)
        } | fields
        siblings = types.SimpleNamespace(**{n: v for n, v in known.items() if v is not INVALID})

        def ask() -> None:
            try:
                validator(siblings, setting.field, fields[setting.name])
            except AttributeError:
                return

        found = "" if isinstance(setting.kind, Hidden) else shown(value[setting.key])
        if reading.foreign(ask, key, found=found) is INVALID:
            fields[setting.name] = INVALID

    def schema(self) -> dict[str, Any]:
        settings = settings_of(self.cls)
        required = [setting.key for setting in settings if setting.required]
        schema: dict[str, Any] = {"type": "object", "description": first_sentence(self.cls)}
        schema["properties"] = {setting.key: setting.schema() for setting in settings}
        if required:
            schema["required"] = required
        return schema | {"additionalProperties": False}

    def write(self, value: Any) -> None:  # noqa: ARG002 - its keys have defaults of their own
        return None


def refuse_unknown(
    value: Mapping[str, Any], known: Iterable[str], key: str, reading: Reading
) -> None:
    """List every key that nobody reads; its value is not shown, it may be a secret misspelt."""
    words = list(known)
    for name in value:
        if name not in words:
            near = nearest(name.removesuffix("_seconds").removesuffix("_bytes"), words)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(words) or 'none'}"
            where = f"{key}.{dotted(name)}" if key else dotted(name)
            reading.problem(where, f"unknown key ({hint})")


def first_sentence(cls: type[Any]) -> str:
    """Take what a class says of itself; a class without docstring says nothing."""
    doc = cls.__doc__ if cls.__doc__ and "__doc__" in vars(cls) else ""
    return " ".join((doc or "").strip().split("\n\n")[0].split())


def _has_plain_default(field: attrs.Attribute[Any]) -> bool:
    return field.default is not attrs.NOTHING and not isinstance(field.default, _FACTORY)


# --- From annotations ----------------------------------------------------------------------------

_BY_TYPE: Final[Mapping[Any, Kind]] = {
    str: Text(),
    int: INTEGER,
    float: NUMBER,
    bool: FLAG,
    Path: FilePath(),
    Secret: Hidden(),
}
_BY_UNIT: Final[Mapping[str, Kind]] = {"duration": DURATION, "size": SIZE}


def settings_of(cls: type[Any]) -> tuple[Setting, ...]:
    """List the keys of an attrs class; a field with metadata ``named`` is none.

    Raises: `HookError` where the class cannot be configured: a mistake of the plugin's author.
    """
    return _settings_of(cls)  # type: ignore[arg-type]  # typeshed: `type[Any]` may not be hashable


@cache  # accounts by the hundreds are read by one class
def _settings_of(cls: type[Any]) -> tuple[Setting, ...]:
    if not attrs.has(cls):
        raise _unfit(cls, "is no attrs class")
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except NameError as exc:
        raise _unfit(cls, f"has an annotation that cannot be resolved: {exc}") from exc
    fields = [f for f in attrs.fields(cls) if f.init and not f.metadata.get("named")]
    settings = tuple(_setting(cls, field, hints[field.name]) for field in fields)
    keys = [setting.key for setting in settings]
    if len(set(keys)) < len(keys):
        raise _unfit(cls, f"has two fields for one key: {', '.join(keys)}")
    return settings


def _setting(cls: type[Any], field: attrs.Attribute[Any], hint: Any) -> Setting:
    unit = unit_of(hint)
    name = field.alias or field.name
    key = name.removesuffix(unit.suffix) if unit else name
    kind = kind_of(hint)
    if kind is None:
        raise _unfit(cls, f"field {field.name!r} is a {hint}, which no key can hold")
    return Setting(key, field.name, kind, field)


def unit_of(hint: Any) -> Unit | None:
    """Find the unit of a `Duration` or `Size`, also of an optional one."""
    bare = _required(hint)
    if typing.get_origin(bare) is not typing.Annotated:
        return None
    return next((extra for extra in bare.__metadata__ if isinstance(extra, Unit)), None)


def kind_of(hint: Any) -> Kind | None:
    """Find the kind that reads an annotation; `None` where there is no such kind."""
    bare = _required(hint)
    origin, arguments = typing.get_origin(bare), typing.get_args(bare)
    unit = unit_of(bare)
    if unit is not None:
        return _BY_UNIT[unit.of]
    if origin is typing.Annotated:
        words = next((extra for extra in bare.__metadata__ if isinstance(extra, Words)), None)
        return WordOrHidden(words=words.words) if words else kind_of(arguments[0])
    if origin is typing.Literal:
        return Choice(arguments)
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        inner = kind_of(arguments[0])
        return Many(inner) if inner else None
    if origin is Mapping and arguments[0] is str:
        inner = kind_of(arguments[1])
        return Named(inner) if inner else None
    if isinstance(bare, type) and attrs.has(bare) and bare is not Secret:
        settings_of(bare)  # raises, where it cannot be configured
        return Table(bare)
    return _BY_TYPE.get(bare)


def _required(hint: Any) -> Any:
    """Take ``| None`` off: TOML has no null, so an optional key is one that may be left out."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [a for a in typing.get_args(hint) if a is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def _unfit(cls: type[Any], what: str) -> HookError:
    return HookError(
        f"settings class {cls.__module__}.{cls.__qualname__}",
        what,
        "a setting is a str, int, float, bool, Secret, Path, Duration, Size, Literal, a "
        "tuple[X, ...] of these, an attrs class of them, or one of these | None",
    )
