"""Clips that lead from standing and walking into actions."""

import dataclasses

import pytest
import torch

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions import ClipError, load_clip, mirror, save_clip
from tt_gym.motions.actions import ACTIONS, BLEND_FRAMES, Piece, chain, main, random_actions
from tt_gym.motions.clip import FPS, Clip, unroll
from tt_gym.motions.editing import time_warp
from tt_gym.motions.library import MotionLibrary
from tt_gym.motions.limbs import world_pose
from tt_gym.motions.shipped import shipped_clip
from tt_gym.pretraining.distill_env import DistillEnv
from tt_gym.simulation import MujocoCpu
from tt_gym.text import captions


@pytest.fixture(scope="module")
def made():
    return random_actions(count=3 * len(ACTIONS))


def largest_step(clip):
    """Largest turn of a joint and move of the root from one frame to the next."""
    turn = rotations.rotation_angle(clip.joint_rot[1:], clip.joint_rot[:-1])
    return float(turn.max()), float(clip.root_pos.diff(dim=0).norm(dim=-1).max())


def test_actions_lead_smoothly_from_one_piece_to_the_next(made):
    recorded = [shipped_clip(name) for name in (*ACTIONS, "walk_forward")]
    turn, move = (1.2 * max(values) for values in zip(*map(largest_step, recorded), strict=True))
    for clip in made:
        own_turn, own_move = largest_step(clip)
        assert own_turn < turn and own_move < move, clip.name


def test_actions_say_what_is_done_when(made):
    stand = shipped_clip("idle")
    for index, clip in enumerate(made):
        base = ACTIONS[index % len(ACTIONS)]
        if index // len(ACTIONS) == 2 and base not in captions.ONE_SIDED:
            clip = mirror(clip, DEEPMIMIC)  # the third round is mirrored
        walks = index // len(ACTIONS) == 1
        before, *stops, action, rest = clip.behaviours
        assert before == (0, "walk" if walks else "stand")
        # a fighter's stance is stepped into from a stand
        halts = walks and base in ("kick", "punch")
        assert [name for _, name in stops] == ["stand"] * halts
        assert action[1] == captions.NAMES[captions.of_clip(base)]
        assert rest[1] == "stand"
        end = clip.joint_rot[-1, 1:]
        still = unroll(stand, 3.0).joint_rot[:, 1:]
        if index // len(ACTIONS) < 2:
            assert float(rotations.rotation_angle(end, still).amax(dim=-1).min()) < 1e-3


def test_an_action_can_be_done_twice():
    kick = ACTIONS.index("kick")
    once, twice = (random_actions(count=kick + 1, times=times)[kick] for times in (1, 2))
    assert [name for _, name in twice.behaviours] == ["stand", "kick", "kick", "stand"]
    assert twice.num_frames > once.num_frames + FPS
    feet = list(DEEPMIMIC.feet)
    for clip, times in ((once, 1), (twice, 2)):
        pos, _ = world_pose(DEEPMIMIC, clip.root_pos, clip.joint_rot)
        high = (pos[:, feet, 2].amax(dim=-1) > 0.7).int()
        assert int((high.diff() == 1).sum()) == times
    with pytest.raises(ValueError, match="times must be at least 1, got 0"):
        random_actions(count=1, times=0)


def test_a_kick_is_always_of_the_same_leg(made):
    of_kick = [clip for clip in made if any(name == "kick" for _, name in clip.behaviours)]
    assert len(of_kick) == 3
    highest = set()
    for clip in of_kick:
        pos, _ = world_pose(DEEPMIMIC, clip.root_pos, clip.joint_rot)
        highest.add(int(pos[:, list(DEEPMIMIC.feet), 2].amax(dim=0).argmax()))
    assert len(highest) == 1


def test_a_stance_is_stepped_into(made):
    for clip in (made[ACTIONS.index(name)] for name in ("kick", "punch")):
        start = next(frame for frame, name in clip.behaviours if name != "stand")
        way = slice(start - 1, start + 24)
        pos, _ = world_pose(DEEPMIMIC, clip.root_pos[way].double(), clip.joint_rot[way].double())
        feet = pos[:, list(DEEPMIMIC.feet)]
        slide = (feet - feet[0])[..., :2].norm(dim=-1).amax(dim=0)
        stays, goes = int(slide.argmin()), int(slide.argmax())
        assert slide[stays] < 0.01 and slide[goes] > 0.1, clip.name
        assert feet[:, goes, 2].amax() > feet[0, goes, 2] + 0.06
        # the root comes nearer to the foot on the ground while the other one is in the air
        beside = (pos[:, 0] - feet[:, stays])[:, :2].norm(dim=-1)
        assert beside[12] < 0.6 * beside[[0, -1]].min()


def test_words_follow_the_pieces_into_the_library(made, tmp_path):
    assert main(["--out", str(tmp_path), "--count", "2", "--seed", "3"]) is None
    clips = [load_clip(path) for path in sorted(tmp_path.iterdir())]
    assert [clip.name for clip in clips] == ["actions_3_0", "actions_3_1"]
    library = MotionLibrary(DEEPMIMIC, clips)
    for index, clip in enumerate(clips):
        start = int(library.starts[index])
        for first, name in clip.behaviours:
            assert library.behaviour[start + first] == captions.NAMES.index(name)
            if first:
                assert library.behaviour[start + first - 1] != captions.NAMES.index(name)
    mirrored = mirror(made[3], DEEPMIMIC)  # a turn
    assert mirrored.behaviours[1][1] == captions.mirrored_name(made[3].behaviours[1][1])


def test_actions_are_followed_only_where_they_are_told_or_shown(made):
    library = MotionLibrary(DEEPMIMIC, made)
    env = DistillEnv(MujocoCpu(DEEPMIMIC, 64), library, seed=0)
    env.reset()
    names = {name: index for index, name in enumerate(env._index)}
    for _ in range(20):
        env.advance(env.reference(1).pd_target)
        old = (env.age > 5).nonzero().flatten()
        if len(old):
            env.restart(old)
        assert not bool((env.mode == names["nothing"]).any())
        assert not bool((env.mode == names["heading_speed"]).any())
        told = env.mode == names["text"]
        assert bool(told.any())
        index = library.frame_index(env.clip_ids, env.frame)
        assert torch.equal(env.behaviour()[told], library.behaviour[index][told])
        assert bool((env.behaviour()[~env.text_visible] == captions.NONE).all())


def test_only_walking_ahead_is_called_a_walk(made):
    heading, speed = torch.zeros(90), torch.ones(90)
    rot = made[0].joint_rot[:1].repeat(90, 1, 1)
    rot[:, 0] = torch.tensor([1.0, 0.0, 0.0, 0.0])
    for direction, name in ((0.0, "walk"), (0.3, "walk"), (1.0, None), (-1.0, None)):
        asked = torch.stack((heading, speed, heading + direction), dim=-1)
        clip = Clip("steps", made[0].root_pos[:90], rot, loop=False, source="", asked=asked)
        expected = captions.NONE if name is None else captions.NAMES.index(name)
        assert MotionLibrary(DEEPMIMIC, [clip]).behaviour.unique().tolist() == [expected]


def test_a_mirrored_recording_shows_the_mirrored_behaviour():
    left = mirror(shipped_clip("turn_left0"), DEEPMIMIC)
    assert captions.NAMES[captions.of_clip(left.name)] == "turn right"
    assert captions.NAMES[captions.of_clip(time_warp(left, 0.9).name)] == "turn right"
    assert captions.NAMES[captions.of_clip(mirror(shipped_clip("kick"), DEEPMIMIC).name)] == "kick"


@pytest.mark.parametrize("bad", [[[0, "juggle"]], [[999, "walk"]], [[-1, "walk"]], [3], "walk", 7])
def test_a_file_with_other_behaviours_is_refused(made, tmp_path, bad):
    path = tmp_path / "clip.npz"
    save_clip(dataclasses.replace(made[0], behaviours=bad), path)
    with pytest.raises(ClipError, match=r"clip\.npz: field 'behaviours' must be pairs of a frame"):
        load_clip(path)


def test_bad_pieces_and_clips_are_refused(tmp_path, capsys):
    idle, kick = shipped_clip("idle"), shipped_clip("kick")
    with pytest.raises(ValueError, match=f"at least {2 * BLEND_FRAMES + 1} frames"):
        chain((Piece(idle, 0, 80, "stand"), Piece(kick, 0, 10, "kick")), "short")
    with pytest.raises(ValueError, match="needs pieces"):
        chain((), "none")
    with pytest.raises(ClipError, match="no words for it"):
        random_actions([mirror(kick, DEEPMIMIC), unknown(kick)], count=1)
    with pytest.raises(ValueError, match="count and duration_s must be positive, got 0"):
        random_actions(count=0)
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--clips", str(tmp_path / "gone.npz")])
    assert "gone.npz: no such clip file" in capsys.readouterr().err


def unknown(clip):
    return dataclasses.replace(clip, name="somersault")
