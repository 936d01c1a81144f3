"""What is shown of a run: events in, rows and lines out; and how errors end the program."""

from __future__ import annotations

import io
from collections.abc import Iterable
from random import Random
from typing import Any

import attrs
import pytest
from rich.console import Console

from syncd import errors, events
from syncd.cli import columns, ending, findings, psql, summary, wording
from syncd.cli.board import Board, Row, by_job, folded, progress_of, shown
from syncd.cli.drawing import HEADINGS, cells, drawn
from syncd.cli.loading import secrets_of
from syncd.cli.screen import PAUSE_SECONDS, Presentation, Screen, presentation
from syncd.cli.summary import JobEnd
from syncd.config import Log, parse, structure
from syncd.daemon import Stopped
from syncd.errors import InvalidConfig, Problem, SyncdError
from syncd.events import Event
from syncd.model import Partition, Slice
from syncd.observe import SecretMask
from syncd.verdicts import Result
from syncd.work import turns_of

CARS = "cars.cars"


def started(partition: str = CARS, **more: Any) -> events.RunStarted:
    fields: dict[str, Any] = {"pass_number": 3, "mode": "full", "resumed": False, "epoch": 7}
    named: dict[str, Any] = {"job": "cars", "partition": partition}
    return events.RunStarted(run_id=1, **named | fields | more)


def progressed(partition: str = CARS, **more: Any) -> events.RunProgress:
    fields: dict[str, Any] = {
        "processed": 45_000,
        "total": 190_000,
        "percent": 23.7,
        "rate": 7100.4,
        "eta_seconds": 20.4,
        "pages": 45,
        "in_flight": 4,
        "throttled_seconds": 12.0,
    }
    named: dict[str, Any] = {"job": "cars", "partition": partition}
    return events.RunProgress(run_id=1, **named | fields | more)


def finished(partition: str = CARS, **more: Any) -> events.RunFinished:
    fields: dict[str, Any] = {
        "status": "complete",
        "message": "",
        "pages": 190,
        "requests": 195,
        "retries": 5,
        "not_modified": 0,
        "records": 190_000,
        "inserted": 1000,
        "updated": 900,
        "unchanged": 188_000,
        "stale": 60,
        "quarantined": 40,
        "throttled_seconds": 12.0,
        "duration_seconds": 20.0,
    }
    return events.RunFinished(run_id=1, job="cars", partition=partition, **fields | more)


def held(holder: str = "process 7 on db-1") -> events.LeaseWaiting:
    return events.LeaseWaiting(CARS, holder, 12.0)


def after(*those: Event) -> Board:
    board = Board()
    for event in those:
        board = folded(board, event)
    return board


def picture(board: Board, *, rows_max: int = 10, width: int = 140) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(drawn(board, rows_max=rows_max))
    return capture.get()


# --- The board ------------------------------------------------------------------------------------


def test_a_row_shows_everything_that_is_known_of_a_run() -> None:
    row = after(started(), progressed()).rows[CARS]

    assert cells(row) == (
        CARS,
        "full pass 3",
        "24 %",
        "45,000 of 190,000",
        "7,100",
        "20 s",
        "4",
        "12 s",
    )
    assert len(cells(row)) == len(HEADINGS) - 1  # the bar is drawn


def test_one_of_several_partitions_says_which_it_is() -> None:
    name = "nppes.providers[Internal Medicine]"
    told = [started(name, turn=2, turns=8), progressed(name, turn=2, turns=8)]

    assert wording.told(told[0]) == f"{name} (2/8): begins full pass 3"
    assert wording.told(told[1]).startswith(f"{name} (2/8): 45,000 of 190,000 records")
    for board in (after(told[0]), after(*told), after(*told, finished(name))):
        assert cells(board.rows[name])[0] == f"{name} (2/8)"


def test_partitions_are_counted_by_feed_in_their_plugins_order() -> None:
    shops = [Partition("cars", shop, "lots") for shop in ("b", "a")]
    slices = [Partition("cars", "default", "cars", Slice(name)) for name in ("x", "y", "z")]

    assert turns_of([shops[0], *slices, shops[1]]) == {
        "cars.lots[b]": (1, 2),
        "cars.lots[a]": (2, 2),
        "cars.cars[x]": (1, 3),
        "cars.cars[y]": (2, 3),
        "cars.cars[z]": (3, 3),
    }
    assert turns_of(slices[:1]) == {}  # one of one says nothing


def test_what_nobody_knows_is_left_out() -> None:
    unknown = progressed(total=None, percent=None, eta_seconds=None, throttled_seconds=0.0)

    row = after(started(), unknown).rows[CARS]

    assert cells(row) == (CARS, "full pass 3", "", "45,000", "7,100", "", "4", "")


def test_a_finished_run_shows_its_status_and_its_own_rate() -> None:
    row = after(started(), progressed(), finished()).rows[CARS]

    assert row.ended
    assert cells(row) == (CARS, "complete", "100 %", "190,000", "9,500", "", "", "12 s")


def test_a_resumed_run_never_shows_fewer_records_than_its_pass_has() -> None:
    board = after(started(resumed=True), progressed(processed=100_000), finished(records=20_000))

    assert board.rows[CARS].processed == 100_000


def test_a_failed_run_is_not_shown_as_a_hundred_percent() -> None:
    row = after(started(), progressed(), finished(status="failed", records=45_000)).rows[CARS]

    assert row.percent == 23.7
    assert row.state == "failed"


def test_who_holds_a_partition_stands_in_its_row() -> None:
    assert after(held()).rows[CARS].state == "held by process 7 on db-1"


def test_a_drain_says_how_long_it_takes_and_how_to_stop_at_once() -> None:
    text = picture(after(started(), events.DrainStarted("SIGINT", 25.0)))

    assert "25 s at most" in text
    assert "the same signal again stops at once" in text


def test_a_job_is_shown_as_the_sum_of_its_partitions_by_name() -> None:
    board = after(
        started("a.x[1]", job="a"),
        progressed("a.x[1]", job="a", processed=30, total=100, rate=5.0, in_flight=2),
        started("a.x[2]", job="a"),
        progressed("a.x[2]", job="a", processed=10, total=50, rate=1.0, in_flight=1),
        started("b.y", job="b"),
    )

    shown_by_job = by_job(board).rows

    assert list(shown_by_job) == ["a", "b"]
    both = shown_by_job["a"]
    assert (both.processed, both.total, both.rate, both.in_flight) == (40, 150, 6.0, 3)
    assert both.state == "0 of 2 partitions"
    assert shown_by_job["b"].state.startswith("full pass")
    line = progress_of(by_job(board), progressed("a.x[2]", job="a", processed=10))
    assert wording.told(line).startswith("a: 40 of 150 records")


def test_events_that_are_not_shown_leave_the_board_as_it_is() -> None:
    board = after(started(), progressed())
    batch = events.BatchCommitted(CARS, 1, 2, 3, 4, 5, 6, 7, 8, 0.1)

    assert folded(board, batch) is board


@pytest.mark.parametrize("most", [1, 3, 8, 20])
def test_running_partitions_are_shown_before_ended_ones(most: int) -> None:
    rows = [started(f"s.{n}") for n in range(12)] + [finished(f"s.{n}") for n in range(8)]

    chosen, left_out = shown(after(*rows), most=most)

    running = [row for row in chosen if not row.ended]
    assert len(chosen) == min(most, 12)
    assert len(running) == min(most, 4)
    assert left_out == 12 - len(chosen)


def test_the_picture_has_a_line_for_each_row_and_counts_the_rest() -> None:
    board = after(*[progressed(f"s.{n}") for n in range(5)])

    text = picture(board, rows_max=3)

    assert [line for line in text.splitlines() if "45,000 of 190,000" in line][2:3]
    assert "s.3" not in text
    assert "and 2 more partitions" in text
    assert "records/s" in text


def test_an_empty_board_draws_nothing() -> None:
    assert picture(Board()).strip() == ""


# --- Words ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (0.04, "0.0 s"),
        (4.24, "4.2 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1m00s"),
        (185, "3m05s"),
        (7_620, "2h07m"),
    ],
)
def test_lengths_of_time_read_like_a_clock(length: float, text: str) -> None:
    assert wording.seconds(length) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 * 2**29, "1.5 GiB"),
        (2**50, "1024.0 TiB"),
    ],
)
def test_sizes_are_told_in_units_of_1024(size: int, text: str) -> None:
    assert wording.size(size) == text


def test_no_terminal_obeys_what_an_upstream_says() -> None:
    assert wording.visible("\x1b[2J\x9bä 日\u202e\n") == "\\x1b[2J\\x9bä 日\\u202e\\n"
    assert wording.cut("one\ntwo   three\x07", 12) == "one two t..."


def test_of_many_names_the_first_are_told_and_the_rest_is_counted() -> None:
    assert wording.listed(["a", "b"], most=2) == "a, b"
    assert wording.listed(["a", "b", "c", "d"], most=2) == "a, b and 2 more"


def test_a_progress_line_has_what_the_row_has() -> None:
    assert wording.told(progressed()) == (
        "cars.cars: 45,000 of 190,000 records (23.7 %), 7,100/s, 20 s left, 4 in flight, "
        "throttled for 12 s"
    )


def one_of(kind: type[Event]) -> Event:
    """Make an event of any class, with a value for each field."""
    values: dict[str, Any] = {"str": "text", "int": 3, "float": 1.5, "bool": True}
    return kind(**{f.name: values[str(f.type).split(" | ")[0]] for f in attrs.fields(kind)})


@pytest.mark.parametrize("kind", events.catalogue().values(), ids=lambda kind: kind.name)
def test_every_event_is_told_in_one_line(kind: type[Event]) -> None:
    line = wording.told(one_of(kind))

    assert line
    assert "\n" not in line
    assert "None" not in line


# --- How it is shown ------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", ["stderr", "stdout"])
@pytest.mark.parametrize(
    ("format_", "terminal", "wanted"),
    [
        ("auto", True, Presentation(display=True, json=False, lines="warning")),
        ("auto", False, Presentation(display=False, json=True, lines=None)),
        ("json", True, Presentation(display=False, json=True, lines=None)),
        ("json", False, Presentation(display=False, json=True, lines=None)),
        ("text", True, Presentation(display=True, json=False, lines="info")),
        ("text", False, Presentation(display=False, json=False, lines="info")),
    ],
)
def test_a_terminal_gets_the_table_and_everyone_else_one_kind_of_lines(
    format_: Any, terminal: bool, wanted: Presentation, destination: Any
) -> None:
    log = Log(destination=destination, format=format_)

    chosen = presentation(log, stderr_is_terminal=terminal, destination_is_terminal=terminal)

    assert chosen == wanted


def test_json_in_a_file_leaves_the_terminal_to_the_table() -> None:
    log = Log(destination="stdout", format="json")

    chosen = presentation(log, stderr_is_terminal=True, destination_is_terminal=False)

    assert chosen == Presentation(display=True, json=True, lines=None)


def lines_of(those: Iterable[tuple[float, Event]], how: Presentation) -> list[str]:
    """Return the lines that events at these moments leave on the stream."""
    stream, moment = io.StringIO(), [0.0]
    screen = Screen(how, stream=stream, now=lambda: moment[0], redact=SecretMask(()).text)
    with screen.showing():
        for moment[0], event in those:
            screen.listen(event)
    return stream.getvalue().splitlines()


TEXT = Presentation(display=False, json=False, lines="info")


def test_progress_lines_come_every_few_seconds_for_each_partition() -> None:
    ticks = [(float(n), progressed(name)) for n in range(11) for name in ("a.a", "b.b")]

    lines = lines_of(ticks, TEXT)

    assert len(lines) == 2 * (10 / PAUSE_SECONDS + 1)


def test_records_set_aside_are_counted_together_between_two_lines() -> None:
    def aside(count: int) -> events.RecordsQuarantined:
        return events.RecordsQuarantined(CARS, "lots", count, "key", "no number")

    lines = lines_of([(0, aside(1)), (1, aside(2)), (2, aside(3)), (6, aside(4))], TEXT)

    assert ["1 record of lots" in lines[0], "9 records of lots" in lines[1]] == [True, True]
    assert len(lines) == 2


def test_a_holder_is_named_once_until_another_takes_over() -> None:
    lines = lines_of([(0, held()), (1, held()), (2, held("process 8 on db-1"))], TEXT)

    assert len(lines) == 2


def test_below_the_level_nothing_is_said() -> None:
    how = Presentation(display=False, json=False, lines="warning")

    lines = lines_of([(0, started()), (1, events.DbUnavailable("no route"))], how)

    assert len(lines) == 1
    assert "no route" in lines[0]


def test_json_is_all_there_is_where_json_is_wanted() -> None:
    stream = io.StringIO()
    screen = Screen(Presentation(display=False, json=True, lines=None), stream=stream)

    with screen.showing():
        screen.say("hello")
        screen.listen(events.DbUnavailable("no route"))

    assert stream.getvalue() == ""


def test_lines_and_table_share_a_terminal_and_neither_shows_a_secret() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=120, height=30)
    how = Presentation(display=True, json=False, lines="warning")
    screen = Screen(how, console=console, redact=lambda text: text.replace("route", "***"))

    with screen.showing():
        screen.listen(progressed())
        screen.listen(events.DbUnavailable("no route"))
        screen.say("on my route")

    assert isinstance(console.file, io.StringIO)
    drawn_text = console.file.getvalue()
    assert "no ***" in drawn_text
    assert "on my ***" in drawn_text
    assert "45,000 of 190,000" in drawn_text


# --- Tables and sentences -------------------------------------------------------------------------


def test_a_table_aligns_numbers_to_the_right() -> None:
    text = columns.table(("name", "rows"), [("cars", 1200), ("lots", None)])

    assert text.splitlines() == ["name   rows", "cars  1,200", "lots"]


def test_a_table_too_wide_for_the_terminal_becomes_blocks() -> None:
    text = columns.table(("name", "rows"), [("cars", 1200), ("lots", 7)], width=9)

    assert text == "name  cars\nrows  1,200\n\nname  lots\nrows  7"


def test_the_runs_of_a_partition_are_added_up() -> None:
    runs = [finished(), finished(duration_seconds=5.0, retries=1)]

    tally = summary.tallied(CARS, "complete", runs)

    assert (tally.records, tally.retries, tally.seconds) == (380_000, 6, 25.0)
    assert tally.rows == 2 * 189_960
    assert tally.rows_per_second == round(2 * 189_960 / 25)


def test_the_summary_keeps_jobs_and_partitions_apart() -> None:
    ends = [JobEnd("cars", (Result(CARS, "complete", "", None), Result("x", "held", "", None)))]
    other = attrs.evolve(finished(), job="another")

    table = summary.as_json(ends, [finished(), other])["jobs"][0]["partitions"]

    assert [row["records"] for row in table] == [190_000, 0]
    assert "190,000" in summary.as_table(ends, [finished(), other])


@pytest.mark.parametrize(
    "verdict",
    ["partial", "waiting", "drained", "held", "throttled", "unavailable", "failed"],
)
def test_what_did_not_end_complete_is_said_with_what_to_do(verdict: Any) -> None:
    bare = summary.sentences(JobEnd("cars", (Result(CARS, verdict, "", None),)))
    told = summary.sentences(JobEnd("cars", (Result(CARS, verdict, "x: y; do z", None),)))

    assert bare[0].startswith(f"{CARS}: ")
    assert "; " in bare[0]
    wanted = "run it again to go on where it stopped" if verdict == "drained" else "do z"
    assert told == [f"{CARS}: x: y; {wanted}"]


def test_a_complete_partition_is_not_talked_about() -> None:
    assert summary.sentences(JobEnd("cars", (Result(CARS, "complete", "", None),))) == []


def test_an_error_before_the_first_run_is_said_and_counts() -> None:
    end = JobEnd("cars", errors=(errors.Unauthorized("GET /x", "401", "renew it"),))

    assert summary.sentences(end) == ["cars: GET /x: 401; renew it"]
    assert end.code == ending.FAILED


# --- The end --------------------------------------------------------------------------------------

CODES: list[tuple[BaseException, int]] = [
    (InvalidConfig("f.toml", [Problem("jobs.a", "x"), Problem("jobs.b", "y")]), 78),
    (errors.HookError("plugin x", "misspelt", "mend"), 78),
    (errors.IncompatibleSchema("database", "newer", "install"), 78),
    (errors.StoreRefused("database", "permission denied", "grant"), 78),
    (errors.StoreUnavailable("database", "refused", "start it"), 69),
    (errors.Unavailable("GET /x", "503", "wait"), 69),
    (errors.Throttled("GET /x", "429", "wait", retry_after_seconds=900.0), 75),
    (errors.LeaseLost("a.b", "gone", ""), 75),
    (errors.Unauthorized("GET /x", "401", "renew"), 1),
    (errors.PluginError("a.b", "raised", "mend"), 1),
    (Stopped(), 75),
    (KeyboardInterrupt(), 130),
    (ValueError("a bug"), 70),
]


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda each: type(each).__name__)
def test_an_error_ends_with_its_code_however_deep_it_is_wrapped(
    error: BaseException, code: int
) -> None:
    wrapped = BaseExceptionGroup("outer", [BaseExceptionGroup("inner", [error])])

    assert ending.ending_of(error).code == code
    assert ending.ending_of(wrapped).code == code


@pytest.mark.parametrize(("error", "code"), CODES, ids=lambda each: type(each).__name__)
def test_only_a_bug_shows_a_traceback(error: BaseException, code: int) -> None:
    text = ending.ending_of(error).text

    assert (type(error).__name__ in text) == (code == 70)
    assert ("please report it" in text) == (code == 70)


def test_all_problems_of_a_configuration_are_listed() -> None:
    text = ending.ending_of(CODES[0][0]).text

    assert text.splitlines() == ["syncd: f.toml: 2 problems", "  jobs.a: x", "  jobs.b: y"]


def test_a_bug_speaks_for_whatever_came_with_it() -> None:
    both = BaseExceptionGroup("both", [CODES[0][0], ValueError("a bug"), KeyboardInterrupt()])

    assert ending.ending_of(both).code == 70


def every_error() -> list[type[SyncdError]]:
    found, left = [], [SyncdError]
    while left:
        kind = left.pop()
        found.append(kind)
        left += kind.__subclasses__()
    return found


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_every_error_has_a_documented_exit_code(kind: type[SyncdError]) -> None:
    error = kind.__new__(kind)

    assert ending.code_of(error) in ending.MEANINGS


@pytest.mark.parametrize("seed", range(5))
def test_the_worst_code_speaks_whatever_the_order(seed: int) -> None:
    codes = [0, 3, 75, 69, 1, 78, 70]
    for most in range(1, len(codes) + 1):
        some = codes[:most]
        Random(seed).shuffle(some)

        assert ending.worst(some) == codes[most - 1]


# --- Checks, psql, secrets ------------------------------------------------------------------------


def test_findings_are_a_line_each_and_end_with_the_worst() -> None:
    those = [
        findings.Finding("database", "answers"),
        findings.Finding("table a.b", "1 statement", details=("CREATE TABLE x ()",)),
        findings.Finding("account a", "401", ending.FAILED),
    ]

    assert findings.as_text(those).splitlines() == [
        "ok      database: answers",
        "ok      table a.b: 1 statement",
        "        CREATE TABLE x ()",
        "FAILED  account a: 401",
    ]
    assert findings.exit_code(those) == ending.FAILED


def test_psql_is_started_without_a_shell() -> None:
    found = psql.program("PGPASSFILE='/a b/p' /x/psql -h /s -d syncd", ["-c", "SELECT '$(id)'"])

    assert found.environment == {"PGPASSFILE": "/a b/p"}
    assert found.words == ("/x/psql", "-h", "/s", "-d", "syncd", "-c", "SELECT '$(id)'")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cr%40t@db.example/x",
        "host=db user=me password='s3cr@t' dbname=x",
        "host=db password=s3cr@t",
    ],
)
def test_the_password_inside_the_url_is_a_secret_by_itself(url: str, tmp_path: Any) -> None:
    text = f'[database]\nurl = "{url}"\n'
    config = structure(parse(text, file="f", folder=tmp_path), {}, environment={})

    redact = SecretMask(secrets_of(config)).text

    assert "s3cr" not in redact(f"could not connect: {url}")
    assert "s3cr" not in redact("password 's3cr@t' is wrong")


def test_a_row_begins_as_nothing_but_a_name() -> None:
    assert cells(Row("a.b"))[:2] == ("a.b", "starting")
