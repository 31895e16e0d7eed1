"""Clips of steps in any direction."""

import math

import pytest
import torch

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions import MotionLibrary, load_clip
from tt_gym.motions.clip import FPS
from tt_gym.motions.limbs import world_pose
from tt_gym.motions.stepping import (
    TOP_SPEED,
    Course,
    main,
    random_course,
    random_steps,
    step_phase,
    stepping,
)

FEET = list(DEEPMIMIC.feet)


def straight(speed=0.8, away=0.0, seconds=6.0, stop_after=None):
    """Stand for a second, then go at ``speed`` in the direction ``away`` from the facing."""
    count = round(seconds * FPS)
    velocity = torch.zeros(count, 2, dtype=torch.float64)
    velocity[FPS:stop_after] = speed * rotations.direction_xy(torch.tensor(away).double())
    facing = torch.zeros(count, dtype=torch.float64)
    asked = torch.tensor([0.0, speed, away], dtype=torch.float64).expand(count, 3)
    return Course(velocity, facing, asked)


def feet_of(clip):
    pos, rot = world_pose(DEEPMIMIC, clip.root_pos.double(), clip.joint_rot.double())
    return pos[:, FEET], rot[:, FEET]


@pytest.mark.parametrize("away", [0.0, 0.5 * math.pi, math.pi])
def test_the_body_goes_one_way_and_faces_another(away):
    clip = stepping(straight(away=away), name="made")
    travel = clip.root_pos[-1, :2] - clip.root_pos[FPS, :2]
    assert float(torch.atan2(travel[1], travel[0]).abs()) == pytest.approx(away, abs=0.05)
    assert float(travel.norm()) == pytest.approx(0.8 * 5.0, abs=0.1)
    assert float(rotations.heading(clip.joint_rot[:, 0]).abs().max()) < 1e-3


@pytest.mark.parametrize("away", [0.0, 0.5 * math.pi, math.pi])
def test_feet_stand_while_the_other_swings(away):
    feet, rot = feet_of(stepping(straight(away=away), name="made"))
    speed = feet.diff(dim=0).norm(dim=-1) * FPS
    assert float(speed.amin(dim=-1).max()) < 0.05  # one of them always stands
    standing = (speed < 0.05).double().mean(dim=0)
    assert float(standing.min()) > 0.55
    assert float(feet[..., 2].amax(dim=0).min()) > float(feet[0, :, 2].max()) + 0.05
    tilt = rotations.rotate(rot, torch.tensor([0.0, 0.0, 1.0]).double().expand(*rot.shape[:-1], 3))
    assert float((tilt - tilt[:1]).abs().max()) < 0.02  # soles stay as in standing


@pytest.mark.parametrize("away", [0.25 * math.pi, 0.5 * math.pi, -0.5 * math.pi])
def test_legs_do_not_cross_sideways(away):
    feet, _ = feet_of(stepping(straight(speed=1.0, away=away), name="made"))
    apart = feet[:, 0, 1] - feet[:, 1, 1]
    assert float((apart * apart[0].sign()).min()) > 0.1


def test_standing_waits_on_both_feet():
    course = straight(seconds=8.0, stop_after=3 * FPS + 7)
    phase = step_phase(course)
    assert float(phase[: FPS + 1].abs().max()) == 0.0
    assert float(phase[-1]) == pytest.approx(round(float(phase[-1])))
    feet, _ = feet_of(stepping(course, name="made"))
    assert float((feet[-60:] - feet[-1:]).abs().max()) < 1e-3


def test_every_walk_begins_with_the_same_foot():
    first, second = straight(), straight(stop_after=3 * FPS, seconds=9.0)
    second.velocity[6 * FPS :] = first.velocity[-1]
    begun = []
    for course, start in ((first, FPS), (second, 6 * FPS)):
        feet, _ = feet_of(stepping(course, name="made"))
        begun.append((feet[start : start + 6, :, 2] - feet[start, :, 2]).amax(dim=0).argmax())
    assert begun[0] == begun[1]


def test_courses_are_bounded_and_say_what_they_are_on_their_way_to():
    course = random_course(200.0, torch.Generator().manual_seed(0))
    speed = course.velocity.norm(dim=-1)
    assert float(speed.max()) <= TOP_SPEED + 1e-6
    assert float((course.velocity.diff(dim=0).norm(dim=-1) * FPS).max()) <= 1.5 + 1e-6
    assert float((course.facing.diff().abs() * FPS).max()) <= math.radians(90.0) + 1e-6
    changed = (course.asked.diff(dim=0) != 0).any(dim=-1).nonzero().flatten()
    for frame in changed[changed > 4 * FPS].tolist():
        facing, asked, way = course.asked[frame]
        if (course.asked[frame - 4 * FPS : frame] == course.asked[frame]).all():
            wanted = asked * rotations.direction_xy(way)
            assert torch.allclose(course.velocity[frame], wanted, atol=0.02)
            assert float(facing - course.facing[frame]) == pytest.approx(0.0, abs=0.05)
    off_path = rotations.wrap_angle(course.asked[:, 2] - course.asked[:, 0]).abs()
    assert float((off_path > math.radians(90.0)).double().mean()) > 0.2


def test_a_steady_course_changes_once():
    facings = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        course = random_course(9.0, generator, turns=1.0, steady=True)
        changed = (course.asked.diff(dim=0) != 0).any(dim=-1).nonzero().flatten() + 1
        assert changed.tolist() == [FPS]
        assert float(course.asked[-1, 1]) >= 0.3
        facings.append(float(course.asked[-1, 0]))
    assert max(map(abs, facings)) < math.radians(100.0)
    assert min(facings) < -0.5 and max(facings) > 0.5


def test_the_same_seed_makes_the_same_clips(tmp_path, capsys):
    main(["--out", str(tmp_path), "--count", "2", "--duration-s", "4", "--seed", "5"])
    assert "2 clips, 8 s" in capsys.readouterr().out
    clips = random_steps(count=2, duration_s=4.0, seed=5)
    library = MotionLibrary(DEEPMIMIC, clips)
    for index, clip in enumerate(clips):
        saved = load_clip(tmp_path / f"stepping_5_{index}.npz")
        assert saved.name == clip.name
        assert torch.equal(saved.joint_rot, clip.joint_rot)
        assert torch.equal(saved.asked, clip.asked)
    assert torch.equal(library.asked[:120], clips[0].asked)


def test_without_turns_the_facing_stays(tmp_path):
    main(["--out", str(tmp_path), "--count", "2", "--duration-s", "6", "--turns", "0"])
    for index in range(2):
        clip = load_clip(tmp_path / f"aside_0_{index}.npz")
        facing = rotations.heading(clip.joint_rot[:, 0])
        assert float(facing.max() - facing.min()) < 0.02
        assert len(clip.asked[:, 2].unique()) > 1  # it goes elsewhere all the same


@pytest.mark.parametrize("bad", [["--count", "0"], ["--duration-s", "-1"]])
def test_nothing_to_make_is_refused(bad, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), *bad])
    assert "must be positive" in capsys.readouterr().err


@pytest.mark.parametrize("turns", ["-0.1", "1.5", "nan"])
def test_turns_must_be_a_share(turns, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--out", str(tmp_path), "--turns", turns])
    assert "turns must be from 0 to 1" in capsys.readouterr().err
