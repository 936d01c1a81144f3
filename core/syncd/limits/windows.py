"""Windows and buckets: what has been spent of them, and when there is room again.

Upstreams count a request when it arrives, and we know only when it left and when its answer came:
it arrived in between, and the next one arrives after it has left. So a slot that is free again a
window after its answer came cannot be used too early, whatever the jitter. But that wastes of
every window what an answer takes, most of which every answer takes, on the way there and back and
upstream: the next request, too, needs that before it can be counted. Reckoned in departures,

    a request was received no later than   left + its answer's seconds - what every answer takes,

and its slot is free again a window after that. Answers that take equally long then cost nothing,
and jitter costs what it is.

- Windows of `LONG_SECONDS` and more take as "what every answer takes" the fastest answer less the
  spread of answers: never breached, used by more than 95 % where answers are short against them.
  A request in flight holds its slot until its answer comes or it is given up.
- Shorter ones may be over before the answer can be here, and an upstream that thinks for a second
  before it answers, now longer, now shorter, would halve a pace of 1 a second. They take the whole
  fastest answer, less a share of the spread that shrinks as answers come, and no request as later
  than `LATENESS_SHARE` of the window (of a bucket: of the distance of two requests); one in flight
  as late as the spread. Jitter of up to that share does not breach; more than that is the
  upstream's to refuse, and then the lock's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

import attrs

from syncd.limits.announced import Announced
from syncd.limits.transit import Transit
from syncd.model import FixedWindow, SlidingWindow, TokenBucket, Window

LONG_SECONDS = 10.0
LATENESS_SHARE = 0.1

# Whether two requests a window apart lie within one is for the upstream to say, and clocks round.
GUARD_SECONDS = 0.001

# Resets are told in whole seconds, rounded up, and moments are measured against a Date without
# fractions: of a window of one second an answer says that it turns in two.
ROUNDING_SECONDS = 2.0


def turn_seconds(windows: Iterable[Window], said: Announced) -> float:
    """Return how long after a request left the window has turned that its answer tells of.

    Infinite where the reset that is announced is no mere rounding of a short window's length: it
    may be of another window, then, and counts as it was said.
    """
    if said.resets_in_seconds is None:
        return math.inf
    return min(
        (
            each.per_seconds
            for each in windows
            if each.unit == said.unit
            and each.per_seconds < LONG_SECONDS
            and said.limit in {None, each.most}
            and said.resets_in_seconds <= each.per_seconds + ROUNDING_SECONDS
        ),
        default=math.inf,
    )


@attrs.define(eq=False)
class Slip:
    """One request, as one window counts it."""

    left_at: float
    cost: int
    before: float = 0.0  # of a bucket: the seconds of pace spent before this request
    frees_at: float = math.inf  # of a window: when its slot is free again
    settled: bool = False  # it is known, or presumed, when it was received
    gone: bool = False  # its slot is free again


class SlidingLog:
    """What was spent of a sliding window, or of a fixed one that is kept like one."""

    def __init__(self, window: SlidingWindow | FixedWindow) -> None:
        self.declared: SlidingWindow | FixedWindow = window
        self._used = 0
        self._most: float = math.inf  # as announced
        self._sent: deque[Slip] = deque()  # in order of leaving; settled ones linger
        self._received: deque[Slip] = deque()  # in the order in which they become free
        self._resets_at = math.inf

    @property
    def most(self) -> float:
        """Return what is allowed: announcements narrow what was declared, and never widen it."""
        return min(self.declared.most, self._most)

    @property
    def lateness_seconds(self) -> float:
        """Return the most that a request is taken to have been late."""
        seconds = self.declared.per_seconds
        return math.inf if seconds >= LONG_SECONDS else seconds * LATENESS_SHARE

    @property
    def _held_seconds(self) -> float:
        return self.declared.per_seconds + min(GUARD_SECONDS, self.declared.per_seconds / 1000)

    def opens_at(self, cost: int, *, now: float, late_seconds: float) -> float:
        """Return when there is room for `cost`; before that, ask again whenever an answer came."""
        presumed_seconds = self._presumed_seconds(late_seconds)
        self._purge(now, presumed_seconds)
        missing = self._used + cost - max(self.most, cost)
        if missing <= 0:
            return -math.inf
        opens_at = self._resets_at if self._received else math.inf
        if self._sent:
            opens_at = min(opens_at, self._sent[0].left_at + presumed_seconds)
        for slip in self._received:
            missing -= slip.cost
            if missing <= 0:
                return min(opens_at, slip.frees_at)
        return opens_at

    def used(self, now: float, *, late_seconds: float) -> float:
        """Return how much of the window is spent."""
        self._purge(now, self._presumed_seconds(late_seconds))
        return self._used

    def leave(self, cost: int, *, now: float) -> Slip:
        slip = Slip(now, cost)
        self._used += cost
        self._sent.append(slip)
        return slip

    def received(self, slip: Slip, *, after_seconds: float, transit: Transit) -> None:
        """Note after how many seconds the answer came, or the request was given up."""
        if slip.settled:
            return
        slip.settled = True
        is_long = self.lateness_seconds == math.inf
        needed_seconds = transit.certain_seconds if is_long else transit.likely_seconds
        late_seconds = min(max(after_seconds - needed_seconds, 0.0), self.lateness_seconds)
        slip.frees_at = slip.left_at + late_seconds + self._held_seconds
        if self._received:  # in order, so that only the first need be looked at
            slip.frees_at = max(slip.frees_at, self._received[-1].frees_at)
        self._received.append(slip)

    def correct(self, slip: Slip, cost: int) -> None:
        """Note what a request has really cost."""
        if not slip.gone:
            self._used += cost - slip.cost
        slip.cost = cost

    def announced(self, said: Announced, *, now: float) -> None:
        """Take what an answer says of this window: a lower limit, and where it may, the reset."""
        if said.limit and said.window_seconds == self.declared.per_seconds:
            self._most = said.limit
        knows_phase = isinstance(self.declared, FixedWindow) and self.declared.phase == "announced"
        if knows_phase and said.resets_in_seconds is not None:
            self._resets_at = now + said.resets_in_seconds

    def _presumed_seconds(self, late_seconds: float) -> float:
        """Return for how long one in flight holds its slot: for ever, where that is affordable."""
        if self.lateness_seconds == math.inf:
            return math.inf
        return self._held_seconds + min(late_seconds, self.lateness_seconds)

    def _purge(self, now: float, presumed_seconds: float) -> None:
        sent, received = self._sent, self._received
        while sent and (sent[0].settled or sent[0].left_at + presumed_seconds <= now):
            slip = sent.popleft()
            if not slip.settled:
                slip.settled = slip.gone = True
                self._used -= slip.cost
        if self._resets_at <= now:  # all whose answer is here arrived before
            while received:
                self._free(received.popleft())
            self._resets_at = math.inf
        while received and received[0].frees_at <= now:
            self._free(received.popleft())

    def _free(self, slip: Slip) -> None:
        slip.gone = True
        self._used -= slip.cost


class Pace:
    """What was spent of a token bucket.

    Source: the generic cell rate algorithm (ITU-T I.371), run over the latest moments at which
    requests were received. Lateness within a burst costs nothing, without one it is a pause.
    """

    def __init__(self, bucket: TokenBucket) -> None:
        self.declared = bucket
        self._due_at = -math.inf  # the theoretical arrival time of the next request
        self._spent_seconds = 0.0  # of pace, by all requests
        self._last: Slip | None = None

    @property
    def interval_seconds(self) -> float:
        return self.declared.per_seconds / self.declared.most

    @property
    def lateness_seconds(self) -> float:
        return self.interval_seconds * LATENESS_SHARE

    def used(self, now: float, *, late_seconds: float) -> float:  # noqa: ARG002 - as of a window
        """Return how much of the burst is spent."""
        return max(self._due_at - now, 0.0) / self.interval_seconds

    def opens_at(self, cost: int, *, late_seconds: float) -> float:
        """Return when the bucket holds `cost`."""
        due_at, last = self._due_at, self._last
        if last is not None and not last.settled:
            late_seconds = min(late_seconds, self.lateness_seconds)
            due_at = max(due_at, self._due_after(last, late_seconds))
        return due_at - self.interval_seconds * (self.declared.burst - cost)

    def leave(self, cost: int, *, now: float) -> Slip:
        slip = self._last = Slip(now, cost, before=self._spent_seconds)
        self._spend(cost, now)
        return slip

    def received(self, slip: Slip, *, after_seconds: float, transit: Transit) -> None:
        """Note after how many seconds the answer came, or the request was given up."""
        slip.settled = True
        late_seconds = max(after_seconds - transit.likely_seconds, 0.0)
        late_seconds = min(late_seconds, self.lateness_seconds)
        self._due_at = max(self._due_at, self._due_after(slip, late_seconds))

    def correct(self, slip: Slip, cost: int) -> None:
        """Note what a request has really cost."""
        more_seconds = (cost - slip.cost) * self.interval_seconds
        self._due_at += more_seconds
        self._spent_seconds += more_seconds
        slip.cost = cost

    def empty(self, at: float) -> None:
        """Take away the burst that will have been saved up by then."""
        self._due_at = max(self._due_at, at + self.interval_seconds * (self.declared.burst - 1))

    def _spend(self, cost: int, now: float) -> None:
        seconds = cost * self.interval_seconds
        self._due_at = max(self._due_at, now) + seconds
        self._spent_seconds += seconds

    def _due_after(self, slip: Slip, late_seconds: float) -> float:
        return slip.left_at + late_seconds + self._spent_seconds - slip.before


Count = SlidingLog | Pace


def count_of(window: Window) -> Count:
    """Begin to count what is spent of a window."""
    return Pace(window) if isinstance(window, TokenBucket) else SlidingLog(window)
