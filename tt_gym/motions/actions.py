"""Made actions: stand or walk, then jump, kick, punch or turn, then stand; recordings blended.

    python -m tt_gym.motions.actions --out actions/ --count 28 --clips stealthy_walk.txt

Recordings of actions begin in their own poses. These clips lead there from where people are: by a
blend, or by a step where the feet must go elsewhere, as into the stance of a fighter. They are
tagged "made" and know what is done when (:attr:`~tt_gym.motions.clip.Clip.behaviours`).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions import making
from tt_gym.motions.clip import FPS, Clip, ClipError, mirror, moved, unroll
from tt_gym.motions.editing import time_warp
from tt_gym.motions.files import read_clip
from tt_gym.motions.footwork import needs_step, step_into
from tt_gym.motions.locomotion import STOP_S, walk_and_stop
from tt_gym.motions.shipped import shipped_clip
from tt_gym.text import captions
from tt_gym.text.captions import NAMES

ACTIONS = ("jump", "kick", "punch", "turn_left0", "turn_left1", "turn_right0", "turn_right1")
"""Shipped clips that are led to."""
BLEND_FRAMES = 12
"""Frames over which one piece becomes the next."""
_LEAD_S, _REST_S = (0.7, 2.0), 1.3  # before the action and after it
_PACE = (0.95, 1.05)
_LOOP_S = 3.0  # a looping action is repeated that long


@dataclasses.dataclass(frozen=True)
class Piece:
    """Frames ``first`` to ``last`` of a clip, both shown, and what is done in them."""

    clip: Clip
    first: int
    last: int
    behaviour: str


def chain(pieces: Sequence[Piece], name: str) -> Clip:
    """One piece after the other; where two meet they share :data:`BLEND_FRAMES` frames.

    A piece is put where the one before it leads: same place and same heading in the middle of the
    frames they share. Where feet would slide there is a step instead
    (:mod:`~tt_gym.motions.footwork`). What is done changes where the blend or the step begins.

    Raises:
        ValueError: no pieces, or one too short to be blended at both ends.
    """
    if not pieces or any(piece.last - piece.first < 2 * BLEND_FRAMES for piece in pieces):
        raise ValueError(f"chain {name!r} needs pieces of at least {2 * BLEND_FRAMES + 1} frames")
    ease = torch.linspace(0.0, 1.0, BLEND_FRAMES, dtype=torch.float64)
    ease = ease.square() * (3.0 - 2.0 * ease)
    pos, rot = _frames(pieces[0])
    behaviours = [(0, pieces[0].behaviour)]
    for piece in pieces[1:]:
        start = len(pos) - BLEND_FRAMES
        shared = slice(start, len(pos))
        new_pos, new_rot = _placed(*_frames(piece), pos[shared], rot[shared])
        if needs_step((pos[shared], rot[shared]), (new_pos, new_rot)):
            (pos, rot), start = step_into((pos, rot), (new_pos, new_rot))
            behaviours.append((start, piece.behaviour))
            continue
        blended = torch.lerp(pos[shared], new_pos[:BLEND_FRAMES], ease.unsqueeze(-1))
        turned = rotations.slerp(rot[shared], new_rot[:BLEND_FRAMES], ease.view(-1, 1, 1))
        pos = torch.cat((pos[:start], blended, new_pos[BLEND_FRAMES:]))
        rot = torch.cat((rot[:start], turned, new_rot[BLEND_FRAMES:]))
        behaviours.append((start, piece.behaviour))
    sources = "; ".join(dict.fromkeys(piece.clip.source for piece in pieces))
    return Clip(
        name,
        pos.float(),
        rotations.quat_normalize(rot).float(),
        loop=False,
        source=f"made: {', '.join(piece.clip.name for piece in pieces)} blended; {sources}",
        behaviours=tuple(behaviours),
    )


def _frames(piece: Piece) -> tuple[Tensor, Tensor]:
    shown = slice(piece.first, piece.last + 1)
    return piece.clip.root_pos[shown].double(), piece.clip.joint_rot[shown].double()


def _placed(pos: Tensor, rot: Tensor, end_pos: Tensor, end_rot: Tensor) -> tuple[Tensor, Tensor]:
    """Frames moved in the plane so that their beginning lies on the end of those before."""
    middle = BLEND_FRAMES // 2
    yaw = rotations.heading(end_rot[middle, 0]) - rotations.heading(rot[middle, 0])
    return moved(pos, rot, yaw=yaw, pivot=pos[middle, :2], place=end_pos[middle, :2])


def lead_in(before: Clip, action: Clip, length: int) -> int:
    """Frame of ``before``, at least ``length``, at which it is most like the action's beginning.

    Raises:
        ValueError: ``before`` is shorter than that.
    """
    room = before.num_frames - BLEND_FRAMES - length
    if room < 1:
        raise ValueError(f"clip {before.name!r} has no frame {length} with a blend after it")
    frames = torch.arange(length, length + room)
    difference = rotations.rotation_angle(before.joint_rot[frames, 1:], action.joint_rot[0, 1:])
    return int(frames[difference.square().sum(dim=-1).argmin()])


def random_actions(
    more: Sequence[Clip] = (), *, count: int, seed: int = 0, times: int = 1
) -> list[Clip]:
    """Clips ``actions_SEED_0`` ...: each action in turn, from a stand, a walk, a stand ...

    After two rounds they are mirrored, but for kicks and punches; pace and moment are drawn.

    Args:
        more: clips to lead to besides :data:`ACTIONS`; words must be known for what they show.
        count: how many clips to make.
        seed: of pace and moment.
        times: how often each is done, one after the other.

    Raises:
        ValueError: ``count`` or ``times`` is not positive.
        ClipError: nothing is known about a clip.
    """
    making.check_positive(count, 1.0)
    if times < 1:
        raise ValueError(f"times must be at least 1, got {times}")
    generator = torch.Generator().manual_seed(seed)
    uniform = functools.partial(making.uniform, generator)
    stand, walk = (unroll(shipped_clip(name), 8.0) for name in ("idle", "walk_forward"))
    actions = [*(shipped_clip(name) for name in ACTIONS), *more]
    for clip in actions:
        if captions.of_clip(clip.name) == captions.NONE:
            raise ClipError(f"clip {clip.name!r}: no words for it in tt_gym.text.BEHAVIOURS")
    clips = []
    for index in range(count):
        recorded = actions[index % len(actions)]
        standing = index // len(actions) % 2 == 0
        action = unroll(time_warp(recorded, uniform(*_PACE)), _LOOP_S)
        lead_s = uniform(*_LEAD_S)
        doing = Piece(action, 0, action.num_frames - 1, NAMES[captions.of_clip(recorded.name)])
        rest = Piece(stand, 0, round(_REST_S * FPS), "stand")
        halts = not standing and _begins_elsewhere(doing, stand)
        if halts:
            stopping = walk_and_stop(lead_s)
            first = Piece(stopping, 0, stopping.num_frames - 1, "walk")
        else:
            before = stand if standing else walk
            end = lead_in(before, action, round(lead_s * FPS) + 2 * BLEND_FRAMES)
            first = Piece(before, 0, end + BLEND_FRAMES, "stand" if standing else "walk")
        made = chain((first, *[doing] * times, rest), f"actions_{seed}_{index}")
        if halts:
            walking, *others = made.behaviours
            stands = (round((lead_s + STOP_S) * FPS), "stand")
            made = dataclasses.replace(made, behaviours=(walking, stands, *others))
        if index // (2 * len(actions)) % 2 and doing.behaviour not in captions.ONE_SIDED:
            made = dataclasses.replace(mirror(made, DEEPMIMIC), name=made.name)
        clips.append(made)
    return clips


def _begins_elsewhere(action: Piece, stand: Clip) -> bool:
    """Whether the feet must go elsewhere from a stand."""
    end = _frames(Piece(stand, 0, BLEND_FRAMES - 1, "stand"))
    return needs_step(end, _placed(*_frames(action), *end))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    making.add_arguments(parser, count=28)
    parser.add_argument("--clips", nargs="*", default=[], help="files of clips to lead to as well")
    parser.add_argument("--times", type=int, default=1, help="each action is done that often")
    options = parser.parse_args(arguments)
    given = {"count": options.count, "seed": options.seed, "times": options.times}
    try:
        clips = [read_clip(Path(name)) for name in options.clips]
        made = random_actions(clips, **given)
    except (ClipError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    making.write_clips(made, options.out)


if __name__ == "__main__":
    main()
