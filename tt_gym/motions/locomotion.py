"""Made locomotion: any course of speed and turning, blended from standing, walking and jogging.

    python -m tt_gym.motions.locomotion --jog jog.txt --out made/ --count 8 --seed 0

Recordings show steady gaits. These clips start, stop, turn, speed up and slow down; physics and the
tracker decide what of it is possible. They are tagged "made".
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.motions import making
from tt_gym.motions.clip import FPS, Clip, ClipError
from tt_gym.motions.deepmimic import read_deepmimic
from tt_gym.motions.editing import close_loop
from tt_gym.motions.shipped import shipped_clip

TOP_SPEED = 3.2
"""m/s; the fastest that is blended, 1.15 times the recorded jog."""
_WALK_RATE = 1.75  # up to here, walking faster is walking played faster
_JOG_RATE = 0.8  # from here, jogging slower is jogging played slower
_SLOW_STEP = 0.6  # steps of slow walking shorten with speed to this power
_PACE_SWING = 0.3  # share kept of the recorded swing of speed within a step
_STEP_IN_PLACE = math.radians(90.0)  # rad/s of turning that calls for half a stride
_GRAVITY = 9.81
_ACCELERATION, _TURN_RATE, _SIDEWAYS = 2.0, math.radians(100.0), 2.5  # m/s^2, rad/s, m/s^2
_SMOOTH_FRAMES = 13
STOP_S = 0.5
"""How long :func:`walk_and_stop` takes from a walk to a stand, s."""
_NOTICE_FRAMES = 4  # smoothing lets a change begin early; what is asked is moved about as much
_STILL = 0.02  # stride below which feet stand: the next step is the first of a new walk
_SEGMENT_S = (1.5, 6.6)
_STOP_SHARE, _SLOW_SHARE = 0.2, 0.45
_SLOW_RANGE, _FAST_RANGE = (0.4, 1.7), (1.7, TOP_SPEED)
_TURN = math.radians(100.0)
# a larger turn is made slowly, like a person's, until its rest is small
_SHARP_ACCELERATION, _SHARP_RATE, _SHARP_SPEED = 3.0, math.radians(150.0), 0.7
_SHARP_UNTIL = math.radians(50.0)


@dataclasses.dataclass(frozen=True)
class Gait:
    """One cycle of a steady gait along +x, as a function of phase in [0, 1).

    Attributes:
        speed: m/s. frequency: cycles per second.
        sway: root relative to even progress: offset forward, to the left, height; (P, 3), m.
        rot: rotation of every body relative to its parent, the mean heading removed, (P, B, 4).
    """

    speed: float
    frequency: float
    sway: Tensor
    rot: Tensor

    def at(self, phase: Tensor) -> tuple[Tensor, Tensor]:
        """Sway (T, 3) and rotations (T, B, 4) at phases (T,)."""
        count = len(self.sway)
        position = (phase % 1.0) * count
        left = position.long() % count
        right = (left + 1) % count
        part = (position - position.floor()).unsqueeze(-1)
        sway = torch.lerp(self.sway[left], self.sway[right], part)
        return sway, rotations.slerp(self.rot[left], self.rot[right], part.unsqueeze(-1))


def gait_from_loop(clip: Clip) -> Gait:
    """The cycle of a looping clip; its mean direction becomes +x.

    Raises:
        ClipError: the clip does not loop.
    """
    if not clip.loop:
        raise ClipError(f"clip {clip.name!r} must loop to be a gait")
    count = clip.num_frames - 1
    pos, rot = clip.root_pos.double(), clip.joint_rot.double()
    travel = (pos[-1] - pos[0])[:2]
    length = float(travel.norm())
    yaw = rotations.heading(rot[:count, 0])
    # standing clips go nowhere: then the way they face is ahead
    ahead = torch.atan2(travel[1], travel[0]) if length > 0.1 else yaw.mean()
    progress = torch.arange(count, dtype=torch.float64).unsqueeze(-1) / count
    offset = pos[:count, :2] - pos[0, :2] - progress * travel
    offset = rotations.rotate_xy(-ahead, offset - offset.mean(dim=0))
    turned = rot[:count].clone()
    turned[:, 0] = rotations.quat_multiply(rotations.yaw_quat(-ahead), turned[:, 0])
    return Gait(
        speed=length / clip.duration_s,
        frequency=1.0 / clip.duration_s,
        sway=torch.cat((offset, pos[:count, 2:]), dim=-1),
        rot=turned,
    )


def in_step(gait: Gait, other: Gait, bodies: Sequence[int]) -> Gait:
    """``gait`` shifted in phase so that the given bodies (the legs) move most like ``other``'s."""
    phases = torch.arange(60, dtype=torch.float64) / 60
    wanted = other.at(phases)[1][:, list(bodies)]
    difference = [
        float(rotations.rotation_angle(gait.at(phases + shift)[1][:, list(bodies)], wanted).sum())
        for shift in phases.tolist()
    ]
    shift = round(float(phases[difference.index(min(difference))]) * len(gait.sway))
    return dataclasses.replace(gait, sway=gait.sway.roll(-shift, 0), rot=gait.rot.roll(-shift, 0))


def locomotion(
    stand: Gait,
    walk: Gait,
    jog: Gait,
    *,
    speed: Tensor,
    turn_rate: Tensor,
    name: str,
    source: str,
    asked: Tensor | None = None,
) -> Clip:
    """Move at ``speed`` (T,) m/s while turning at ``turn_rate`` (T,) rad/s, frame by frame.

    Stride and cadence grow together below walking speed; between a fast walk and a slow jog the
    poses are blended in step. The body leans into turns, and its speed swings less within a step
    than a recorded one's. Every walk from a stand begins with the same foot: a standing body does
    not tell which comes next.
    """
    fast_walk, slow_jog = _WALK_RATE * walk.speed, _JOG_RATE * jog.speed
    jogging = ((speed - fast_walk) / (slow_jog - fast_walk)).clamp(0.0, 1.0)
    stride = (speed / walk.speed).clamp(0.0, 1.0) ** _SLOW_STEP
    turning = (turn_rate.abs() / _STEP_IN_PLACE).clamp(max=1.0)
    stride = torch.maximum(stride, 0.5 * turning)
    cadence = walk.frequency * speed / walk.speed / stride.clamp(min=1e-3)
    cadence = torch.maximum(cadence, 0.8 * walk.frequency * turning)
    cadence = torch.where(
        jogging > 0,
        torch.lerp(
            walk.frequency * (speed / walk.speed).clamp(max=_WALK_RATE),
            jog.frequency * (speed / jog.speed).clamp(min=_JOG_RATE),
            jogging,
        ),
        cadence,
    )
    phase = torch.cumsum(cadence, dim=0) / FPS
    still = stride < _STILL
    # the phase at the latest still frame is taken off again
    latest = torch.where(still, phase, 0.0).cummax(dim=0).values
    phase = phase - latest + torch.where(still.cummax(dim=0).values, first_step(stand, walk), 0.0)
    sway, rot = stand.at(torch.arange(len(speed)).double() / FPS * stand.frequency)
    for gait, weight in ((walk, stride), (jog, jogging)):
        other_sway, other_rot = gait.at(phase)
        sway = torch.lerp(sway, other_sway, weight.unsqueeze(-1))
        rot = rotations.slerp(rot, other_rot, weight.view(-1, 1, 1))
    sway[:, 0] *= _PACE_SWING
    lean = rotations.quat_from_axis_angle(
        torch.tensor([1.0, 0.0, 0.0], dtype=speed.dtype), -torch.atan(speed * turn_rate / _GRAVITY)
    )
    heading = torch.cumsum(turn_rate, dim=0) / FPS
    sway = rotations.rotate(rotations.quat_multiply(rotations.yaw_quat(heading), lean), sway)
    path = torch.cumsum(rotations.direction_xy(heading) * speed.unsqueeze(-1), dim=0) / FPS
    upright = rotations.quat_multiply(rotations.yaw_quat(heading), lean)
    rot[:, 0] = rotations.quat_multiply(upright, rot[:, 0])
    root_pos = torch.cat((path + sway[:, :2], sway[:, 2:]), dim=-1)
    joint_rot = rotations.quat_normalize(rot)
    given = None if asked is None else asked.float()
    return Clip(name, root_pos.float(), joint_rot.float(), False, source, given)


def first_step(stand: Gait, walk: Gait) -> float:
    """Phase of ``walk`` at which it is most like standing."""
    phases = torch.arange(120, dtype=torch.float64) / 120
    difference = rotations.rotation_angle(walk.at(phases)[1], stand.rot[0]).square().sum(dim=-1)
    return float(phases[difference.argmin()])


def random_course(
    duration_s: float, generator: torch.Generator, *, turn: float = _TURN
) -> tuple[Tensor, Tensor, Tensor]:
    """Speed (T,), m/s, turn rate (T,), rad/s, and what is asked, (T, 2): heading, rad, and speed.

    Turns are at most ``turn``, rad; with more than 100 degrees the humanoid slows down for them.

    There is a new speed and heading every few seconds. Changes are as fast as a person makes them:
    limited acceleration, turn rate and, when fast, sideways acceleration.
    """
    uniform = functools.partial(making.uniform, generator)
    count = round(duration_s * FPS)
    speeds, rates = torch.zeros(count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    commands = torch.zeros(count, 2, dtype=torch.float64)
    speed = asked = heading = goal = 0.0
    until, sharp = 30, False
    for frame in range(count):
        if frame >= until:
            until = frame + round(uniform(*_SEGMENT_S) * FPS)
            kind = uniform(0.0, 1.0)
            slow = kind < _STOP_SHARE + _SLOW_SHARE
            asked = uniform(*(_SLOW_RANGE if slow else _FAST_RANGE))
            asked = 0.0 if kind < _STOP_SHARE else asked
            goal = heading + (uniform(-turn, turn) if uniform(0.0, 1.0) < 0.6 else 0.0)
            sharp = abs(goal - heading) > _TURN
        sharp = sharp and abs(goal - heading) > _SHARP_UNTIL
        step = (_SHARP_ACCELERATION if sharp else _ACCELERATION) / FPS
        wanted = min(asked, _SHARP_SPEED) if sharp else asked
        speed += min(max(wanted - speed, -step), step)
        limit = min(_SHARP_RATE if sharp else _TURN_RATE, _SIDEWAYS / max(speed, 1e-6))
        rate = min(max(2.5 * (goal - heading), -limit), limit)
        heading += rate / FPS
        speeds[frame], rates[frame] = speed, rate
        commands[frame, 0], commands[frame, 1] = goal, asked
    last = commands[-1:].expand(_NOTICE_FRAMES, 2)
    commands = torch.cat((commands[_NOTICE_FRAMES:], last))
    return smooth(speeds), smooth(rates), commands


def walk_and_stop(walk_s: float) -> Clip:
    """Walk along +x, begin to stop after a time and stand until 1.3 s after that.

    It stands :data:`STOP_S` after it began to stop.
    """
    stand, walk = _shipped_gait("idle"), _shipped_gait("walk_forward")
    time = torch.arange(round((walk_s + 1.3) * FPS) + 1, dtype=torch.float64) / FPS
    speed = walk.speed * (1.0 - (time - walk_s).clamp(min=0.0) / STOP_S).clamp(min=0.0)
    never = dataclasses.replace(walk, speed=10.0 * walk.speed)  # no jogging
    source = shipped_clip("walk_forward").source
    straight = torch.zeros_like(time)
    return locomotion(
        stand, walk, never, speed=smooth(speed), turn_rate=straight, name="walk", source=source
    )


@functools.cache
def _shipped_gait(name: str) -> Gait:
    return gait_from_loop(shipped_clip(name))


def smooth(values: Tensor) -> Tensor:
    """The same course (T,) without corners."""
    window = torch.hann_window(_SMOOTH_FRAMES + 2, periodic=False, dtype=values.dtype)[1:-1]
    half = _SMOOTH_FRAMES // 2
    padded = torch.cat((values[:1].expand(half), values, values[-1:].expand(half)))
    return padded.unfold(0, _SMOOTH_FRAMES, 1) @ (window / window.sum())


def random_locomotion(
    jog_clip: Clip,
    *,
    count: int,
    duration_s: float = 40.0,
    seed: int = 0,
    turn: float = _TURN,
) -> list[Clip]:
    """Clips ``locomotion_SEED_0`` ... along random courses.

    Raises:
        ClipError: ``jog_clip`` does not loop.
    """
    stand, walk = _shipped_gait("idle"), _shipped_gait("walk_forward")
    legs = range(9, 15)  # hips, knees and ankles
    jog = in_step(gait_from_loop(jog_clip), walk, legs)
    generator = torch.Generator().manual_seed(seed)
    source = f"made: standing, walking and jogging blended along a course; {jog_clip.source}"
    clips = []
    for index in range(count):
        speed, turn_rate, asked = random_course(duration_s, generator, turn=turn)
        name = f"locomotion_{seed}_{index}"
        course = {"speed": speed, "turn_rate": turn_rate, "asked": asked}
        clips.append(locomotion(stand, walk, jog, **course, name=name, source=source))
    return clips


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jog", type=Path, required=True, help="a looping jog, DeepMimic's .txt")
    making.add_arguments(parser, count=8, duration_s=40.0)
    parser.add_argument("--turn-deg", type=float, default=math.degrees(_TURN), help="largest turn")
    options = parser.parse_args(arguments)
    try:
        jog = close_loop(read_deepmimic(options.jog, source="local file"))
        clips = random_locomotion(
            jog,
            count=options.count,
            duration_s=options.duration_s,
            seed=options.seed,
            turn=math.radians(options.turn_deg),
        )
    except ClipError as error:
        parser.exit(1, f"error: {error}\n")
    making.write_clips(clips, options.out)


if __name__ == "__main__":
    main()
