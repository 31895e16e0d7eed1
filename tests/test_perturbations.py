"""Every perturbation does what its name says, to whom it should, again and again."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
import torch

import tt_gym  # noqa: F401  registers the environments
from tt_gym.envs import Perturbations, TaskTokenVectorEnv
from tt_gym.envs.perturbations import build_perturbations
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.humanoids.deepmimic import STANDING_HEIGHT
from tt_gym.simulation.state import CONTROL_DT

ID = "TTDirection-v0"
FEET = list(DEEPMIMIC.feet)
EVERYTHING: dict[str, Any] = {
    "gravity": (0.8, 1.2),
    "friction": (0.4, 1.2),
    "mass": {"chest": (0.5, 2.0)},
    "push_speed": (0.5, 1.0),
    "push_rate": 10.0,
    "latency_steps": (0, 3),
    "observation_noise": 0.02,
    "slope_deg": (-5.0, 5.0),
}


def make(env_id: str = ID, *, num_envs: int = 3, **settings: Any) -> TaskTokenVectorEnv:
    settings = {"early_termination": False, **settings}
    env: Any = gymnasium.make_vec(env_id, num_envs=num_envs, **settings)
    return env


def still(**perturbations: Any) -> TaskTokenVectorEnv:
    """Humanoids that hold the straight pose of standing whatever happens, from a seed."""
    env = make(num_envs=2, control="joint", perturbations=perturbations)
    env.reset(seed=0)
    return env


def stand(env: TaskTokenVectorEnv, *, height: float = STANDING_HEIGHT, speed: float = 0.0) -> None:
    """Everybody upright at a height, m, moving forward at a speed, m/s."""
    count = env.num_envs
    qpos = torch.zeros(count, DEEPMIMIC.nq)
    joint_rot = torch.zeros(count, DEEPMIMIC.num_bodies, 4)
    joint_rot[..., 0] = 1.0
    qpos = DEEPMIMIC.qpos_from_pose(torch.tensor([0.0, 0.0, height]).expand(count, 3), joint_rot)
    qvel = torch.zeros(count, DEEPMIMIC.nv)
    qvel[:, 0] = speed
    env.simulator.reset(torch.arange(count), qpos, qvel)


def idle(env: TaskTokenVectorEnv, steps: int) -> None:
    for _ in range(steps):
        env.step(np.zeros(env.action_space.shape, np.float32))


def play(env: TaskTokenVectorEnv, steps: int, *, seed: int) -> list[np.ndarray]:
    """Observations and rewards over some steps of random actions."""
    observations, _ = env.reset(seed=seed)
    seen = [*observations.values()]
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        action = rng.uniform(-1.0, 1.0, env.action_space.shape).astype(np.float32)
        observations, rewards, *_ = env.step(action)
        seen += [*observations.values(), rewards]
    return seen


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


# ---- what they do -------------------------------------------------------------------------------


def test_twice_the_gravity_falls_twice_as_far():
    fallen = []
    for gravity in (1.0, 2.0, 0.0):
        env = still(gravity=gravity)
        stand(env, height=5.0)
        idle(env, 6)
        fallen.append(5.0 - env.simulator.state.pos[:, 0, 2])
    assert fallen[0].min() > 0.1
    torch.testing.assert_close(fallen[1], 2.0 * fallen[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(fallen[2], torch.zeros(2), rtol=0, atol=1e-5)


def test_without_friction_feet_slide():
    slid = []
    for friction in (1.0, 0.1, 0.0):
        env = still(friction=friction)
        stand(env, speed=1.0)
        idle(env, 6)
        state = env.simulator.state
        slid.append(state.pos[:, FEET, 0].mean().item())
        assert state.pos[:, 0, 2].numpy() == pytest.approx(STANDING_HEIGHT, abs=0.02)
    assert slid[0] < 0.05 < slid[1] < 0.19 < slid[2]
    assert slid[2] == pytest.approx(6 * CONTROL_DT, rel=0.05)  # at the speed of the start


def test_the_ground_carries_the_mass_and_only_named_bodies_weigh_more():
    chest = next(body.mass for body in DEEPMIMIC.bodies if body.name == "chest")
    for mass, expected in (
        (2.0, 2.0 * DEEPMIMIC.total_mass),
        ({"chest": 1.5}, DEEPMIMIC.total_mass + 0.5 * chest),
    ):
        env = still(mass=mass)
        stand(env)
        idle(env, 15)
        force = env.simulator.state.contact_force[..., 2].sum(dim=1)
        torch.testing.assert_close(force, torch.full((2,), 9.81 * expected), rtol=0.02, atol=0)


def test_inertia_grows_with_the_mass_and_boxes_weigh_what_they_did():
    env = make("TTStrike-v0", perturbations={"mass": 3.0})
    usual = make("TTStrike-v0").simulator.model
    env.reset(seed=0)
    box = usual.nbody - 1
    for name in ("body_mass", "body_inertia"):
        value, before = env.simulator.parameter(name), getattr(usual, name)
        np.testing.assert_allclose(value[:, 1:box], 3.0 * np.stack([before[1:box]] * 3))
        np.testing.assert_array_equal(value[:, box], np.stack([before[box]] * 3))


def test_a_push_adds_its_speed_to_everything_in_some_horizontal_direction():
    rate = 1.0 / CONTROL_DT  # in every step
    env = still(gravity=0.0, push_speed=0.7, push_rate=rate)
    stand(env, height=5.0)
    idle(env, 1)
    vel = env.simulator.state.vel[:, 0]
    torch.testing.assert_close(vel.norm(dim=-1), torch.full((2,), 0.7), rtol=0.01, atol=0)
    torch.testing.assert_close(vel[:, 2], torch.zeros(2), rtol=0, atol=1e-3)
    assert not torch.allclose(vel[0], vel[1], atol=0.01)


def test_pushes_come_at_their_rate():
    env = make(num_envs=50, control="joint", perturbations={"push_speed": 1.0, "push_rate": 6.0})
    env.reset(seed=0)
    seen: list[int] = []
    push = env.simulator.push
    env.simulator.push = lambda ids, velocity: (seen.append(len(ids)), push(ids, velocity))[1]
    idle(env, 60)
    mean = 50 * 60 * CONTROL_DT * 6.0
    assert sum(seen) == pytest.approx(mean, abs=4.0 * math.sqrt(mean))


@pytest.mark.parametrize("latency", [1, 3])
@pytest.mark.parametrize("control", ["joint", "token"])
def test_latency_shifts_the_response_by_exactly_so_many_steps(latency, control):
    env, twin = (make(control=control, perturbations={"latency_steps": latency}) for _ in range(2))
    for batch in (env, twin):
        batch.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    for step in range(latency + 1):
        env.step(action)
        twin.step(action + 0.5 * (step == 0))
        equal = torch.equal(env.simulator.state.pos, twin.simulator.state.pos)
        assert equal == (step < latency)


def test_motors_hold_the_first_pose_until_something_arrives():
    env = make(control="joint", perturbations={"latency_steps": 2})
    twin = make(control="joint")
    env.reset(seed=0)
    twin.reset(seed=0)
    pose = DEEPMIMIC.joint_rot_from_qpos(twin.simulator.qpos)
    hold = DEEPMIMIC.pd_target_from_pose(pose)
    for _ in range(2):
        env.step(np.ones(env.action_space.shape, np.float32))
        twin.simulator.step(hold)
        assert torch.equal(env.simulator.state.pos, twin.simulator.state.pos)


def test_noise_is_seen_by_policy_and_model_but_moves_nothing_by_itself():
    env = make(control="joint", num_envs=64, perturbations={"observation_noise": 0.05})
    twin = make(control="joint", num_envs=64)
    noisy, true = play(env, 5, seed=0), play(twin, 5, seed=0)
    assert np.array_equal(noisy[-1], true[-1])  # rewards
    assert torch.equal(env.simulator.state.pos, twin.simulator.state.pos)
    measured = env.perturber.measure(env.simulator.state)
    for name in ("pos", "vel", "ang_vel"):
        error = getattr(measured, name) - getattr(env.simulator.state, name)
        assert error.std().item() == pytest.approx(0.05, rel=0.05)
    turned = 2.0 * (measured.rot * env.simulator.state.rot).sum(dim=-1).abs().clamp(max=1).acos()
    assert turned.square().mean().sqrt().item() == pytest.approx(0.05 * math.sqrt(3.0), rel=0.05)
    assert not np.array_equal(noisy[-2], true[-2])
    token = make(perturbations={"observation_noise": 0.05})
    token.reset(seed=0)
    calm = make()
    calm.reset(seed=0)
    idle(token, 1)
    idle(calm, 1)
    assert not torch.equal(token.simulator.state.pos, calm.simulator.state.pos)


def test_the_ground_rises_ahead_and_heights_count_from_it():
    env = still(slope_deg=8.0)
    slope = math.tan(math.radians(8.0))
    for ahead in (0.0, 20.0):
        qpos, qvel = env.simulator.qpos, torch.zeros(2, DEEPMIMIC.nv)
        qpos[:, 0], qpos[:, 2] = ahead, STANDING_HEIGHT + slope * ahead + 0.02
        env.simulator.reset(torch.arange(2), qpos, qvel)
        torch.testing.assert_close(
            env.simulator.state.pos[:, 0, 2], torch.full((2,), STANDING_HEIGHT + 0.02)
        )
        force = torch.zeros(2)
        for _ in range(8):
            idle(env, 1)
            force += env.simulator.state.contact_force[:, FEET, 2].sum(dim=1) / 8
        assert (env.simulator.state.pos[:, 0, 2] > 0.8).all()
        assert (force > 200.0).all()


def test_boxes_stand_on_the_slope():
    env = make("TTStrike-v0", num_envs=8, control="joint", perturbations={"slope_deg": 6.0})
    env.reset(seed=0)
    state = env.simulator.state
    above = env.simulator.data(0).xpos[-1, 2]  # world
    assert above == pytest.approx(
        0.9 * math.cos(math.radians(6.0))
        + math.tan(math.radians(6.0))
        * (state.object_pos[0, 0, 0].item() + 0.9 * math.sin(math.radians(6.0))),
        abs=1e-3,
    )
    idle(env, 10)
    near = (env.simulator.state.object_pos[:, 0] - state.pos[:, 0]).norm(dim=-1) < 2.0
    moved = (env.simulator.state.object_pos - state.object_pos)[:, 0, :2].norm(dim=-1)
    assert (~near).any()
    assert (moved[~near] < 0.02).all()


@pytest.mark.parametrize(("kind", "measure"), [("roughness", 0.1), ("stair_height", 0.15)])
def test_the_ground_is_where_the_terrain_says(kind, measure):
    env = still(**{kind: measure})
    simulator = env.simulator
    data = simulator.data(0)
    assert simulator.terrain is not None
    generator = np.random.default_rng(0)
    found, told = [], []
    for place in generator.uniform(-25.0, 25.0, size=(200, 2)):
        above, geom = np.array([*place, 20.0]), np.zeros(1, dtype=np.int32)
        floors = np.array([1, 0, 0, 0, 0, 0], dtype=np.uint8)
        distance = mujoco.mj_ray(
            simulator.model, data, above, np.array([0.0, 0.0, -1.0]), floors, True, -1, geom
        )
        found.append(20.0 - distance)
        at = torch.tensor(place, dtype=torch.float32).expand(2, 2)
        told.append(float(simulator.terrain.height(at, torch.zeros(2, dtype=torch.long))[0]))
        assert simulator.terrain.highest(at, torch.zeros(2, dtype=torch.long))[0] >= told[-1] - 1e-6
    # cells are two triangles in physics and one bent sheet here
    np.testing.assert_allclose(found, told, atol=0.3 * measure)
    assert np.mean(np.abs(np.subtract(found, told))) < 0.05 * measure
    assert max(told) == pytest.approx(measure * (6 if kind == "stair_height" else 1), rel=0.15)
    assert min(told) < 0.05 * measure + 0.01


@pytest.mark.parametrize("kind", ["roughness", "stair_height"])
def test_humanoids_and_boxes_begin_above_the_terrain_and_rest_on_it(kind):
    settings = {"control": "joint", "perturbations": {kind: (0.0, 0.12)}}
    env = make("TTStrike-v0", num_envs=16, **settings)
    env.reset(seed=0)
    simulator, level = env.simulator, env.perturber.level
    assert len(set(level.tolist())) > 3
    feet = torch.tensor(np.stack([simulator.data(index).xpos[1:] for index in range(16)]))[:, FEET]
    ground = simulator.terrain.height(feet[..., :2].float(), level)
    assert (feet[..., 2] > ground + 0.02).all()
    box = simulator.state.object_pos[:, 0].clone()
    idle(env, 15)
    moved = (simulator.state.object_pos[:, 0] - box).norm(dim=-1)
    assert (moved < 0.4).float().mean() > 0.7  # some are fallen on
    force = simulator.state.contact_force[..., 2].sum(dim=-1)
    assert (force > 50.0).float().mean() > 0.7
    assert not simulator.diverged.any()


def test_pictures_show_the_terrain_that_the_environment_has():
    env = make(num_envs=8, perturbations={"stair_height": (0.0, 0.3)})
    env.reset(seed=0)
    simulator, level = env.simulator, env.perturber.level.tolist()
    assert len(set(level)) > 2
    for index in (0, 3, 7):
        simulator.data(index)
        assert simulator.model.geom("terrain").dataid[0] == level[index]
    # which is for pictures alone: physics has its own
    heights = simulator.state.pos[:, 0, 2].clone()
    simulator.model.geom("terrain").dataid = 0
    idle(env, 1)
    assert float((simulator.state.pos[:, 0, 2] - heights).abs().max()) < 0.1


def test_heights_count_from_the_mean_ground():
    env = still(stair_height=0.2)
    qpos, qvel = env.simulator.qpos, torch.zeros(2, DEEPMIMIC.nv)
    qpos[:, 0] = 3.7  # on the plateau behind six steps
    qpos[:, 2] = STANDING_HEIGHT + 6 * 0.2 + 0.02
    env.simulator.reset(torch.arange(2), qpos, qvel)
    height = env.simulator.state.pos[:, 0, 2]
    torch.testing.assert_close(height, torch.full((2,), STANDING_HEIGHT + 0.02))


# ---- to whom, and when --------------------------------------------------------------------------


@pytest.mark.parametrize("given", [None, {}, Perturbations(), {"gravity": 1.0}])
def test_perturbations_that_change_nothing_leave_every_bit_as_it_is(given):
    env = make(perturbations=given)
    assert env.perturber is None
    assert same(play(env, 8, seed=0), play(make(), 8, seed=0))


def test_a_friction_of_one_drawn_from_a_range_is_that_of_usual():
    env = make(perturbations={"friction": (0.9999999, 1.0)})
    assert env.perturber is not None
    for one, other in zip(play(env, 8, seed=0), play(make(), 8, seed=0), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-3)


def test_start_states_and_goals_do_not_depend_on_perturbations():
    env, twin = make(perturbations={"gravity": 1.5, "push_speed": 1.0}), make()
    for batch in (env, twin):
        batch.reset(seed=0)
    assert torch.equal(env.simulator.qpos, twin.simulator.qpos)
    assert all(torch.equal(value, twin.goal[key]) for key, value in env.goal.items())


def test_ranges_are_drawn_per_environment_and_episode_within_their_bounds():
    env = make(num_envs=64, perturbations=EVERYTHING, max_episode_steps=2)
    env.reset(seed=0)
    first = env.perturber.drawn()
    names = {"gravity", "friction", "mass/chest", "push_speed", "latency_steps", "slope_deg"}
    assert first.keys() == names
    for name, (low, high) in env.perturber.ranges.items():
        value = env.perturber.values[name]
        assert value.min() >= low
        assert value.max() <= high
        assert name not in names or value.std() > 0.15 * (high - low)
    assert set(first["latency_steps"].tolist()) == {0, 1, 2, 3}
    physical = env.simulator.parameter("gravity")[:, 2] / -9.81
    np.testing.assert_allclose(physical, first["gravity"].numpy(), rtol=1e-6)
    idle(env, 1)
    assert torch.equal(env.perturber.values["gravity"], first["gravity"])
    idle(env, 1)  # the last of the episodes
    second = env.perturber.drawn()
    assert all((second[name] != first[name]).float().mean() > 0.5 for name in names)


def test_only_finished_environments_draw_anew():
    env = make(perturbations=EVERYTHING, max_episode_steps=5)
    env.reset(seed=0)
    before = env.perturber.drawn()
    env.steps[1] = 4
    idle(env, 1)
    for name, value in env.perturber.drawn().items():
        assert torch.equal(value[[0, 2]], before[name][[0, 2]])
    assert env.perturber.drawn()["gravity"][1] != before["gravity"][1]


@pytest.mark.parametrize("env_id", [ID, "TTStrike-v0"])
def test_the_same_seed_gives_the_same_numbers_bit_for_bit(env_id):
    settings = {"perturbations": EVERYTHING, "max_episode_steps": 6}
    env = make(env_id, **settings)
    first = play(env, 15, seed=5)
    assert same(first, play(env, 15, seed=5))
    assert same(first, play(make(env_id, num_threads=2, **settings), 15, seed=5))
    assert not same(first, play(env, 15, seed=6))


def test_a_saved_state_continues_bit_for_bit():
    settings = {"perturbations": EVERYTHING, "max_episode_steps": 10}
    env, other = make(**settings), make(**settings)
    play(env, 7, seed=1)
    saved = env.get_state()

    def go_on(batch: TaskTokenVectorEnv) -> list[np.ndarray]:
        steps = [batch.step(np.zeros(batch.action_space.shape, np.float32)) for _ in range(15)]
        return [item for step in steps for item in (*step[0].values(), *step[1:4])]

    expected = go_on(env)
    env.reset(seed=8)
    for continued in (env, other):
        continued.set_state(saved)
        assert same(go_on(continued), expected)


def test_a_state_with_other_perturbations_is_refused():
    saved = make(perturbations={"gravity": 2.0})
    saved.reset(seed=0)
    with pytest.raises(ValueError, match=r"saved with perturbations \['gravity'\], not \['fric"):
        make(perturbations={"friction": 0.5}).set_state(saved.get_state())


def test_the_single_environment_takes_them_too():
    env = gymnasium.make(ID, perturbations=Perturbations(friction=0.4))
    env.reset(seed=0)
    friction = env.unwrapped.batch.simulator.parameter("friction")
    assert np.allclose(friction[0, :, 0], 0.4)


@pytest.mark.parametrize("kind", ["roughness", "stair_height"])
def test_terrain_is_saved_and_repeated_bit_for_bit(kind):
    settings = {"perturbations": {kind: (0.0, 0.1)}, "max_episode_steps": 6}
    env, other = make(**settings), make(**settings)
    env.reset(seed=3)
    idle(env, 4)
    other.reset(seed=8)
    other.set_state(env.get_state())
    assert torch.equal(other.perturber.level, env.perturber.level)
    for _ in range(8):  # beyond the end of an episode
        idle(env, 1)
        idle(other, 1)
        assert torch.equal(env.simulator.qpos, other.simulator.qpos)


def test_all_tasks_run_with_everything():
    for env_id in sorted(name for name in gymnasium.registry if name.startswith("TT")):
        env = make(env_id, perturbations=EVERYTHING)
        assert all(np.isfinite(value).all() for value in play(env, 5, seed=0))


# ---- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"fricton": 0.5}, "unknown perturbation 'fricton'; did you mean 'friction'"),
        ({"friction": -1.0}, "friction must be a number from 0 to 10, or a range .* got -1.0"),
        ({"friction": (1.0, 0.5)}, r"friction must be .* got \(1.0, 0.5\)"),
        ({"friction": (0.1, 0.2, 0.3)}, "friction must be"),
        ({"gravity": float("nan")}, "gravity must be a number from 0 to 10.* got nan"),
        ({"gravity": "high"}, "gravity must be .* got 'high'"),
        ({"latency_steps": 1.5}, "latency_steps must be a whole number from 0 to 30.* got 1.5"),
        ({"mass": {"chest": 0.0}}, "mass of 'chest' must be a number from 0.1 to 10"),
        ({"slope_deg": 45}, "slope_deg must be a number from -30 to 30"),
        ({"roughness": 3.0}, "roughness must be a number from 0 to 0.5"),
        ({"roughness": 0.1, "slope_deg": 3}, "only one of slope_deg, roughness, stair_height"),
        ({"push_rate": 2.0}, "push_rate=2.0 needs a push_speed"),
        (0.4, "perturbations must be Perturbations, a dict or None, got 0.4"),
    ],
)
def test_what_is_not_allowed_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        build_perturbations(given)


@pytest.mark.parametrize("factor", [2.0, 1.0])
def test_unknown_bodies_list_the_known_ones(factor):
    with pytest.raises(ValueError, match="unknown body in mass 'chset'; did you mean 'chest'"):
        make(perturbations={"mass": {"chset": factor}})


def test_lists_are_ranges_as_configuration_files_have_them():
    assert build_perturbations({"friction": [0.4, 1.2]}).ranges() == {"friction": (0.4, 1.2)}
