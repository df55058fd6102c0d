"""Action groups: what does not fit together is refused; what is measured, mixed and compared."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dipole.data.core.errors import ConfigError
from dipole.deploy import ActionGroup, ActionSpec, Channel, Limits, RobotSpec
from dipole.deploy.robots.action_math import interpolate, nearest_equal, weighted_mean


def limits(n, low=-1.0, high=1.0):
    return Limits((low,) * n, (high,) * n, (1.0,) * n, (4.0,) * n)


def arm(**options):
    given = {"name": "arm", "kind": "joint_position", "names": ("j1", "j2"), "unit": "rad",
             "measured_by": "joints"}  # fmt: skip
    return ActionGroup(**given | options)


def valve(**options):
    given = {"name": "valve", "kind": "discrete", "names": ("open",), "values": (0.0, 1.0)}
    return ActionGroup(**given | {"rest": 0.0} | options)


POSE = ActionGroup("tool", "pose", ("x", "qx", "qy", "qz", "qw"), "m", measured_by="tool",
                   rotation="quaternion_xyzw")  # fmt: skip

# What is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "position"}, "action group 'arm': kind is 'position'; it must be one of joint_"),
        ({"names": ()}, "it has no names"),
        ({"measured_by": ""}, "a joint_position without measured_by: name the observation"),
        ({"kind": "gripper", "measured_by": ""}, "a gripper without measured_by"),
        ({"kind": "pose", "measured_by": ""}, "a pose without measured_by"),
        ({"columns": (0,)}, r"columns is \(0,\); 2 of them are needed"),
        ({"columns": (0, -1)}, "none negative"),
        ({"measured_range": (0.5, 0.5)}, "two different finite numbers"),
        ({"measured_range": (0.0, math.inf)}, "two different finite numbers"),
        ({"limits": limits(3)}, "limits for 3 numbers; it has 2"),
        ({"interpolation": "spline"}, "interpolation is 'spline'; it is one of linear"),
        ({"rotation": "quaternion_xyzw"}, "a pose may have one of quaternion_xyzw"),
        ({"kind": "pose", "rotation": "euler"}, "rotation is 'euler'; a pose may have one of"),
        ({"kind": "pose", "rotation": "rotation_6d"}, "a rotation_6d takes 6 numbers; it has 2"),
        ({"continuous": ("j3",)}, "continuous names 'j3', which is none of j1, j2"),
        ({"continuous": ("j1",), "unit": "m"}, "continuous joints are angles: j1 is in 'm'"),
        ({"unit": "rad, rad, m"}, "unit is 'rad, rad, m', 3 units for 2 numbers: give one for all"),
        ({"unit": "rad rad"}, "several units have commas between them, 'rad, rad'"),
        ({"unit": "rad; m"}, "several units have commas between them, 'rad, m'"),
        ({"unit": ("rad", "m")}, r"unit is \('rad', 'm'\): a text is needed, as 'rad', or"),
        (
            {
                "kind": "pose",
                "names": tuple("xyabcd"),
                "rotation": "quaternion_xyzw",
                "unit": "m, m, rad",
            },
            "3 units for 2 numbers: give one for all of .*, but for those of its rotation",
        ),
        ({"hold": "zero"}, "hold is 'zero': 'keep', or 'rest' for discrete groups"),
        ({"hold": "rest"}, "hold is 'rest'"),
        ({"values": (0.0, 1.0)}, "values is for discrete groups only"),
        ({"rest": 0.0}, "rest is for discrete groups only"),
    ],
)
def test_a_group_that_does_not_fit_together_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        arm(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": (1.0,)}, "a discrete group needs the finite values it may take"),
        ({"values": (0.0, math.nan)}, "a discrete group needs the finite values"),
        ({"rest": None}, "rest is not set"),
        ({"rest": None, "measured_by": "valve", "hold": "rest"}, "rest is not set"),
        ({"rest": 0.5}, r"rest is 0.5, none of its values \(0.0, 1.0\)"),
    ],
)
def test_a_discrete_group_says_its_values_and_its_rest(options, message):
    with pytest.raises(ConfigError, match=message):
        valve(**options)


def test_a_discrete_group_that_is_measured_needs_no_rest():
    group = valve(rest=None, measured_by="valve")
    assert group.measured({"valve": np.array([1.0])}).tolist() == [1.0]


@pytest.mark.parametrize("kind", ["twist", "joint_velocity"])
def test_a_velocity_must_be_able_to_be_zero(kind):
    with pytest.raises(ConfigError, match=r"j1 goes from 0\.1 to 1: a velocity must be able to be"):
        ActionGroup("arm", kind, ("j1",), limits=limits(1, low=0.1))
    assert ActionGroup("arm", kind, ("j1",), limits=limits(1, low=0.0)).is_velocity


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ActionSpec.of(arm(), arm()), "two names of an action are called 'j1'"),
        (lambda: ActionSpec.of(arm(), arm(names=("a",))), "two groups of an action are called"),
        (
            lambda: ActionSpec(("x",), groups=(arm(),)),
            "by its groups, or by its names, not by both",
        ),
        *(
            (
                lambda given=given: ActionSpec(groups=(arm(),), **given),
                f"not by both: {next(iter(given))} beside groups arm",
            )
            for given in (
                {"unit": "deg"},
                {"measured_by": "encoders"},
                {"kind": "joint_velocity"},
                {"quaternions": (0,)},
            )
        ),
        (lambda: ActionSpec(("x",)), "an action x in no unit without a kind"),
        (lambda: ActionSpec(("x",), "m/s", measured_by="x"), "an action x in m/s without a kind"),
        (lambda: ActionSpec(("x", "y", "z"), measured_by="p", quaternions=(0,)), "does not fit"),
        (lambda: ActionSpec(tuple("xyzw"), kind="twist", quaternions=(0,)), "does not fit"),
        (lambda: ActionSpec.of(arm()).with_limits(limits(3)), "limits for 3 numbers, actions have"),
    ],
)
def test_an_action_that_does_not_fit_together_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (arm(measured_by="joint"), "measured_by is 'joint'; the robot declares joints"),
        (arm(names=("a", "b", "c")), r"'joints' has shape \(2,\), and 3 numbers of it are needed"),
        (arm(columns=(1, 2)), "say which in columns="),
    ],
)
def test_what_measures_a_group_is_compared_with_the_robots_observations(group, message):
    with pytest.raises(ConfigError, match=message):
        RobotSpec({"joints": Channel((2,))}, ActionSpec.of(group))


# What is known of a group -------------------------------------------------------------------------


def test_a_single_group_is_a_pose_with_a_quaternion_or_joint_positions():
    spec = ActionSpec(("x", "a", "b", "c", "d"), measured_by="p", quaternions=(1,))
    assert (spec.groups[0].kind, spec.groups[0].turning) == ("pose", 4)
    assert ActionSpec(("x",), measured_by="x").groups[0].kind == "joint_position"
    assert ActionSpec(("x",), "m/s", kind="twist").groups[0].is_velocity


def test_each_number_has_its_unit():
    base = ActionGroup("base", "twist", ("vx", "wz"), "m/s, rad/s")
    pose = ActionGroup("tool", "pose", tuple("xyzabc"), "m", measured_by="t",
                       rotation="rotation_vector")  # fmt: skip
    spec = ActionSpec.of(arm(), base, pose)
    assert spec.units == ("rad", "rad", "m/s", "rad/s", "m", "m", "m", "rad", "rad", "rad")
    assert POSE.units == ("m", "", "", "", "")


def test_angles_wrap_in_their_unit_where_they_are_declared_continuous():
    assert arm(continuous=("j2",)).periods.tolist() == [0.0, 2 * math.pi]
    assert arm(continuous=("j1",), unit="deg").periods.tolist() == [360.0, 0.0]


def test_limits_of_all_numbers_are_shared_out_and_discrete_groups_have_none():
    spec = ActionSpec.of(arm(), valve())
    all_of_them = Limits((-1, -2, 0), (1, 2, 1), (1, 1, 1), (1, 1, 1))
    robot = RobotSpec({"joints": Channel((2,))}, spec, all_of_them)
    assert robot.action.groups[0].limits.low == (-1, -2)
    assert robot.action.groups[1].limits is None
    assert robot.without_limits == ()
    assert RobotSpec({"joints": Channel((2,))}, spec).without_limits == ("arm",)


# What is measured ---------------------------------------------------------------------------------


def test_groups_are_measured_by_columns_of_what_is_observed():
    left = arm(name="left", names=("l1", "l2"), columns=(0, 1))
    right = arm(name="right", names=("r1", "r2"), columns=(3, 2))
    spec = RobotSpec({"joints": Channel((4,))}, ActionSpec.of(left, right, valve()))
    seen = {"joints": np.float32([1, 2, 3, 4])}
    assert spec.measured(seen).tolist() == [1, 2, 4, 3, 0]
    assert spec.measured_by == ("joints",)


def test_a_gripper_is_commanded_from_0_to_1_and_measured_in_metres():
    gripper = ActionGroup("gripper", "gripper", ("opening",), measured_by="width",
                          measured_range=(0.0, 0.08), limits=limits(1, 0.0))  # fmt: skip
    assert gripper.measured({"width": np.array([0.02])}).tolist() == [0.25]
    # One that closes towards 1 has its range the other way round.
    closing = ActionGroup("gripper", "gripper", ("closing",), measured_by="width",
                          measured_range=(0.08, 0.0), limits=limits(1, 0.0))  # fmt: skip
    assert closing.measured({"width": np.array([0.02])}).tolist() == [0.75]


def test_what_nothing_measures_is_zero_for_velocities_and_rest_for_discrete_groups():
    assert ActionGroup("base", "twist", ("vx", "wz")).measured({}).tolist() == [0.0, 0.0]
    assert valve(rest=1.0).measured({}).tolist() == [1.0]


def test_a_reading_is_copied_and_not_changed():
    seen = np.array([0.1, 0.2])
    arm().measured({"joints": seen})[0] = 5.0
    assert seen.tolist() == [0.1, 0.2]


# Between, means, equals ---------------------------------------------------------------------------

WHEEL = ActionGroup("wheel", "joint_position", ("turn", "lift"), "rad", measured_by="w",
                    continuous=("turn",))  # fmt: skip
ALL = ActionSpec.of(arm(), POSE, WHEEL, valve())


def action(j=0.0, x=0.0, degrees=0.0, sign=1.0, turn=0.0, opened=0.0):
    q = sign * Rotation.from_euler("z", degrees, degrees=True).as_quat()
    return np.array([j, 2 * j, x, *q, turn, 1.0, opened])


def test_between_two_actions_each_group_goes_its_own_way():
    a, b = action(), action(j=1, x=4, degrees=80, sign=-1, turn=6.0, opened=1)
    found = interpolate(a, b, 0.25, ALL)
    wanted = action(j=0.25, x=1, degrees=20, turn=0.25 * (6.0 - 2 * math.pi))
    assert found == pytest.approx(wanted)
    assert interpolate(a, b, 0.75, ALL)[-1] == 1.0
    assert interpolate(a, b, 1.0, ALL).tolist() == b.tolist()


def test_the_mean_is_taken_group_by_group():
    rows = np.stack([
        action(j=0, x=1, degrees=10, turn=3.1),
        action(j=2, x=3, degrees=50, sign=-1, turn=-3.1, opened=1),
    ])  # fmt: skip
    found = weighted_mean(rows, np.array([1.0, 1.0]), ALL)
    assert found[:3].tolist() == [1.0, 2.0, 2.0]
    z = Rotation.from_quat(found[3:7]).as_euler("xyz", degrees=True)[2]
    assert z == pytest.approx(30)
    assert math.cos(found[7]) == pytest.approx(-1.0)  # 3.1 and -3.1 are on both sides of pi
    weighted = weighted_mean(rows, np.array([3.0, 1.0]), ALL)
    assert weighted[0] == 0.5
    assert weighted[-1] == 0.0  # a discrete number has the value with most weight
    assert weighted_mean(rows, np.array([1.0, 3.0]), ALL)[-1] == 1.0


def test_an_equal_action_is_written_nearest_to_another():
    reference = action(degrees=170, turn=9.0)
    found = nearest_equal(action(degrees=175, sign=-1, turn=-3.0), reference, ALL)
    assert found[7] == pytest.approx(4 * math.pi - 3.0)
    assert found[3:7] == pytest.approx(action(degrees=175)[3:7])
    same = action(j=0.3, x=0.1)
    assert nearest_equal(same, same, ALL).tolist() == same.tolist()


@pytest.mark.parametrize("rotation", ["rotation_vector", "rotation_6d", "quaternion_wxyz"])
def test_rotations_in_any_representation_are_mixed_along_the_arc(rotation):
    write = {
        "rotation_vector": lambda r: r.as_rotvec(),
        "rotation_6d": lambda r: r.as_matrix()[:2].ravel(),
        "quaternion_wxyz": lambda r: r.as_quat()[[3, 0, 1, 2]],
    }[rotation]
    start, end = (Rotation.from_euler("y", each, degrees=True) for each in (20, 100))
    middle = write(Rotation.from_euler("y", 60, degrees=True))
    names = tuple(f"r{i}" for i in range(len(middle)))
    spec = ActionSpec.of(ActionGroup("t", "pose", names, measured_by="t", rotation=rotation))
    a, b = write(start), write(end)
    assert interpolate(a, b, 0.5, spec) == pytest.approx(middle)
    assert weighted_mean(np.stack([a, b]), np.ones(2), spec) == pytest.approx(middle)
