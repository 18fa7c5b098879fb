"""How many steps fit into a time limit: `pretrain.minutes` becomes `train.steps` before the first step.

Learning rates depend on the number of steps, so it must be known from the start. A few steps of each phase are run on
weights that are thrown away; this also compiles the programs. `steps.json` keeps the number: a run that is resumed, or
made again with `train.steps` set to it, has the same steps. If the batch does not fit into memory, half of it is tried.
"""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Callable

import jax
import ml_collections
import numpy as np

from infoprompt_jax import checksums
from infoprompt_jax.data.batches import WINDOW, prefetched
from infoprompt_jax.pretraining.mixture import Mixture
from infoprompt_jax.pretraining.step import State, initial, make_optimizer, step, t5_config

TRIAL = 1000  # steps of the trial's schedule
TIMED = 3  # windows of each phase that are timed, after one that compiles the programs
SAFETY = 0.96  # share of the time that the steps are planned to take

MakeMixture = Callable[[ml_collections.ConfigDict], Mixture]
log = logging.getLogger(__name__)


def planned(
    config: ml_collections.ConfigDict,
    path: pathlib.Path,
    mixture: MakeMixture,
    started: float,
    reserve: Callable[[], float],
) -> ml_collections.ConfigDict:
    """The config with the number of steps, and the batch size, that fit; unchanged where there is no time limit.

    Args:
      path: the workdir, which keeps the plan.
      mixture: makes the batches of a config.
      started: `time.monotonic()` at the start of the job, from which on the limit counts.
      reserve: the seconds that everything but the steps takes.
    """
    if not config.pretrain.minutes:
        return config
    config, plan = config.copy_and_resolve_references(), path / "steps.json"
    if plan.exists():
        config.train.update(checksums.read_json(plan, "delete it to have the steps planned again"))
        return config
    config.train.steps = TRIAL
    seconds = _fitting(config, mixture)
    apart = reserve()  # takes time itself
    left = 60 * config.pretrain.minutes - (time.monotonic() - started) - apart
    config.train.steps = max(1, int(SAFETY * left / seconds))
    log.info("%d steps of %.1f ms fit into the %.0f seconds that are left.", config.train.steps, 1e3 * seconds, left)
    checksums.write_json(plan, {"steps": config.train.steps, "batch_size": config.train.batch_size})
    return config


def _fitting(config: ml_collections.ConfigDict, mixture: MakeMixture) -> float:
    """Seconds a step; `config.train.batch_size` is halved until it fits into memory."""
    while True:
        try:
            return seconds_a_step(config, mixture(config))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error) or config.train.batch_size < 2:
                raise
            config.train.batch_size //= 2
            log.warning("Out of memory: the batch is now %d rows.", config.train.batch_size)


def seconds_a_step(config: ml_collections.ConfigDict, data: Mixture) -> float:
    """Seconds a step, the mean over both phases by their share; loading is included and compilation is not.

    A window of batches has all lengths. The median of some windows leaves out one that still compiles.
    """
    graph, params = initial(t5_config(config), config.seed)
    optimizer = make_optimizer(config.train.weight_decay, config.train.clip_norm)
    state: State = {"params": params, "optimizer": optimizer.init(params)}
    shares = {0: config.pretrain.denoising_phase, data.first: 1 - config.pretrain.denoising_phase}
    seconds = 0.0
    for start, share in shares.items():
        batches = prefetched(data.batch, start, start + (1 + TIMED) * WINDOW, max(1, config.data.threads))
        times = [time.monotonic()]
        for number, batch in enumerate(batches, 1):
            state, _ = step(graph, optimizer, state, batch, np.float32(0))
            if number % WINDOW == 0:
                jax.block_until_ready(state)
                times.append(time.monotonic())
        seconds += share * float(np.median(np.diff(times)[1:])) / WINDOW
    return seconds
