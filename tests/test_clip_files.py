import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions import (
    FPS,
    Clip,
    ClipError,
    MotionLibrary,
    load_clip,
    read_amc,
    read_bvh,
    read_clip,
    read_deepmimic,
    save_clip,
    shipped_clip,
)


def hinge_angles(clip: Clip) -> dict[str, torch.Tensor]:
    """Angle of every knee and elbow, (T,) rad."""
    bodies = DEEPMIMIC.hinge_bodies
    rotation_vectors = rotations.exp_map_from_quat(clip.joint_rot[:, list(bodies)])
    return {DEEPMIMIC.body_names[b]: rotation_vectors[:, i, 1] for i, b in enumerate(bodies)}


# ---- .npz files --------------------


def test_a_saved_clip_loads_as_it_was(tmp_path):
    clip = shipped_clip("kick")
    save_clip(clip, tmp_path / "kick.npz")
    loaded = load_clip(tmp_path / "kick.npz")
    assert (loaded.name, loaded.loop, loaded.source) == (clip.name, clip.loop, clip.source)
    assert torch.equal(loaded.root_pos, clip.root_pos)
    assert torch.equal(loaded.joint_rot, clip.joint_rot)


def npz(path: Path, **changes: Any) -> Path:
    """A clip file with some arrays replaced or, by None, left out."""
    header = {"name": "a", "loop": False, "source": "test", "fps": FPS}
    arrays: dict[str, Any] = {
        "root_pos": np.zeros((5, 3)),
        "joint_rot": np.tile([1.0, 0.0, 0.0, 0.0], (5, 15, 1)),
        "header": np.array(json.dumps(header)),
    } | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def with_value(shape: tuple[int, ...], index: tuple[int, ...], value: float) -> np.ndarray:
    array = np.zeros(shape)
    array[..., 0] = 1.0
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"joint_rot": None}, "field 'joint_rot.*' is missing"),
        ({"header": np.array('{"name": "a", "loop": true, "fps": 30}')}, "'source' is missing"),
        ({"header": np.array("{")}, "not a readable .npz clip"),
        (
            {"header": np.array('{"name": "a", "loop": 1, "source": "", "fps": 60}')},
            "field 'fps' is 60, must be 30",
        ),
        ({"root_pos": np.zeros((5, 2))}, r"field 'root_pos' must be \(T >= 2, 3\), got \(5, 2\)"),
        ({"joint_rot": np.zeros((4, 15, 4))}, r"'joint_rot' must be \(5, B, 4\), got \(4, 15, 4\)"),
        ({"root_pos": with_value((5, 3), (3, 1), math.nan)}, "frame 3: field 'root_pos'"),
        ({"joint_rot": with_value((5, 15, 4), (2, 7, 0), 0.0)}, "frame 2: field 'joint_rot'"),
    ],
)
def test_a_bad_npz_clip_is_refused_with_file_frame_and_field(tmp_path, changes, message):
    path = npz(tmp_path / "bad.npz", **changes)
    with pytest.raises(ClipError, match=f"bad.npz: .*{message}"):
        load_clip(path)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_npz_clip_is_refused(tmp_path, share):
    path = npz(tmp_path / "cut.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ClipError, match=r"cut.npz: not a readable .npz clip"):
        load_clip(path)


def test_damage_inside_a_compressed_clip_is_refused(tmp_path):
    path = tmp_path / "damaged.npz"
    save_clip(shipped_clip("walk"), path)
    content = bytearray(path.read_bytes())
    for position in range(200, 400):
        content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ClipError, match=r"damaged.npz: not a readable .npz clip"):
        load_clip(path)


def test_another_numpy_file_is_not_a_clip(tmp_path):
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ClipError, match=r"array.npy: not a readable .npz clip"):
        load_clip(tmp_path / "array.npy")


@pytest.mark.parametrize("read", [load_clip, lambda path: read_deepmimic(path, source="")])
def test_a_missing_clip_file_is_named(tmp_path, read):
    with pytest.raises(ClipError, match=r"nowhere.x: no such clip file"):
        read(tmp_path / "nowhere.x")


# ---- DeepMimic files --------------------


def deepmimic_frames(count: int = 4) -> list[list[float]]:
    """Standing straight, walking 0.1 m a frame, at 30 Hz."""
    frames = []
    for index in range(count):
        frame = [0.0] * 44
        frame[0] = 1 / FPS
        frame[1:4] = [0.1 * index, 0.9, 0.2]
        for column in (4, 8, 12, 16, 21, 25, 30, 35, 39):
            frame[column] = 1.0
        frame[20], frame[29] = -0.6, 0.4  # right knee, right elbow
        frames.append(frame)
    return frames


def write_deepmimic(path: Path, frames: object) -> Path:
    path.write_text(json.dumps({"Loop": "wrap", "Frames": frames}))
    return path


def test_deepmimic_axes_become_forward_left_up(tmp_path):
    frames = deepmimic_frames()
    half = math.sqrt(0.5)
    frames[0][4:8] = [half, 0.0, half, 0.0]  # quarter turn about their y, up: to the left
    clip = read_deepmimic(write_deepmimic(tmp_path / "humanoid3d_a.txt", frames), source="test")
    assert (clip.name, clip.loop, clip.num_frames) == ("a", True, 4)
    torch.testing.assert_close(clip.root_pos[1], torch.tensor([0.1, -0.2, 0.9]))
    assert rotations.heading(clip.joint_rot[0, 0]).item() == pytest.approx(math.pi / 2)


def test_deepmimic_hinges_flex_forwards_at_the_elbow_and_backwards_at_the_knee(tmp_path):
    path = write_deepmimic(tmp_path / "a.txt", deepmimic_frames())
    angles = hinge_angles(read_deepmimic(path, source="test"))
    assert angles["right_knee"][0].item() == pytest.approx(0.6)
    assert angles["right_elbow"][0].item() == pytest.approx(-0.4)


def changed(frame: int, column: int, value: float) -> list[list[float]]:
    frames = deepmimic_frames()
    frames[frame][column] = value
    return frames


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([*deepmimic_frames(), [0.0] * 43], "frame 4: must hold 44 numbers, got 43"),
        ([*deepmimic_frames(), "text"], "frame 4: must hold 44 numbers, got str"),
        (changed(2, 9, math.nan), "frame 2: holds something that is not a finite number"),
        (changed(1, 12, 0.0), "frame 1: field 'neck rotation' is not a quaternion"),
        (changed(2, 0, -0.1), "frame 2: field 'duration' must be positive"),
        (deepmimic_frames(1), "field 'Frames' must be a list of at least 2 frames"),
    ],
)
def test_a_bad_deepmimic_clip_is_refused_with_file_frame_and_field(tmp_path, frames, message):
    path = write_deepmimic(tmp_path / "bad.txt", frames)
    with pytest.raises(ClipError, match=f"bad.txt: {message}"):
        read_deepmimic(path, source="test")


def test_a_truncated_deepmimic_clip_is_refused(tmp_path):
    path = write_deepmimic(tmp_path / "cut.txt", deepmimic_frames())
    path.write_text(path.read_text()[:200])
    with pytest.raises(ClipError, match=r"cut.txt: not JSON, perhaps truncated"):
        read_deepmimic(path, source="test")


def test_a_deepmimic_clip_without_loop_is_refused(tmp_path):
    path = tmp_path / "bad.txt"
    path.write_text(json.dumps({"Frames": deepmimic_frames()}))
    with pytest.raises(ClipError, match=r"bad.txt: field 'Frames' or 'Loop' is missing"):
        read_deepmimic(path, source="test")


# ---- BVH files --------------------

_SPREAD = 20.0  # degrees between a leg and the vertical in the zero pose of the CMU skeleton
_LEG = (math.sin(math.radians(_SPREAD)), -math.cos(math.radians(_SPREAD)))
# name, parent, offset; x left, y up, z forward
SKELETON: list[tuple[str, str | None, tuple[float, float, float]]] = [
    ("Hips", None, (0, 0, 0)),
    ("Spine1", "Hips", (0, 4, 0)),
    ("Head", "Spine1", (0, 4, 0)),
]
for side, sign in (("Left", 1), ("Right", -1)):
    SKELETON += [
        (f"{side}UpLeg", "Hips", (sign * 1.5, 0, 0)),
        (f"{side}Leg", f"{side}UpLeg", (sign * 8 * _LEG[0], 8 * _LEG[1], 0)),
        (f"{side}Foot", f"{side}Leg", (sign * 8 * _LEG[0], 8 * _LEG[1], 0)),
        (f"{side}Arm", "Spine1", (sign * 3, 2, 0)),
        (f"{side}ForeArm", f"{side}Arm", (sign * 5, 0, 0)),
        (f"{side}Hand", f"{side}ForeArm", (sign * 4, 0, 0)),
    ]


def hierarchy(parent: str | None = None) -> list[str]:
    lines = []
    for name, above, offset in SKELETON:
        if above != parent:
            continue
        channels = "3 Zrotation Yrotation Xrotation"
        if parent is None:
            channels = "6 Xposition Yposition Zposition Zrotation Yrotation Xrotation"
        lines += [f"{'JOINT' if parent else 'ROOT'} {name}", "{"]
        lines += ["OFFSET {} {} {}".format(*offset), f"CHANNELS {channels}", *hierarchy(name), "}"]
    return lines


def bvh_row(position: tuple[float, float, float], **euler_deg: tuple[float, float, float]) -> str:
    """One frame: legs vertical, arms spread, further joints turned by their (z, y, x) angles."""
    turns = {"LeftUpLeg": (-_SPREAD, 0, 0), "RightUpLeg": (_SPREAD, 0, 0)} | euler_deg
    values = [*position]
    # channels follow the order in which the joints stand in the file
    order = [line.split()[1] for line in hierarchy() if line.startswith(("ROOT", "JOINT"))]
    for name in order:
        values += turns.get(name, (0, 0, 0))
    return " ".join(str(value) for value in values)


def write_bvh(path: Path, rows: list[str]) -> Path:
    header = ["MOTION", f"Frames: {len(rows)}", "Frame Time: 0.0333333"]
    path.write_text("\n".join(["HIERARCHY", *hierarchy(), *header, *rows]) + "\n")
    return path


STANDING = bvh_row((0, 16, 0))


def test_bvh_t_pose_stands_upright_with_spread_arms(tmp_path):
    clip = read_bvh(write_bvh(tmp_path / "a.bvh", [STANDING] * 4), source="test")
    assert (clip.name, clip.num_frames, clip.loop) == ("a", 3, False)
    library = MotionLibrary(DEEPMIMIC, [clip])
    position = dict(zip(DEEPMIMIC.body_names, library.frames.pos[0], strict=True))
    assert position["left_wrist"][1] > 0.6 and position["right_wrist"][1] < -0.6
    for side in ("left", "right"):
        arm = position[f"{side}_wrist"] - position[f"{side}_shoulder"]
        assert arm[[0, 2]].abs().max() < 1e-3
        assert position[f"{side}_ankle"][2].item() == pytest.approx(0.05, abs=1e-3)


def test_bvh_travel_is_scaled_by_leg_length(tmp_path):
    rows = [STANDING, *(bvh_row((0, 16, z)) for z in (5, 6, 7))]
    clip = read_bvh(write_bvh(tmp_path / "a.bvh", rows), source="test")
    scale = (0.42155 + 0.40987) / 16  # m per unit
    torch.testing.assert_close(clip.root_pos[2, :2], torch.tensor([2 * scale, 0.0]))


def test_bvh_knee_flexion_is_positive_and_elbow_flexion_negative(tmp_path):
    # z, y, x angles in degrees of a turn by 50 degrees about a hinge axis
    def euler(axis: tuple[float, float, float]) -> tuple[float, float, float]:
        q = rotations.quat_from_exp_map(math.radians(50) * torch.tensor(axis, dtype=torch.float64))
        w, x, y, z = q.tolist()
        return (
            math.degrees(math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))),
            math.degrees(math.asin(2 * (w * y - x * z))),
            math.degrees(math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))),
        )

    bent = {"LeftLeg": euler((0.9397, 0.3420, 0.0)), "LeftForeArm": euler((0.0, -0.866, 0.5))}
    rows = [STANDING, STANDING, STANDING, bvh_row((0, 16, 0), **bent)]
    clip = read_bvh(write_bvh(tmp_path / "a.bvh", rows), source="test")
    angles = hinge_angles(clip)
    assert angles["left_knee"][2].item() == pytest.approx(math.radians(50), abs=1e-3)
    assert angles["left_elbow"][2].item() == pytest.approx(math.radians(-50), abs=1e-3)
    assert angles["right_elbow"][2].abs() < 1e-3


def test_bvh_turn_about_the_vertical_is_a_turn_to_the_left(tmp_path):
    rows = [STANDING, *(bvh_row((0, 16, 0), Hips=(0, angle, 0)) for angle in (0, 30, 60))]
    clip = read_bvh(write_bvh(tmp_path / "a.bvh", rows), source="test")
    yaw = rotations.heading(clip.joint_rot[:, 0]).rad2deg()
    torch.testing.assert_close(yaw, torch.tensor([0.0, 30.0, 60.0]), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("HIERARCHY", "HELLO", "field 'HIERARCHY' must be the first line; not a BVH file"),
        ("JOINT Head", "JOINT Face", "not a CMU skeleton, without Head"),
        ("OFFSET 0 4 0", "OFFSET 0 4", "joint Spine1: field 'OFFSET' must hold 3 numbers, got 2"),
        ("OFFSET 0 4 0", "", "joint Spine1: field 'OFFSET' is missing"),
        ("CHANNELS 3", "CHANNELS 4", "joint Spine1: field 'CHANNELS'"),
        ("Frames: 4", "Frames: 5", "field 'Frames' says 5, the file holds 4 .*truncated"),
        ("Frame Time: 0.0333333", "Frame Time: 0", "field 'Frame Time' must be positive"),
        ("Frame Time: 0.0333333", "", "field 'Frame Time' is missing"),
        ("5 16 0", "5 nan 0", "frame 2: field 'channels': 'nan' is not a finite number"),
        ("5 16 0", "5 x 0", "frame 2: field 'channels': 'x' is not a finite number"),
        ("5 16 0", "5 16", "frame 2: field 'channels' must hold 48 numbers, got 47"),
        ("}\nMOTION", "MOTION", "field 'MOTION' or a brace is missing"),
    ],
)
def test_a_bad_bvh_clip_is_refused_with_file_frame_and_field(tmp_path, old, new, message):
    path = write_bvh(tmp_path / "bad.bvh", [STANDING, STANDING, bvh_row((5, 16, 0)), STANDING])
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(ClipError, match=f"bad.bvh: .*{message}"):
        read_bvh(path, source="test")


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_truncated_bvh_clip_is_refused(tmp_path, share):
    path = write_bvh(tmp_path / "cut.bvh", [STANDING] * 4)
    text = path.read_text()
    path.write_text(text[: int(share * len(text))])
    with pytest.raises(ClipError, match=r"cut.bvh: "):
        read_bvh(path, source="test")


# ---- .asf and .amc files --------------------

BONES = {  # name: parent, its end as the place of a BVH joint, the joint that it turns
    "lowerback": ("root", "Spine1", None),
    "thorax": ("lowerback", "Head", "Spine1"),
    "head": ("thorax", None, "Head"),
}
for side in ("Left", "Right"):
    s = side[0].lower()
    BONES |= {
        f"{s}hipjoint": ("root", f"{side}UpLeg", None),
        f"{s}femur": (f"{s}hipjoint", f"{side}Leg", f"{side}UpLeg"),
        f"{s}tibia": (f"{s}femur", f"{side}Foot", f"{side}Leg"),
        f"{s}foot": (f"{s}tibia", None, f"{side}Foot"),
        f"{s}clavicle": ("thorax", f"{side}Arm", None),
        f"{s}humerus": (f"{s}clavicle", f"{side}ForeArm", f"{side}Arm"),
        f"{s}radius": (f"{s}humerus", f"{side}Hand", f"{side}ForeArm"),
        f"{s}wrist": (f"{s}radius", None, f"{side}Hand"),
    }
TILT_DEG = (10.0, -20.0, 35.0)  # of every bone's own axes, about fixed x, y, z


def turned(x: float, y: float, z: float) -> np.ndarray:
    """Matrix of turns about fixed x, then y, then z, by degrees."""
    (a, b, c), (d, e, f) = (np.cos(np.radians((x, y, z))), np.sin(np.radians((x, y, z))))
    about_x = np.array([[1, 0, 0], [0, a, -d], [0, d, a]])
    about_y = np.array([[b, 0, e], [0, 1, 0], [-e, 0, b]])
    about_z = np.array([[c, -f, 0], [f, c, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def angles(matrix: np.ndarray) -> tuple[float, float, float]:
    """Inverse of ``turned``."""
    x = math.atan2(matrix[2, 1], matrix[2, 2])
    y = -math.asin(matrix[2, 0])
    z = math.atan2(matrix[1, 0], matrix[0, 0])
    return math.degrees(x), math.degrees(y), math.degrees(z)


def write_asf(folder: Path) -> Path:
    """The BVH files' skeleton with skew bone axes."""
    ends = {name: np.array(offset, dtype=float) for name, _, offset in SKELETON}
    lines = ["# made by hand", ":version 1.10", ":name test", ":units", "  mass 1.0", "  angle deg"]
    lines += [":root", "  order TX TY TZ RX RY RZ", "  axis XYZ", "  position 0 0 0"]
    lines += ["  orientation 0 0 0", ":bonedata"]
    for name, (_, end, joint) in BONES.items():
        way = ends[end] if end else np.array([0.0, 0.0, 1.0])
        length = np.linalg.norm(way)
        lines += ["begin", f"  name {name}", "  direction {} {} {}".format(*way / length)]
        lines += [f"  length {length}", "  axis {} {} {} XYZ".format(*TILT_DEG)]
        lines += ["  dof rx ry rz", "  limits (-180 180)"] if joint else []
        lines += ["end"]
    lines += [":hierarchy", "begin"]
    lines += [f"  {parent} {name}" for name, (parent, *_) in BONES.items()] + ["end"]
    path = folder / "07.asf"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_amc(folder: Path, frames: list[tuple[tuple, dict]]) -> Path:
    """What ``bvh_row`` writes for the same positions and (z, y, x) angles."""
    tilt = turned(*TILT_DEG)
    lines = ["#!OML:ASF", ":FULLY-SPECIFIED", ":DEGREES"]
    for number, (position, euler_deg) in enumerate(frames, start=1):
        turns = {"LeftUpLeg": (-_SPREAD, 0, 0), "RightUpLeg": (_SPREAD, 0, 0)} | euler_deg
        lines.append(str(number))
        z, y, x = turns.get("Hips", (0, 0, 0))
        root = angles(bvh_turn(z, y, x))
        lines.append("root " + " ".join(map(str, (*position, *root))))
        for name, (_, _, joint) in BONES.items():
            if joint:
                local = tilt.T @ bvh_turn(*turns.get(joint, (0, 0, 0))) @ tilt
                lines.append(f"{name} " + " ".join(map(str, angles(local))))
    path = folder / "07_03.amc"
    path.write_text("\n".join(lines) + "\n")
    return path


def bvh_turn(z: float, y: float, x: float) -> np.ndarray:
    """BVH channels turn about moving axes, so the last one comes first."""
    return turned(x, y, z)


def random_frames(count: int) -> list[tuple[tuple, dict]]:
    generator = np.random.default_rng(0)
    names = [name for name, *_ in SKELETON]
    first = {name: generator.uniform(-25, 25, size=3) for name in names}
    frames: list[tuple[tuple, dict]] = []
    for index in range(count):
        share = index / count
        position = (0.5 * index, 16.0 + 0.1 * index, 0.2 * index)
        frames.append((position, {name: tuple(share * first[name]) for name in names}))
    return frames


def test_amc_and_bvh_files_of_one_motion_give_one_clip(tmp_path):
    frames = random_frames(12)
    rows = [STANDING, *(bvh_row(position, **turns) for position, turns in frames)]
    expected = read_bvh(write_bvh(tmp_path / "a.bvh", rows), source="test")
    write_asf(tmp_path)
    path = write_amc(tmp_path, frames)
    clip = read_amc(path, source="test", rate=1 / 0.0333333)
    assert (clip.name, clip.num_frames, clip.source) == ("07_03", expected.num_frames, "test")
    assert rotations.rotation_angle(expected.joint_rot[0], expected.joint_rot[-1]).max() > 0.2
    torch.testing.assert_close(clip.root_pos, expected.root_pos, rtol=0, atol=1e-4)
    away = rotations.rotation_angle(clip.joint_rot, expected.joint_rot)
    assert away.max() < 2e-3
    assert read_clip(path).num_frames < clip.num_frames  # 120 Hz unless said otherwise


def test_angles_may_be_in_radians(tmp_path):
    write_asf(tmp_path)
    path = write_amc(tmp_path, random_frames(6))
    degrees = read_amc(path, source="test", rate=30.0)
    skeleton = (tmp_path / "07.asf").read_text().replace("angle deg", "angle rad")
    tilt = " ".join(str(math.radians(angle)) for angle in TILT_DEG)
    (tmp_path / "07.asf").write_text(
        skeleton.replace("axis {} {} {} XYZ".format(*TILT_DEG), f"axis {tilt} XYZ")
    )
    lines = [line.split() for line in path.read_text().splitlines()]
    for words in lines:
        first = 4 if words[0] == "root" else 1
        if len(words) > 1:
            words[first:] = [str(math.radians(float(word))) for word in words[first:]]
    path.write_text("\n".join(" ".join(words) for words in lines).replace(":DEGREES", ":RADIANS"))
    radians = read_amc(path, source="test", rate=30.0)
    torch.testing.assert_close(radians.joint_rot, degrees.joint_rot)


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("07.asf", ":bonedata", ":bones", "section ':bonedata' is missing; not an ASF skeleton"),
        ("07.asf", "angle deg", "angle gon", "field 'angle' must be deg or rad, got .'gon'."),
        ("07.asf", "35.0 XYZ", "35.0 XYY", "bone lowerback: field 'axis' must end in an order"),
        ("07.asf", "10.0 -20.0", "10.0 x", "bone lowerback: field 'axis' must hold 3 numbers"),
        ("07.asf", "  name ltibia", "  name shin", "bone shin: not in section ':hierarchy'"),
        ("07.asf", "  root lowerback", "  thorax lowerback", "does not lead to lowerback"),
        ("07_03.amc", "head ", "hat ", "frame 1: field 'head' must hold 3 numbers, got .."),
        ("07_03.amc", "thorax ", "thorax nan ", "frame 1: field 'thorax' must hold 3 numbers"),
        ("07_03.amc", "\n2\n", "\nend\n", "frame 1"),
    ],
)
def test_bad_amc_clips_are_refused_with_file_frame_and_field(tmp_path, file, old, new, message):
    write_asf(tmp_path)
    path = write_amc(tmp_path, [((0, 16, 0), {}), ((5, 16, 0), {})])
    text = (tmp_path / file).read_text()
    assert old in text
    (tmp_path / file).write_text(text.replace(old, new, 1))
    if "\nend\n" in new:
        message = "must hold 2 frames, got 1; perhaps truncated"
    with pytest.raises(ClipError, match=f"{file}: .*{message}"):
        read_amc(path, source="test")


def test_a_motion_without_its_skeleton_says_what_is_missing(tmp_path):
    write_asf(tmp_path).unlink()
    path = write_amc(tmp_path, [((0, 16, 0), {}), ((5, 16, 0), {})])
    with pytest.raises(ClipError, match=r"07_03\.amc: its skeleton 07\.asf must lie in the same"):
        read_clip(path)
    with pytest.raises(ClipError, match="no such clip file"):
        read_amc(tmp_path / "gone_01.amc", source="test")
    (tmp_path / "07.asf").write_text(":units\n")
    with pytest.raises(ClipError, match="not an ASF skeleton"):
        read_clip(path)
