"""Files in the format of AMASS, made by hand: the real ones may not be passed on."""

import math

import numpy as np
import pytest
import torch

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC, SMPL
from tt_gym.motions import ClipError, read_amass, read_clip, save_clip, shipped_clip
from tt_gym.motions.amass import is_amass
from tt_gym.motions.clip import FPS
from tt_gym.motions.limbs import world_pose
from tt_gym.pretraining.clips import load_clips

RATE, FRAMES = 120.0, 121
# rows of the format's pose vector
LEFT_HIP, LEFT_KNEE, SPINE, LEFT_SHOULDER, RIGHT_SHOULDER, LEFT_ELBOW, RIGHT_ELBOW = (
    1, 4, 3, 16, 17, 18, 19,
)  # fmt: skip
# in this format the body is y up and faces z; this stands it up in the z-up world, facing -y
UPRIGHT = (math.pi / 2, 0.0, 0.0)


def write(path, joints=(), *, travel=(0.0, 0.0, 0.0), rate="mocap_framerate", width=156, **changes):
    """One second; ``joints`` maps joints to rotation vectors, held throughout."""
    poses = np.zeros((FRAMES, width))
    poses[:, :3] = UPRIGHT
    for joint, vector in dict(joints).items():
        poses[:, 3 * joint : 3 * joint + 3] = vector
    trans = np.linspace((0.0, 0.0, 0.93), np.add((0.0, 0.0, 0.93), travel), FRAMES)
    content = {"poses": poses, "trans": trans, rate: np.array(RATE), "betas": np.zeros(16)}
    content |= changes
    np.savez(path, **{key: value for key, value in content.items() if value is not None})
    return path


def bodies(clip):
    pos, rot = world_pose(DEEPMIMIC, clip.root_pos.double(), clip.joint_rot.double())
    return {name: pos[0, index] for index, name in enumerate(DEEPMIMIC.body_names)}, rot


def direction(found, start, end):
    way = found[end] - found[start]
    return (way / way.norm()).tolist()


def test_the_rest_pose_stands_with_its_arms_stretched_out(tmp_path):
    clip = read_amass(write(tmp_path / "rest.npz"), source="mine")
    assert (clip.name, clip.num_frames, clip.source) == ("rest", FPS + 1, "mine")
    found, rot = bodies(clip)
    assert float(rotations.heading(rot[0, 0])) == pytest.approx(-math.pi / 2, abs=0.02)
    # facing -y, the left is +x
    assert direction(found, "left_shoulder", "left_wrist") == pytest.approx([1, 0, 0], abs=0.12)
    assert direction(found, "right_shoulder", "right_wrist") == pytest.approx([-1, 0, 0], abs=0.12)
    for side in ("left", "right"):
        assert direction(found, f"{side}_hip", f"{side}_ankle")[2] == pytest.approx(-1, abs=0.05)
        assert float(found[f"{side}_ankle"][2]) == pytest.approx(0.05, abs=0.03)
    assert float(found["root"][2]) == pytest.approx(0.88, abs=0.05)


def test_joints_bend_as_in_the_format(tmp_path):
    joints = {
        LEFT_KNEE: (math.pi / 2, 0.0, 0.0),  # the shin back
        LEFT_ELBOW: (0.0, -math.pi / 2, 0.0),  # the forearm forward
        RIGHT_ELBOW: (0.0, math.pi / 2, 0.0),
        LEFT_SHOULDER: (0.0, 0.0, 0.0),
    }
    found, _ = bodies(read_amass(write(tmp_path / "bent.npz", joints), source="mine"))
    assert direction(found, "left_knee", "left_ankle") == pytest.approx([0, 1, 0], abs=0.2)
    for side in ("left", "right"):
        assert direction(found, f"{side}_elbow", f"{side}_wrist") == pytest.approx(
            [0, -1, 0], abs=0.2
        )


def test_arms_come_down(tmp_path):
    joints = {LEFT_SHOULDER: (0.0, 0.0, -1.4), RIGHT_SHOULDER: (0.0, 0.0, 1.4)}
    found, _ = bodies(read_amass(write(tmp_path / "hang.npz", joints), source="mine"))
    for side in ("left", "right"):
        assert direction(found, f"{side}_shoulder", f"{side}_wrist")[2] < -0.95


def test_travel_is_scaled_by_the_legs_and_turned_with_nothing(tmp_path):
    clip = read_amass(write(tmp_path / "go.npz", travel=(0.0, -1.2, 0.0)), source="mine")
    assert clip.root_pos[0, :2].tolist() == [0.0, 0.0]
    legs = [DEEPMIMIC.bodies[DEEPMIMIC.body_index(f"left_{b}")].offset for b in ("knee", "ankle")]
    smpl = [SMPL.bodies[SMPL.body_index(f"L_{b}")].offset for b in ("Knee", "Ankle")]
    own, theirs = (sum(math.hypot(*offset) for offset in bones) for bones in (legs, smpl))
    scale = own / theirs
    assert clip.root_pos[-1, :2].tolist() == pytest.approx([0.0, -1.2 * scale], abs=0.02)


def test_both_generations_of_the_format_are_read(tmp_path):
    old = read_amass(write(tmp_path / "a.npz"), source="mine")
    new = read_amass(write(tmp_path / "b.npz", rate="mocap_frame_rate", width=165), source="mine")
    assert torch.equal(old.joint_rot, new.joint_rot)


def test_files_are_told_apart_by_their_content(tmp_path):
    amass, own, text = tmp_path / "amass.npz", tmp_path / "own.npz", tmp_path / "no.npz"
    write(amass)
    save_clip(shipped_clip("walk"), own)
    text.write_text("hello")
    assert [is_amass(path) for path in (amass, own, text, tmp_path / "missing.npz")] == [
        True, False, False, False,
    ]  # fmt: skip
    assert (read_clip(amass).name, read_clip(own).name) == ("amass", "walk")
    assert {clip.name for clip in load_clips([str(amass), str(own)])} == {"amass", "walk"}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"trans": None}, "field 'trans' is missing"),
        ({"mocap_framerate": None}, "field 'mocap_framerate' must be 1 to 1000 Hz, got nan"),
        ({"poses": np.zeros((5, 30))}, r"field 'poses' must be \(T >= 2, >= 66\)"),
        ({"trans": np.zeros((5, 3))}, r"field 'trans' must be \(121, 3\), got \(5, 3\)"),
        (
            {"mocap_framerate": np.array(0.0)},
            "field 'mocap_framerate' must be 1 to 1000 Hz, got 0.0",
        ),
        ({"mocap_framerate": np.array(["120"], dtype=object)}, "not a readable .npz clip"),
    ],
)
def test_bad_files_are_named_with_their_field(changes, error, tmp_path):
    with pytest.raises(ClipError, match=rf"bad\.npz: .*{error}"):
        read_amass(write(tmp_path / "bad.npz", **changes), source="mine")


def test_a_frame_that_is_no_number_is_named(tmp_path):
    poses = np.zeros((FRAMES, 156))
    poses[7, 4] = np.nan
    with pytest.raises(ClipError, match=r"bad\.npz: frame 7: field 'poses' is not finite"):
        read_amass(write(tmp_path / "bad.npz", poses=poses), source="mine")


def test_missing_and_cut_files(tmp_path):
    with pytest.raises(ClipError, match="no such clip file"):
        read_amass(tmp_path / "none.npz", source="mine")
    path = write(tmp_path / "cut.npz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ClipError, match=r"cut\.npz: not a readable \.npz clip"):
        read_amass(path, source="mine")
