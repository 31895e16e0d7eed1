"""Limbs by inverse kinematics, and clips of reaches made with it."""

import math

import pytest
import torch

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions import load_clip
from tt_gym.motions.clip import FPS, unroll
from tt_gym.motions.limbs import place_tip, world_pose
from tt_gym.motions.reaching import (
    HOLD_S,
    _turn_to,
    main,
    miss,
    posture,
    raised_hands,
    random_course,
    random_reaches,
    reach_along,
    reaches_around,
)
from tt_gym.motions.shipped import shipped_clip

HAND = DEEPMIMIC.right_hand
SHOULDER, ELBOW = DEEPMIMIC.body_index("right_shoulder"), DEEPMIMIC.body_index("right_elbow")
FOOT = DEEPMIMIC.feet[0]


def walking(frames=60):
    clip = unroll(shipped_clip("walk_forward"), frames / FPS)
    return clip.root_pos[:frames].double(), clip.joint_rot[:frames].double()


@pytest.mark.parametrize("tip", [HAND, FOOT])
def test_a_tip_comes_to_points_within_its_reach(tip):
    root_pos, joint_rot = walking()
    base = DEEPMIMIC.parents[DEEPMIMIC.parents[tip]]
    pos, _ = world_pose(DEEPMIMIC, root_pos, joint_rot)
    directions = torch.randn(
        len(pos), 3, dtype=pos.dtype, generator=torch.Generator().manual_seed(0)
    )
    goal = pos[:, base] + 0.4 * directions / directions.norm(dim=-1, keepdim=True)
    solved = place_tip(DEEPMIMIC, root_pos, joint_rot, tip, goal)
    found, _ = world_pose(DEEPMIMIC, root_pos, solved)
    assert torch.allclose(found[:, tip], goal, atol=1e-6)
    changed = {SHOULDER, ELBOW} if tip == HAND else {base, DEEPMIMIC.parents[tip]}
    others = [index for index in range(DEEPMIMIC.num_bodies) if index not in changed]
    assert torch.equal(solved[:, others], joint_rot[:, others])
    low, high = DEEPMIMIC.bodies[DEEPMIMIC.parents[tip]].range
    angle = DEEPMIMIC.pd_target_from_pose(solved)
    hinge = DEEPMIMIC.hinge_bodies.index(DEEPMIMIC.parents[tip])
    bend = angle[:, DEEPMIMIC._hinge_dof[hinge]]
    assert float(bend.min()) >= low and float(bend.max()) <= high


def test_a_point_out_of_reach_is_pointed_at():
    root_pos, joint_rot = walking(8)
    pos, _ = world_pose(DEEPMIMIC, root_pos, joint_rot)
    far = pos[:, SHOULDER] + torch.tensor([0.0, -2.0, 0.0], dtype=pos.dtype)
    found, _ = world_pose(DEEPMIMIC, root_pos, place_tip(DEEPMIMIC, root_pos, joint_rot, HAND, far))
    arm = found[:, HAND] - found[:, SHOULDER]
    length = 0.27479 + 0.25895
    assert float(arm[:, [0, 2]].abs().max()) < 1e-6 and float(arm[:, 1].max()) < 0.0
    assert 0.99 * length < float(arm.norm(dim=-1).min()) <= length


def test_a_goal_opposite_to_the_arm_has_a_solution():
    root_pos = torch.zeros(1, 3, dtype=torch.float64)
    joint_rot = torch.zeros(1, DEEPMIMIC.num_bodies, 4, dtype=torch.float64)
    joint_rot[..., 0] = 1.0  # arms hang straight down
    pos, _ = world_pose(DEEPMIMIC, root_pos, joint_rot)
    goal = pos[:, SHOULDER] + torch.tensor([0.0, 0.0, 0.5331], dtype=torch.float64)
    found, _ = world_pose(
        DEEPMIMIC, root_pos, place_tip(DEEPMIMIC, root_pos, joint_rot, HAND, goal)
    )
    assert torch.allclose(found[:, HAND], goal, atol=1e-3)


def test_a_foot_can_keep_its_rotation():
    root_pos, joint_rot = walking(20)
    pos, rot = world_pose(DEEPMIMIC, root_pos, joint_rot)
    lower = root_pos - torch.tensor([0.0, 0.0, 0.2], dtype=torch.float64)
    solved = place_tip(DEEPMIMIC, lower, joint_rot, FOOT, pos[:, FOOT], keep_rot=rot[:, FOOT])
    found_pos, found_rot = world_pose(DEEPMIMIC, lower, solved)
    assert torch.allclose(found_pos[:, FOOT], pos[:, FOOT], atol=1e-3)
    assert float(rotations.rotation_angle(found_rot[:, FOOT], rot[:, FOOT]).max()) < 1e-3


def test_only_ends_of_limbs_can_be_placed():
    root_pos, joint_rot = walking(2)
    with pytest.raises(ValueError, match="body 'neck' is not the end of an arm or a leg"):
        place_tip(DEEPMIMIC, root_pos, joint_rot, DEEPMIMIC.head, root_pos)


def test_the_body_helps_where_the_arm_is_too_short():
    ahead, low, left = torch.tensor([[0.3, -0.2, 1.2], [0.3, -0.2, 0.1], [0.2, 0.5, 1.2]])
    assert posture(ahead)[0] == 0.0 and posture(low)[0] == 1.0
    assert posture(left)[1] > 0.0 > posture(ahead)[1]
    assert posture(torch.tensor([0.1, 0.0, 1.2]))[2] == 0.0 < posture(left)[2]


@pytest.mark.parametrize("standing", [True, False])
def test_most_points_are_reached_and_held(standing):
    generator = torch.Generator().manual_seed(0)
    name = "idle" if standing else "walk_forward"
    base = unroll(shipped_clip(name), 13.0)
    misses, held = [], []
    for _ in range(6):
        points, weight, _ = random_course(360, standing=standing, generator=generator)
        clip = reach_along(base_of(base), points, weight, standing=standing, name="made")
        misses.append(miss(clip, base_of(base), points)[weight == 1.0])
        runs = torch.diff(torch.cat((torch.zeros(1), (weight == 1.0).float(), torch.zeros(1))))
        held += (runs == -1).nonzero().flatten().sub((runs == 1).nonzero().flatten()).tolist()
        # over a walk the point moves along with the body: no point that one could ask for
        assert (clip.led, clip.loop) == ("right_wrist" if standing else None, False)
    found = torch.cat(misses)
    assert float((found < 0.02).float().mean()) > 0.75
    assert float(found.quantile(0.9)) < 0.1
    assert sorted(held)[len(held) // 2] >= HOLD_S * FPS - 1


def base_of(clip, frames=360):
    return type(clip)(
        clip.name, clip.root_pos[:frames], clip.joint_rot[:frames], False, clip.source
    )


def test_feet_stay_while_the_body_crouches():
    base = base_of(unroll(shipped_clip("idle"), 13.0))
    points = torch.tensor([0.35, -0.2, 0.15], dtype=torch.float64).expand(360, 3)
    weight = torch.linspace(0.0, 1.0, 360, dtype=torch.float64)
    clip = reach_along(base, points, weight, standing=True, name="made")
    before, _ = world_pose(DEEPMIMIC, base.root_pos.double(), base.joint_rot.double())
    after, _ = world_pose(DEEPMIMIC, clip.root_pos.double(), clip.joint_rot.double())
    feet = list(DEEPMIMIC.feet)
    assert float((after[:, feet] - before[:, feet]).norm(dim=-1).max()) < 0.005
    assert float(after[-1, 0, 2]) < 0.6 < float(after[0, 0, 2])
    assert torch.allclose(clip.joint_rot[0], base.joint_rot[0], atol=1e-6)


def test_the_body_turns_to_points_all_around():
    clips = reaches_around(count=12, duration_s=12.0, seed=3)
    hand, feet = DEEPMIMIC.right_hand, list(DEEPMIMIC.feet)
    walked, turned, ahead, lifted = [], [], [], []
    for clip in clips:
        assert clip.led == DEEPMIMIC.body_names[hand]
        root = clip.root_pos[:, :2]
        pos, _ = world_pose(DEEPMIMIC, clip.root_pos.double(), clip.joint_rot.double())
        walked.append(float((root[15] - root[0]).norm()))
        # no jerk where a walk becomes a stand
        assert float(root.diff(dim=0).diff(dim=0).norm(dim=-1).max()) * FPS**2 < 12.0
        lifted.append(float(pos[:, feet, 2].amax(dim=0).sub(pos[0, feet, 2]).min()))
        heading = rotations.heading(clip.joint_rot[:, 0].double())
        kept = (pos[20:, hand] - pos[:-20, hand]).norm(dim=-1) < 0.05
        turned += rotations.wrap_angle(heading[20:] - heading[:-20])[kept].abs().tolist()
        way = pos[20:, hand] - pos[20:, 0]
        azimuth = torch.atan2(way[:, 1], way[:, 0]) - heading[20:]
        ahead += rotations.wrap_angle(azimuth)[kept & (way[:, 2].abs() < 0.5)].tolist()
        spread = rotations.wrap_angle(heading - heading[0]).abs().max()
        assert float(spread) > 0.6
        # the hand gets to the points that are asked for, and they stay where they are
        own, asked = clip.goals, clip.goals.isfinite().all(dim=-1)
        assert 0.5 < float(asked.float().mean()) < 1.0
        starts = (asked[1:] & ~(own[1:] == own[:-1]).all(dim=-1)).nonzero().flatten() + 1
        assert len(starts) > 2
        away = (pos[:, hand] - own).norm(dim=-1)
        for first, end in zip(starts.tolist(), [*starts.tolist()[1:], len(own)], strict=True):
            there = away[first:end][asked[first:end]]
            assert float(there.min()) < 0.01
            assert float(there[0]) > 0.02
    assert sum(way > 0.4 for way in walked) in range(2, 10)
    assert min(lifted) > 0.04  # both feet step
    # while the hand stays, so does the body, with the point before it or to its right
    assert sum(angle > 0.2 for angle in turned) < 0.05 * len(turned)
    assert -1.8 < min(ahead) and max(ahead) < 1.0


def test_a_share_of_reaches_all_around_walks_first():
    with pytest.raises(ValueError, match="walks must be in"):
        reaches_around(count=1, walks=1.5)
    for walks in (0.0, 1.0):
        for clip in reaches_around(count=3, duration_s=4.0, walks=walks):
            way = float((clip.root_pos[15, :2] - clip.root_pos[0, :2]).norm())
            assert (way > 0.4) == bool(walks)
            asked = clip.goals.isfinite().all(dim=-1).nonzero().flatten()
            settled = clip.root_pos[asked[0] + 15 :, :2]  # it stops half a second after it is asked
            assert float((settled - settled[0]).norm(dim=-1).max()) < 0.35


def test_hands_may_stay_for_longer():
    with pytest.raises(ValueError, match=r"longest_s must be at least 0\.7, got 0\.5"):
        reaches_around(count=1, longest_s=0.5)
    goals = {
        longest: [clip.goals for clip in reaches_around(count=3, walks=0.0, longest_s=longest)]
        for longest in (1.0, 4.0)
    }
    changes = {
        longest: sum(int((own.diff(dim=0).abs() > 0).any(dim=-1).sum()) for own in made)
        for longest, made in goals.items()
    }
    assert changes[1.0] > 1.3 * changes[4.0]


@pytest.mark.parametrize(
    ("azimuth_deg", "turn_deg"), [(0, 0), (-70, 0), (90, 55), (150, 115), (170, -115), (-120, -45)]
)
def test_no_further_turn_is_made_than_the_arm_needs(azimuth_deg, turn_deg):
    turn = _turn_to(math.radians(azimuth_deg))
    assert math.degrees(turn) == pytest.approx(turn_deg, abs=1e-6)


def test_raised_hands_are_up_while_the_clip_says_so():
    clips = raised_hands(count=8, seed=1)
    assert {clip.behaviours[0][1] for clip in clips} == {"stand", "walk"}
    for clip in clips:
        pos, _ = world_pose(DEEPMIMIC, clip.root_pos.double(), clip.joint_rot.double())
        above = pos[:, HAND, 2] > pos[:, DEEPMIMIC.head, 2]
        (_, rest), (starts, told), (down, after) = clip.behaviours
        assert (told, after) == ("raise the right hand", rest)
        assert clip.name.startswith("actions_")
        assert not above[: starts + 1].any()
        assert above[(starts + down) // 2 : down + 1].all()
        assert not above[-30:].any()
        way = (clip.root_pos[starts, :2] - clip.root_pos[down, :2]).norm() * FPS / (down - starts)
        assert (float(way) > 0.7) == (rest == "walk")


def test_clips_of_raised_hands_are_written(tmp_path, capsys):
    main(["--out", str(tmp_path), "--count", "1", "--raised"])
    assert "1 clips" in capsys.readouterr().out
    assert load_clip(tmp_path / "actions_raise_0_0.npz").behaviours[1][1] == "raise the right hand"
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--raised", "--around"])
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--walks", "0.5"])
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--longest-s", "4"])
    assert "--longest-s is for --around" in capsys.readouterr().err


def test_the_same_seed_makes_the_same_clips(tmp_path, capsys):
    main(["--out", str(tmp_path), "--count", "2", "--duration-s", "4", "--seed", "5"])
    assert "2 clips, 8 s" in capsys.readouterr().out
    for index, clip in enumerate(random_reaches(count=2, duration_s=4.0, seed=5)):
        saved = load_clip(tmp_path / f"reach_5_{index}.npz")
        assert (saved.name, saved.led) == (clip.name, "right_wrist")
        assert torch.equal(saved.joint_rot, clip.joint_rot)
    assert not torch.equal(random_reaches(count=1, duration_s=4.0)[0].joint_rot, saved.joint_rot)


@pytest.mark.parametrize("bad", [["--count", "0"], ["--duration-s", "-1"]])
def test_nothing_to_make_is_refused(bad, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *bad])
    assert "must be positive" in capsys.readouterr().err
