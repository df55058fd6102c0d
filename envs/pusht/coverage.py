"""How much of Push-T's goal the block covers: exact, and in plain numbers, since every step asks.

In the goal's own frame the goal is two upright rectangles, bar and stem. A horizontal line cuts the
block's outline an even number of times; where it also cuts a rectangle, the length that both share
is the alternating sum of the cuts, each moved to the nearer side if it lies outside. Summed over
all lines: each edge of the outline adds, with the sign of its direction, the area between the
rectangle's left side and itself. That holds for any outline, convex or not, so the T is one
polygon of eight edges, and nothing is clipped, sorted or stitched together.
"""

from math import cos, sin

from dipole.envs.pusht.geometry import GOAL_POSE, OUTLINE, Pose

CORNERS: list[tuple[float, float]] = [(float(x), float(y)) for x, y in OUTLINE]
# Left, right, top and bottom of the T's rectangles in its own frame (y down the stem).
BAR, STEM = (-60.0, 60.0, 0.0, 30.0), (-15.0, 15.0, 30.0, 120.0)
AREA = 120.0 * 30.0 + 30.0 * 90.0
REACH = 121.0  # no point of the T is further from its origin


def coverage(pose: Pose) -> float:
    """Share of the goal's area that a block at a pose (x, y, angle) covers, 0 to 1."""
    goal_x, goal_y, goal_angle = GOAL_POSE
    x, y, angle = float(pose[0]) - goal_x, float(pose[1]) - goal_y, float(pose[2]) - goal_angle
    across, down = cos(goal_angle), sin(goal_angle)
    x, y = (
        across * x + down * y,
        across * y - down * x,
    )  # of the block's origin, in the goal's frame
    if abs(x) > 60.0 + REACH or not -REACH < y < 120.0 + REACH:
        return 0.0
    cosine, sine = cos(angle), sin(angle)
    corners = [(cosine * u - sine * v + x, sine * u + cosine * v + y) for u, v in CORNERS]
    area, (xa, ya) = 0.0, corners[-1]
    for xb, yb in corners:
        if yb > ya:
            area += _beside(xa, ya, xb, yb)
        elif yb < ya:
            area -= _beside(xb, yb, xa, ya)
        xa, ya = xb, yb
    return min(max(area / AREA, 0.0), 1.0)


def _beside(xa: float, ya: float, xb: float, yb: float) -> float:
    """Area of the T left of an edge that goes down, ya < yb: within its rectangles' own sides."""
    area = 0.0
    slope = (xb - xa) / (yb - ya)
    for left, right, top, bottom in (BAR, STEM):
        upper, lower = max(ya, top), min(yb, bottom)
        if upper >= lower:
            continue
        x1, x2 = xa + slope * (upper - ya), xa + slope * (lower - ya)
        if x1 > x2:
            x1, x2 = x2, x1
        if x2 <= left:
            continue
        height = lower - upper
        if x1 >= right:
            area += height * (right - left)
        elif x1 >= left and x2 <= right:
            area += height * (0.5 * (x1 + x2) - left)
        else:  # the edge leaves the rectangle through a side
            within, beyond = max(x1, left), min(x2, right)
            slanted = (beyond - within) * (0.5 * (within + beyond) - left)
            area += height * (slanted + (x2 - beyond) * (right - left)) / (x2 - x1)
    return area
