import dataclasses
import math

import pytest
import torch

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions import (
    FPS,
    Clip,
    ClipError,
    MotionLibrary,
    mirror,
    shipped_clip,
    shipped_clips,
    shipped_names,
)
from tt_gym.motions.clip import lift, resample, unroll
from tt_gym.motions.editing import back_and_forth, close_loop, cut, time_warp

LOOPS = [name for name in shipped_names() if shipped_clip(name).loop]


def heights(clip: Clip) -> torch.Tensor:
    """Lowest collision point of every frame, m."""
    qpos = DEEPMIMIC.qpos_from_pose(clip.root_pos, clip.joint_rot)
    still = torch.zeros(clip.num_frames, DEEPMIMIC.nv)
    pos, rot, _, _ = DEEPMIMIC.forward_kinematics(qpos, still)
    return DEEPMIMIC.lowest_point(pos, rot)


def hinge_angles(clip: Clip) -> dict[str, torch.Tensor]:
    bodies = DEEPMIMIC.hinge_bodies
    rotation_vectors = rotations.exp_map_from_quat(clip.joint_rot[:, list(bodies)])
    return {DEEPMIMIC.body_names[b]: rotation_vectors[:, i, 1] for i, b in enumerate(bodies)}


def moved(clip: Clip, height: float) -> Clip:
    return dataclasses.replace(clip, root_pos=clip.root_pos + torch.tensor([0.0, 0.0, height]))


# ---- shipped clips --------------------


@pytest.mark.parametrize("name", shipped_names())
def test_shipped_clip_says_where_it_comes_from(name):
    source = shipped_clip(name).source
    assert "zlib" in source or "mocap.cs.cmu.edu" in source


@pytest.mark.parametrize("name", shipped_names())
def test_joints_of_a_shipped_clip_never_jump(name):
    clip = unroll(shipped_clip(name), 5.0)
    steps = rotations.rotation_angle(clip.joint_rot[1:], clip.joint_rot[:-1])
    assert steps.max() < 1.0  # rad in a thirtieth of a second


@pytest.mark.parametrize("name", shipped_names())
def test_knees_and_elbows_of_a_shipped_clip_bend_the_right_way(name):
    for body, angle in hinge_angles(shipped_clip(name)).items():
        flexion = angle if "knee" in body else -angle
        assert flexion.min() > -0.05 and flexion.max() < 2.8


@pytest.mark.parametrize("name", shipped_names())
def test_feet_of_a_shipped_clip_are_usually_near_the_ground(name):
    low = heights(lift(shipped_clip(name), DEEPMIMIC))
    assert low.min() > -0.05
    assert torch.quantile(low, 0.3) < 0.03


def test_shipped_clips_are_all_loaded_by_name():
    assert [clip.name for clip in shipped_clips()] == list(shipped_names())
    assert {"walk", "run", "jump", "kick", "punch", "idle", "turn_left0"} <= set(shipped_names())


def test_unknown_shipped_clip_lists_the_known_ones_and_the_nearest():
    with pytest.raises(ClipError, match=r"unknown clip 'walks'; did you mean 'walk'.*idle, jump"):
        shipped_clip("walks")


def test_idle_stands_still():
    library = MotionLibrary(DEEPMIMIC, [shipped_clip("idle")])
    assert library.frames.vel[:, list(DEEPMIMIC.feet)].norm(dim=-1).max() < 0.05
    assert library.frames.vel[:, 0].norm(dim=-1).max() < 0.1
    assert "made" in shipped_clip("idle").source


# ---- edits --------------------


def test_mirror_twice_is_the_clip():
    clip = shipped_clip("punch")
    once = mirror(clip, DEEPMIMIC)
    twice = mirror(once, DEEPMIMIC)
    assert not torch.equal(once.joint_rot, clip.joint_rot)
    assert torch.equal(twice.root_pos, clip.root_pos)
    assert torch.equal(twice.joint_rot, clip.joint_rot)


def test_mirror_reflects_every_body():
    clips = [shipped_clip("kick"), mirror(shipped_clip("kick"), DEEPMIMIC)]
    library = MotionLibrary(DEEPMIMIC, clips)
    plain, reflected = library.frames.pos.chunk(2)
    expected = plain[:, list(DEEPMIMIC.mirrored_bodies)] * torch.tensor([1.0, -1.0, 1.0])
    torch.testing.assert_close(reflected, expected, atol=1e-5, rtol=0)


def test_lift_raises_a_sunken_clip_to_its_typical_low_point():
    low = heights(lift(moved(shipped_clip("walk"), -0.10), DEEPMIMIC))
    assert torch.quantile(low, 0.1).item() == pytest.approx(0.0, abs=1e-5)


def test_lift_never_lowers():
    floating = moved(shipped_clip("walk"), 0.20)
    assert torch.equal(lift(floating, DEEPMIMIC).root_pos, floating.root_pos)


@pytest.mark.parametrize("name", LOOPS)
def test_unroll_is_continuous_in_position_yaw_and_speed(name):
    clip = shipped_clip(name)
    long = unroll(clip, 6.0)
    assert long.duration_s >= 6.0 and not long.loop
    velocity = (long.root_pos[1:] - long.root_pos[:-1]) * FPS
    turn = rotations.heading(long.joint_rot[1:, 0]) - rotations.heading(long.joint_rot[:-1, 0])
    turn = rotations.wrap_angle(turn).abs()
    seams = torch.arange(clip.num_frames - 1, long.num_frames - 1, clip.num_frames - 1)
    change = (velocity[seams] - velocity[seams - 1]).norm(dim=-1)
    assert velocity[seams].norm(dim=-1).max() < 1.5 * velocity.norm(dim=-1).max()
    assert change.max() < 1.2  # m/s between frames; a lost or doubled step of running is 3.6
    assert turn[seams].max() < 0.15


def test_unroll_adds_up_travel_and_turn():
    clip = shipped_clip("turn_left1")
    steps = clip.num_frames - 1
    long = unroll(clip, 3.0 * clip.duration_s)
    yaw = rotations.heading(long.joint_rot[:, 0])
    per_cycle = rotations.wrap_angle(yaw[steps] - yaw[0])
    assert per_cycle > 0.8
    after_two = rotations.wrap_angle(yaw[2 * steps] - yaw[0] - 2 * per_cycle)
    assert after_two.abs() < 1e-3
    first = rotations.rotate_xy(-yaw[0], (long.root_pos[steps] - long.root_pos[0])[:2])
    second = long.root_pos[2 * steps] - long.root_pos[steps]
    second = rotations.rotate_xy(-yaw[steps], second[:2])
    torch.testing.assert_close(second, first, atol=1e-3, rtol=0)


def test_a_clip_that_does_not_loop_is_not_unrolled():
    clip = shipped_clip("punch")
    assert unroll(clip, 60.0) is clip


def test_resample_interpolates_between_frames():
    times = torch.tensor([0.0, 0.1, 0.2])
    root_pos = torch.tensor([[0.0, 0, 0], [0.3, 0, 0], [0.3, 0, 0.6]])
    angles = torch.tensor([[0.0], [0.9], [0.9]])
    joint_rot = rotations.yaw_quat(angles)
    pos, rot = resample(times, root_pos, joint_rot)
    assert len(pos) == 7
    torch.testing.assert_close(pos[1], torch.tensor([0.1, 0.0, 0.0]))
    torch.testing.assert_close(pos[4], torch.tensor([0.3, 0.0, 0.2]))
    torch.testing.assert_close(rotations.heading(rot[2]), torch.tensor([0.6]))


def test_resample_keeps_the_last_frame_when_times_are_rounded():
    times = torch.arange(25) * 0.033332  # as in run: 23.999 steps of 1/30 s
    pos, _ = resample(times, torch.zeros(25, 3), rotations.yaw_quat(torch.zeros(25, 1)))
    assert len(pos) == 25


def test_time_warp_travels_the_same_way_faster():
    clip = shipped_clip("walk")
    fast = time_warp(clip, 1.25)
    assert fast.name == "walk_x1.25" and fast.loop and "made" in fast.source
    assert fast.num_frames - 1 == round((clip.num_frames - 1) / 1.25)
    torch.testing.assert_close(fast.root_pos[-1], clip.root_pos[-1], atol=1e-4, rtol=0)
    aligned = (fast.joint_rot[-1] * clip.joint_rot[-1]).sum(dim=-1).abs()
    torch.testing.assert_close(aligned, torch.ones_like(aligned))


@pytest.mark.parametrize("factor", [0.0, -1.0, math.nan])
def test_time_warp_needs_a_positive_factor(factor):
    with pytest.raises(ValueError, match="factor must be positive, got"):
        time_warp(shipped_clip("walk"), factor)


def test_a_cut_starts_at_the_origin_and_faces_forward():
    clip = shipped_clip("cmu_jumps_1")
    piece = cut(clip, 3.0, 5.0, "piece")
    assert piece.num_frames == 61 and piece.name == "piece"
    torch.testing.assert_close(piece.root_pos[0, :2], torch.zeros(2))
    assert rotations.heading(piece.joint_rot[0, 0]).abs() < 1e-5
    assert torch.equal(piece.joint_rot[:, 1:], clip.joint_rot[90:151, 1:])


def test_a_cut_must_lie_within_its_clip():
    with pytest.raises(ValueError, match=r"within 0 to 1.53 s of clip 'kick', got 1.0 to 9.0 s"):
        cut(shipped_clip("kick"), 1.0, 9.0, "piece")


def test_back_and_forth_returns_to_its_start_and_reaches_the_end():
    piece = cut(shipped_clip("cmu_jumps_0"), 1.0, 1.5, "piece")
    loop = back_and_forth(piece, name="sway", period_s=2.0)
    assert loop.loop and loop.num_frames == 61 and "made" in loop.source
    torch.testing.assert_close(loop.root_pos[[0, 30, 60]], piece.root_pos[[0, -1, 0]])
    speed = (loop.root_pos[1:] - loop.root_pos[:-1]).norm(dim=-1)
    assert speed[[0, 29, 30, 59]].max() < 0.3 * speed.max()  # it slows down where it turns


def test_a_closed_loop_ends_in_the_pose_it_starts_with():
    clip = shipped_clip("turn_right0")
    clip.joint_rot[-1, DEEPMIMIC.head] = rotations.yaw_quat(torch.tensor(0.7))
    closed = close_loop(clip)
    ends = closed.joint_rot[[0, -1]]
    aligned = (ends[0, 1:] * ends[1, 1:]).sum(dim=-1).abs()
    torch.testing.assert_close(aligned, torch.ones_like(aligned))
    yaw = rotations.heading(closed.joint_rot[:, 0])
    torch.testing.assert_close(yaw, rotations.heading(clip.joint_rot[:, 0]), atol=0.05, rtol=0)
    middle = slice(8, -8)
    torch.testing.assert_close(closed.joint_rot[middle], clip.joint_rot[middle], atol=1e-5, rtol=0)


# ---- library --------------------


@pytest.fixture(scope="module")
def library() -> MotionLibrary:
    return MotionLibrary(DEEPMIMIC, shipped_clips(), window_s=2.0)


def test_interpolation_hits_frames_at_their_times(library):
    clip_ids = torch.arange(len(library.names))
    for frame in (0, 7, 30):
        pos, rot = library.interpolate(clip_ids, torch.full((len(clip_ids),), frame / FPS))
        rows = library.starts + frame
        torch.testing.assert_close(pos, library.frames.pos[rows], atol=1e-4, rtol=0)
        aligned = (rot * library.frames.rot[rows]).sum(dim=-1).abs()
        torch.testing.assert_close(aligned, torch.ones_like(aligned))


def test_interpolation_is_held_at_both_ends(library):
    ids = torch.tensor([0, 0])
    pos, _ = library.interpolate(ids, torch.tensor([-1.0, 1e3]))
    torch.testing.assert_close(pos[0], library.frames.pos[library.starts[0]])
    torch.testing.assert_close(
        pos[1], library.frames.pos[library.starts[0] + library.lengths[0] - 1]
    )


def test_reference_velocities_are_differences_of_positions(library):
    row = int(library.starts[library.names.index("walk")]) + 10
    frames = library.frames
    difference = (frames.pos[row + 1] - frames.pos[row - 1]) * FPS / 2
    torch.testing.assert_close(frames.vel[row], difference, atol=0.08, rtol=0)


def test_sampling_follows_weights_and_leaves_the_margin(library):
    weights = torch.zeros(len(library.names))
    weights[[2, 5]] = torch.tensor([1.0, 3.0])
    generator = torch.Generator().manual_seed(0)
    ids, frames = library.sample(4000, weights, generator, margin=12)
    assert set(ids.tolist()) == {2, 5}
    assert (ids == 5).float().mean().item() == pytest.approx(0.75, abs=0.03)
    assert (frames >= 0).all() and (frames <= library.lengths[ids] - 12).all()


def test_sampling_repeats_with_its_generator(library):
    weights = torch.ones(len(library.names))
    first, second = (
        library.sample(50, weights, torch.Generator().manual_seed(7)) for _ in range(2)
    )
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])


def test_clip_names_in_a_library_are_unique():
    with pytest.raises(ClipError, match="clip names must be unique, given twice: walk;"):
        MotionLibrary(DEEPMIMIC, [shipped_clip("walk"), shipped_clip("walk")])


def test_a_library_needs_clips():
    with pytest.raises(ClipError, match="at least one clip"):
        MotionLibrary(DEEPMIMIC, [])


def test_a_clip_of_another_humanoid_is_refused():
    clip = shipped_clip("walk")
    short = dataclasses.replace(clip, joint_rot=clip.joint_rot[:, :10])
    with pytest.raises(ClipError, match=r"clip 'walk': field 'joint_rot' has 10 bodies"):
        MotionLibrary(DEEPMIMIC, [short])
