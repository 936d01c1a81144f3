"""What comes out of a plugin is an error that names it, whatever it was (P31)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from saboteur import RAISED, Strange, _keep_a_cancelled, act, stray

from syncd.border import Border, in_thread
from syncd.errors import PluginError, Throttled, Unavailable


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize("name", RAISED)
async def test_whatever_a_plugin_raises_becomes_an_error_that_names_it(name: str) -> None:
    with (
        pytest.raises(PluginError, match="fetch of plugin x raised ") as caught,
        Border("where", "fetch of plugin x"),
    ):
        act(name)

    assert type(caught.value.__cause__).__name__ in str(caught.value)


def test_an_exception_that_cannot_be_shown_is_told_of_too() -> None:
    with pytest.raises(PluginError, match="Mute"), in_thread("where", "write"):
        raise Mute


async def test_a_cancelled_that_nobody_asked_for_is_the_plugins_mistake() -> None:
    await _keep_a_cancelled()

    # Both, since a test that Trio seems to cancel counts as passed.
    with pytest.raises((PluginError, trio.Cancelled)) as caught, Border("where", "fetch"):
        raise stray[-1]

    assert caught.type is PluginError
    assert "Cancelled" in str(caught.value)


async def test_what_trio_cancels_passes() -> None:
    with trio.move_on_after(0) as scope, Border("where", "fetch"):
        await trio.sleep_forever()

    assert scope.cancelled_caught


async def test_what_a_plugins_tasks_say_while_they_are_cancelled_does_not_count() -> None:
    async def complain() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError

    with trio.move_on_after(0.01) as scope, Border("where", "fetch"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(complain)
            nursery.start_soon(trio.sleep_forever)

    assert scope.cancelled_caught


@pytest.mark.parametrize(
    "made",
    [
        lambda: Unavailable("x", "gone"),
        lambda: ExceptionGroup("", [Unavailable("x", "gone")]),
        lambda: ExceptionGroup("", [ExceptionGroup("", [Unavailable("x", "gone")])]),
    ],
)
async def test_what_a_plugin_may_raise_passes_alone_and_from_its_own_nursery(
    made: Callable[[], Exception],
) -> None:
    with pytest.raises(Unavailable), Border("where", "fetch"):
        raise made()


async def test_one_stranger_in_a_group_makes_it_the_plugins_mistake() -> None:
    throttled = Throttled("x", "slower", retry_after_seconds=1)

    with pytest.raises(PluginError), Border("where", "fetch"):
        raise BaseExceptionGroup("", [throttled, Strange()])


async def test_what_our_own_code_raised_inside_is_no_plugins_mistake() -> None:
    ours = ValueError("ours")

    with pytest.raises(ValueError, match="ours"), Border("where", "lifespan", inside=ours):
        raise ours
