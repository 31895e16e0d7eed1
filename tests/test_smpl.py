"""The humanoid of the published models."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC, SMPL
from tt_gym.humanoids.smpl import STANDING_HEIGHT
from tt_gym.simulation import MujocoCpu
from tt_gym.simulation.mujoco_cpu import build_spec

ORDER = (
    "Pelvis L_Hip L_Knee L_Ankle L_Toe R_Hip R_Knee R_Ankle R_Toe Torso Spine Chest Neck Head "
    "L_Thorax L_Shoulder L_Elbow L_Wrist L_Hand R_Thorax R_Shoulder R_Elbow R_Wrist R_Hand"
)


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_spec(SMPL, self_collision=True).compile()


def t_pose(count: int) -> Tensor:
    joint_rot = torch.zeros(count, SMPL.num_bodies, 4)
    joint_rot[..., 0] = 1.0
    root_pos = torch.tensor([0.0, 0.0, STANDING_HEIGHT]).expand(count, 3)
    return SMPL.qpos_from_pose(root_pos, joint_rot)


def started(count: int, *, self_collision: bool) -> MujocoCpu:
    simulator = MujocoCpu(SMPL, count, self_collision=self_collision, num_threads=1)
    simulator.reset(torch.arange(count), t_pose(count), torch.zeros(count, SMPL.nv))
    return simulator


def test_bodies_come_in_the_order_that_the_models_know(model):
    assert " ".join(SMPL.body_names) == ORDER
    assert [model.body(index + 1).name for index in range(model.nbody - 1)] == ORDER.split()
    assert (SMPL.num_dofs, model.nu, model.nq) == (69, 69, 7 + 4 * 23)


@pytest.mark.parametrize(
    ("name", "mass"),
    [("Pelvis", 5.13), ("L_Hip", 7.47), ("R_Hip", 7.34), ("R_Knee", 3.55), ("L_Ankle", 1.52),
     ("R_Toe", 0.41), ("Spine", 3.90), ("Chest", 9.60), ("Neck", 0.65), ("Head", 4.25),
     ("R_Thorax", 1.06), ("L_Shoulder", 1.90), ("R_Elbow", 1.09), ("L_Wrist", 0.30),
     ("R_Hand", 0.41)],
)  # fmt: skip
def test_masses_are_the_published_ones(model, name, mass):
    assert model.body(name).mass[0] == pytest.approx(mass, abs=0.011)


def test_masses_add_up_to_the_published_total(model):
    assert model.body_mass.sum() == pytest.approx(63.31, abs=0.01)
    assert SMPL.total_mass == pytest.approx(model.body_mass.sum())


def test_capsules_lie_between_their_published_end_points(model):
    thigh = model.geom("L_Hip")
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, thigh.quat)
    half = thigh.size[1] * rotation.reshape(3, 3)[:, 2]
    np.testing.assert_allclose(thigh.pos - half, [-0.0009, 0.0069, -0.075], atol=1e-6)
    np.testing.assert_allclose(thigh.pos + half, [-0.0036, 0.0274, -0.3002], atol=1e-6)


def test_gains_are_the_published_ones(model):
    kp = {"L_Hip": 800, "R_Ankle": 800, "L_Toe": 500, "Chest": 1000, "Head": 500, "R_Wrist": 300}
    for name, gain in kp.items():
        servo = model.actuator(f"{name}_y")
        passive = model.dof_damping[model.joint(name).dofadr[0]]
        assert servo.gainprm[0] == gain
        assert passive - servo.biasprm[2] == pytest.approx(gain / 10)
        assert servo.forcerange[1] == 500
    np.testing.assert_allclose(model.dof_armature[6:], 0.02)


def test_the_height_over_ground_is_that_of_the_soles():
    pos, rot, _, _ = SMPL.forward_kinematics(t_pose(1), torch.zeros(1, SMPL.nv))
    # left hip, knee and ankle down to the lower side of the foot's box
    expected = STANDING_HEIGHT - (0.0914 + 0.3752 + 0.398 + 0.0239 + 0.0464)
    right = STANDING_HEIGHT - (0.0905 + 0.3826 + 0.3984 + 0.0174 + 0.0478)
    assert SMPL.lowest_point(pos, rot).item() == pytest.approx(min(expected, right), abs=1e-5)
    assert min(expected, right) == pytest.approx(0.0, abs=1e-4)


def test_the_lowest_point_of_a_lying_capsule_follows_its_axis():
    pos, rot, _, _ = SMPL.forward_kinematics(t_pose(1), torch.zeros(1, SMPL.nv))
    high = pos + torch.tensor([0.0, 0.0, 10.0])
    high[:, SMPL.body_index("L_Shoulder"), 2] = 1.0
    lower_end, radius = -0.0102, 0.0517
    assert SMPL.lowest_point(high, rot).item() == pytest.approx(1.0 + lower_end - radius, abs=1e-5)


def test_left_and_right_swap_under_mirroring():
    names = [SMPL.body_names[index] for index in SMPL.mirrored_bodies]
    assert names[:3] == ["Pelvis", "R_Hip", "R_Knee"]
    assert names[9] == "Torso"
    assert names[23] == "L_Hand"


def test_an_action_is_an_exponential_map_in_table_order():
    joint_rot = torch.zeros(1, SMPL.num_bodies, 4)
    joint_rot[..., 0] = 1.0
    turn = torch.tensor([0.3, -1.0, 0.5])
    joint_rot[0, SMPL.body_index("R_Shoulder")] = rotations.quat_from_exp_map(turn)
    target = SMPL.pd_target_from_pose(joint_rot)[0]
    torch.testing.assert_close(target[3 * 19 : 3 * 20], turn)
    assert torch.count_nonzero(target) == 3


def test_a_servo_reaches_a_target_about_no_single_axis():
    simulator = started(1, self_collision=False)
    simulator.parameter("gravity")[:] = 0.0
    qpos = t_pose(1)
    qpos[:, 2] = 5.0
    simulator.reset(torch.tensor([0]), qpos, torch.zeros(1, SMPL.nv))
    turn, target = torch.tensor([0.9, -1.1, 0.7]), torch.zeros(1, 69)
    target[0, 3 * 19 : 3 * 20] = turn  # right shoulder
    for _ in range(120):
        simulator.step(target)
    reached = SMPL.joint_rot_from_qpos(simulator.qpos)[0, SMPL.body_index("R_Shoulder")]
    assert rotations.rotation_angle(reached, rotations.quat_from_exp_map(turn)) < math.radians(3)


def test_neighbours_and_listed_pairs_pass_through_each_other(model):
    pairs = {
        frozenset((model.body(int(code) >> 16).name, model.body(int(code) & 0xFFFF).name))
        for code in model.exclude_signature
    }
    assert {"Torso", "Chest"} in pairs
    assert {"R_Knee", "L_Toe"} in pairs
    assert {"Neck", "Head"} in pairs
    assert {"L_Shoulder", "Chest"} not in pairs
    assert len(pairs) == 23 + 8


@pytest.mark.parametrize("self_collision", [False, True])
def test_it_stands_in_the_t_pose(self_collision):
    simulator = started(1, self_collision=self_collision)
    for _ in range(150):
        state = simulator.step(torch.zeros(1, 69))
    joint_rot = SMPL.joint_rot_from_qpos(simulator.qpos)
    away = rotations.exp_map_from_quat(joint_rot[:, 1:]).norm(dim=-1)
    assert away.max() < math.radians(3)
    assert state.pos[0, 0, 2].item() == pytest.approx(STANDING_HEIGHT, abs=0.01)
    touching = state.contact_force[0].norm(dim=-1).nonzero().flatten().tolist()
    assert touching
    assert set(touching) <= set(SMPL.feet)


@pytest.mark.slow
@pytest.mark.parametrize("self_collision", [False, True])
@pytest.mark.parametrize("hold_steps", [1, 5])
def test_it_survives_ten_seconds_of_random_actions(self_collision, hold_steps):
    count, generator = 16, torch.Generator().manual_seed(0)
    simulator = started(count, self_collision=self_collision)
    fastest = torch.zeros(())
    for step in range(300):
        if step % hold_steps == 0:
            action = math.pi * (2.0 * torch.rand(count, 69, generator=generator) - 1.0)
        simulator.step(action)
        assert not simulator.diverged.any()
        fastest = torch.maximum(fastest, simulator.qvel.abs().max())
    assert 5.0 < fastest < 100.0  # it moved, at speeds a body can have


def test_both_humanoids_have_the_roles_that_tasks_ask_for():
    for humanoid in (DEEPMIMIC, SMPL):
        assert humanoid.right_hand in humanoid.strike_bodies
        assert not set(humanoid.feet) & set(humanoid.strike_bodies)
    assert SMPL.body_names[SMPL.head] == "Head"
    assert SMPL.body_names[SMPL.right_hand] == "R_Hand"
