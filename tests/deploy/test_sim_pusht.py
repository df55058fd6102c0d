"""The simulated robot: its world goes on by itself, and is gym-pusht's."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dipole.data import WindowSpec
from dipole.data.core.errors import ConfigError, DipoleError
from dipole.deploy import ControlLoop, Limits, LoopConfig, State, VirtualClock
from dipole.deploy.inference.virtual import VirtualInference
from dipole.deploy.loop.watched import run_watched
from dipole.deploy.robots.pusht.robot import SimPushT, VirtualPushT
from dipole.deploy.robots.pusht.shared_memory import SharedSlot
from dipole.deploy.robots.pusht.world import PushTWorld, WorldConfig
from dipole.deploy.robots.registry import ROBOTS, import_robots, make_robot
from dipole.deploy.types import PolicySpec
from dipole.envs.pusht.environment import PushT

sys.path.insert(0, str(Path(__file__).parent / "support"))
from enough import LONG, stop_after
from real_processes import ProcessInference, wander, write_rows

WIDE = Limits((0.0,) * 2, (512.0,) * 2, (1e6,) * 2, (1e8,) * 2)
WINDOW = WindowSpec(n_obs_steps=2, horizon=16, n_action_steps=8)


def make_plant(**options):
    return PushTWorld(WorldConfig(observation=("agent_pos", "state"), **options), start=5.0)


def test_ten_steps_of_the_plant_are_one_of_the_environment_bit_for_bit():
    env, plant = PushT(observation=("state",)), make_plant(seed=3)
    env.reset(seed=3)
    targets = np.random.default_rng(0).uniform(100, 400, (20, 2))
    for k, target in enumerate(targets):
        plant.command(target, now=5.0 + k * 0.1)
        plant.advance(5.0 + (k + 1) * 0.1)
        expected = env.step(target)[0]["state"]
        assert np.array_equal(plant.observe(5.0 + (k + 1) * 0.1).values["state"], expected)


def test_the_world_goes_on_without_commands():
    plant = make_plant()
    start = plant.observe(5.0).values["agent_pos"]
    target = start + 50
    plant.command(target, now=5.0)
    plant.advance(5.2)
    early = plant.observe(5.2).values["agent_pos"]
    plant.advance(8.0)
    late = plant.observe(8.0).values["agent_pos"]
    assert np.abs(early - start).min() > 5
    assert np.abs(late - target).max() < 0.5


def test_readings_carry_the_time_of_capture_and_arrive_later():
    plant = make_plant(sensor_delay=0.25)
    plant.advance(5.24)
    assert plant.observe(5.24) is None
    plant.advance(6.0)
    assert plant.observe(6.0).time == pytest.approx(5.74)


def test_commands_take_effect_after_their_delay():
    plant = make_plant(command_delay=0.3)
    start = plant.observe(5.0).values["agent_pos"]
    plant.command(start + 100, now=5.0)
    plant.advance(5.3)
    assert np.array_equal(plant.observe(5.3).values["agent_pos"], start)
    plant.advance(5.5)
    assert (plant.observe(5.5).values["agent_pos"] > start).all()


def test_noise_and_dropped_readings_are_the_seeds_own():
    def seen(**options):
        plant = make_plant(noise=2.0, dropped=0.5, **options)
        readings = []
        for k in range(100):
            plant.advance(5.0 + k * 0.02)
            readings.append(plant.observe(5.0 + k * 0.02))
        return [(r.time, *r.values["agent_pos"]) for r in readings if r is not None]

    assert seen(seed=1) == seen(seed=1)
    assert seen(seed=1) != seen(seed=2)
    assert 30 < len(set(seen(seed=1))) < 70
    assert 1 < np.std([x for _, x, _ in dict.fromkeys(seen(seed=1))]) < 3


@pytest.mark.parametrize(
    "options", [{"noise": -1}, {"dropped": 1.0}, {"sensor_hz": 0}, {"sensor_delay": np.inf}]
)
def test_a_world_that_cannot_be_is_refused(options):
    with pytest.raises(ConfigError):
        WorldConfig(**options)


def test_a_shared_slot_gives_whole_rows_only():
    slot = SharedSlot(3)
    assert slot.read() is None
    slot.write(np.array([1.0, 2.0, 3.0]))
    version, row = slot.read()
    assert row.tolist() == [1, 2, 3]
    assert slot.read()[0] == version


def test_a_row_that_is_being_written_leaves_the_newest_readable():
    slot = SharedSlot(3)
    for number in range(1, 6):
        slot.write(np.full(3, float(number)))
        slot._row(number + 1)[:2] = 99.0  # the next writer was held up, or killed, in the middle
        version, row = slot.read()
        assert (version, row.tolist()) == (number, [number] * 3)


def test_a_row_of_which_only_a_part_is_visible_yet_is_not_returned():
    slot = SharedSlot(3)
    slot.write(np.array([1.0, 2.0, 3.0]))
    slot._row(1)[-1] = 0.0  # as a processor may that shows the counter before the row
    assert slot.read() is None
    slot._row(1)[-1] = 3.0
    assert slot.read()[1].tolist() == [1, 2, 3]


def test_large_rows_are_whole_while_another_process_writes():
    context = multiprocessing.get_context("spawn")
    slot, over = SharedSlot(30_000, context), context.RawValue("b", 0)
    writer = context.Process(target=write_rows, args=(slot, over), daemon=True)
    writer.start()
    while slot.read() is None:
        assert writer.is_alive()
    seen = [slot.read() for _ in range(500)]
    over.value = 1
    writer.join()
    found = [read for read in seen if read is not None]
    assert len(found) > 400
    assert all((row == version).all() for version, row in found)


def test_without_delay_the_loop_acts_in_push_t_exactly_as_evaluation_does():
    torch = pytest.importorskip("torch")
    from dipole.deploy.inference.torch_policy import PolicyCompute
    from dipole.policy.execution.executor import Executor

    class Noisy:
        window = WINDOW

        def predict(self, observation, generator=None):
            steps = torch.stack([torch.randn(16, 2, generator=g) for g in generator])
            path = observation["agent_pos"][:, -1:] + 15 * steps.cumsum(1)
            return path.clip(20, 490) + 0.01 * observation["keypoint"].mean()

    env, executor = (
        PushT(observation=("keypoint", "agent_pos")),
        Executor(Noisy(), 1, inference_batch_size=1),
    )
    executor.reset(0, env.reset(seed=4)[0], seed=9)
    expected = []
    for _ in range(30):
        expected.append(executor.act([0])[0])
        executor.observe(0, env.step(expected[-1])[0])

    clock = VirtualClock()
    robot = VirtualPushT(clock, seed=4)
    robot.spec = type(robot.spec)(robot.spec.observation, robot.spec.action, WIDE)
    sent, send = [], robot.command
    robot.command = lambda action: (sent.append(action), send(action))[1]
    spec = PolicySpec({"keypoint": (9, 2), "agent_pos": (2,)}, 2, WINDOW)
    inference = VirtualInference(spec, PolicyCompute(Noisy(), seed=9), clock)
    config = LoopConfig(interpolation="step")
    loop = ControlLoop(robot, inference, config, clock=clock, log=lambda line: None)
    loop.prepare()
    loop.arm()
    report = loop.run(3.0)
    assert report.counts["clamped"] == 0
    assert np.array_equal(np.stack(sent)[::10], np.stack(expected).astype(np.float64))
    assert np.array_equal(robot.plant._env.state, env.state)


def test_a_robot_is_made_by_name_and_not_without_limits():
    with pytest.raises(ConfigError, match=r"limits\.low is not set\. A robot is not moved"):
        make_robot("sim_pusht")
    with pytest.raises(ConfigError, match=r"limits\.velocity is not set"):
        make_robot("sim_pusht", {}, {"low": 0, "high": 512, "velocity": None, "acceleration": 1})
    with pytest.raises(ConfigError, match="did you mean 'sim_pusht'"):
        make_robot("sim_psht")
    with pytest.raises(ConfigError, match="does not take these options"):
        make_robot("sim_pusht", {"sede": 1})


def test_a_robot_of_the_users_own_is_registered_by_their_file(tmp_path):
    file = tmp_path / "their_arm.py"
    file.write_text(
        "from dipole.deploy.robots.registry import ROBOTS\n"
        "from dipole.deploy.robots.pusht.robot import SimPushT\n"
        "@ROBOTS.add('their_arm')\n"
        "class Arm(SimPushT):\n"
        "    pass\n"
    )
    import_robots(file)
    limits = {"low": 0, "high": 512, "velocity": 1, "acceleration": 1}
    assert make_robot("their_arm", {"seed": 2}, limits).config.seed == 2
    assert "their_arm" in ROBOTS
    with pytest.raises(ConfigError, match="no such file"):
        import_robots(tmp_path / "other.py")


LIMITS = {"low": 0, "high": 512, "velocity": 800, "acceleration": 8000}


@pytest.fixture
def world():
    robot = make_robot("sim_pusht", {"observation": ["agent_pos"]}, LIMITS)
    robot.connect()
    yield robot
    robot.close()


def settled(robot):
    """Where the agent has come to rest, after 1.5 s of its own world."""
    asked = time.monotonic()
    return seen_after(robot, asked + 1.5).values["agent_pos"]


def seen_after(robot, moment):
    """A reading that was captured after a moment."""
    deadline = time.monotonic() + 30.0
    while (reading := robot.observe()).time < moment:
        assert time.monotonic() < deadline, "the world stands still"
        time.sleep(0.01)
    return reading


@pytest.mark.slow
def test_the_simulated_robot_moves_by_the_wall_clock_and_stops_when_told_from_anywhere(world):
    assert isinstance(world, SimPushT)
    target = np.array([300.0, 200.0])
    world.command(target)
    assert np.abs(settled(world) - target).max() < 5.0
    world.stopper()()  # what the watchdog's process calls
    world.command(target + 100)
    assert np.abs(settled(world) - target).max() < 5.0
    world._process.kill()
    world._process.join(5)
    with pytest.raises(DipoleError, match="has ended"):
        world.observe()


def test_signals_of_a_terminal_do_not_end_the_simulated_robot(world):
    for name in ("SIGINT", "SIGHUP", "SIGQUIT", "SIGTSTP"):
        os.kill(world._process.pid, getattr(signal, name))
    seen_after(world, time.monotonic() + 0.1)


def test_a_simulated_robot_that_was_never_connected_can_be_closed_and_not_observed():
    robot = make_robot("sim_pusht", {"observation": ["agent_pos"]}, LIMITS)
    with pytest.raises(DipoleError, match="has ended"):
        robot.observe()
    robot.close()


@pytest.mark.slow
def test_the_loop_drives_the_simulated_robot():
    robot = make_robot("sim_pusht", {"observation": ["agent_pos"]}, LIMITS)
    config = LoopConfig(
        max_observation_age=10.0, call_timeout=10.0, max_limited=None, max_approach=None
    )
    loop = ControlLoop(robot, ProcessInference(wander), config, log=lambda line: None)
    loop.prepare()
    before = robot.observe().values["agent_pos"]
    loop.arm()
    stop_after(loop, 25)
    report = run_watched(loop, LONG)
    after = robot.observe().values["agent_pos"]
    loop.close()
    assert loop.states.state is State.STOPPED
    assert report.stopped is True
    assert report.counts["actions"] > 24
    assert np.linalg.norm(after - before) > 20
    assert 0.0 <= robot.result()["max_reward"] <= 1.0
