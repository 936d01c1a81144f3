"""Asking a plugin for a page, or for slices: what it must not raise is an error that names it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from syncd.errors import PluginError, SyncdError
from syncd.http import NotModified
from syncd.model import Context, Page, Slice
from syncd.nodes import Node
from syncd.plugins import Pipeline

FETCH_TIMEOUT_SECONDS = 900.0  # with every wait for the upstream's limit in it


async def asked(pipeline: Pipeline, context: Context[Any, Any], node: Node) -> Page:
    """Call the plugin's fetch.

    Raises: `SourceError` as the plugin says; `NotModified`, which the client says; `PluginError`
    for anything else that it raises, for taking too long, and for answering with no page.
    """
    where = f"{context.partition} {node}"
    plugin = f"fetch of plugin {pipeline.plugin}"
    try:
        with trio.fail_after(FETCH_TIMEOUT_SECONDS):
            page = await pipeline.fetch(context, node.cursor)
    except (NotModified, SyncdError):
        raise
    except trio.TooSlowError as error:
        what = f"{plugin} took over {FETCH_TIMEOUT_SECONDS:.0f} s"
        raise PluginError(where, what, "mend the plugin") from error
    except Exception as error:  # a plugin's function may raise anything
        what = f"{plugin} raised {type(error).__name__}: {error}"
        raise PluginError(where, what, "mend the plugin") from error
    if not isinstance(page, Page):
        what = f"{plugin} answered with {type(page).__name__}, not a Page"
        raise PluginError(where, what, "mend the plugin")
    return page


async def asked_slices(pipeline: Pipeline, context: Context[Any, Any]) -> Sequence[Slice]:
    """Call the plugin's partitions, where it has any; without, the whole feed is one slice.

    Raises: `SyncdError` as the plugin says; `PluginError` for anything else that it raises.
    """
    if pipeline.partitions is None:
        return [Slice()]
    try:
        return await pipeline.partitions(context)
    except SyncdError:
        raise
    except Exception as error:  # a plugin's function may raise anything
        what = f"partitions of plugin {pipeline.plugin} raised {type(error).__name__}: {error}"
        raise PluginError(str(context.partition), what, "mend the plugin") from error
