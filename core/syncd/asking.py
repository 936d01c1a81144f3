"""Asking a plugin for a page: what it must not raise becomes an error that names it."""

from __future__ import annotations

from typing import Any

import trio

from syncd.errors import PluginError, SyncdError
from syncd.http import NotModified
from syncd.model import Context, Page
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
