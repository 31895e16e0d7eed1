"""The SMPL humanoid of the published MaskedMimic models: 24 bodies, 69 DoF, 63.3 kg.

Geometry, densities and gains are those of the humanoid in ProtoMotions v3 (Apache-2.0, see NOTICE):
z up, facing +x, left is +y, zero pose standing straight with the arms stretched out sideways (T).
Every joint is a ball joint, so that a PD target is exactly the exponential map that the models mean
(the original has three hinges in series there).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from tt_gym.humanoids.humanoid import Body, Humanoid, JointType

_Vector = tuple[float, float, float]

_SOFT, _LIGHT, _DENSE = 1000.0, 1234.57, 2040.82  # kg/m^3
_TORQUE_LIMIT = 500.0  # N m


def _box(
    name: str, parent: str | None, offset: _Vector, centre: _Vector, half: _Vector, kp: float
) -> Body:
    """A body whose shape is a box; the root has no gain."""
    mass = 8.0 * math.prod(half) * _SOFT
    joint: JointType = "free" if parent is None else "ball"
    return Body(name, parent, offset, joint, "box", half, centre, mass,
                kp=kp, kd=0.1 * kp, torque_limit=_TORQUE_LIMIT)  # fmt: skip


def _capsule(
    name: str,
    parent: str,
    offset: _Vector,
    ends: tuple[_Vector, _Vector],
    radius: float,
    kp: float,
    density: float = _SOFT,
) -> Body:
    """A body whose shape is a capsule between two points."""
    start, end = ends
    length = math.dist(start, end)
    centre = _vector(0.5 * (a + b) for a, b in zip(start, end, strict=True))
    axis = _vector((b - a) / length for a, b in zip(start, end, strict=True))
    mass = density * math.pi * radius**2 * (length + 4.0 / 3.0 * radius)
    return Body(name, parent, offset, "ball", "capsule", (radius, 0.5 * length), centre, mass,
                kp=kp, kd=0.1 * kp, torque_limit=_TORQUE_LIMIT, geom_axis=axis)  # fmt: skip


def _vector(values: Iterable[float]) -> _Vector:
    x, y, z = values
    return x, y, z


BODIES = (
    _box("Pelvis", None, (0, 0, 0), (-0.0055, 0, -0.0121), (0.083, 0.1069, 0.0722), 0),
    _capsule("L_Hip", "Pelvis", (-0.0068, 0.0695, -0.0914),
             ((-0.0009, 0.0069, -0.075), (-0.0036, 0.0274, -0.3002)), 0.0615, 800, _DENSE),
    _capsule("L_Knee", "L_Hip", (-0.0045, 0.0343, -0.3752),
             ((-0.0087, -0.0027, -0.0796), (-0.035, -0.0109, -0.3184)), 0.0541, 800, _LIGHT),
    _box("L_Ankle", "L_Knee", (-0.0437, -0.0136, -0.398),
         (0.0242, 0.0233, -0.0239), (0.085, 0.0483, 0.0464), 800),
    _box("L_Toe", "L_Ankle", (0.1193, 0.0264, -0.0558),
         (0.0248, -0.003, 0.0055), (0.0496, 0.0478, 0.02), 500),
    _capsule("R_Hip", "Pelvis", (-0.0043, -0.0677, -0.0905),
             ((-0.0018, -0.0077, -0.0765), (-0.0071, -0.0306, -0.3061)), 0.0606, 800, _DENSE),
    _capsule("R_Knee", "R_Hip", (-0.0089, -0.0383, -0.3826),
             ((-0.0085, 0.0032, -0.0797), (-0.0338, 0.0126, -0.3187)), 0.0541, 800, _LIGHT),
    _box("R_Ankle", "R_Knee", (-0.0423, 0.0158, -0.3984),
         (0.0256, -0.0212, -0.0174), (0.0865, 0.0483, 0.0478), 800),
    _box("R_Toe", "R_Ankle", (0.1233, -0.0254, -0.0481),
         (0.0227, 0.0042, 0.0045), (0.0493, 0.0479, 0.0216), 500),
    _capsule("Torso", "Pelvis", (-0.0267, -0.0025, 0.109),
             ((0.0005, 0.0025, 0.0608), (0.0006, 0.003, 0.0743)), 0.0769, 1000, _DENSE),
    _capsule("Spine", "Torso", (0.0011, 0.0055, 0.1352),
             ((0.0114, 0.0007, 0.0238), (0.014, 0.0008, 0.0291)), 0.0755, 1000, _DENSE),
    _capsule("Chest", "Spine", (0.0254, 0.0015, 0.0529),
             ((-0.0173, -0.0009, 0.0682), (-0.0212, -0.001, 0.0833)), 0.1002, 1000, _DENSE),
    _capsule("Neck", "Chest", (-0.0429, -0.0028, 0.2139),
             ((0.0103, 0.001, 0.013), (0.0411, 0.0041, 0.052)), 0.0436, 500),
    _box("Head", "Neck", (0.0513, 0.0052, 0.065),
         (-0.0116, -0.0042, 0.0876), (0.076, 0.0606, 0.1154), 500),
    _capsule("L_Thorax", "Chest", (-0.0341, 0.0788, 0.1217),
             ((-0.0018, 0.0182, 0.0061), (-0.0071, 0.0728, 0.0244)), 0.0521, 500),
    _capsule("L_Shoulder", "L_Thorax", (-0.0089, 0.091, 0.0305),
             ((-0.0055, 0.0519, -0.0026), (-0.022, 0.2077, -0.0102)), 0.0517, 500),
    _capsule("L_Elbow", "L_Shoulder", (-0.0275, 0.2596, -0.0128),
             ((-0.0002, 0.0498, 0.0018), (-0.0009, 0.1994, 0.0072)), 0.0405, 500),
    _capsule("L_Wrist", "L_Elbow", (-0.0012, 0.2492, 0.009),
             ((-0.003, 0.0168, -0.0016), (-0.012, 0.0672, -0.0065)), 0.0318, 300),
    _box("L_Hand", "L_Wrist", (-0.0149, 0.084, -0.0082),
         (-0.0058, 0.0493, 0.001), (0.0538, 0.0585, 0.0158), 300),
    _capsule("R_Thorax", "Chest", (-0.0386, -0.0818, 0.1188),
             ((-0.0018, -0.0192, 0.0065), (-0.0073, -0.0768, 0.026)), 0.0511, 500),
    _capsule("R_Shoulder", "R_Thorax", (-0.0091, -0.096, 0.0326),
             ((-0.0043, -0.0507, -0.0027), (-0.0171, -0.203, -0.0107)), 0.0531, 500),
    _capsule("R_Elbow", "R_Shoulder", (-0.0214, -0.2537, -0.0133),
             ((-0.0011, -0.0511, 0.0016), (-0.0044, -0.2042, 0.0062)), 0.0408, 500),
    _capsule("R_Wrist", "R_Elbow", (-0.0056, -0.2553, 0.0078),
             ((-0.0021, -0.0169, -0.0012), (-0.0083, -0.0677, -0.0049)), 0.0326, 300),
    _box("R_Hand", "R_Wrist", (-0.0103, -0.0846, -0.0061),
         (-0.0079, -0.0462, -0.0009), (0.0546, 0.0569, 0.0164), 300),
)  # fmt: skip

_NEVER_COLLIDE = (
    ("Torso", "Chest"), ("Chest", "Head"),
    ("L_Knee", "L_Toe"), ("L_Knee", "R_Ankle"), ("L_Knee", "R_Toe"),
    ("R_Knee", "R_Toe"), ("R_Knee", "L_Ankle"), ("R_Knee", "L_Toe"),
)  # fmt: skip

STANDING_HEIGHT = 0.9367
"""Height of the root when standing in the T-pose with both soles on the ground, m."""

SMPL = Humanoid(
    BODIES,
    head="Head",
    right_hand="R_Hand",
    feet=("R_Ankle", "L_Ankle", "R_Toe", "L_Toe"),
    strike_bodies=("R_Hand", "R_Wrist", "R_Elbow"),
    mirror_names=("L_", "R_"),
    armature=0.02,
    passive_damping=0.7,  # from 0.6 on random actions do not make it diverge
    never_collide=_NEVER_COLLIDE,
    prompt_heights=(0.88, 1.5),  # those of the paper's code
)
