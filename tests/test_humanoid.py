import math

import mujoco
import numpy as np
import pytest
import torch

from tt_gym import rotations
from tt_gym.humanoids import DEEPMIMIC, Body, Humanoid
from tt_gym.humanoids.deepmimic import STANDING_HEIGHT
from tt_gym.simulation import MujocoCpu
from tt_gym.simulation.mujoco_cpu import build_spec


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return build_spec(DEEPMIMIC).compile()


def random_poses(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Root positions and local rotations; hinges about y, wrists at rest."""
    generator = torch.Generator().manual_seed(seed)
    exp_map = 0.8 * torch.randn(count, DEEPMIMIC.num_bodies, 3, generator=generator)
    for index, body in enumerate(DEEPMIMIC.bodies):
        if body.joint == "hinge":
            exp_map[:, index, [0, 2]] = 0.0
        elif body.joint == "fixed":
            exp_map[:, index] = 0.0
    return torch.randn(count, 3, generator=generator), rotations.quat_from_exp_map(exp_map)


def standing(count: int = 1) -> torch.Tensor:
    joint_rot = torch.zeros(count, DEEPMIMIC.num_bodies, 4)
    joint_rot[..., 0] = 1.0
    root_pos = torch.tensor([0.0, 0.0, STANDING_HEIGHT]).expand(count, 3)
    return DEEPMIMIC.qpos_from_pose(root_pos, joint_rot)


def test_forward_kinematics_equals_mujoco(model):
    root_pos, joint_rot = random_poses(8)
    qpos = DEEPMIMIC.qpos_from_pose(root_pos, joint_rot).double()
    qvel = torch.randn(8, DEEPMIMIC.nv, generator=torch.Generator().manual_seed(1)).double()
    ours = DEEPMIMIC.forward_kinematics(qpos, qvel)
    data = mujoco.MjData(model)
    spatial = np.zeros(6)
    for row in range(8):
        data.qpos[:], data.qvel[:] = qpos[row], qvel[row]
        mujoco.mj_forward(model, data)
        np.testing.assert_allclose(ours[0][row], data.xpos[1:], atol=1e-6)
        alignment = (ours[1][row].numpy() * data.xquat[1:]).sum(axis=1)  # q and -q are one rotation
        np.testing.assert_allclose(np.abs(alignment), 1.0, atol=1e-6)
        for body in range(DEEPMIMIC.num_bodies):
            kind = mujoco.mjtObj.mjOBJ_XBODY
            mujoco.mj_objectVelocity(model, data, kind, body + 1, spatial, 0)
            np.testing.assert_allclose(ours[2][row, body], spatial[3:], atol=1e-5)
            np.testing.assert_allclose(ours[3][row, body], spatial[:3], atol=1e-5)


def test_bodies_and_joints_come_in_mujocos_compiled_order(model):
    names = [model.body(index + 1).name for index in range(DEEPMIMIC.num_bodies)]
    assert tuple(names) == DEEPMIMIC.body_names
    assert (model.nq, model.nv, model.nu) == (DEEPMIMIC.nq, DEEPMIMIC.nv, DEEPMIMIC.num_dofs)
    driven = [body.name for body in DEEPMIMIC.bodies if body.joint != "fixed"]
    assert [model.joint(index).name for index in range(model.njnt)] == driven


def test_actuators_come_in_the_order_of_the_dofs(model):
    for index in range(model.nu):
        joint = model.joint(model.actuator_trnid[index, 0])
        axis = int(np.flatnonzero(model.actuator_gear[index])[0])
        assert joint.dofadr[0] + axis == 6 + index


def test_hinge_limits_are_radians(model):
    np.testing.assert_allclose(model.joint("right_knee").range, [-0.05, 2.8])


def test_masses_add_up(model):
    assert model.body_mass.sum() == pytest.approx(DEEPMIMIC.total_mass) == pytest.approx(45.0)


def test_pose_survives_the_way_through_qpos():
    root_pos, joint_rot = random_poses(16)
    qpos = DEEPMIMIC.qpos_from_pose(root_pos, joint_rot)
    back = DEEPMIMIC.joint_rot_from_qpos(qpos)
    torch.testing.assert_close(qpos[:, :3], root_pos)
    alignment = (back * joint_rot).sum(dim=-1).abs()  # q and -q are one rotation
    torch.testing.assert_close(alignment, torch.ones_like(alignment))


def test_pd_target_of_a_pose_is_its_joint_angles():
    joint_rot = torch.zeros(1, DEEPMIMIC.num_bodies, 4)
    joint_rot[..., 0] = 1.0
    knee, hip = DEEPMIMIC.body_index("left_knee"), DEEPMIMIC.body_index("left_hip")
    joint_rot[0, knee] = rotations.quat_from_exp_map(torch.tensor([0.0, 1.2, 0.0]))
    joint_rot[0, hip] = rotations.quat_from_exp_map(torch.tensor([0.1, -0.5, 0.2]))
    target = DEEPMIMIC.pd_target_from_pose(joint_rot)[0]
    torch.testing.assert_close(target[21:25], torch.tensor([0.1, -0.5, 0.2, 1.2]))
    assert torch.count_nonzero(target) == 4


def test_velocity_between_poses_leads_from_one_to_the_other(model):
    root_pos, before = random_poses(4, seed=2)
    _, step = random_poses(4, seed=3)
    small = rotations.quat_from_exp_map(0.1 * rotations.exp_map_from_quat(step))
    after = rotations.quat_multiply(before, small)
    dt = 0.25
    qvel = DEEPMIMIC.qvel_from_poses(torch.zeros(4, 3), before, after, dt)
    for row in range(4):
        qpos = DEEPMIMIC.qpos_from_pose(root_pos[row], before[row]).double().numpy()
        mujoco.mj_integratePos(model, qpos, qvel[row].double().numpy(), dt)
        reached = DEEPMIMIC.joint_rot_from_qpos(torch.from_numpy(qpos).float())
        assert rotations.rotation_angle(reached, after[row]).max() < 2e-3


def test_geodesic_control_is_the_target_when_the_joint_is_near_it():
    _, joint_rot = random_poses(4)
    target = DEEPMIMIC.pd_target_from_pose(joint_rot)
    qpos = DEEPMIMIC.qpos_from_pose(torch.zeros(4, 3), joint_rot)
    ctrl = DEEPMIMIC.geodesic_ctrl(qpos, target)
    torch.testing.assert_close(ctrl, target, atol=1e-5, rtol=0)


def test_geodesic_control_of_an_unturned_joint_is_the_target():
    target = torch.zeros(1, DEEPMIMIC.num_dofs)
    target[0, 14:17] = torch.tensor([0.3, -0.4, 0.2])  # right hip
    ctrl = DEEPMIMIC.geodesic_ctrl(standing(), target)
    torch.testing.assert_close(ctrl, target, atol=1e-6, rtol=0)


def test_geodesic_servo_holds_a_large_rotation():
    simulator = MujocoCpu(DEEPMIMIC, 1, num_threads=1)
    simulator.parameter("gravity")[:] = 0.0
    target = torch.zeros(1, DEEPMIMIC.num_dofs)
    shoulder = DEEPMIMIC.body_index("right_shoulder")
    start = 6
    target[0, start : start + 3] = torch.tensor([1.2, -2.2, 0.8])  # 150 degrees, not about one axis
    qpos = standing()
    qpos[:, 2] = 3.0
    simulator.reset(torch.tensor([0]), qpos, torch.zeros(1, DEEPMIMIC.nv))
    for _ in range(90):
        simulator.step(target)
    reached = DEEPMIMIC.joint_rot_from_qpos(simulator.qpos)[0, shoulder]
    wanted = rotations.quat_from_exp_map(target[0, start : start + 3])
    assert rotations.rotation_angle(reached, wanted) < math.radians(2)


def test_mirrored_target_twice_is_the_target():
    index, sign = DEEPMIMIC.mirrored_dofs
    target = torch.randn(3, DEEPMIMIC.num_dofs, generator=torch.Generator().manual_seed(0))
    once = target[:, index] * sign
    assert not torch.equal(once, target)
    assert torch.equal(once[:, index] * sign, target)


def test_lowest_point_of_standing_is_the_sole():
    pos, rot, _, _ = DEEPMIMIC.forward_kinematics(standing(), torch.zeros(1, DEEPMIMIC.nv))
    # hip to sole: 0.42155 + 0.40987 + 0.0225 + 0.0275
    expected = STANDING_HEIGHT - 0.88142
    assert DEEPMIMIC.lowest_point(pos, rot).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("geom", "size", "angle_deg", "expected"),
    [
        ("sphere", (0.1,), 40.0, 0.9),
        ("box", (0.3, 0.2, 0.1), 0.0, 0.9),
        ("box", (0.3, 0.2, 0.1), 90.0, 0.7),
        ("box", (0.3, 0.2, 0.1), 45.0, 1.0 - 0.4 * math.sqrt(0.5)),
        ("capsule", (0.1, 0.5), 0.0, 0.4),
        ("capsule", (0.1, 0.5), 90.0, 0.9),
        ("capsule", (0.1, 0.5), 60.0, 0.65),
    ],
)
def test_lowest_point_of_each_shape_by_hand(geom, size, angle_deg, expected):
    body = Body("root", None, (0, 0, 0), "free", geom, size, (0, 0, 0), 1.0)
    with_ball = Body("arm", "root", (0, 0, 5), "ball", "sphere", (0.1,), (0, 0, 0), 1.0, kp=1, kd=1)
    hinge = Body("leg", "arm", (0, 0, 0), "hinge", "sphere", (0.1,), (0, 0, 0), 1.0, kp=1, kd=1)
    humanoid = Humanoid(
        [body, with_ball, hinge],
        head="arm",
        right_hand="arm",
        feet=[],
        strike_bodies=[],
        prompt_heights=(0.9, 1.5),
    )
    tilt = torch.tensor([0.0, math.radians(angle_deg), 0.0])
    rot = rotations.quat_from_exp_map(tilt).expand(3, 4)
    pos = torch.tensor([[0.0, 0.0, 1.0], [0.0, 0.0, 6.0], [0.0, 0.0, 6.0]])
    assert humanoid.lowest_point(pos, rot).item() == pytest.approx(expected, abs=1e-6)


def test_unknown_body_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown body 'hand'; bodies: root, chest, neck"):
        DEEPMIMIC.body_index("hand")
