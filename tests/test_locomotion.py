import math

import pytest
import torch

from tt_gym import rotations
from tt_gym.motions import ClipError, load_clip
from tt_gym.motions.clip import FPS
from tt_gym.motions.locomotion import (
    TOP_SPEED,
    gait_from_loop,
    in_step,
    locomotion,
    main,
    random_course,
    random_locomotion,
)
from tt_gym.motions.shipped import shipped_clip

LEGS = range(9, 15)
STEPS = 120


@pytest.fixture(scope="module")
def gaits():
    stand, walk, run = (
        gait_from_loop(shipped_clip(name)) for name in ("idle", "walk_forward", "run")
    )
    return {"stand": stand, "walk": walk, "jog": in_step(run, walk, LEGS)}


def go(gaits, speed, turn_rate):
    def course(value):
        return torch.as_tensor(value, dtype=torch.float64).expand(STEPS).clone()

    return locomotion(
        **gaits, speed=course(speed), turn_rate=course(turn_rate), name="made", source="made"
    )


def test_gait_has_the_clips_speed_and_faces_ahead():
    clip = shipped_clip("walk_forward")
    gait = gait_from_loop(clip)
    travel = (clip.root_pos[-1] - clip.root_pos[0])[:2].norm()
    assert gait.speed == pytest.approx(float(travel) / clip.duration_s)
    assert gait.frequency == pytest.approx(1.0 / clip.duration_s)
    assert float(rotations.heading(gait.rot[:, 0]).mean().abs()) < 0.15
    assert gait.sway[:, :2].mean(dim=0).abs().max() < 1e-6


def test_gait_needs_a_loop():
    with pytest.raises(ClipError, match="kick"):
        gait_from_loop(shipped_clip("kick"))


def test_in_step_undoes_a_shift(gaits):
    walk = gaits["walk"]
    shifted = type(walk)(walk.speed, walk.frequency, walk.sway.roll(9, 0), walk.rot.roll(9, 0))
    back = in_step(shifted, walk, LEGS)
    assert float(rotations.rotation_angle(back.rot, walk.rot).max()) < 1e-4


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.9, 3.0])
def test_path_has_the_asked_speed(gaits, speed):
    clip = go(gaits, speed, 0.0)
    travel = clip.root_pos[-1, :2] - clip.root_pos[0, :2]
    assert float(travel[0]) == pytest.approx(speed * clip.duration_s, abs=0.08)
    assert abs(float(travel[1])) < 0.1


def test_standing_still_moves_no_more_than_the_recording(gaits):
    clip = go(gaits, 0.0, 0.0)
    reach = float(gaits["stand"].sway[:, :2].norm(dim=-1).max())
    assert float((clip.root_pos[:, :2] - clip.root_pos[0, :2]).norm(dim=-1).max()) <= 2 * reach
    angle = rotations.rotation_angle(clip.joint_rot[0], clip.joint_rot)
    assert float(angle.max()) < 0.3


def test_turning_ends_at_the_sum_of_the_turn_rates_and_leans_inwards(gaits):
    rate = math.radians(40.0)
    clip = go(gaits, 2.5, rate)
    turned = rotations.wrap_angle(
        rotations.heading(clip.joint_rot[-1, 0]) - rotations.heading(clip.joint_rot[0, 0])
    )
    asked = torch.tensor(rate * clip.duration_s)
    assert float(rotations.wrap_angle(turned - asked).abs()) < 0.3
    yaw = rotations.heading(clip.joint_rot[:, 0])
    up = rotations.rotate(clip.joint_rot[:, 0], torch.tensor([0.0, 0.0, 1.0]))
    left = rotations.direction_xy(yaw + math.pi / 2)
    assert float((up[:, :2] * left).sum(dim=-1).mean()) > 0.1  # a left turn leans to the left


def test_course_stays_within_human_limits_and_stops_sometimes():
    speed, turn_rate, asked = random_course(120.0, torch.Generator().manual_seed(3))
    assert asked.shape == (120 * FPS, 2)
    assert len(speed) == len(turn_rate) == 120 * FPS
    assert float(speed.min()) >= 0.0
    assert float(speed.max()) <= TOP_SPEED
    assert float((speed.diff() * FPS).abs().max()) <= 2.0 + 1e-6
    assert float(turn_rate.abs().max()) <= math.radians(100.0) + 1e-6
    assert float((speed * turn_rate).abs().max()) < 3.0
    assert float((speed < 0.05).double().mean()) > 0.05
    assert float((speed > 2.0).double().mean()) > 0.1


def test_what_is_asked_leads_to_speed_and_heading():
    speed, turn_rate, asked = random_course(120.0, torch.Generator().manual_seed(3))
    heading = turn_rate.cumsum(0) / FPS
    changed = (asked.diff(dim=0) != 0).any(dim=-1).nonzero().flatten() + 1
    assert len(changed) > 15
    for first, last in zip(changed[:-1].tolist(), changed[1:].tolist(), strict=True):
        if last - first > 4 * FPS:
            assert float(speed[last - 5]) == pytest.approx(float(asked[last - 5, 1]), abs=0.05)
            assert float(heading[last - 5]) == pytest.approx(float(asked[last - 5, 0]), abs=0.1)


def test_turning_round_takes_less_than_two_seconds():
    course = random_course(400.0, torch.Generator().manual_seed(0), turn=math.pi)
    speed, turn_rate, asked = course
    heading = turn_rate.cumsum(0) / FPS
    changed = asked[:, 0].diff().nonzero().flatten() + 1
    left = asked[changed, 0] - heading[changed]
    large = changed[(left.abs() > math.radians(110.0)) & (changed < len(speed) - 2 * FPS)]
    assert len(large) > 15
    assert float(left.abs().max()) > math.radians(160.0)
    for frame in large.tolist():
        goal, wanted = asked[frame]
        along = speed * (goal - heading).cos()
        good = (along - wanted).abs() <= (0.2 * wanted).clamp(min=0.05)
        assert good[frame : frame + 2 * FPS].any()
    assert float((speed * turn_rate).abs().max()) < 3.0


def test_every_walk_from_a_stand_begins_with_the_same_foot(gaits):
    def start_after(stand_frames):
        speed = torch.zeros(240, dtype=torch.float64)
        speed[:40] = 1.0  # a walk before, which ends in another phase
        speed[40 + stand_frames :] = 1.0
        clip = locomotion(
            **gaits, speed=speed, turn_rate=torch.zeros_like(speed), name="made", source="made"
        )
        return clip.joint_rot[40 + stand_frames :][:60, list(LEGS)]

    difference = rotations.rotation_angle(start_after(31), start_after(50))
    assert float(difference.mean()) < 0.01


def test_what_is_asked_is_saved_and_lost_where_the_motion_changes(tmp_path):
    from tt_gym.humanoids import DEEPMIMIC
    from tt_gym.motions import mirror
    from tt_gym.motions.clip import save_clip
    from tt_gym.motions.editing import cut, time_warp
    from tt_gym.motions.library import MotionLibrary

    (clip,) = random_locomotion(shipped_clip("run"), count=1, duration_s=6.0)
    save_clip(clip, tmp_path / "made.npz")
    assert torch.equal(load_clip(tmp_path / "made.npz").asked, clip.asked)
    edited = (mirror(clip, DEEPMIMIC), time_warp(clip, 1.5), cut(clip, 1.0, 2.0, "piece"))
    assert all(other.asked is None for other in edited)
    library = MotionLibrary(DEEPMIMIC, [shipped_clip("idle"), clip])
    assert torch.equal(library.asked[-clip.num_frames :, :2], clip.asked)
    assert torch.equal(library.asked[-clip.num_frames :, 2], clip.asked[:, 0])
    assert library.asked[: -clip.num_frames].isnan().all()


def test_clips_are_reproducible_distinct_and_said_to_be_made():
    first, second = (
        random_locomotion(shipped_clip("run"), count=2, duration_s=12.0, seed=5) for _ in range(2)
    )
    assert torch.equal(first[1].root_pos, second[1].root_pos)
    assert not torch.equal(first[0].root_pos, first[1].root_pos)
    assert [clip.name for clip in first] == ["locomotion_5_0", "locomotion_5_1"]
    assert first[0].source.startswith("made")


def test_command_writes_clips(tmp_path, capsys):
    jog = "tests/data/no_such_clip.txt"
    with pytest.raises(SystemExit):
        main(["--jog", jog, "--out", str(tmp_path)])
    assert "no_such_clip" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_saved_clip_reads_back(tmp_path):
    from tt_gym.motions.clip import save_clip

    (clip,) = random_locomotion(shipped_clip("run"), count=1, duration_s=2.0)
    save_clip(clip, tmp_path / "made.npz")
    assert torch.equal(load_clip(tmp_path / "made.npz").joint_rot, clip.joint_rot)
