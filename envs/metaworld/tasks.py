"""MetaWorld's tasks: their names, what they ask for in words, and the sets of several.

The name of a task is MetaWorld's own without its version: "reach" is "reach-v3" there.
"""

from collections import Counter
from collections.abc import Sequence

from dipole.data.core.errors import ConfigError
from dipole.data.core.registry import nearest

VERSION = "-v3"

# What the robot is to do, in words. The order is that of MetaWorld's MT50.
TASKS = {
    "assembly": "pick up the ring by its handle and put it over the peg",
    "basketball": "drop the ball through the hoop",
    "bin-picking": "take the block out of the red bin and put it into the blue bin",
    "box-close": "put the lid on the box",
    "button-press-topdown": "press the button on top of the box",
    "button-press-topdown-wall": "press the button on top of the box behind the wall",
    "button-press": "press the button on the front of the box",
    "button-press-wall": "press the button on the front of the box behind the wall",
    "coffee-button": "press the button of the coffee machine",
    "coffee-pull": "pull the mug away from the coffee machine to the goal",
    "coffee-push": "push the mug under the coffee machine to the goal",
    "dial-turn": "turn the dial",
    "disassemble": "lift the ring off the peg by its handle",
    "door-close": "close the door of the safe",
    "door-lock": "turn the lock of the door to lock it",
    "door-open": "open the door of the safe",
    "door-unlock": "turn the lock of the door to unlock it",
    "hand-insert": "reach down into the hole in the table",
    "drawer-close": "push the drawer shut",
    "drawer-open": "pull the drawer open",
    "faucet-open": "turn the faucet's handle to open it",
    "faucet-close": "turn the faucet's handle to close it",
    "hammer": "pick up the hammer and drive the nail into the box",
    "handle-press-side": "press the handle on the side of the box down",
    "handle-press": "press the handle on the front of the box down",
    "handle-pull-side": "pull the handle on the side of the box up",
    "handle-pull": "pull the handle on the front of the box up",
    "lever-pull": "pull the lever up",
    "pick-place-wall": "pick up the puck and take it over the wall to the goal",
    "pick-out-of-hole": "pick the puck out of the hole and lift it to the goal",
    "pick-place": "pick up the puck and take it to the goal",
    "plate-slide": "slide the plate away from the robot into the net",
    "plate-slide-side": "slide the plate sideways into the net",
    "plate-slide-back": "slide the plate back out of the net",
    "plate-slide-back-side": "slide the plate sideways out of the net",
    "peg-insert-side": "pick up the peg and push it into the hole in the side of the box",
    "peg-unplug-side": "pull the peg sideways out of the box",
    "soccer": "push the ball into the goal",
    "stick-push": "pick up the stick and push the bottle to the goal with it",
    "stick-pull": "pick up the stick and pull the bottle to the goal with it",
    "push": "push the puck to the goal",
    "push-wall": "push the puck around the wall to the goal",
    "push-back": "pull the puck back to the goal",
    "reach": "move the hand to the goal",
    "reach-wall": "move the hand over the wall to the goal",
    "shelf-place": "pick up the block and put it onto the shelf",
    "sweep-into": "sweep the block into the hole in the table",
    "sweep": "sweep the block off the table",
    "window-open": "slide the window open",
    "window-close": "slide the window shut",
}

# Sets of tasks in the order of their one-hot vectors (Yu et al., 2019, "Meta-World").
SETS = {
    "mt10": (
        "reach",
        "push",
        "pick-place",
        "door-open",
        "drawer-open",
        "drawer-close",
        "button-press-topdown",
        "peg-insert-side",
        "window-open",
        "window-close",
    ),
    "mt50": tuple(TASKS),
}

# What most published policies that see pictures look from (Seo et al., 2022, "Masked World Models";
# Ze et al., 2024, "3D Diffusion Policy"): MetaWorld's camera, at another place in the world.
MOVED: dict[str, tuple[str, tuple[float, float, float]]] = {
    "corner2_near": ("corner2", (0.75, 0.075, 0.7)),
}
CAMERAS = (
    *("corner", "corner2", "corner3", "corner4", "topview", "behindGripper", "gripperPOV"),
    *MOVED,
)


def chosen_tasks(task: str, only: Sequence[str] | None = None) -> tuple[str, ...]:
    """The tasks that the episodes of a task, or of a set, are of, in turn.

    task: One of TASKS or SETS. only: Some of the set's tasks, in the order of their turns; None for
        all of them.

    Raises ConfigError, naming the nearest, for a task that the set has not, for one that is named
    twice, for none, and for some tasks of one that is alone.

    >>> chosen_tasks("mt10", ["push", "reach"])
    ('push', 'reach')
    """
    known = SETS.get(task, (task,))
    if only is None:
        return known
    option = f"environment.options.only=[{','.join(only)}]"
    if task not in SETS:
        sets = " or ".join(f"metaworld/{name}" for name in SETS)
        raise ConfigError(
            f"{option} is of a set, and metaworld/{task} is a task alone: name {sets}"
        )
    for name, count in Counter(only).items():
        if name not in known:
            raise ConfigError(
                f"{option}: metaworld/{task} has no task {name!r}{nearest(name, known) or '.'} "
                f"Known: {', '.join(known)}"
            )
        if count > 1:
            raise ConfigError(f"{option} names {name!r} {count} times: name each task once")
    if not only:
        raise ConfigError(f"{option} leaves no task of metaworld/{task}: name one, or leave it out")
    return tuple(only)
