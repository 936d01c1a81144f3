"""The connector for the plain pages again, whose rows have effects: each, some, or none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import plain_plugin
from plain_plugin import Plain

from syncd import (
    Connector,
    Context,
    Deliver,
    Delivered,
    Effect,
    EffectKind,
    Feed,
    Fetch,
    Instance,
    Outcome,
    Queued,
    Stream,
    Transform,
    WithEffects,
    hookimpl,
)

NOTE = EffectKind("caused.note", "pages")
LINE = EffectKind("caused.line", "pages", ordered=True)
ORDERS = 1000  # ordering keys


@attrs.frozen
class Settings(plain_plugin.Settings):
    """What `[connectors.caused]` may hold.

    `every`: of so many rows one has an effect; 0: none. `ordered`: it has an ordering key.
    """

    every: int = 0
    ordered: bool = False


STREAM = Stream("records", Plain, key=("id",), shortcut="raw")
CONNECTOR = Connector(
    name="caused",
    version="1.0.0",
    settings=Settings,
    feeds=(Feed(name="records", streams=(STREAM,), quota="pages", paging="numbered"),),
    upstream=plain_plugin.upstream,
    request_settings=("per_page",),
    effects=(NOTE, LINE),
)


@hookimpl
def connectors() -> Sequence[Connector]:
    return (CONNECTOR,)


@hookimpl
def begin() -> Any:
    return plain_plugin.first_page


@hookimpl
def fetch() -> Fetch:
    return plain_plugin.records


@hookimpl
def transform(instance: Instance[Any]) -> Transform:
    every, ordered = instance.settings.every, instance.settings.ordered
    kind = LINE if ordered else NOTE

    def unchanged(record: Plain) -> Plain:
        return record

    def caused(record: Plain) -> Any:
        if record.id // 7 % every:  # ids are 7 apart
            return record
        payload: Any = {"sku": record.sku, "price": str(record.price), "stock": record.stock}
        order = f"order {record.id // 7 % ORDERS}" if ordered else None
        return WithEffects(record, (Effect(kind.name, record.sku, payload, order),))

    if every == 0:
        return Transform("unchanged", 1, unchanged)
    return Transform("caused", 1, caused, effects=(kind.name,))


@hookimpl
def deliver(kind: EffectKind) -> Deliver | None:
    """Deliver to nobody: what is measured here is a run, beside which nothing is delivered."""

    async def delivered(_: Context[Any, Any], effects: Sequence[Queued]) -> Mapping[int, Outcome]:
        return {each.id: Delivered() for each in effects}

    return delivered if kind in {NOTE, LINE} else None
