"""Made reaches: the right hand goes to points around the body, stays there, and goes on.

    python -m tt_gym.motions.reaching --out reach/ --count 24 --seed 0

The arm is placed by inverse kinematics over standing and walking. For a low point the body crouches
and leans, with its feet where they were; for one aside or far away the chest turns and leans along.
With ``--around`` the body turns, step by step, to points beside and behind it.
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
from tt_gym.motions.clip import FPS, Clip, unroll
from tt_gym.motions.limbs import place_tip, world_pose
from tt_gym.motions.locomotion import STOP_S, smooth, walk_and_stop
from tt_gym.motions.shipped import shipped_clip
from tt_gym.motions.stepping import Course, stepping
from tt_gym.text import captions

HOLD_S = 1.0
"""How long the hand stays at every point, s."""
_CHEST = DEEPMIMIC.body_index("chest")
_AZIMUTH, _RADIUS = (math.radians(-110.0), math.radians(60.0)), (0.15, 0.7)
_HEIGHT_STANDING, _HEIGHT_WALKING = (0.1, 1.6), (0.9, 1.5)
_TRAVEL_S, _HAND_SPEED, _REST_S = (0.4, 0.9), 1.2, 0.5  # travel: this and distance over speed
_NATURAL = (0.0, -0.25, 0.8)  # where the hand about hangs, m
_REST_SHARE, _WALK_SHARE = 0.4, 0.3
_DEPTH = 0.42  # m the pelvis sinks for the lowest points
# of those all around
_AROUND, _FIRST_S = (0.6, (0.5, 1.5)), (0.3, 1.0)  # m along either axis, at most; heights
_WALKS_FIRST, _WALK_S = 0.4, (0.5, 1.8)  # share of clips, if not given
_WALKS_ON, _JOIN = 0.25, 10  # m on while stopping; frames
_EASY = math.radians(-75.0), math.radians(35.0)  # azimuths that need no turn
_TURN_RATE, _STAYS_S, _LONGEST_S = math.radians(90.0), 0.7, 2.0
_AROUND_TRAVEL_S = 0.55  # this and distance over speed
# of a hand that is held up
_RAISED_AZIMUTH, _RAISED_RADIUS = (math.radians(-60.0), math.radians(30.0)), (0.1, 0.35)
_RAISED_HEIGHT, _BEFORE_S, _RAISED_S = (1.45, 1.65), (0.3, 1.2), (2.0, 3.5)
_STOOP, _CHEST_STOOP = math.radians(45.0), math.radians(40.0)
_STOOP_BELOW, _STOOP_RANGE = 1.1, 0.9  # m: crouching begins below the first, is full that lower
_TWIST_SHARE, _TWIST = 0.5, math.radians(35.0)
_LEAN_BEYOND, _LEAN_RANGE, _LEAN = 0.25, 0.4, math.radians(30.0)
_HIPS_BACK = 0.16  # m the pelvis moves back per unit of stooping, for balance


def posture(point: Tensor) -> Tensor:
    """How the body helps, (..., 4): stoop in [0, 1]; chest turn, lean and its direction, rad.

    Args:
        point: of the hand relative to the root's place on the ground, in the heading frame, m.
    """
    stoop = ((_STOOP_BELOW - point[..., 2]) / _STOOP_RANGE).clamp(0.0, 1.0)
    azimuth = torch.atan2(point[..., 1], point[..., 0])
    twist = (_TWIST_SHARE * azimuth).clamp(-_TWIST, _TWIST)
    radius = point[..., :2].norm(dim=-1)
    lean = _LEAN * ((radius - _LEAN_BEYOND) / _LEAN_RANGE).clamp(0.0, 1.0)
    return torch.stack((stoop, twist, lean, azimuth), dim=-1)


Span = tuple[float, float, float]
"""When the hand sets out for a point, arrives there and leaves it, s."""


def reach_along(
    base: Clip,
    points: Tensor,
    weight: Tensor,
    *,
    standing: bool,
    name: str,
    spans: Sequence[Span] = (),
) -> Clip:
    """``base`` with the right hand at ``points``.

    Args:
        base: motion of legs, trunk and left arm.
        points: (T, 3) as in :func:`posture`.
        weight: 0: the recorded arm, 1: the hand at the point, (T,).
        standing: whether the body may crouch over the feet as they are.
        name: of the new clip.
        spans: in which the hand goes to a point that stays where it is, and stays there.
    """
    humanoid = DEEPMIMIC
    root_pos, joint_rot = base.root_pos.double().clone(), base.joint_rot.double().clone()
    heading = rotations.heading(joint_rot[:, 0])
    feet_pos, feet_rot = world_pose(humanoid, root_pos, joint_rot)
    stoop, twist, lean, azimuth = posture(points).unbind(dim=-1)
    stoop, twist, lean = weight * stoop * standing, weight * twist, weight * lean
    pitch = _about(heading, stoop * _STOOP)
    joint_rot[:, 0] = rotations.quat_multiply(pitch, joint_rot[:, 0])
    root_pos[:, 2] -= _DEPTH * stoop
    root_pos[:, :2] -= _HIPS_BACK * stoop.unsqueeze(-1) * rotations.direction_xy(heading)
    bow = rotations.quat_multiply(
        _about(azimuth, lean), rotations.quat_from_axis_angle(_axis("y"), stoop * _CHEST_STOOP)
    )
    turn = rotations.quat_multiply(bow, rotations.yaw_quat(twist))
    joint_rot[:, _CHEST] = rotations.quat_multiply(turn, joint_rot[:, _CHEST])
    if standing:
        for foot in humanoid.feet:
            joint_rot = place_tip(
                humanoid, root_pos, joint_rot, foot, feet_pos[:, foot], keep_rot=feet_rot[:, foot]
            )
    hand = humanoid.right_hand
    natural = world_pose(humanoid, root_pos, joint_rot)[0][:, hand]
    goal = torch.lerp(natural, _in_world(base, points), weight.unsqueeze(-1))
    placed = place_tip(humanoid, root_pos, joint_rot, hand, goal)
    # near weight 0 the recorded arm, not another that ends at the same place
    part = weight.clamp(max=0.2).div(0.2).view(-1, 1, 1)
    joint_rot = rotations.slerp(joint_rot, placed, part)
    source = f"{base.source}; made: right hand led to points by inverse kinematics"
    joint_rot = rotations.quat_normalize(joint_rot)
    path = world_pose(humanoid, root_pos, joint_rot)[0][:, hand]
    goals = torch.full_like(path, torch.nan)
    for sets_out, arrives, leaves in spans:
        if round(arrives * FPS) < len(path):
            goals[round(sets_out * FPS) : round(leaves * FPS)] = path[round(arrives * FPS)]
    return Clip(
        name,
        root_pos.float(),
        joint_rot.float(),
        loop=False,
        source=source,
        led=humanoid.body_names[hand] if standing else None,
        goals=goals.float(),
    )


def _axis(name: str) -> Tensor:
    return torch.tensor([float(name == axis) for axis in "xyz"], dtype=torch.float64)


def _about(heading: Tensor, pitch: Tensor) -> Tensor:
    """Leaning forward by ``pitch`` in the direction ``heading``, both (T,), rad."""
    yaw = rotations.yaw_quat(heading)
    bow = rotations.quat_from_axis_angle(_axis("y"), pitch)
    return rotations.quat_multiply(rotations.quat_multiply(yaw, bow), rotations.quat_conjugate(yaw))


def miss(clip: Clip, base: Clip, points: Tensor) -> Tensor:
    """Distance of the hand from its point, (T,), m: an arm is only so long."""
    pos, _ = world_pose(DEEPMIMIC, clip.root_pos.double(), clip.joint_rot.double())
    return (pos[:, DEEPMIMIC.right_hand] - _in_world(base, points)).norm(dim=-1)


def _in_world(base: Clip, points: Tensor) -> Tensor:
    heading = rotations.heading(base.joint_rot[:, 0].double())
    world = rotations.rotate(rotations.yaw_quat(heading), points)
    world[:, :2] += base.root_pos[:, :2]
    return world


def random_points(count: int, *, standing: bool, generator: torch.Generator) -> Tensor:
    """Points for the hand as in :func:`posture`, (count, 3), m; high ones while walking."""
    ranges = (_AZIMUTH, _RADIUS, _HEIGHT_STANDING if standing else _HEIGHT_WALKING)
    low, high = torch.tensor(ranges, dtype=torch.float64).unbind(dim=1)
    azimuth, radius, height = torch.lerp(
        low, high, torch.rand(count, 3, generator=generator).double()
    ).unbind(dim=1)
    return torch.stack((radius * azimuth.cos(), radius * azimuth.sin(), height), dim=1)


def random_course(
    frames: int, *, standing: bool, generator: torch.Generator
) -> tuple[Tensor, Tensor, list[Span]]:
    """Points (T, 3), weights (T,) and times of one reach after the other; some rest in between."""
    uniform = functools.partial(making.uniform, generator)

    def point() -> list[float]:
        return random_points(1, standing=standing, generator=generator)[0].tolist()

    def travel(start: list[float], end: list[float]) -> float:
        return uniform(*_TRAVEL_S) + math.dist(start, end) / _HAND_SPEED

    natural, goal = list(_NATURAL), point()
    keys = [(0.0, [*goal, 0.0]), (_REST_S, [*goal, 0.0])]  # time; point and weight
    came_from, spans = natural, []
    while keys[-1][0] * FPS < frames:
        arrival = keys[-1][0] + travel(came_from, goal)
        leave = arrival + HOLD_S
        spans.append((keys[-1][0], arrival, leave))
        keys += [(arrival, [*goal, 1.0]), (leave, [*goal, 1.0])]
        came_from, goal = goal, point()
        if uniform(0.0, 1.0) < _REST_SHARE:
            back = leave + travel(came_from, natural)
            keys += [
                (back, [*came_from, 0.0]),
                (back, [*goal, 0.0]),
                (back + _REST_S, [*goal, 0.0]),
            ]
            came_from = natural
    return *_through(keys, frames), spans


def _through(keys: list[tuple[float, list[float]]], frames: int) -> tuple[Tensor, Tensor]:
    """From key to key with no speed and no acceleration at either (fifth-order polynomial)."""
    times = torch.tensor([time for time, _ in keys], dtype=torch.float64)
    values = torch.tensor([value for _, value in keys], dtype=torch.float64)
    grid = torch.arange(frames, dtype=torch.float64) / FPS
    left = (torch.searchsorted(times, grid, right=True) - 1).clamp(0, len(times) - 2)
    span = (times[left + 1] - times[left]).clamp(min=1e-9)
    part = making.ease(((grid - times[left]) / span).clamp(0.0, 1.0))
    course = torch.lerp(values[left], values[left + 1], part.unsqueeze(-1))
    return course[:, :3], course[:, 3]


def random_reaches(*, count: int, duration_s: float = 12.0, seed: int = 0) -> list[Clip]:
    """Clips ``reach_SEED_0`` ... over standing and walking.

    Raises:
        ValueError: ``count`` or ``duration_s`` is not positive.
    """
    making.check_positive(count, duration_s)
    generator = torch.Generator().manual_seed(seed)
    frames = round(duration_s * FPS)
    bases = {
        standing: unroll(shipped_clip("idle" if standing else "walk_forward"), duration_s + 1.0)
        for standing in (True, False)
    }
    clips = []
    for index in range(count):
        standing = bool(torch.rand((), generator=generator) >= _WALK_SHARE)
        base = _first(bases[standing], frames)
        points, weight, spans = random_course(frames, standing=standing, generator=generator)
        name, spans = f"reach_{seed}_{index}", spans if standing else []
        clips.append(reach_along(base, points, weight, standing=standing, name=name, spans=spans))
    return clips


def reaches_around(
    *,
    count: int,
    duration_s: float = 12.0,
    seed: int = 0,
    walks: float = _WALKS_FIRST,
    longest_s: float = _LONGEST_S,
) -> list[Clip]:
    """Clips ``reach_around_SEED_0`` ...: stand and reach for points around, one after the other.

    Whatever lies beside or behind the body it turns to, no further than it must and step by step,
    while the hand is on its way. A share of them, ``walks``, walk first and stop for the first
    point. The hand stays at each for at most ``longest_s``.

    Raises:
        ValueError: ``count`` or ``duration_s`` is not positive, ``walks`` is no share, or
            ``longest_s`` is less than the hand stays at least.
    """
    making.check_positive(count, duration_s)
    if not 0.0 <= walks <= 1.0:
        raise ValueError(f"walks must be in [0, 1], got {walks}")
    if longest_s < _STAYS_S:
        raise ValueError(f"longest_s must be at least {_STAYS_S}, got {longest_s}")
    generator = torch.Generator().manual_seed(seed)
    uniform = functools.partial(making.uniform, generator)
    frames = round(duration_s * FPS)
    time = torch.arange(frames, dtype=torch.float64) / FPS
    clips = []
    for index in range(count):
        first = uniform(0.0, 1.0) < walks
        now, rate, spans = uniform(*(_WALK_S if first else _FIRST_S)), torch.zeros_like(time), []
        walk = walk_and_stop(now) if first else None
        stops = now + STOP_S if first else 0.0
        came_from = list(_NATURAL)
        keys = [(0.0, [*came_from, 0.0]), (now, [*came_from, 0.0])]
        while now < duration_s:
            side, height = _AROUND
            x, y, z = uniform(-side, side), uniform(-side, side), uniform(*height)
            x -= _WALKS_ON if now < stops else 0.0  # it was asked for before the stop
            azimuth, radius = math.atan2(y, x), max(math.hypot(x, y), _RADIUS[0])
            turn = _turn_to(azimuth)
            ahead = azimuth - turn
            goal = [radius * math.cos(ahead), radius * math.sin(ahead), z]
            sets_out, turns, lasts = now, max(now, stops), abs(turn) / _TURN_RATE
            rate += math.copysign(_TURN_RATE, turn) * ((time >= turns) & (time < turns + lasts))
            travel = _AROUND_TRAVEL_S + math.dist(came_from, goal) / _HAND_SPEED
            arrives = max(turns + lasts, now + travel)
            now = arrives + uniform(_STAYS_S, longest_s)
            spans.append((sets_out, arrives, now))
            keys += [(arrives, [*goal, 1.0]), (now, [*goal, 1.0])]
            came_from = goal
        name = f"reach_around_{seed}_{index}"
        base = _turning(torch.cumsum(smooth(rate), dim=0) / FPS, name)
        if walk is not None:
            base = _joined(walk, base, round(stops * FPS))
        points, weight = _through(keys, frames)
        clips.append(reach_along(base, points, weight, standing=True, name=name, spans=spans))
    return clips


def _turning(facing: Tensor, name: str) -> Clip:
    """Stand and turn step by step, facing (T,), rad."""
    still = torch.zeros(len(facing), 2, dtype=torch.float64)
    nothing = torch.full((len(facing), 3), torch.nan, dtype=torch.float64)
    return stepping(Course(still, facing, nothing), name=name)


def _joined(first: Clip, then: Clip, frame: int) -> Clip:
    """``first`` until a frame, and the frames of ``then`` from there on, where ``first`` stands.

    Over ``_JOIN`` frames one becomes the other.
    """
    count = then.num_frames
    offset = (first.root_pos[frame] - then.root_pos[frame]) * torch.tensor([1.0, 1.0, 0.0])
    kept = torch.arange(count).clamp(max=first.num_frames - 1)
    part = ((torch.arange(count) - frame) / _JOIN).clamp(0.0, 1.0)
    root = torch.lerp(first.root_pos[kept], then.root_pos + offset, part.unsqueeze(-1))
    rot = rotations.slerp(first.joint_rot[kept], then.joint_rot, part.view(-1, 1, 1))
    return dataclasses.replace(
        then, root_pos=root, joint_rot=rot, source=f"{first.source}; {then.source}"
    )


def _turn_to(azimuth: float) -> float:
    """How far to turn, rad, for a point there to be where the hand reaches without turning."""
    low, high = _EASY
    if low <= azimuth <= high:
        return 0.0
    return min((math.remainder(azimuth - edge, 2.0 * math.pi) for edge in _EASY), key=abs)


def raised_hands(*, count: int, seed: int = 0) -> list[Clip]:
    """Clips ``actions_raise_SEED_0`` ...: stand or walk, hold the right hand up, let it hang again.

    They know what is done when (:attr:`~tt_gym.motions.clip.Clip.behaviours`).

    Raises:
        ValueError: ``count`` is not positive.
    """
    making.check_positive(count, 1.0)
    generator = torch.Generator().manual_seed(seed)
    uniform = functools.partial(making.uniform, generator)
    clips = []
    for index in range(count):
        standing = uniform(0.0, 1.0) >= _WALK_SHARE
        azimuth, radius = uniform(*_RAISED_AZIMUTH), uniform(*_RAISED_RADIUS)
        point = [radius * math.cos(azimuth), radius * math.sin(azimuth), uniform(*_RAISED_HEIGHT)]
        starts = uniform(*_BEFORE_S)
        up = starts + uniform(*_TRAVEL_S) + math.dist(_NATURAL, point) / _HAND_SPEED
        down = up + uniform(*_RAISED_S)
        back = down + up - starts
        keys = [(0.0, 0.0), (starts, 0.0), (up, 1.0), (down, 1.0), (back, 0.0), (back + 1.0, 0.0)]
        frames = round((back + 1.0) * FPS)
        points, weight = _through([(time, [*point, part]) for time, part in keys], frames)
        base = unroll(shipped_clip("idle" if standing else "walk_forward"), back + 2.0)
        name = f"actions_raise_{seed}_{index}"
        clip = reach_along(_first(base, frames), points, weight, standing=standing, name=name)
        rest = captions.STAND if standing else captions.WALK
        done = ((0, rest), (round(starts * FPS), captions.RAISE_RIGHT), (round(down * FPS), rest))
        clips.append(dataclasses.replace(clip, behaviours=done))
    return clips


def _first(clip: Clip, frames: int) -> Clip:
    return Clip(clip.name, clip.root_pos[:frames], clip.joint_rot[:frames], False, clip.source)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    making.add_arguments(parser, count=24, duration_s=12.0)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--around", action="store_true", help="turn to points beside and behind")
    kind.add_argument("--raised", action="store_true", help="hold it up; without --duration-s")
    parser.add_argument(
        "--walks", type=float, help=f"share that walks first, with --around; {_WALKS_FIRST}"
    )
    parser.add_argument(
        "--longest-s", type=float, help=f"a hand stays, s, with --around; {_LONGEST_S}"
    )
    options = parser.parse_args(arguments)
    given = {"count": options.count, "seed": options.seed}
    for name in ("walks", "longest_s"):
        value = getattr(options, name)
        if value is not None:
            if not options.around:
                parser.error(f"--{name.replace('_', '-')} is for --around")
            given[name] = value
    if options.raised:
        make = functools.partial(raised_hands, **given)
    else:
        kind_of = reaches_around if options.around else random_reaches
        make = functools.partial(kind_of, duration_s=options.duration_s, **given)
    making.make_and_write(parser, options.out, make)


if __name__ == "__main__":
    main()
