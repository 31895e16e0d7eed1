import numpy as np
import pytest
import torch

from tt_gym.humanoids import DEEPMIMIC
from tt_gym.humanoids.deepmimic import STANDING_HEIGHT
from tt_gym.motions import MotionLibrary, mirror, shipped_clip, shipped_clips
from tt_gym.simulation import BoxObject, MujocoCpu

GRAVITY = 9.81
BOX = BoxObject("box", (0.2, 0.2, 0.4), 50.0)
BOX_MASS = 50.0 * 8 * 0.2 * 0.2 * 0.4


def standing(count: int) -> torch.Tensor:
    joint_rot = torch.zeros(count, DEEPMIMIC.num_bodies, 4)
    joint_rot[..., 0] = 1.0
    root_pos = torch.tensor([0.0, 0.0, STANDING_HEIGHT]).expand(count, 3)
    return DEEPMIMIC.qpos_from_pose(root_pos, joint_rot)


def stand(simulator: MujocoCpu, velocity: float = 0.0) -> None:
    """All environments upright, moving forward at ``velocity`` m/s."""
    count = simulator.num_envs
    qvel = torch.zeros(count, DEEPMIMIC.nv)
    qvel[:, 0] = velocity
    simulator.reset(torch.arange(count), standing(count), qvel)


def targets(count: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(count, DEEPMIMIC.num_dofs, generator=generator)


def rollout(simulator: MujocoCpu, pd_target: torch.Tensor, steps: int = 10) -> np.ndarray:
    stand(simulator)
    for _ in range(steps):
        simulator.step(pd_target)
    return simulator.get_state()


@pytest.fixture(scope="module")
def library() -> MotionLibrary:
    return MotionLibrary(DEEPMIMIC, shipped_clips(), window_s=2.0)


def test_a_batch_equals_single_environments_bit_for_bit():
    pd_target = targets(3)
    together = rollout(MujocoCpu(DEEPMIMIC, 3, num_threads=1), pd_target)
    for row in range(3):
        alone = rollout(MujocoCpu(DEEPMIMIC, 1, num_threads=1), pd_target[row : row + 1])
        np.testing.assert_array_equal(alone[0], together[row])


def test_the_number_of_threads_does_not_change_the_result():
    one, two = (
        rollout(MujocoCpu(DEEPMIMIC, 4, num_threads=threads), targets(4)) for threads in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def test_a_restored_state_continues_bit_for_bit():
    pd_target = targets(2)
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    saved = rollout(simulator, pd_target)
    for _ in range(5):
        expected = simulator.step(pd_target)
    simulator.set_state(saved)
    for _ in range(5):
        again = simulator.step(pd_target)
    assert torch.equal(again.pos, expected.pos)
    assert torch.equal(again.contact_force, expected.contact_force)


def test_a_state_restored_elsewhere_continues_bit_for_bit():
    pd_target = targets(2)
    first, second = (MujocoCpu(DEEPMIMIC, 2, num_threads=1) for _ in range(2))
    second.set_state(rollout(first, pd_target))
    assert torch.equal(second.state.pos, first.state.pos)
    for _ in range(5):
        expected, again = first.step(pd_target), second.step(pd_target)
    assert torch.equal(again.pos, expected.pos)


def test_reset_of_some_leaves_the_others_alone():
    pd_target = targets(3)
    simulator, untouched = (MujocoCpu(DEEPMIMIC, 3, num_threads=1) for _ in range(2))
    rollout(simulator, pd_target)
    rollout(untouched, pd_target)
    simulator.reset(torch.tensor([1]), standing(1), torch.zeros(1, DEEPMIMIC.nv))
    torch.testing.assert_close(simulator.qpos[1], standing(1)[0])
    for _ in range(5):
        state, expected = simulator.step(pd_target), untouched.step(pd_target)
    assert torch.equal(state.pos[[0, 2]], expected.pos[[0, 2]])
    assert not torch.equal(state.pos[1], expected.pos[1])


def test_reset_shows_in_the_state_at_once():
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    stand(simulator, velocity=1.5)
    assert simulator.state.pos[0, 0, 2].item() == pytest.approx(STANDING_HEIGHT)
    torch.testing.assert_close(simulator.state.vel[..., 0], torch.full((2, 15), 1.5))


def test_velocities_are_those_of_body_origins(library):
    simulator = MujocoCpu(DEEPMIMIC, 4, num_threads=1)
    rows = torch.tensor([20, 200, 400, 600])
    frames = library.frames[rows]
    simulator.reset(torch.arange(4), frames.qpos, frames.qvel)
    torch.testing.assert_close(simulator.state.vel, frames.vel, atol=1e-3, rtol=0)
    torch.testing.assert_close(simulator.state.ang_vel, frames.ang_vel, atol=1e-3, rtol=0)


def test_divergence_is_flagged_in_its_own_environment_and_the_others_go_on():
    pd_target = torch.zeros(3, DEEPMIMIC.num_dofs)
    simulator, untouched = (MujocoCpu(DEEPMIMIC, 3, num_threads=1) for _ in range(2))
    stand(simulator)
    stand(untouched)
    qvel = torch.zeros(1, DEEPMIMIC.nv)
    qvel[0, 6:9] = 1e6
    simulator.reset(torch.tensor([1]), standing(1), qvel)
    state, expected = simulator.step(pd_target), untouched.step(pd_target)
    assert simulator.diverged.tolist() == [False, True, False]
    assert all(torch.isfinite(value).all() for value in vars(state).values())
    assert torch.equal(state.pos[[0, 2]], expected.pos[[0, 2]])


def test_a_second_divergence_without_a_reset_is_flagged_too():
    pd_target = torch.zeros(2, DEEPMIMIC.num_dofs)
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    for _ in range(2):
        simulator.push(torch.tensor([1]), torch.full((1, 3), 1e12))
        simulator.step(pd_target)
        assert simulator.diverged.tolist() == [False, True]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e11])
def test_a_state_that_is_no_number_is_refused_before_anything_changes(bad):
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    before = simulator.get_state()
    qvel = torch.zeros(1, DEEPMIMIC.nv)
    qvel[0, 3] = bad
    with pytest.raises(ValueError, match="qvel must be finite"):
        simulator.reset(torch.tensor([1]), standing(1), qvel)
    assert np.array_equal(simulator.get_state(), before)


def test_a_diverged_environment_is_usable_after_reset():
    pd_target = torch.zeros(2, DEEPMIMIC.num_dofs)
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    stand(simulator, velocity=1e6)
    simulator.step(pd_target)
    assert simulator.diverged.all()
    stand(simulator)
    assert not simulator.diverged.any()
    state = simulator.step(pd_target)
    assert not simulator.diverged.any()
    torch.testing.assert_close(
        state.pos[:, 0, 2], torch.full((2,), STANDING_HEIGHT), atol=0.01, rtol=0
    )


def test_gravity_acts_per_environment():
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    simulator.parameter("gravity")[1] = 0.0
    qpos = standing(2)
    qpos[:, 2] = 3.0
    simulator.reset(torch.arange(2), qpos, torch.zeros(2, DEEPMIMIC.nv))
    for _ in range(6):
        state = simulator.step(torch.zeros(2, DEEPMIMIC.num_dofs))
    # 0.2 s of free fall, semi-implicit: 24 steps of 1/120 s
    fall = GRAVITY / 120**2 * 24 * 25 / 2
    assert 3.0 - state.pos[0, 0, 2].item() == pytest.approx(fall, rel=0.01)
    assert state.pos[1, 0, 2].item() == pytest.approx(3.0, abs=1e-4)


def test_friction_acts_per_environment():
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    simulator.parameter("friction")[1, :, 0] = 0.01
    stand(simulator, velocity=1.0)
    for _ in range(6):
        state = simulator.step(torch.zeros(2, DEEPMIMIC.num_dofs))
    feet_speed = state.vel[:, list(DEEPMIMIC.feet), 0].mean(dim=1)
    assert feet_speed[0] < 0.3 < 0.8 < feet_speed[1]


def test_body_mass_acts_per_environment():
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    simulator.parameter("body_mass")[1] *= 2.0
    simulator.update_constants()
    stand(simulator)
    for _ in range(15):
        state = simulator.step(torch.zeros(2, DEEPMIMIC.num_dofs))
    weight = state.contact_force[..., 2].sum(dim=1)
    assert (weight[1] / weight[0]).item() == pytest.approx(2.0, rel=0.01)


def test_unknown_parameter_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown parameter 'mass'; known: gravity, friction"):
        MujocoCpu(DEEPMIMIC, 1).parameter("mass")


def test_feet_of_a_standing_humanoid_carry_its_weight():
    simulator = MujocoCpu(DEEPMIMIC, 1, num_threads=1)
    stand(simulator)
    for _ in range(15):
        state = simulator.step(torch.zeros(1, DEEPMIMIC.num_dofs))
    feet = state.contact_force[0, list(DEEPMIMIC.feet)]
    weight = DEEPMIMIC.total_mass * GRAVITY
    assert feet[:, 2].sum().item() == pytest.approx(weight, rel=0.02)
    assert torch.count_nonzero(state.contact_force).item() <= 6  # nothing else touches the floor


def box_scene(distance: float, *, box_velocity: float = 0.0) -> MujocoCpu:
    """A standing humanoid with a box whose centre is ``distance`` m in front of it."""
    simulator = MujocoCpu(DEEPMIMIC, 1, objects=[BOX], num_threads=1)
    box_qpos = torch.tensor([[distance, 0.0, BOX.half_size[2], 1.0, 0.0, 0.0, 0.0]])
    qvel = torch.zeros(1, DEEPMIMIC.nv + 6)
    qvel[0, DEEPMIMIC.nv] = box_velocity
    simulator.reset(torch.tensor([0]), torch.cat((standing(1), box_qpos), dim=1), qvel)
    return simulator


def test_a_box_that_is_not_touched_stands_still_and_exerts_no_force():
    simulator = box_scene(1.0)
    for _ in range(10):
        state = simulator.step(torch.zeros(1, DEEPMIMIC.num_dofs))
    assert torch.count_nonzero(state.object_contact_force) == 0
    resting = torch.tensor([1.0, 0.0, 0.4])
    torch.testing.assert_close(state.object_pos[0, 0], resting, atol=2e-3, rtol=0)


def test_a_box_that_hits_the_legs_pushes_them_and_is_slowed_down():
    simulator = box_scene(0.5, box_velocity=2.0 * -1.0)
    impulse = torch.zeros(3)
    for _ in range(6):
        state = simulator.step(torch.zeros(1, DEEPMIMIC.num_dofs))
        impulse += state.object_contact_force[0, 0].sum(dim=0)
    assert impulse[0] < -100.0  # backwards, N, summed over steps
    assert state.object_vel[0, 0, 0] > -1.5
    pushed = state.object_contact_force[0, 0].norm(dim=-1) > 0
    assert not pushed[DEEPMIMIC.head]


def test_object_force_is_part_of_the_net_force_on_a_body():
    simulator = box_scene(0.5, box_velocity=-2.0)
    seen = False
    for _ in range(6):
        state = simulator.step(torch.zeros(1, DEEPMIMIC.num_dofs))
        for body in range(DEEPMIMIC.num_bodies):
            by_box = state.object_contact_force[0, 0, body]
            if body not in DEEPMIMIC.feet and by_box.norm() > 0:  # feet also touch the floor
                torch.testing.assert_close(state.contact_force[0, body], by_box)
                seen = True
    assert seen


@pytest.mark.parametrize("num_envs", [0, -1])
def test_num_envs_must_be_positive(num_envs):
    with pytest.raises(ValueError, match=f"num_envs must be at least 1, got {num_envs}"):
        MujocoCpu(DEEPMIMIC, num_envs)


def test_set_state_of_another_shape_says_what_is_expected():
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    other = MujocoCpu(DEEPMIMIC, 3, num_threads=1).get_state()
    with pytest.raises(ValueError, match=r"state must have shape \(2, \d+\), got \(3, \d+\)"):
        simulator.set_state(other)


def test_a_mirrored_start_and_mirrored_targets_give_the_mirrored_motion():
    clip = shipped_clip("kick")
    both = MotionLibrary(DEEPMIMIC, [clip, mirror(clip, DEEPMIMIC)])
    simulator = MujocoCpu(DEEPMIMIC, 2, num_threads=1)
    rows = both.starts + 15
    frames = both.frames[rows]
    simulator.reset(torch.arange(2), frames.qpos, frames.qvel)
    for step in range(1, 9):
        state = simulator.step(both.frames.pd_target[rows + step])
    reflected = state.pos[0, list(DEEPMIMIC.mirrored_bodies)] * torch.tensor([1.0, -1.0, 1.0])
    torch.testing.assert_close(state.pos[1], reflected, atol=1e-3, rtol=0)
    assert (state.pos[1] - state.pos[0]).norm(dim=-1).max() > 0.1  # the motion is not symmetric


def test_reference_targets_reproduce_reference_velocities_while_walking(library):
    names = ["walk", "walk_forward", "turn_left0", "turn_left1", "turn_right0", "turn_right1"]
    for clip in (library.names.index(name) for name in names):
        rows = library.starts[clip] + torch.arange(int(library.lengths[clip]) - 1)
        simulator = MujocoCpu(DEEPMIMIC, len(rows), num_threads=1)
        now, after = library.frames[rows], library.frames[rows + 1]
        simulator.reset(torch.arange(len(rows)), now.qpos, now.qvel)
        simulator.step(after.pd_target)
        residual = (simulator.qvel - after.qvel)[:, 6:]
        assert residual.abs().mean() < 0.5  # rad/s
        assert residual.mean(dim=0).abs().max() < 0.5  # no joint with a bias
