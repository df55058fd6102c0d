"""Before motion: a first observation, and chunks that nobody uses, with the robot still."""

from dipole.deploy.inference.base import Inference
from dipole.deploy.loop.clock import Clock, RealClock
from dipole.deploy.loop.config import ResolvedLoopConfig
from dipole.deploy.loop.receding_horizon import RecedingHorizon, slow_inference
from dipole.deploy.loop.states import StateError
from dipole.deploy.observations.buffer import ObservationBuffer
from dipole.deploy.observations.channel_buffer import FROM_THE_FUTURE
from dipole.deploy.safety.supervisor import Supervisor
from dipole.deploy.types import Arrays

LONGEST_SECONDS = 5.0  # for a first observation to come
CLOCK = (
    ". A reading's time is that of its capture on this computer's time.monotonic(): a device's own "
    "clock, such as its uptime, and time.time() have to be converted"
)


def first_observation(
    executor: RecedingHorizon, supervisor: Supervisor, clock: Clock, period: float
) -> Arrays:
    """What the policy would be shown, once every channel that it needs was read.

    period: seconds between two looks. Raises StateError where nothing usable comes.
    """
    deadline = clock.now() + LONGEST_SECONDS
    real = isinstance(clock, RealClock)
    observe = supervisor.observe_in_time if real else supervisor.observe
    while True:
        seen = executor.first_look(observe(), clock.now())
        if seen is not None:
            return seen
        if clock.now() >= deadline:
            why = _why_unusable(executor.observations, clock.now())
            raise StateError(f"no usable observation within {LONGEST_SECONDS:g} s: {why}")
        clock.sleep_until(clock.now() + period)


def _why_unusable(observations: ObservationBuffer, now: float) -> str:
    """Why there is nothing to show the policy."""
    if not observations.newest and not observations.refused:
        return "the robot gave none"
    ahead = any(reason.endswith(FROM_THE_FUTURE) for reason in observations.refused)
    # All were read and are too old, or some lie ahead: the times are another clock's.
    hint = CLOCK if ahead or observations.latest is not None else ""
    return observations.stale(now) + hint


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
