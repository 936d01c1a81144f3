"""The life of one seed's world: troubles, then fair weather, then the laws are looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from random import Random

import attrs
import trio
from bookkeeper import Bookkeeper
from daemons import LATENCY_SECONDS, Daemon, Means
from laws import broken
from plan import DRAWN, Family, Plan, Trouble
from postman import Postman
from scenes import WINDOW_SECONDS, Scene, scenes_of
from stand_ins.mail import Mail
from stand_ins.provider import Provider
from stand_ins.shop import PARCEL, Shop
from stand_ins.tracked import Tracked
from transport import Asked, Network, Told, Weather
from world import World, reset, simulated

from syncd.batching import LINGER_SECONDS
from syncd.delivering import CLAIM_MARGIN_SECONDS
from syncd.events import (
    EffectDead,
    EffectRetried,
    Event,
    LeaseLost,
    RoundFinished,
    RouteReceived,
    RunFinished,
    RunStarted,
)
from syncd.plugins import Plugins

Hear = Callable[[float, int, Event], None]  # when, which daemon, what

END_WITHIN_SECONDS = 7200.0  # of virtual time: backoffs are capped at an hour
DRAIN_SECONDS = 600.0  # nothing is left to do by then
CLAIM_SECONDS = 1.25 * (PARCEL.deadline_seconds + CLAIM_MARGIN_SECONDS)
ASKED_MAX = 6  # rounds after the weather cleared, until one is complete


@attrs.frozen
class Lived:
    """What became of a seed's world."""

    seed: int
    digest: str
    broken: tuple[str, ...]  # laws, each with what was found
    met: Counter[str]  # kinds of trouble
    pages: int
    transactions: int
    seconds: float  # of virtual time


# What must be met often enough for a run of seeds to have tried anything.
TRIED = (
    "429",
    "crash",
    "lease loss",
    "drain",
    "configuration change",
    "effect retried",
    "effect dead",
    "effect sent by two",
)


def summary(worlds: Iterable[Lived]) -> tuple[Counter[str], str]:
    """Count how many worlds met each kind of trouble; and say so."""
    lives = list(worlds)
    met = Counter(kind for each in lives for kind, times in each.met.items() if times)
    kinds = sorted(met.keys() | set(TRIED), key=lambda kind: (kind not in TRIED, -met[kind], kind))
    said = ", ".join(f"{kind} {met[kind]}" for kind in kinds)
    number = len(lives)
    means = (
        f"{sum(each.pages for each in lives) / number:.0f} pages (at most "
        f"{max(each.pages for each in lives)}), "
        f"{sum(each.transactions for each in lives) / number:.0f} transactions (at most "
        f"{max(each.transactions for each in lives)})"
    )
    return met, f"{number} seeds met: {said}\nthe mean of a seed: {means}"


def live(seed: int, dsn: str, *, family: Family = "any", hear: Hear | None = None) -> Lived:
    """Let a seed's world live, in a database that is equipped for simulations."""
    return lived(DRAWN[family](seed), dsn, hear=hear)[1]


def lived(plan: Plan, dsn: str, *, hear: Hear | None = None) -> tuple[Life, Lived]:
    """Let a plan's world live; `hear` is called with each thing that is told."""
    reset(dsn)
    life = Life(plan, dsn)
    if hear is not None:
        life.world.listeners.append(hear)
    told: Lived = simulated(life.live, seed=plan.seed)
    return life, told


class Life:
    """One world while it lives."""

    def __init__(self, plan: Plan, dsn: str) -> None:
        self.plan = plan
        self.scenes = scenes_of(plan)
        self.scene = self.scenes[0]
        self.postman = _postman_of(self.scenes, plan)
        self.bookkeeper = Bookkeeper(self.postman.mail, plan) if self.postman else None
        self._random = Random(f"life {plan.seed}")
        self._met: Counter[str] = Counter()
        self.accounts = dict(self.scene.accounts)
        self.concurrency = plan.concurrency
        self.overlap = "skip"
        weather = Weather(latency_seconds=plan.latency_seconds, chance=plan.weather_chance)
        self.networks = {
            host: Network(
                scene.upstream,
                weather=weather,
                random=Random(f"network of {name} {plan.seed}"),
                lock=partial(_lock, scene),
            )
            for scene in self.scenes
            for host, name in ((scene.host, scene.name), *((host, host) for host in scene.hosts))
        }
        self.world = World(
            dsn=dsn,
            seed=plan.seed,
            plugins={scene.name: scene.plugin for scene in self.scenes},
            networks=self.networks,
            configure=self._configuration,
            means=self._means,
            # Until what the one before it has spent of the limits is forgotten.
            restart_seconds=WINDOW_SECONDS + 2 * plan.latency_seconds,
        )
        self.cleared_at = 0.0
        self.ended = False
        self.last: dict[str, RoundFinished] = {}  # by job

    def _configuration(self) -> str:
        return "\n".join(self._table(scene) for scene in self.scenes)

    def _table(self, scene: Scene) -> str:
        accounts = list(self.accounts) if scene is self.scene else []
        streams = '", "'.join((scene.stream, *scene.also))
        return (
            f"{scene.tables(accounts)}\n[jobs.{scene.name}]\n"
            f'connector = "{scene.name}"\nstreams = ["{streams}"]\nmode = "{scene.mode}"\n'
            f'every = "{self.plan.every_seconds:.0f}s"\noverlap = "{self.overlap}"\n'
            f"concurrency = {self.concurrency}\n"
        )

    def _means(self, world: World, plugins: Plugins) -> Means:
        fair = bool(self.cleared_at)
        return Means(
            dsn=world.dsn,
            plugins=plugins,
            wire=world.wire,
            tell=world.tell,
            look_seconds=self.plan.look_seconds,
            lease_seconds=self.plan.lease_seconds,
            chance=0.0 if fair else self.plan.store_chance,
        )

    def service_seconds(self, pages: int) -> float:
        """Return how long an account of so many pages may take by itself, in fair weather."""
        transaction = 1.5 * LATENCY_SECONDS
        turn = self.concurrency / self.scene.per_second
        page = 1.2 * self.plan.latency_seconds + LINGER_SECONDS + 6 * transaction + turn
        return pages * page + 20 * transaction

    async def live(self) -> Lived:
        plan, world = self.plan, self.world
        async with trio.open_nursery() as slots:
            for slot in range(plan.daemons):
                dies_at = plan.dies_at if slot == 0 else None
                after = self._random.uniform(0.0, 1.0) if slot else 0.0
                slots.start_soon(partial(world.keep, slot, dies_at=dies_at, after_seconds=after))
            for trouble in plan.troubles:
                slots.start_soon(self._befall, trouble)
            if self.postman is not None:
                slots.start_soon(self.postman.carry, world)
            if self.bookkeeper is not None:
                slots.start_soon(self.bookkeeper.keep, world)
            await trio.sleep_until(plan.heal_at)
            self.cleared_at = trio.current_time()
            world.clear()
            if self.postman is not None:
                self.postman.calm()
            if self.bookkeeper is not None:
                self.bookkeeper.calm()
            for scene in self.scenes:
                scene.upstream.change(self._random)
            await world.until_ready(plan.daemons)
            if self.bookkeeper is not None:
                await self.bookkeeper.all_resumed(world)
            async with trio.open_nursery() as jobs:
                for scene in self.scenes:
                    jobs.start_soon(self._complete, scene.name)
            await self._settle()
            world.end()
            slots.cancel_scope.deadline = trio.current_time() + DRAIN_SECONDS
        self.ended = not slots.cancel_scope.cancelled_caught
        return self._lived()

    async def _settle(self) -> None:
        """Wait until nothing is left to do; what a chain's parcels do last, only webhooks tell."""
        world, chained = self.world, self.postman is not None
        if chained and not self.plan.calm:
            await self._rest()  # claims of the dead run out in minutes: rounds are not looked at
        with trio.move_on_after(END_WITHIN_SECONDS):
            await world.all_delivered()
        if chained:
            world.wake("ship24")
            await self._complete("ship24")  # with what was registered since the last round
        await self._rest()
        if self.postman is not None:
            await self.postman.close(world)

    async def _rest(self) -> None:
        with trio.move_on_after(END_WITHIN_SECONDS):
            await self.world.rest()

    async def _complete(self, job: str) -> None:
        """Ask for rounds of a job until one that began in fair weather has ended complete."""
        for _ in range(ASKED_MAX):
            self.world.ask(job)
            ended = await self.world.round_after(job, within_seconds=END_WITHIN_SECONDS)
            if ended is None:
                return
            began_at = trio.current_time() - ended.duration_seconds
            if ended.status == "complete" and began_at > self.cleared_at and self._is_new(ended):
                self.last[job] = ended
                return

    def _is_new(self, ended: RoundFinished) -> bool:
        """Say whether a round went on with no pass of before: mail came while that stood still.

        A run's end is its partition's word in a round that began meanwhile, too.
        """
        if self.postman is None:
            return True
        since = trio.current_time() - ended.duration_seconds
        finished = self.world.told(RunFinished)
        runs = {event.run_id for at, _, event in finished if at >= since}
        started = [each for each in self.world.told(RunStarted) if each[2].job == ended.job]
        mine = [(at, event) for at, _, event in started if event.run_id in runs]
        return all(at >= self.cleared_at and not event.resumed for at, event in mine)

    @property
    def shop(self) -> Shop | None:
        """Return the upstream whose rows have effects, where the world has it."""
        found = (scene.upstream for scene in self.scenes)
        return next((each for each in found if isinstance(each, Shop)), None)

    @property
    def provider(self) -> Provider | None:
        """Return who takes effects, where rows of the world have some."""
        return next((scene.provider for scene in self.scenes if scene.provider), None)

    def _lived(self) -> Lived:
        world = self.world
        if self.postman is not None:
            self._met += self.postman.met + self.postman.mail.met
            repeated = [event for _, _, event in world.told(RouteReceived) if event.repeated]
            self._met["webhook again"] += len(repeated)
        if self.bookkeeper is not None:
            self._met += self.bookkeeper.met
        self._met["effect retried"] += len(world.told(EffectRetried))
        self._met["effect dead"] += len(world.told(EffectDead))
        if self.provider is not None:
            self._met += self.provider.met
            self._met["effect sent by two"] += self.provider.sent_by_two
        self._met["lease loss"] += len(world.told(LeaseLost))
        for outcome in ("dies before", "dies after"):
            self._met["crash"] += world.met[outcome]
        for network in self.networks.values():
            for befalling, times in network.met.items():
                self._met["429" if befalling.startswith("429") else befalling] += times
        pages = world.rows("SELECT count(*) AS pages FROM simulated.closed")[0]["pages"]
        return Lived(
            seed=self.plan.seed,
            digest=world.digest,
            broken=tuple(broken(self)),
            met=self._met,
            pages=pages,
            transactions=world.transactions,
            seconds=trio.current_time(),
        )

    # --- Troubles ---------------------------------------------------------------------------------

    async def _befall(self, trouble: Trouble) -> None:
        await trio.sleep_until(trouble.at)
        if trouble.kind == "crash" and self.postman is not None:
            await self.postman.meets(trouble.slot)
        daemon = self.world.daemons.get(trouble.slot)
        if daemon is None or not daemon.is_ready:
            return
        now, lease = trio.current_time(), self.plan.lease_seconds
        match trouble.kind:
            case "crash":
                self._met["crash"] += 1
                daemon.kill()
            case "drain":
                self._met["drain"] += 1
                daemon.drain("a signal")
            case "lease":
                daemon.stop_keeper(now + 2 * lease)
            case "outage":
                self._met["outage"] += 1
                # Claims of effects outlive their calls by half a minute, and are to run out, too.
                daemon.stop_store(now + (CLAIM_SECONDS if self.shop else 2 * lease))
            case "configuration":
                await self._reconfigure(daemon)

    async def _reconfigure(self, _: Daemon) -> None:
        """Change what may change: slots, what overlaps, which accounts there are."""
        what = self._random.choice(("concurrency", "overlap", "less", "back"))
        if what == "concurrency":
            self.concurrency = self._random.randint(2, 5)
        elif what == "overlap":
            self.overlap = "queue"
        elif what == "less" and len(self.accounts) > 1:
            del self.accounts[self._random.choice(sorted(self.accounts))]
            await self.world.reconfigure()
            await trio.sleep(5.0)
            self.accounts = dict(self.scene.accounts)
        if await self.world.reconfigure():
            self._met["configuration change"] += 1


def _postman_of(scenes: Iterable[Scene], plan: Plan) -> Postman | None:
    """Return who tells the daemons of parcels, where there are some."""
    upstreams = [scene.upstream for scene in scenes]
    mail = next((each for each in upstreams if isinstance(each, Mail)), None)
    tracked = next((each for each in upstreams if isinstance(each, Tracked)), None)
    return Postman(mail, tracked, plan) if mail and tracked else None


def _lock(scene: Scene, asked: Asked, seconds: float) -> Told:
    """Lock a key because something on the way to its upstream asked for a wait."""
    return scene.judge_of(asked).lock(asked.at, asked.at + seconds)
