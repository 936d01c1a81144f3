"""`syncd serve`: a configuration's jobs are kept, until it is read anew or the process ends."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

import attrs
import trio

from syncd import background
from syncd.admin.desk import Desk, table_of
from syncd.admin.opening import opened
from syncd.building import Outfit, outfitted
from syncd.config import Config
from syncd.daemon import Process
from syncd.errors import ConfigError, SyncdError
from syncd.events import ConfigRejected, ConfigReloaded, DaemonReady
from syncd.plugins import Plugins
from syncd.scheduler import LOOK_SECONDS, Scheduler
from syncd.waiting import cancel_at

# In a daemon a partition whose cursors must wait gives its slot back; a short wait is cheaper.
PATIENCE_SECONDS = 5.0

Reload = Callable[[], tuple[Config, Plugins]]  # raises `SyncdError` where anything is wrong


async def serve(process: Process, reload: Reload) -> None:
    """Keep all jobs until the process drains; SIGHUP reads the configuration anew.

    Raises: what opening the first configuration raises.
    """
    watching = trio.CancelScope()
    receiver = trio.open_signal_receiver(signal.SIGHUP)  # first: an early one must not end us
    with receiver as hangups:
        async with opened(process) as desk, trio.open_nursery() as generations:
            current = await generations.start(generation, process)
            desk.open = True
            process.emit(DaemonReady(len(process.config.jobs)))
            generations.start_soon(cancel_at, process.draining, watching)
            with watching:
                async for _ in hangups:
                    try:
                        current = await _renewed(process, reload, generations, current, desk)
                    except SyncdError as error:
                        process.emit(ConfigRejected(str(error)))


async def generation(
    process: Process,
    look_seconds: float = LOOK_SECONDS,
    task_status: trio.TaskStatus[Scheduler] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep the jobs of one configuration; what it opened is closed once its last run has ended."""
    async with AsyncExitStack() as stack:
        outfits: dict[str, Outfit] = {}
        for name, job in process.config.jobs.items():
            before = next((o.effective for o in outfits.values() if o.of(job.connector)), None)
            opened = outfitted(process, job, patience_seconds=PATIENCE_SECONDS, before=before)
            outfits[name] = await stack.enter_async_context(opened)
        async with background.beside(process):
            scheduler = Scheduler(process, outfits, look_seconds=look_seconds)
            task_status.started(scheduler)
            await process.supervisor.keep("scheduler", scheduler.run)


async def _renewed(
    process: Process, reload: Reload, generations: trio.Nursery, current: Scheduler, desk: Desk
) -> Scheduler:
    """Take a new configuration over, all of it or nothing.

    Raises: `SyncdError` where it has problems, or needs a process of its own.
    """
    config, plugins = reload()
    for table, was, now in (
        ("[database]", process.config.database, config.database),
        ("[daemon]", process.config.daemon, config.daemon),
        ("[log]", process.config.log, config.log),
        ("[quota]", process.config.quota, config.quota),
        ("[vault]", process.config.vault, config.vault),
        ("[admin]", process.config.admin, config.admin),
    ):
        if was != now:
            raise ConfigError(table, "it is different now", "restart syncd for that")
    renewed = attrs.evolve(process, config=config, plugins=plugins)
    served = table_of(renewed)
    scheduler: Scheduler = await generations.start(generation, renewed)
    current.retire()
    desk.take_over(served)
    process.emit(ConfigReloaded(len(config.jobs)))
    return scheduler
