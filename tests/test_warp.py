"""MuJoCo Warp on its CPU device beside MuJoCo itself."""

import dataclasses
import importlib

import gymnasium
import numpy as np
import pytest
import torch

import tt_gym  # noqa: F401  registers the environments
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.humanoids.deepmimic import STANDING_HEIGHT
from tt_gym.motions import MotionLibrary, shipped_clip
from tt_gym.pretraining.tracking_env import TrackingEnv
from tt_gym.simulation import BoxObject, build_simulator

pytestmark = pytest.mark.slow  # compiles kernels on first use
BOX = BoxObject("box", (0.2, 0.2, 0.4), 50.0)
START = torch.tensor([5, 12, 33])


@pytest.fixture(scope="module")
def library():
    return MotionLibrary(DEEPMIMIC, [shipped_clip("walk")])


@pytest.fixture(scope="module")
def warp():
    return build_simulator("mujoco_warp", DEEPMIMIC, 3)


def begin(simulator, library):
    frames = library.frames[START]
    simulator.reset(torch.arange(3), frames.qpos, frames.qvel)


def differences(one, other):
    return {
        field.name: float((getattr(one, field.name) - getattr(other, field.name)).abs().max())
        for field in dataclasses.fields(one)
        if getattr(one, field.name).numel()
    }


def test_it_walks_as_the_other_simulator_does(warp, library):
    cpu = build_simulator("mujoco_cpu", DEEPMIMIC, 3)
    for simulator in (cpu, warp):
        begin(simulator, library)
    for step in range(15):  # half a second
        pd_target = library.frames[START + step + 1].pd_target
        found = differences(cpu.step(pd_target), warp.step(pd_target))
        assert found["pos"] < 1e-4  # m
        assert found["rot"] < 1e-3
        assert found["vel"] < 5e-3  # m/s
        assert found["ang_vel"] < 0.05  # rad/s
        assert found["contact_force"] < 10.0  # N, of about 440 that it weighs
    assert float(cpu.state.contact_force.abs().max()) > 100.0


def test_a_box_is_pushed_as_in_the_other_simulator():
    states = []
    for name in ("mujoco_cpu", "mujoco_warp"):
        simulator = build_simulator(name, DEEPMIMIC, 1, objects=(BOX,))
        rot = torch.zeros(1, DEEPMIMIC.num_bodies, 4)
        rot[..., 0] = 1.0
        human = DEEPMIMIC.qpos_from_pose(torch.tensor([[0.0, 0.0, STANDING_HEIGHT]]), rot)
        qpos = torch.cat((human, torch.tensor([[0.45, 0.0, 0.4, 1.0, 0.0, 0.0, 0.0]])), dim=1)
        qvel = torch.zeros(1, DEEPMIMIC.nv + 6)
        qvel[0, DEEPMIMIC.nv] = -1.5  # towards the legs
        simulator.reset(torch.tensor([0]), qpos, qvel)
        forces = []
        for _ in range(8):
            state = simulator.step(torch.zeros(1, DEEPMIMIC.num_dofs))
            forces.append(state.object_contact_force.abs().sum())
        states.append((state, torch.stack(forces)))
    (one, pushed), (other, also) = states
    assert float(pushed.max()) > 10.0
    torch.testing.assert_close(also, pushed, rtol=0.1, atol=5.0)
    assert float((one.object_pos - other.object_pos).norm()) < 5e-3
    assert float((one.pos - other.pos).norm(dim=-1).max()) < 5e-3


def test_a_restored_state_continues_bit_for_bit(warp, library):
    begin(warp, library)
    pd_target = library.frames[START + 1].pd_target
    warp.step(pd_target)
    saved = warp.get_state()
    first = warp.step(pd_target)
    warp.set_state(saved)
    again = warp.step(pd_target)
    assert differences(first, again) == dict.fromkeys(differences(first, again), 0.0)
    with pytest.raises(ValueError, match=r"state must have shape \(3, \d+\), got \(2, 5\)"):
        warp.set_state(np.zeros((2, 5), np.float32))


def test_reset_of_some_leaves_the_others_alone(warp, library):
    begin(warp, library)
    before = warp.step(library.frames[START + 1].pd_target)
    frames = library.frames[torch.tensor([20])]
    warp.reset(torch.tensor([1]), frames.qpos, frames.qvel)
    kept = torch.tensor([0, 2])
    assert differences(before[kept], warp.state[kept])["pos"] < 1e-6
    assert torch.equal(before.contact_force[kept], warp.state.contact_force[kept])
    torch.testing.assert_close(warp.state.pos[1], frames.pos[0], rtol=0, atol=1e-4)


def test_a_push_moves_the_root_alone_and_its_own_environment(warp, library):
    begin(warp, library)
    before = warp.qvel
    warp.push(torch.tensor([1]), torch.tensor([[1.0, 2.0, 0.5]]))
    moved = warp.qvel - before
    assert moved[1, :3].tolist() == pytest.approx([1.0, 2.0, 0.5])
    assert not moved[[0, 2]].any() and not moved[1, 3:].any()


def test_divergence_is_flagged_in_its_own_environment_and_the_others_go_on(warp, library):
    begin(warp, library)
    qvel = library.frames[START[:1]].qvel.clone()
    qvel[0, 6:9] = 1e6
    warp.reset(torch.tensor([0]), library.frames[START[:1]].qpos, qvel)
    pd_target = library.frames[START + 1].pd_target
    state = warp.step(pd_target)
    assert warp.diverged.tolist() == [True, False, False]
    assert all(value.isfinite().all() for value in vars(state).values())
    begin(warp, library)
    assert not warp.diverged.any()
    expected = warp.step(pd_target)
    assert torch.equal(state.pos[1:], expected.pos[1:])


@pytest.mark.parametrize("bad", [float("nan"), 1e11])
def test_a_state_that_is_no_number_is_refused(warp, bad):
    with pytest.raises(ValueError, match="qvel must be finite"):
        warp.reset(
            torch.tensor([0]), torch.zeros(1, DEEPMIMIC.nq), torch.full((1, DEEPMIMIC.nv), bad)
        )


def test_an_environment_runs_on_it_and_draws():
    env = gymnasium.make_vec(
        "TTStrike-v0", num_envs=2, simulator="mujoco_warp", render_mode="rgb_array"
    )
    env.reset(seed=0)
    actions = np.zeros(env.action_space.shape, np.float32)
    for _ in range(3):
        observations, reward, *_ = env.step(actions)
    assert np.isfinite(observations["state"]).all() and np.isfinite(reward).all()
    assert env.unwrapped.simulator.data(0).ncon > 0  # the box and the feet stand
    env.close()


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        (
            {"simulator": "mujoco_wrap"},
            "unknown simulator 'mujoco_wrap'; did you mean 'mujoco_warp",
        ),
        (
            {"simulator": "mujoco_warp", "perturbations": {"gravity": 0.5}},
            "perturbations need simulator 'mujoco_cpu', got 'mujoco_warp'",
        ),
        ({"simulator": "mujoco_warp", "num_envs": 0}, "num_envs must be at least 1, got 0"),
    ],
)
def test_what_it_cannot_do_is_said(settings, error):
    with pytest.raises(ValueError, match=error):
        gymnasium.make_vec("TTDirection-v0", **{"num_envs": 1, **settings})


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ImportError, match=r"needs warp: pip install 'tt-gym\[warp\]'"):
        build_simulator("mujoco_warp", DEEPMIMIC, 1)


def test_the_tracking_environment_runs_on_it(warp, library):
    env = TrackingEnv(warp, library, seed=0)
    env.reset()
    assert env.get_state()["physics"].shape == (3, warp.get_state().shape[1])
    for _ in range(5):
        observations, reward, done, _ = env.step(np.zeros((3, DEEPMIMIC.num_dofs), np.float32))
    assert np.isfinite(observations).all() and not done.any()
    assert float(reward.min()) > 0.5  # the reference's own targets keep it near for a moment
