"""Made steps: walk any way while facing any other, turn on the spot, stop.

    python -m tt_gym.motions.stepping --out stepping/ --count 12 --seed 0
    python -m tt_gym.motions.stepping --out aside/ --count 12 --turns 0 --steady

Courses with many changes teach changing alone: who learns to step needs steady ones too.

Nobody was recorded walking sideways or backward here. The pelvis glides along a course of velocity
and facing, feet are put down where they halve the way that the pelvis makes above them, and the
legs follow by inverse kinematics. Clips begin standing and are tagged "made".
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions import making
from tt_gym.motions.clip import FPS, Clip
from tt_gym.motions.limbs import place_tip, world_pose
from tt_gym.motions.shipped import shipped_clip

TOP_SPEED = 1.1
"""m/s; the fastest that is stepped."""
_CADENCE, _STANCE = 1.0, 0.6  # cycles per second; share of a cycle that each foot stands
_SIDE_CADENCE = 0.7  # more cycles per second for each m/s sideways: short steps cross no legs
_WIDER, _WIDEST = 0.15, 0.08  # m that each foot is put further out for each m/s sideways; at most
_LIFT, _LIFT_PER_M, _MOST_LIFT = 0.05, 0.1, 0.1  # m
_SWAY, _LEG = 0.03, 0.815  # m towards the standing foot; m from hip to ankle at most
_STILL = 1e-3  # m/s, and rad/s: slower is standing
_ACCELERATION, _TURN_RATE = 1.5, math.radians(90.0)  # m/s^2, rad/s
_SEGMENT_S, _SPEED = (2.0, 5.0), (0.3, TOP_SPEED)
_STOP_SHARE, _AHEAD_SHARE = 0.2, 0.2
TURN_SHARE = 0.6
_STEADY_TURN = math.radians(100.0)


@dataclasses.dataclass(frozen=True)
class Course:
    """Where the pelvis goes and faces, frame by frame.

    Attributes:
        velocity: (T, 2), m/s, world.
        facing: (T,), rad.
        asked: facing, speed and direction that it is on its way to: rad, m/s, rad; (T, 3).
    """

    velocity: Tensor
    facing: Tensor
    asked: Tensor


def random_course(
    duration_s: float,
    generator: torch.Generator,
    *,
    turns: float = TURN_SHARE,
    steady: bool = False,
) -> Course:
    """A new direction and speed every few seconds, with bounded accelerations.

    Args:
        duration_s: s.
        generator: of everything random.
        turns: share of changes that come with a new facing.
        steady: one change, a second after the beginning, that turns by at most 100 degrees.
    """
    stop_share, most_turn = (0.0, _STEADY_TURN) if steady else (_STOP_SHARE, math.pi)
    uniform = functools.partial(making.uniform, generator)
    velocity, facing = torch.zeros(2, dtype=torch.float64), 0.0
    goal, speed, way = 0.0, 0.0, 0.0
    rows, until = [], FPS
    for frame in range(round(duration_s * FPS)):
        if frame >= until:
            until = frame + round((duration_s if steady else uniform(*_SEGMENT_S)) * FPS)
            speed = 0.0 if uniform(0.0, 1.0) < stop_share else uniform(*_SPEED)
            goal = facing + (uniform(-most_turn, most_turn) if uniform(0.0, 1.0) < turns else 0.0)
            ahead = uniform(0.0, 1.0) < _AHEAD_SHARE
            way = goal + (0.0 if ahead else uniform(-math.pi, math.pi))
        wanted = speed * rotations.direction_xy(torch.tensor(way, dtype=torch.float64))
        change = wanted - velocity
        size = float(change.norm())
        velocity = velocity + change * min(1.0, _ACCELERATION / FPS / max(size, 1e-9))
        step = _TURN_RATE / FPS
        facing += min(max(0.15 * (goal - facing), -step), step)
        rows.append([*velocity.tolist(), facing, goal, speed, way])
    course = torch.tensor(rows, dtype=torch.float64)
    return Course(course[:, :2], course[:, 2], course[:, 3:])


def step_phase(course: Course) -> Tensor:
    """Cycles made so far, (T,).

    After a stop a whole cycle is made on the spot, which brings the feet together; then it waits
    where both are down, and the next walk begins with the same foot as the one before.
    """
    moving = course.velocity.norm(dim=-1) > _STILL
    moving[1:] |= course.facing.diff().abs() * FPS > 10 * _STILL
    cadence = _CADENCE + _SIDE_CADENCE * sideways(course)
    phase, stop, phases = 0.0, 0.0, []
    for going, cycles in zip(moving.tolist(), cadence.tolist(), strict=True):
        phases.append(phase)
        if going:
            stop = math.ceil(phase + 1.0)
        phase = min(phase + cycles / FPS, stop)
    return torch.tensor(phases, dtype=torch.float64)


def sideways(course: Course) -> Tensor:
    """Speed across the facing, (T,), m/s."""
    return rotations.rotate_xy(-course.facing, course.velocity)[:, 1].abs()


def stepping(course: Course, *, name: str) -> Clip:
    """The whole body along a course, upper body as in the shipped ``idle``."""
    humanoid, count = DEEPMIMIC, len(course.facing)
    stand = shipped_clip("idle")
    joint_rot = stand.joint_rot[0].double().expand(count, -1, -1).clone()
    pos, rot = world_pose(humanoid, stand.root_pos[:1].double(), stand.joint_rot[:1].double())
    faces = rotations.heading(rot[0, 0])
    place = torch.cumsum(course.velocity, dim=0) / FPS
    phase = step_phase(course)
    turned = rotations.yaw_quat(course.facing - faces)
    joint_rot[:, 0] = rotations.quat_multiply(turned, joint_rot[:, 0])
    wider = (_WIDER * sideways(course)).clamp(max=_WIDEST)
    feet = []
    for side, foot in enumerate(humanoid.feet):
        offset = rotations.rotate_xy(-faces, pos[0, foot, :2] - pos[0, 0, :2]).repeat(count, 1)
        offset[:, 1] += wider * offset[:, 1].sign()
        own = phase + 0.5 * side
        feet.append(_foot_path(own, place, course.facing, offset, float(pos[0, foot, 2])))
    stand_height = float(pos[0, 0, 2])
    root = torch.cat((place, torch.full((count, 1), stand_height, dtype=torch.float64)), dim=-1)
    weight = _smooth(torch.stack([path[2] for path in feet]).amax(dim=0))  # of stepping
    sway = _SWAY * weight * (2.0 * math.pi * (phase + 0.25 - 0.5 * _STANCE)).sin()
    root[:, :2] += sway.unsqueeze(-1) * rotations.direction_xy(course.facing + math.pi / 2)
    root[:, 2] -= _smooth(_too_far(root, joint_rot, [path[0] for path in feet]))
    for foot, (ankle, yaw, _) in zip(humanoid.feet, feet, strict=True):
        flat = rotations.quat_multiply(
            rotations.yaw_quat(yaw - faces), rot[:1, foot].expand(count, 4)
        )
        joint_rot = place_tip(humanoid, root, joint_rot, foot, ankle, keep_rot=flat)
    source = f"{stand.source}; made: steps put along a course by inverse kinematics"
    joint_rot = rotations.quat_normalize(joint_rot).float()
    return Clip(name, root.float(), joint_rot, False, source, course.asked.float())


def _foot_path(
    phase: Tensor, place: Tensor, facing: Tensor, offset: Tensor, height: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Ankle positions (T, 3), yaw (T,) and whether a step is made (T,) of one foot.

    It swings in the first ``1 - _STANCE`` of its cycle and then stands where the pelvis, halfway
    through that stance, has it in its usual place.
    """
    count = len(phase)
    cycle = phase.floor().long()
    swing = ((phase - cycle) / (1.0 - _STANCE)).clamp(max=1.0)
    numbers = torch.arange(int(cycle.min()) - 1, int(cycle.max()) + 1)
    middle = torch.searchsorted(phase, numbers.double() + 1.0 - 0.5 * _STANCE).clamp(max=count - 1)
    # a foot that stands before the first step stands where the clip begins
    middle = torch.where(numbers.double() + 1.0 <= phase[0] + 1e-9, 0, middle)
    holds = place[middle] + rotations.rotate_xy(facing[middle], offset[middle])
    yaws = facing[middle]
    after = cycle - int(cycle.min()) + 1
    part = swing * swing * (3.0 - 2.0 * swing)
    ground = torch.lerp(holds[after - 1], holds[after], part.unsqueeze(-1))
    length = (holds[after] - holds[after - 1]).norm(dim=-1)
    turn = (yaws[after] - yaws[after - 1]).abs()
    steps = ((length > 0.005) | (turn > 0.02)) & (swing < 1.0)
    lift = (_LIFT + _LIFT_PER_M * length).clamp(max=_MOST_LIFT) * steps
    rise = height + lift * (math.pi * swing).sin().square()
    yaw = torch.lerp(yaws[after - 1], yaws[after], part)
    return torch.cat((ground, rise.unsqueeze(-1)), dim=-1), yaw, steps.double()


def _too_far(root: Tensor, joint_rot: Tensor, ankles: list[Tensor]) -> Tensor:
    """How much lower the pelvis must be for both legs to reach their ankles, (T,), m."""
    pos, _ = world_pose(DEEPMIMIC, root, joint_rot)
    lower = torch.zeros(len(root), dtype=root.dtype)
    for foot, ankle in zip(DEEPMIMIC.feet, ankles, strict=True):
        hip = pos[:, DEEPMIMIC.parents[DEEPMIMIC.parents[foot]]]
        across = (ankle - hip)[:, :2].square().sum(dim=-1)
        height = (_LEG**2 - across).clamp(min=0.25).sqrt()
        lower = torch.maximum(lower, hip[:, 2] - ankle[:, 2] - height)
    return lower


def _smooth(values: Tensor, frames: int = 15) -> Tensor:
    """Largest value around, then averaged, so that the result is never below by much."""
    half = frames // 2
    padded = torch.cat((values[:1].expand(half), values, values[-1:].expand(half)))
    largest = padded.unfold(0, frames, 1).amax(dim=-1)
    padded = torch.cat((largest[:1].expand(half), largest, largest[-1:].expand(half)))
    return padded.unfold(0, frames, 1).mean(dim=-1)


def random_steps(
    *,
    count: int,
    duration_s: float = 12.0,
    seed: int = 0,
    turns: float = TURN_SHARE,
    steady: bool = False,
) -> list[Clip]:
    """Clips ``stepping_SEED_0`` ... along random courses (``aside_...`` where none turns).

    Raises:
        ValueError: ``count`` or ``duration_s`` is not positive, or ``turns`` not from 0 to 1.
    """
    making.check_positive(count, duration_s)
    if not 0.0 <= turns <= 1.0:
        raise ValueError(f"turns must be from 0 to 1, got {turns}")
    name = "stepping" if turns else "aside"
    generator = torch.Generator().manual_seed(seed)
    courses = (
        random_course(duration_s, generator, turns=turns, steady=steady) for _ in range(count)
    )
    return [stepping(course, name=f"{name}_{seed}_{index}") for index, course in enumerate(courses)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    making.add_arguments(parser, count=12, duration_s=12.0)
    parser.add_argument(
        "--turns", type=float, default=TURN_SHARE, help="share of new courses with a new facing"
    )
    parser.add_argument("--steady", action="store_true", help="one course for each clip")
    options = parser.parse_args(arguments)
    names = ("count", "duration_s", "seed", "turns", "steady")
    given = {name: getattr(options, name) for name in names}
    making.make_and_write(parser, options.out, functools.partial(random_steps, **given))


if __name__ == "__main__":
    main()
