"""Made leaps: run, take off from one foot, fly, run on.

    python -m tt_gym.motions.leaping --out leaps/ --count 12 --seed 0

Nobody was recorded leaping out of a run here. In these clips some flights of the recorded run last
longer: the root flies a parabola, and the legs, by inverse kinematics, bend for the push before it
and for the landing after it. They are tagged "made" and know what is done when.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions import making
from tt_gym.motions.clip import FPS, Clip, mirror, unroll
from tt_gym.motions.editing import time_warp
from tt_gym.motions.limbs import place_tip, world_pose
from tt_gym.motions.shipped import shipped_clip

_GRAVITY = 9.81  # m/s^2
_PACE, _FLIGHT_S = (0.95, 1.08), (0.34, 0.46)
_RUN_UP_STEPS, _STEPS_AFTER, _LEAPS = (3, 6), 4, 2
_STANCE = 7  # frames in which the root sinks and rises for a push, and again after the landing
_TOLD_EARLIER = 10  # frames before the push, at most: about one step
_AIR = 0.03  # m: flights are where the body is higher above the floor than that


def flights(clip: Clip) -> list[tuple[int, int]]:
    """First and last frame of every flight but those cut by the clip's ends."""
    pos, rot = world_pose(DEEPMIMIC, clip.root_pos, clip.joint_rot)
    air = (DEEPMIMIC.lowest_point(pos, rot) > _AIR).tolist()
    found, first = [], None
    for frame in range(1, clip.num_frames):
        if air[frame] and not air[frame - 1]:
            first = frame
        if first is not None and air[frame - 1] and not air[frame]:
            found.append((first, frame - 1))
    return found


def leap(clip: Clip, first: int, last: int, flight_s: float) -> Clip:
    """``clip`` with the flight from frame ``first`` to ``last`` lasting ``flight_s``, about.

    Args:
        clip: of a run.
        first: frame of the flight.
        last: frame of the flight; before and after it is ground for a push and a landing.
        flight_s: from the last frame on the ground to the next, s.

    Raises:
        ValueError: the clip ends too soon before or after the flight.
    """
    before, after, count = first - 1, last + 1, round(flight_s * FPS)
    if before < _STANCE or after + _STANCE >= clip.num_frames:
        raise ValueError(f"flight {first} to {last} needs {_STANCE} frames before and after it")
    pos, rot = clip.root_pos.double(), clip.joint_rot.double()
    frames = before + torch.linspace(0.0, 1.0, count + 1, dtype=pos.dtype) * (after - before)
    left = frames.long().clamp(max=after - 1)
    flying = rotations.slerp(rot[left], rot[left + 1], (frames - left).view(-1, 1, 1))
    time_s = torch.arange(count + 1, dtype=pos.dtype).unsqueeze(-1) / FPS
    end_s = count / FPS
    velocity = (pos[after] - pos[before]) * FPS / (after - before)
    velocity[2] = (pos[after, 2] - pos[before, 2]) / end_s + 0.5 * _GRAVITY * end_s
    gravity = torch.tensor([0.0, 0.0, _GRAVITY], dtype=pos.dtype)
    path = pos[before] + velocity * time_s - 0.5 * gravity * time_s.square()
    farther = path[-1] - pos[after]
    root = torch.cat((pos[:before], path, pos[after + 1 :] + farther))
    joint_rot = torch.cat((rot[:before], flying, rot[after + 1 :]))
    ankles, turned = world_pose(DEEPMIMIC, root, joint_rot)
    # the root sinks and comes up with the speed of the take-off, and the same backwards after it
    bent = root.clone()
    landing = before + count
    push = velocity[2] - (pos[before, 2] - pos[before - 1, 2]) * FPS
    bent[before - _STANCE : before + 1, 2] += _sink(push)
    stop = (pos[after + 1, 2] - pos[after, 2]) * FPS - (velocity[2] - _GRAVITY * end_s)
    bent[landing : landing + _STANCE + 1, 2] += _sink(stop).flip(0)
    placed = joint_rot
    for foot in DEEPMIMIC.feet:
        goal, keep = ankles[:, foot], turned[:, foot]
        placed = place_tip(DEEPMIMIC, bent, placed, foot, goal, keep_rot=keep)
    lower = (bent[:, 2] < root[:, 2]).view(-1, 1, 1)
    joint_rot = rotations.quat_normalize(torch.where(lower, placed, joint_rot))
    return dataclasses.replace(clip, root_pos=bent.float(), joint_rot=joint_rot.float())


def _sink(speed: Tensor) -> Tensor:
    """From 0 down and up again to 0, there with ``speed``, m/s: (_STANCE + 1,), m."""
    part = torch.linspace(0.0, 1.0, _STANCE + 1, dtype=torch.float64)
    return speed * _STANCE / FPS * (part**3 - part**2)


def random_leaps(*, count: int, seed: int = 0) -> list[Clip]:
    """Clips ``actions_leap_SEED_0`` ...: runs with leaps; every other one is mirrored.

    Raises:
        ValueError: ``count`` is not positive.
    """
    making.check_positive(count, 1.0)
    generator = torch.Generator().manual_seed(seed)
    uniform = functools.partial(making.uniform, generator)

    def steps(least: int, most: int) -> int:
        return int(torch.randint(least, most + 1, (), generator=generator))

    clips = []
    for index in range(count):
        clip = unroll(time_warp(shipped_clip("run"), uniform(*_PACE)), 10.0)
        done, number = [(0, "run")], 0
        for _ in range(_LEAPS):
            number += steps(*_RUN_UP_STEPS)
            first, last = flights(clip)[number]
            clip = leap(clip, first, last, uniform(*_FLIGHT_S))
            first, last = flights(clip)[number]
            told = first - _STANCE - steps(0, _TOLD_EARLIER)
            done += [(told, "jump"), (last + 1, "run")]
        end = flights(clip)[number + _STEPS_AFTER][0]
        clip = dataclasses.replace(
            clip,
            name=f"actions_leap_{seed}_{index}",
            root_pos=clip.root_pos[:end],
            joint_rot=clip.joint_rot[:end],
            source=f"{clip.source}; made: longer flights, legs by inverse kinematics",
            behaviours=tuple(done),
        )
        if index % 2:
            clip = dataclasses.replace(mirror(clip, DEEPMIMIC), name=clip.name)
        clips.append(clip)
    return clips


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    making.add_arguments(parser, count=12)
    options = parser.parse_args(arguments)
    make = functools.partial(random_leaps, count=options.count, seed=options.seed)
    making.make_and_write(parser, options.out, make)


if __name__ == "__main__":
    main()
