"""Before motion: a first observation, and chunks that nobody uses, with the robot still."""

from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.clock import Clock
from dipole.deploy.loop.config import ResolvedLoopConfig
from dipole.deploy.loop.receding_horizon import RecedingHorizon, slow_inference
from dipole.deploy.loop.states import StateError
from dipole.deploy.safety.supervisor import Supervisor
from dipole.deploy.types import Arrays

LONGEST_SECONDS = 5.0  # for a first observation to come


def first_observation(
    executor: RecedingHorizon, supervisor: Supervisor, clock: Clock, period: float
) -> Arrays:
    """What the policy would be shown, once every channel that it needs was read.

    period: seconds between two looks. Raises StateError where nothing usable comes.
    """
    deadline = clock.now() + LONGEST_SECONDS
    while True:
        seen = executor.first_look(supervisor.observe(), clock.now())
        if seen is not None:
            return seen
        if clock.now() >= deadline:
            problems = ", ".join(executor.observations.refused) or "the robot gave none"
            raise StateError(f"no usable observation within {LONGEST_SECONDS:g} s: {problems}")
        clock.sleep_until(clock.now() + period)


def warm_up(
    inference: Inference, executor: RecedingHorizon, seen: Arrays, config: ResolvedLoopConfig
) -> str:
    """Have chunks computed; what to say of inference that is too slow, or "".

    Raises InferenceDied.
    """
    calls = config.warmup_calls
    seconds = inference.warm_up(seen, calls, executor.known_for_warm_up())
    del seconds[calls : calls + 1], seconds[:1]  # the first of each kind may compile
    window = executor.window
    return slow_inference(seconds, config, window.horizon - window.n_obs_steps + 1)
