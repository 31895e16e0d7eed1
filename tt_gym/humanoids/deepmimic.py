"""The default humanoid: 15 bodies, 28 degrees of freedom, 45 kg.

Proportions, masses and gains are those of the DeepMimic humanoid as it comes with pybullet (zlib
licence, see NOTICE): z up, facing +x, left is +y, zero pose standing straight with hanging arms.
Its legs are stronger: 6, 5 and 4 N m per kg of the body at hip, knee and ankle instead of 4.4, 3.3
and 2, which hold a run but push nobody off the ground as far as a recorded jump goes.
"""

from __future__ import annotations

from tt_gym.humanoids.humanoid import Body, Humanoid


def _limbs(side: str, sign: float) -> tuple[tuple[Body, ...], tuple[Body, ...]]:
    """Arm and leg of one side; ``sign`` is +1 for the left (+y), -1 for the right."""
    shoulder, elbow, wrist = f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"
    hip, knee, ankle = f"{side}_hip", f"{side}_knee", f"{side}_ankle"
    arm = (
        Body(shoulder, "chest", (-0.02405, sign * 0.18311, 0.24350), "ball",
             "capsule", (0.045, 0.09), (0, 0, -0.14), 1.5, kp=400, kd=40, torque_limit=100),
        Body(elbow, shoulder, (0, 0, -0.27479), "hinge", "capsule", (0.04, 0.0675), (0, 0, -0.12),
             1.0, kp=300, kd=30, torque_limit=60, range=(-2.8, 0.05)),
        Body(wrist, elbow, (0, 0, -0.25895), "fixed", "sphere", (0.04,), (0, 0, 0), 0.5),
    )  # fmt: skip
    leg = (
        Body(hip, "root", (0, sign * 0.08489, 0), "ball", "capsule", (0.055, 0.15), (0, 0, -0.21),
             4.5, kp=500, kd=50, torque_limit=270),
        Body(knee, hip, (0, 0, -0.42155), "hinge", "capsule", (0.05, 0.155), (0, 0, -0.20),
             3.0, kp=500, kd=50, torque_limit=225, range=(-0.05, 2.8)),
        Body(ankle, knee, (0, 0, -0.40987), "ball", "box", (0.0885, 0.045, 0.0275),
             (0.045, 0, -0.0225), 1.0, kp=400, kd=40, torque_limit=180),
    )  # fmt: skip
    return arm, leg


_RIGHT_ARM, _RIGHT_LEG = _limbs("right", -1.0)
_LEFT_ARM, _LEFT_LEG = _limbs("left", 1.0)

BODIES = (
    Body("root", None, (0, 0, 0), "free", "sphere", (0.09,), (0, 0, 0.07), 6.0),
    Body("chest", "root", (0, 0, 0.23615), "ball", "sphere", (0.11,), (0, 0, 0.12),
         14.0, kp=1000, kd=100, torque_limit=200),
    Body("neck", "chest", (0, 0, 0.22389), "ball", "sphere", (0.1025,), (0, 0, 0.175),
         2.0, kp=100, kd=10, torque_limit=50),
    *_RIGHT_ARM, *_LEFT_ARM, *_RIGHT_LEG, *_LEFT_LEG,
)  # fmt: skip

STANDING_HEIGHT = 0.8814
"""Height of the root when standing straight with both soles on the ground, m."""

DEEPMIMIC = Humanoid(
    BODIES,
    head="neck",
    right_hand="right_wrist",
    feet=("right_ankle", "left_ankle"),
    strike_bodies=("right_wrist", "right_elbow"),
    prompt_heights=(0.88, 1.34),
)
