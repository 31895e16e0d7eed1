"""Environments around the published models, on the SMPL humanoid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import tt_gym  # noqa: F401
from tt_gym.bfm.targets import visible_tokens
from tt_gym.humanoids import SMPL
from tt_gym.motions import ClipError
from tt_gym.motions.amass import read_smpl_motion
from tt_gym.tasks import Transition

DATA = Path(__file__).parent / "data"
V1, V3 = (str(DATA / f"maskedmimic_{version}" / "tiny.ckpt") for version in ("v1", "v3"))


def make(bfm: str, task: str = "Direction", **kwargs: Any) -> gymnasium.vector.VectorEnv:
    return gymnasium.make_vec(
        f"TT{task}-v0", num_envs=3, vectorization_mode="vector_entry_point", bfm=bfm, **kwargs
    )


def actions(env: gymnasium.vector.VectorEnv, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.uniform(-1, 1, env.action_space.shape).astype(np.float32)


@pytest.mark.parametrize("task", ["Direction", "Strike"])
@pytest.mark.parametrize("bfm", [V1, V3])
def test_a_published_model_takes_tokens_in_an_environment(bfm, task):
    env = make(bfm, task, max_episode_steps=20)
    assert env.unwrapped.humanoid is SMPL
    assert env.single_action_space.shape == (32,)  # the token's width in the reduced models
    observations, _ = env.reset(seed=0)
    ended = 0
    for step in range(50):
        assert env.observation_space.contains(observations)
        observations, rewards, terminated, truncated, info = env.step(actions(env, step))
        assert not info["diverged"].any()
        assert np.isfinite(rewards).all()
        ended += int((terminated | truncated).sum())
    assert ended >= 3


@pytest.mark.parametrize("name", ["Reach", "LongJump", "PathFollowing"])
def test_tasks_know_the_bodies_of_the_smpl_humanoid(name):
    env = make(V1, name, preset="paper", max_episode_steps=20).unwrapped
    assert env.task.humanoid is SMPL
    observations, _ = env.reset(seed=0)
    assert env.observation_space.contains(observations)
    for step in range(25):
        _, rewards, _, _, info = env.step(actions(env, step))
        assert np.isfinite(rewards).all()
        assert not info["diverged"].any()


@pytest.mark.parametrize("control", ["token", "joint"])
@pytest.mark.parametrize("bfm", [V1, V3])
@pytest.mark.parametrize(
    "task", ["Direction", "Steering", "Reach", "Strike", "LongJump", "PathFollowing"]
)
def test_every_task_runs_in_both_forms_with_the_goals_of_the_paper(task, bfm, control):
    env = make(bfm, task, preset="paper", control=control)
    observations, _ = env.reset(seed=0)
    for step in range(3):
        assert env.observation_space.contains(observations)
        observations, rewards, _, _, info = env.step(actions(env, step))
        assert np.isfinite(rewards).all()
        assert not info["diverged"].any()


def test_a_single_environment_takes_a_published_model_by_its_path():
    env = gymnasium.make("tt_gym:TTStrike-v0", bfm=V1)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.action_space.shape == (32,)
    assert env.unwrapped.batch.humanoid is SMPL
    env.step(env.action_space.sample())


def test_joint_conditioning_asks_for_the_paper_s_heights():
    env = make(V1, "Strike", near_probability=0.0, min_distance=4.0, near_distance=4.0).unwrapped
    env.reset(seed=0)
    targets = env.task.build_prompt("joint_conditioning", env.simulator.state, env.goal)
    assert visible_tokens(targets).all()  # the box is far away
    heights = targets.pos[:, 0, [0, SMPL.head], 2]
    np.testing.assert_allclose(heights, [[0.88, 1.5]] * 3, rtol=1e-6)


def test_reach_means_the_right_hand_and_long_jump_the_four_feet():
    reach = make(V1, "Reach").unwrapped
    reach.reset(seed=0)
    state, hand = reach.simulator.state, SMPL.body_index("R_Hand")
    goal = {**reach.goal, "target": state.pos[:, hand]}
    transition = Transition(state, state, reach.steps + 100)
    assert (reach.task.reward_terms(transition, goal)["reach"] == 1.0).all()
    jump = make(V1, "LongJump").unwrapped
    jump.reset(seed=0)
    state = jump.simulator.state
    state.pos[0, SMPL.body_index("L_Toe"), 0] = 6.1
    state.pos[1, SMPL.body_index("L_Hand"), 0] = 6.1
    terms = jump.task.reward_terms(Transition(state, state, jump.steps + 2), jump.goal)
    assert (terms["height"] > 0.0).tolist() == [True, False, False]


@pytest.mark.parametrize("control", ["token", "joint"])
@pytest.mark.parametrize("task", ["Direction", "Steering", "Reach", "Strike", "PathFollowing"])
def test_v1_takes_the_joint_conditioning_of_the_paper(task, control):
    env = make(V1, task, control=control, prompt="joint_conditioning").unwrapped
    observations, _ = env.reset(seed=0)
    for step in range(3):
        observations = env.step(actions(env, step))[0]
        assert env.observation_space.contains(observations)
    targets = env.task.build_prompt("joint_conditioning", env.simulator.state, env.goal)
    if control == "joint":
        tokens = int(visible_tokens(targets).sum())
        assert observations["model_targets"][..., -1].sum() == tokens
        assert tokens or task == "Strike"


def test_v1_sees_the_parts_of_direction_s_joint_conditioning_and_their_times():
    env = make(V1, control="joint", prompt="joint_conditioning")
    targets = env.reset(seed=0)[0]["model_targets"]
    first_of_pelvis, first_of_last = 2 * 26 + 12, 6 * 26 + 12  # bits of the first of two slots
    bits = [first_of_pelvis, first_of_pelvis + 13, first_of_last, first_of_last + 13]
    near, far = targets[0, 0], targets[0, 1]
    assert near[bits].tolist() == [1, 1, 0, 1]  # position, rotation; heading, velocity
    assert far[bits].tolist() == [1, 0, 0, 0]
    np.testing.assert_allclose([near[182], far[182]], [1 / 3, 1.0], rtol=1e-6)
    assert targets[:, :, -1].sum(axis=1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(("task", "fits"), [("Reach", True), ("PathFollowing", True),
                                            ("Direction", False), ("Strike", False)])  # fmt: skip
def test_v3_takes_conditioning_without_heading_and_velocity(task, fits):
    env = make(V3, task, prompt="joint_conditioning")
    env.reset(seed=0)
    if fits:
        env.step(actions(env, 0))
    else:
        with pytest.raises(ValueError, match="no heading or velocity"):
            for step in range(5):
                env.step(actions(env, step))


def test_an_episode_begins_with_a_drop_in_the_t_pose():
    env = make(V1)
    env.reset(seed=0)
    state = env.unwrapped.simulator.state
    np.testing.assert_allclose(state.pos[:, 0], [[0, 0, 1.14]] * 3, atol=1e-6)
    assert state.contact_force.abs().max() == 0


def test_an_episode_may_begin_standing_on_the_ground():
    env = make(V1, start="standing").unwrapped
    env.reset(seed=0)
    pos, rot = env.simulator.state.pos, env.simulator.state.rot
    assert SMPL.lowest_point(pos, rot).abs().max() < 1e-5
    hand, shoulder = (pos[0, SMPL.body_index(name)] for name in ("R_Hand", "R_Shoulder"))
    assert (shoulder - hand)[2] > 0.5
    hold = SMPL.pd_target_from_pose(SMPL.joint_rot_from_qpos(env.simulator.qpos))
    for _ in range(60):
        state = env.simulator.step(hold)
    assert state.pos[:, SMPL.head, 2].min() > 1.45
    touching = state.contact_force[0].norm(dim=-1).nonzero().flatten().tolist()
    assert set(touching) <= set(SMPL.feet)


def test_an_unknown_start_names_those_of_the_humanoid(bfm):
    with pytest.raises(
        ValueError, match=r"start of this humanoid 'stand'.* Known: drop, standing, clip"
    ):
        make(V1, start="stand")
    with pytest.raises(ValueError, match=r"start of this humanoid 'drop'\. Known: clips, standing"):
        make(bfm, start="drop")


@pytest.mark.parametrize("bfm", [V1, V3])
def test_history_survives_saving_and_restoring(bfm):
    env = make(bfm)
    env.reset(seed=0)
    for step in range(10):
        env.step(actions(env, step))
    saved = env.unwrapped.get_state()
    first = [env.step(actions(env, step))[0]["state"] for step in range(5)]
    env.unwrapped.set_state(saved)
    again = [env.step(actions(env, step))[0]["state"] for step in range(5)]
    np.testing.assert_array_equal(first, again)


def test_v1_takes_heading_and_speed_as_a_prompt_beside_the_token():
    results = []
    for prompt in (None, "heading_speed"):
        env = make(V1, prompt=prompt)
        env.reset(seed=0)
        results.append(env.step(np.zeros(env.action_space.shape, np.float32))[0]["state"])
    assert np.abs(results[0] - results[1]).max() > 1e-3


# ---- what the scene shows -----------------------------------------------------------------------


def colliding_pairs(env: gymnasium.vector.VectorEnv) -> int:
    """Pairs of limbs that may collide, parents and excluded pairs included."""
    model = env.unwrapped.simulator.model
    limbs = np.flatnonzero(model.geom_bodyid > 0)
    meets = model.geom_contype[limbs, None] & model.geom_conaffinity[None, limbs]
    return int((meets != 0).sum())


def test_limbs_collide_with_each_other_unless_told_otherwise(bfm):
    assert colliding_pairs(make(V1)) == 24 * 24
    assert colliding_pairs(make(V1, self_collision=False)) == 0
    assert colliding_pairs(make(bfm)) == 0
    assert colliding_pairs(make(bfm, self_collision=True)) == 15 * 15


def test_a_hand_does_not_pass_through_the_other_arm():
    forces = []
    for self_collision in (True, False):
        env = make(V1, start="standing", self_collision=self_collision).unwrapped
        env.reset(seed=0)
        pose = SMPL.joint_rot_from_qpos(env.simulator.qpos)
        target = SMPL.pd_target_from_pose(pose)
        for side, sign in (("L", 1.0), ("R", -1.0)):  # both arms across the chest
            dof = SMPL.body_index(f"{side}_Shoulder")
            axes = [index for index, name in enumerate(dof_names()) if name == dof]
            target[:, axes] = torch.tensor([0.0, 0.0, -1.9 * sign])
        upper = [SMPL.body_index(f"{side}_{part}") for side in "LR" for part in ("Elbow", "Hand")]
        most = 0.0
        for _ in range(20):
            state = env.simulator.step(target)
            most = max(most, float(state.contact_force[:, upper].abs().max()))
        forces.append(most)
    assert forces[0] > 10.0
    assert forces[1] == 0.0


def dof_names() -> list[int]:
    """Index of the body of every degree of freedom: three of each but the root."""
    return [body for body in range(1, SMPL.num_bodies) for _ in range(3)]


def test_v1_sees_uneven_ground():
    def terrain(**kwargs: Any) -> np.ndarray:
        env = make(V1, control="joint", start="standing", **kwargs)
        return env.reset(seed=0)[0]["model_terrain"][:, 0, :256], env.unwrapped

    flat, env = terrain()
    root = env.simulator.state.pos[:, 0, 2].numpy()
    np.testing.assert_allclose(flat, np.repeat(root[:, None], 256, axis=1), atol=1e-6)
    seen, env = terrain(perturbations={"slope_deg": 10.0})
    root = env.simulator.state.pos[:, 0, 2].numpy()
    along = np.repeat(np.linspace(-1, 1, 16), 16)  # the slope rises along x, where it faces
    expected = root[:, None] - np.tan(np.deg2rad(10.0)) * along
    np.testing.assert_allclose(seen, expected, atol=1e-4)
    seen, env = terrain(perturbations={"stair_height": 0.1})
    below = env.simulator.state.pos[:, 0, 2].numpy()[:, None] - seen
    assert below.max() == pytest.approx(0.1, abs=0.02)  # the first step, 0.8 m ahead
    assert len(np.unique(below.round(3))) > 1


# ---- a motion to begin in -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def motion(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two seconds in the format of AMASS: gliding along x, the left knee bending more and more."""
    count = 61
    poses = np.zeros((count, 156))
    poses[:, :3] = (2.0 / 3.0 * np.pi / np.sqrt(3.0),) * 3  # upright, facing +x
    poses[:, 12] = np.linspace(0.0, 1.0, count)
    trans = np.linspace((0.0, 0.0, 0.95), (2.0, 0.0, 0.95), count)
    path = tmp_path_factory.mktemp("motion") / "glide.npz"
    np.savez(path, poses=poses, trans=trans, mocap_framerate=np.array(30.0))
    return str(path)


def test_a_motion_becomes_one_of_the_smpl_humanoid(motion):
    clip = read_smpl_motion(motion, source="mine")
    assert clip.joint_rot.shape == (61, SMPL.num_bodies, 4)
    qpos = SMPL.qpos_from_pose(clip.root_pos, clip.joint_rot)
    pos, *_ = SMPL.forward_kinematics(qpos, torch.zeros(61, SMPL.nv))
    left, right = (pos[0, SMPL.body_index(f"{side}_Hand")] for side in "LR")
    assert left[1] - right[1] > 1.2  # arms stretched out, facing +x
    assert pos[0, SMPL.head, 2] - pos[0, 0, 2] > 0.5
    ankle = pos[:, SMPL.body_index("L_Ankle"), 0] - pos[:, 0, 0]
    assert ankle[-1] < ankle[0] - 0.2  # the shin goes back


@pytest.mark.parametrize("bfm", [V1, V3])
def test_episodes_begin_within_a_motion_and_remember_it(bfm, motion):
    env = make(bfm, start="clip", clip=motion).unwrapped
    env.reset(seed=0)
    state = env.simulator.state
    np.testing.assert_allclose(state.vel[:, 0, :2], [[1.0, 0.0]] * 3, atol=1e-3)
    np.testing.assert_allclose(state.pos[:, 0, :2], 0.0, atol=1e-6)
    knees = SMPL.joint_rot_from_qpos(env.simulator.qpos)[:, SMPL.body_index("L_Knee"), 0]
    assert len(set(knees.tolist())) == 3  # each at a moment of its own
    if bfm == V1:
        newest = env.inputs._newest
        np.testing.assert_allclose(env.inputs._pos[newest], state.pos, atol=1e-5)
        before = env.inputs._pos[(newest - 3) % 114]
        moved = state.pos[:, 0, 0] - before[:, 0, 0]
        assert ((moved - 0.1).abs() < 1e-4).any()  # 3 steps at 1 m/s
        assert (moved <= 0.1 + 1e-4).all()  # less where the motion had just begun
    else:
        past = env.inputs._past
        assert past.shape[1] == 5
        assert (past[:, 0] - past[:, 4]).abs().max() > 1e-3
    for step in range(3):
        assert np.isfinite(env.step(actions(env, step))[1]).all()


def test_the_paper_s_start_drops_the_t_pose_and_remembers_a_motion(motion):
    env = make(V1, clip=motion).unwrapped
    env.reset(seed=0)
    state = env.simulator.state
    np.testing.assert_allclose(state.pos[:, 0, 2], 1.14, atol=1e-6)
    remembered = env.inputs._pos[env.inputs._newest]
    assert (remembered[:, 0, 2] < 1.1).all()
    np.testing.assert_allclose(remembered[:, 0, :2], 0.0, atol=1e-6)
    plain = make(V1, control="joint")
    told = make(V1, control="joint", clip=motion)
    first, second = (item.reset(seed=0)[0]["model_history"] for item in (plain, told))
    assert np.abs(first - second).max() > 0.05
    kept = told.unwrapped.get_state()
    expected = [told.step(actions(told, step))[0]["model_history"] for step in range(3)]
    told.unwrapped.set_state(kept)
    again = [told.step(actions(told, step))[0]["model_history"] for step in range(3)]
    np.testing.assert_array_equal(expected, again)


def test_a_motion_that_does_not_fit_is_refused(bfm, motion, tmp_path):
    with pytest.raises(ValueError, match="start 'clip' needs clip, the file of a motion"):
        make(V1, start="clip")
    with pytest.raises(ValueError, match="clip is for published models"):
        make(bfm, clip=motion)
    with pytest.raises(ClipError, match="no such clip file"):
        make(V1, clip=str(tmp_path / "none.npz"))
