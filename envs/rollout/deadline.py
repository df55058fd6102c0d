"""How long a simulator may take in a worker process, and the error of one that takes longer."""

from dipole.envs.contract import START_SECONDS, STEP_SECONDS
from dipole.envs.errors import RolloutError


def step_seconds(timeout: float | None) -> float:
    """Of a step. timeout: The task's `environment.timeout`."""
    return timeout or STEP_SECONDS


def start_seconds(step: float) -> float:
    """Of an episode's start: its process, its environment, the reset. step: Seconds of a step."""
    return 2 * max(START_SECONDS, step) + step


def hang(what: str, seconds: float, step: float) -> RolloutError:
    """Of a process that was ended. what: It was at. seconds: It had. step: Of which a step has."""
    return RolloutError(
        f"{what}: its simulator process has not answered for {seconds:g} s, and was ended: a step, "
        f"or a reset, hangs, or takes more than {step:g} s; environment.timeout=SECONDS allows it "
        "more"
    )
