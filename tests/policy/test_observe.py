"""What is said: JSON lines of the closed catalogue, and never a secret."""

from __future__ import annotations

import io
import json
from typing import Literal

from syncd.events import CursorFailed, Event, PageFetched, PassSuperseded
from syncd.model import Secret
from syncd.observe import Observer, SecretMask

CANARY = "c4nary/key=="


def test_an_event_is_one_json_line_with_its_name_level_and_moment() -> None:
    stream = io.StringIO()
    observer = Observer(stream=stream)

    observer.emit(PassSuperseded("cars.cars", 3, "it is too old"))

    assert observer.flush()
    line = json.loads(stream.getvalue())
    assert (line["event"], line["level"], line["pass_number"]) == ("pass.superseded", "info", 3)
    assert line["timestamp"].endswith("+00:00")


def test_levels_below_the_configured_one_are_not_written_but_are_heard() -> None:
    stream = io.StringIO()
    heard: list[Event] = []
    observer = Observer(stream=stream, level="info")
    observer.listen(heard.append)
    event = PageFetched("p", "page 1", 1, 0, False, 0.1)

    observer.emit(event)

    assert observer.flush()
    assert stream.getvalue() == ""
    assert heard == [event]


def test_a_secret_is_redacted_whatever_carried_it() -> None:
    formats: tuple[Literal["json", "text"], ...] = ("json", "text")
    for format_ in formats:
        stream = io.StringIO()
        observer = Observer(stream=stream, format=format_, secrets=[Secret(CANARY)])

        observer.emit(CursorFailed("p", "page 1", 1, 2.0, f"refused {CANARY} at once"))

        assert observer.flush()
        assert CANARY not in stream.getvalue()
        assert "***" in stream.getvalue()


def test_a_secret_is_redacted_inside_of_json() -> None:
    redact = SecretMask([Secret('a"b\\c\n')]).text

    assert redact(json.dumps({"said": 'with a"b\\c\n in it'})) == '{"said": "with *** in it"}'


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(CANARY)

    assert CANARY not in f"{secret} {secret!r} {[secret]}"
    assert secret.reveal() == CANARY


def test_tokens_are_masked_as_they_are_and_were_lately_whoever_owns_them() -> None:
    mask = SecretMask([])
    for owner in range(300):
        for number in range(9):
            mask.keep_out(f"shop-{owner}", [Secret(f"act.{owner:03}.{number}"), Secret("short")])

    assert mask.text("a act.007.8, act.299.7 and act.007.5!") == "a ***, *** and ***!"
    assert mask.text("short act.007.0 act.007") == "short act.007.0 act.007"
    assert len(mask._heads) <= 8 * 300


def test_of_tokens_that_begin_alike_the_longest_is_masked() -> None:
    mask = SecretMask([])
    mask.keep_out("shop", [Secret("eyJhbGciOi"), Secret("eyJhbGciOi.abc"), Secret('eyJhbGci"x')])

    assert mask.text("eyJhbGciOi.abc eyJhbGciOi.a") == "*** ***.a"
    assert mask.text(json.dumps({"said": 'eyJhbGci"x'})) == '{"said": "***"}'
