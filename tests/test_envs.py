"""Rules that every registered environment keeps."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import RecordEpisodeStatistics

import tt_gym  # noqa: F401  registers the environments
from tt_gym.bfm.pretrained_model import load_bfm
from tt_gym.checkpoint import CheckpointError
from tt_gym.envs import TaskTokenVectorEnv
from tt_gym.envs.outcomes import Outcomes
from tt_gym.envs.rendering import RenderingError
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.tasks import TASKS, build_task

IDS = tuple(sorted(name for name in gymnasium.registry if name.startswith("TT")))
NUM_ENVS = 3

every_id = pytest.mark.parametrize("env_id", IDS)


def make_batch(env_id: str, bfm: str, **settings: Any) -> TaskTokenVectorEnv:
    settings = {"num_envs": NUM_ENVS, **settings}
    env: Any = gymnasium.make_vec(env_id, bfm=bfm, **settings)
    return env


def random_actions(env: Any, steps: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.0, 1.0, (steps, *env.action_space.shape)).astype(np.float32)


def play(
    env: Any, steps: int, *, seed: int, actions_seed: int = 0, render: bool = False
) -> list[np.ndarray]:
    """Everything that comes back over some steps of random actions."""
    observations, _ = env.reset(seed=seed)
    seen = [*observations.values()]
    for action in random_actions(env, steps, actions_seed):
        if render:
            env.render()
        observations, *outcome, info = env.step(action)
        numbers = [info[key] for key in sorted(info) if not key.startswith(("_", "final"))]
        seen += [np.asarray(item) for item in (*observations.values(), *outcome, *numbers)]
    return seen


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return len(one) == len(other) and all(map(np.array_equal, one, other))


# ---- registration and spaces --------------------------------------------------------------------


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, tt_gym; sys.exit(bool({'torch', 'mujoco'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@every_id
def test_the_module_prefix_registers_the_id(env_id):
    code = f"import gymnasium; gymnasium.make('tt_gym:{env_id}', bfm='x')"
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert b"x: no such checkpoint file" in result.stderr  # as far as it gets without a model


@every_id
def test_make_and_make_vec_give_the_single_env_and_the_native_batch(env_id, bfm):
    single, batch = gymnasium.make(env_id, bfm=bfm), make_batch(env_id, bfm)
    assert isinstance(batch, TaskTokenVectorEnv)
    assert batch.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert batch.single_observation_space == single.observation_space
    assert batch.single_action_space == single.action_space
    assert batch.observation_space["state"].shape == (NUM_ENVS, 223)


@every_id
def test_the_action_is_a_token(env_id, bfm):
    assert gymnasium.make(env_id, bfm=bfm).action_space == gymnasium.spaces.Box(
        -1.0, 1.0, (load_bfm(bfm).token_axes,), np.float32
    )


@every_id
def test_observations_lie_in_their_space(env_id, bfm):
    env = make_batch(env_id, bfm)
    observations, _ = env.reset(seed=0)
    assert env.observation_space.contains(observations)
    for action in random_actions(env, 20):
        observations, *_ = env.step(action)
        assert env.observation_space.contains(observations)


@every_id
def test_no_observation_entry_is_constant(env_id, bfm):
    env = make_batch(env_id, bfm, num_envs=32, early_termination=False)
    observations, _ = env.reset(seed=0)
    seen = [np.concatenate([*observations.values()], axis=1)]
    for action in random_actions(env, 40):
        observations, *_ = env.step(action)
        seen.append(np.concatenate([*observations.values()], axis=1))
    assert np.concatenate(seen).std(axis=0).min() > 0.0


@every_id
def test_the_paper_preset_reaches_the_task(env_id, bfm):
    name = gymnasium.spec(env_id).kwargs["task"]
    assert make_batch(env_id, bfm, preset="paper").task == build_task(name, preset="paper")


@every_id
def test_start_states_differ_between_environments(env_id, bfm):
    state = make_batch(env_id, bfm).reset(seed=0)[0]["state"]
    assert not np.array_equal(state[0], state[1])


@pytest.mark.parametrize(
    ("start", "shares"), [("clips", (0.3, 0.7)), ("standing", (0.0, 0.0)), ("walking", (1.0, 1.0))]
)
def test_episodes_begin_standing_walking_or_either(start, shares, bfm):
    env = make_batch("TTReach-v0", bfm, num_envs=64, start=start).unwrapped
    env.reset(seed=0)
    speed = env.simulator.state.vel[:, 0, :2].norm(dim=-1)
    assert shares[0] <= float((speed > 0.5).float().mean()) <= shares[1]
    assert bool(((speed < 0.2) | (speed > 0.5)).all())


# ---- determinism --------------------------------------------------------------------------------


@every_id
def test_the_same_seed_gives_the_same_numbers_bit_for_bit(env_id, bfm):
    first = play(make_batch(env_id, bfm, max_episode_steps=12), 30, seed=5)
    assert same(first, play(make_batch(env_id, bfm, max_episode_steps=12), 30, seed=5))


@every_id
def test_resetting_with_a_seed_begins_anew(env_id, bfm):
    env = make_batch(env_id, bfm)
    assert same(play(env, 8, seed=5), play(env, 8, seed=5))


@every_id
def test_another_seed_gives_other_numbers(env_id, bfm):
    env = make_batch(env_id, bfm)
    assert not same(play(env, 1, seed=5), play(env, 1, seed=6))


@every_id
def test_a_reset_without_a_seed_goes_on_drawing(env_id, bfm):
    env = make_batch(env_id, bfm)
    first, _ = env.reset(seed=0)
    second, _ = env.reset()
    assert not np.array_equal(first["state"], second["state"])


@every_id
def test_threads_do_not_change_the_numbers(env_id, bfm):
    one, two = (make_batch(env_id, bfm, num_threads=threads) for threads in (1, 2))
    assert same(play(one, 8, seed=0), play(two, 8, seed=0))


@every_id
def test_the_single_env_is_a_batch_of_one(env_id, bfm):
    single, batch = gymnasium.make(env_id, bfm=bfm), make_batch(env_id, bfm, num_envs=1)
    observation, _ = single.reset(seed=3)
    observations, _ = batch.reset(seed=3)
    for action in random_actions(single, 10):
        assert np.array_equal(observation["task"], observations["task"][0])
        assert np.array_equal(observation["state"], observations["state"][0])
        observation, reward, *_ = single.step(action)
        observations, rewards, *_ = batch.step(action[None])
        assert reward == rewards[0]


@every_id
def test_a_saved_state_continues_bit_for_bit(env_id, bfm):
    prompt = build_task(gymnasium.spec(env_id).kwargs["task"]).prompts[0]
    settings = {"max_episode_steps": 10, "prompt": prompt}
    env, other = make_batch(env_id, bfm, **settings), make_batch(env_id, bfm, **settings)
    play(env, 7, seed=1)
    saved = env.get_state()
    actions = random_actions(env, 20, seed=9)

    def go_on(env: TaskTokenVectorEnv) -> list[np.ndarray]:
        steps = [env.step(action) for action in actions]
        return [item for step in steps for item in (*step[0].values(), *step[1:4])]

    env.reset(seed=8)  # must not reach into what was saved
    other.set_state(saved)
    expected = go_on(other)
    other.reset(seed=8)
    for continued in (env, other):
        continued.set_state(saved)
        assert same(go_on(continued), expected)


@pytest.mark.parametrize(
    ("saved_by", "message"),
    [
        ({"num_envs": 2}, f"saved with num_envs=2, this environment has {NUM_ENVS}"),
        ({"env_id": "TTReach-v0"}, "saved with another task: its goals have end, start, steps"),
        ({"perturbations": {"gravity": (1.0, 1.5)}}, "saved with perturbations on"),
    ],
)
def test_a_state_of_another_environment_is_refused_and_changes_nothing(bfm, saved_by, message):
    other = make_batch(**{"env_id": IDS[0], "bfm": bfm, **saved_by})
    other.reset(seed=0)
    env = make_batch(IDS[0], bfm)
    play(env, 3, seed=1)
    before = env.get_state()
    with pytest.raises(ValueError, match=message):
        env.set_state(other.get_state())
    assert torch.equal(env.get_state()["physics"], before["physics"])
    assert torch.equal(env.steps, before["steps"])


def test_a_state_of_another_frozen_model_is_refused(bfm, other_bfm):
    saved, env = make_batch(IDS[0], other_bfm), make_batch(IDS[0], bfm)
    for batch in (saved, env):
        batch.reset(seed=0)
    content = saved.get_state()
    with pytest.raises(ValueError, match=f"saved with the frozen model {content['bfm']}, this"):
        env.set_state(content)
    assert content["bfm"] != env.get_state()["bfm"]
    del content["bfm"]  # older files do not say
    env.set_state(content)


def test_a_step_before_the_first_reset_is_refused(bfm):
    env = make_batch(IDS[0], bfm)
    with pytest.raises(gymnasium.error.ResetNeeded, match="before reset"):
        env.step(np.zeros(env.action_space.shape, np.float32))


@pytest.mark.parametrize("limit", [0, -2, 1.5])
def test_a_time_limit_that_is_none_is_refused(bfm, limit):
    with pytest.raises(ValueError, match=f"max_episode_steps must be whole.*got {limit}"):
        make_batch(IDS[0], bfm, max_episode_steps=limit)


def test_minus_one_is_no_time_limit_as_in_gymnasium(bfm):
    env = make_batch(IDS[0], bfm, max_episode_steps=-1)
    env.reset(seed=0)
    env.step(np.zeros(env.action_space.shape, np.float32))
    assert env.max_steps is None


# ---- episodes -----------------------------------------------------------------------------------


@every_id
def test_autoreset_happens_in_the_step_that_ends_the_episode(env_id, bfm):
    env = make_batch(env_id, bfm, max_episode_steps=3)
    twin = make_batch(env_id, bfm, max_episode_steps=3, autoreset=False)
    env.reset(seed=0)
    twin.reset(seed=0)
    actions = random_actions(env, 4)
    for action in actions[:2]:
        observations, _, terminated, truncated, info = env.step(action)
        expected = twin.step(action)[0]
        assert np.array_equal(observations["state"], expected["state"])
        assert not (terminated | truncated).any()
        assert "final_obs" not in info
        assert info["_is_success"].all()
    observations, rewards, terminated, truncated, info = env.step(actions[2])
    last, last_rewards, _, _, last_info = twin.step(actions[2])
    assert truncated.all()
    assert not terminated.any()
    assert np.array_equal(rewards, last_rewards)
    assert info["_final_obs"].all()
    assert info["_final_info"].all()
    for index in range(NUM_ENVS):
        for key, value in info["final_obs"][index].items():
            assert np.array_equal(value, last[key][index])
            assert not np.array_equal(value, observations[key][index])
    # what the finished step reported is in final_info only
    assert info["final_info"]["_is_success"].all()
    assert np.array_equal(info["final_info"]["is_success"], last_info["is_success"])
    assert not info["_is_success"].any()
    assert env.steps.tolist() == [0] * NUM_ENVS
    observations, *_, info = env.step(actions[3])
    assert "final_obs" not in info
    assert env.steps.tolist() == [1] * NUM_ENVS


@every_id
def test_only_the_finished_environments_restart(env_id, bfm):
    env = make_batch(env_id, bfm, max_episode_steps=5)
    twin = make_batch(env_id, bfm, max_episode_steps=300)
    for batch in (env, twin):
        batch.reset(seed=0)
        batch.steps[1] = 4
    action = random_actions(env, 1)[0]
    observations, _, _, truncated, info = env.step(action)
    expected = twin.step(action)[0]
    assert truncated.tolist() == [False, True, False]
    assert info["_final_obs"].tolist() == [False, True, False]
    assert info["_is_success"].tolist() == [True, False, True]
    assert info["final_obs"][0] is None
    assert env.steps.tolist() == [1, 0, 1]
    for key in observations:
        assert np.array_equal(observations[key][[0, 2]], expected[key][[0, 2]])
        assert np.array_equal(info["final_obs"][1][key], expected[key][1])


@every_id
def test_the_time_limit_truncates_after_300_steps(env_id, bfm):
    env = make_batch(env_id, bfm, num_envs=2, early_termination=False)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    ends = [env.step(action)[2:4] for _ in range(300)]
    assert not any(terminated.any() for terminated, _ in ends)
    assert [truncated.all() for _, truncated in ends] == [False] * 299 + [True]


@every_id
def test_the_single_env_is_truncated_by_gymnasium(env_id, bfm):
    env = gymnasium.make(env_id, bfm=bfm, early_termination=False, max_episode_steps=5)
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    ends = [env.step(action)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


@every_id
def test_a_fall_terminates_unless_told_otherwise(env_id, bfm):
    for early, expected in ((True, True), (False, False)):
        env = make_batch(env_id, bfm, early_termination=early, autoreset=False)
        env.reset(seed=0)
        lie_down(env, 1)
        action = np.zeros(env.action_space.shape, np.float32)
        ends = [env.step(action)[2] for _ in range(10)]
        assert any(end[1] for end in ends) == expected
        assert not any(end[[0, 2]].any() for end in ends[:2])


def lie_down(env: TaskTokenVectorEnv, index: int) -> None:
    """Put one humanoid on its back, just above the ground."""
    qpos, qvel = env.simulator.qpos, env.simulator.qvel
    qpos[index, 2:7] = torch.tensor([0.15, 0.7071, 0.0, -0.7071, 0.0])
    qvel[index] = 0.0
    ids = torch.tensor([index])
    env.simulator.reset(ids, qpos[ids], qvel[ids])


@every_id
def test_the_reward_is_the_sum_of_its_reported_terms(env_id, bfm):
    env = make_batch(env_id, bfm, early_termination=False)
    env.reset(seed=0)
    total = np.zeros(NUM_ENVS)
    for count, action in enumerate(random_actions(env, 15), start=1):
        _, rewards, _, _, info = env.step(action)
        assert rewards.dtype == np.float64
        total += rewards
        means = sum(value for key, value in info.items() if key.startswith("reward/"))
        np.testing.assert_allclose(means, total / count, rtol=1e-4, atol=1e-6)
    assert (total > 0).any()


@every_id
def test_returned_arrays_are_nobody_elses(env_id, bfm):
    env, twin = make_batch(env_id, bfm), make_batch(env_id, bfm)
    observations, _ = env.reset(seed=0)
    twin.reset(seed=0)
    for action in random_actions(env, 4):
        kept = {key: value.copy() for key, value in observations.items()}
        later, *outcome, info = env.step(action)
        for key, value in kept.items():
            assert np.array_equal(observations[key], value)
        expected = twin.step(action)[0]
        for key, value in later.items():
            assert np.array_equal(value, expected[key])
        numbers = [value for key, value in info.items() if not key.startswith("_")]
        for array in (*observations.values(), *later.values(), *outcome, *numbers):
            array[:] = 0
        observations = {key: value.copy() for key, value in expected.items()}


def test_episode_statistics_of_gymnasium_work(bfm):
    env = RecordEpisodeStatistics(make_batch(IDS[0], bfm, max_episode_steps=4))
    env.reset(seed=0)
    total = np.zeros(NUM_ENVS)
    for action in random_actions(env, 4):
        _, rewards, _, _, info = env.step(action)
        total += rewards
    assert info["_episode"].all()
    assert info["episode"]["l"].tolist() == [4] * NUM_ENVS
    np.testing.assert_allclose(info["episode"]["r"], total)


def test_a_new_goal_is_seen_at_once(bfm):
    env = make_batch("TTDirection-v0", bfm, interval_steps=3, grace_steps=1, speed_range=(0.5, 3.0))
    env.reset(seed=0)
    first = env.goal["speed"].clone()
    for action in random_actions(env, 3):
        observations, *_, info = env.step(action)
    assert not torch.equal(env.goal["speed"], first)
    assert np.array_equal(observations["task"][:, 2], env.goal["speed"].numpy())
    assert info["goals"].tolist() == [1, 1, 1]


def test_a_landing_ends_the_episode_and_counts_as_a_jump(bfm):
    env, twin = (
        make_batch("TTLongJump-v0", bfm, autoreset=False, early_termination=early)
        for early in (True, False)
    )
    action = np.zeros(env.action_space.shape, np.float32)
    for batch in (env, twin):
        batch.reset(seed=0)
        put_down(batch, 1, ahead=8.0)  # beyond the line: it lands 2 m behind it
        put_down(batch, 2, ahead=6.5)
        batch.step(action)
        *_, terminated, _, info = batch.step(action)
        assert terminated.tolist() == [False, batch is env, batch is env]
    assert info["is_success"].tolist() == [False, True, False]
    length = info["task/jump_length"]
    assert length[0] == 0.0
    assert length[1:] == pytest.approx([2.0, 0.5], abs=0.3)
    # where nothing ends the episode, moving on or back changes neither length nor success
    put_down(twin, 1, ahead=1.0)
    put_down(twin, 2, ahead=12.0)
    *_, terminated, _, info = twin.step(action)
    assert not terminated.any()
    assert info["is_success"].tolist() == [False, True, False]
    np.testing.assert_allclose(info["task/jump_length"], length, atol=1e-4)


def put_down(env: TaskTokenVectorEnv, index: int, *, ahead: float) -> None:
    """Move one standing humanoid to ``ahead`` m from the start, along its own heading."""
    qpos, qvel = env.simulator.qpos, env.simulator.qvel
    heading = env.goal["heading"][index]
    qpos[index, :2] = ahead * torch.stack((heading.cos(), heading.sin()))
    ids = torch.tensor([index])
    env.simulator.reset(ids, qpos[ids], qvel[ids])


def test_the_point_of_a_path_moves_with_the_steps(bfm):
    env = make_batch("TTPathFollowing-v0", bfm, early_termination=False)
    env.reset(seed=0)
    start = env.goal["path"][:, 0].clone()
    assert torch.equal(env.goal["target"], start)
    for action in random_actions(env, 6):
        observations, *_ = env.step(action)
    # six steps are two vertices
    torch.testing.assert_close(env.goal["target"], env.goal["path"][:, 2], atol=1e-4, rtol=0)
    offset = env.goal["target"] - env.simulator.state.pos[:, DEEPMIMIC.head]
    seen = torch.from_numpy(observations["task"][:, :3])
    torch.testing.assert_close(seen.norm(dim=-1), offset.norm(dim=-1))


@pytest.mark.parametrize("env_id", ["TTDirection-v0", "TTSteering-v0", "TTReach-v0"])
def test_goals_do_not_depend_on_what_becomes_of_other_environments(env_id, bfm):
    grace = {"grace_steps": 1, "interval_steps": (2, 5) if env_id == "TTReach-v0" else 4}
    env, twin = (make_batch(env_id, bfm, autoreset=False, **grace) for _ in range(2))
    actions = random_actions(env, 12)
    for batch in (env, twin):
        batch.reset(seed=0)
    env.goal["end"][1] += 1  # another rhythm in one environment
    other = []
    for action in actions:
        env.step(action)
        twin.step(action)
        same_draws = [torch.eq(value, twin.goal[key]) for key, value in env.goal.items()]
        assert all(equal[[0, 2]].all() for equal in same_draws)
        other.append(all(equal[1].all() for equal in same_draws))
    assert not all(other)


@every_id
def test_where_autoreset_is_off_a_mask_says_who_restarts(env_id, bfm):
    env = make_batch(env_id, bfm, autoreset=False)
    assert env.metadata["autoreset_mode"] == AutoresetMode.DISABLED
    env.reset(seed=0)
    observations, *_ = env.step(random_actions(env, 1)[0])
    mask = np.array([False, True, False])
    after, _ = env.reset(options={"reset_mask": mask})
    assert env.steps.tolist() == [1, 0, 1]
    assert np.array_equal(after["state"][~mask], observations["state"][~mask])
    assert not np.array_equal(after["state"][1], observations["state"][1])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros(NUM_ENVS, bool), "reset_mask must have a True"),
        (np.ones(2, bool), r"reset_mask must be \(3,\) bool"),
        (np.array([0, 2, 2]), r"reset_mask must be \(3,\) bool"),
    ],
)
def test_a_mask_of_nobody_of_another_size_or_of_numbers_is_refused(bfm, mask, message):
    env = make_batch(IDS[0], bfm, autoreset=False)
    with pytest.raises(ValueError, match=message):
        env.reset(options={"reset_mask": mask})


# ---- divergence ---------------------------------------------------------------------------------


@every_id
def test_a_diverged_environment_ends_alone(env_id, bfm):
    env, twin = make_batch(env_id, bfm), make_batch(env_id, bfm)
    env.reset(seed=0)
    twin.reset(seed=0)
    env.simulator.push(torch.tensor([1]), torch.full((1, 3), 1e12))
    actions = random_actions(env, 2)
    observations, rewards, terminated, truncated, info = env.step(actions[0])
    expected, expected_rewards, *_ = twin.step(actions[0])
    assert terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert info["final_info"]["diverged"].tolist() == [False, True, False]
    assert not info["final_info"]["is_success"][1]
    assert rewards[1] == 0.0
    assert env.observation_space.contains(observations)
    assert all(np.isfinite(value).all() for value in info["final_obs"][1].values())
    assert np.array_equal(rewards[[0, 2]], expected_rewards[[0, 2]])
    assert np.array_equal(observations["state"][[0, 2]], expected["state"][[0, 2]])
    observations, rewards, terminated, *_ = env.step(actions[1])
    assert not terminated[1]
    assert np.isfinite(rewards).all()


# ---- control and prompts ------------------------------------------------------------------------


def test_in_joint_control_the_action_is_a_pd_target_without_the_model(bfm, other_bfm):
    one, other = (make_batch(IDS[0], path, control="joint") for path in (bfm, other_bfm))
    assert one.single_action_space.shape == (DEEPMIMIC.num_dofs,)
    for env in (one, other):
        env.reset(seed=0)
        env.step(random_actions(env, 1)[0])
    assert torch.equal(one.simulator.state.pos, other.simulator.state.pos)


def test_in_prompt_control_the_action_is_ignored(bfm):
    env = make_batch(IDS[0], bfm, control="prompt", prompt="heading_speed")
    runs = [play(env, 5, seed=0, actions_seed=number) for number in (0, 1)]
    assert same(*runs)


@pytest.mark.parametrize(
    ("env_id", "prompt"),
    [
        (env_id, prompt)
        for env_id in IDS
        for prompt in TASKS[gymnasium.spec(env_id).kwargs["task"]].prompts
    ],
)
def test_a_prompt_changes_what_the_model_does(env_id, prompt, bfm):
    without, with_prompt = (make_batch(env_id, bfm, prompt=name) for name in (None, prompt))
    assert not same(play(without, 3, seed=0), play(with_prompt, 3, seed=0))


def test_every_task_has_a_prompt():
    assert all(task.prompts for task in TASKS.values())


def test_actions_beyond_the_bounds_are_clipped(bfm):
    env = make_batch(IDS[0], bfm)
    action = random_actions(env, 1)[0]
    states = []
    for scale in (50.0, 1e6):
        env.reset(seed=0)
        states.append(env.step(np.sign(action) * scale)[0]["state"])
    assert np.array_equal(*states)


# ---- errors -------------------------------------------------------------------------------------


def test_an_action_of_another_shape_is_refused(bfm):
    env = make_batch(IDS[0], bfm)
    env.reset(seed=0)
    with pytest.raises(
        ValueError, match=r"action must have shape \(3, 32\), got \(3, 128\): build the policy from"
    ):
        env.step(np.zeros((3, 128), np.float32))


def test_the_single_env_refuses_another_shape_too(bfm):
    env = gymnasium.make(IDS[0], bfm=bfm, disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action must have shape \(32,\), got \(1, 32\)"):
        env.step(np.zeros((1, 32), np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_action_that_is_not_finite_is_refused_before_anything_moves(bfm, value):
    env = make_batch(IDS[0], bfm)
    env.reset(seed=0)
    before = env.simulator.get_state()
    action = np.zeros(env.action_space.shape, np.float32)
    action[2, 7] = value
    with pytest.raises(ValueError, match=rf"must be finite .* got {value} in environment 2"):
        env.step(action)
    assert np.array_equal(env.simulator.get_state(), before)


@pytest.mark.parametrize("num_envs", [0, -1])
def test_a_batch_of_nobody_is_refused(bfm, num_envs):
    with pytest.raises(ValueError, match=f"num_envs must be at least 1, got {num_envs}"):
        make_batch(IDS[0], bfm, num_envs=num_envs)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"control": "tokens"}, "unknown control 'tokens'; known: token, joint, prompt"),
        ({"prompt": "jump"}, "unknown prompt 'jump' for task Direction; known: heading_speed"),
        ({"render_mode": "human"}, "unknown render_mode 'human'"),
        ({"sped_range": (1, 2)}, "'sped_range'; did you mean 'speed_range'"),
        ({"speed_range": (2.0, 1.0)}, r"parameter speed_range=\(2.0, 1.0\) must be in rising"),
        ({"speed_weight": -1.0}, "parameter speed_weight=-1.0 must be at least 0"),
        ({"stop_probability": 2.0}, "parameter stop_probability=2.0 must be at most 1"),
        ({"grace_steps": 500}, "parameter interval_steps=199 must be more than grace_steps=500"),
        ({"preset": 5}, "unknown preset 5"),
        ({"autoreset": "no"}, "autoreset must be True or False, got 'no'"),
        ({"early_termination": "False"}, "early_termination must be True or False"),
        ({"num_threads": -1}, "num_threads must be a whole number from 0 on, got -1"),
        ({"task": "directoin"}, "unknown task 'directoin'; did you mean 'direction'"),
    ],
)
def test_unknown_settings_say_what_is_known(bfm, settings, message):
    settings = {"task": "direction", "bfm": bfm, **settings}
    with pytest.raises(ValueError, match=message):
        TaskTokenVectorEnv(2, **settings)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: no such checkpoint file"):
        make_batch(IDS[0], str(tmp_path / "gone.safetensors"))


# ---- pictures -----------------------------------------------------------------------------------


@every_id
def test_rendering_gives_a_picture_of_every_environment(env_id, bfm):
    env = make_batch(env_id, bfm, num_envs=2, render_mode="rgb_array")
    env.reset(seed=0)
    try:
        pictures = env.render()
    except RenderingError as error:
        pytest.skip(str(error))
    env.close()
    assert pictures is not None
    for picture in pictures:
        assert picture.shape == (360, 480, 3)
        assert picture.dtype == np.uint8
        assert picture.std() > 10  # something is there
    assert not np.array_equal(*pictures)


@pytest.mark.parametrize(
    "goal",
    [
        {"angle": torch.tensor(0.5), "speed": torch.tensor(1.0)},
        {"facing": torch.tensor(0.5)},
        {"target": torch.tensor([0.5, 0.5, 1.0])},
        {"line": torch.tensor([[0.5, -0.5], [0.5, 0.5]])},
    ],
)
def test_goals_are_seen_in_the_picture(goal, bfm):
    env = make_batch("TTReach-v0", bfm, num_envs=1, render_mode="rgb_array")
    env.reset(seed=0)
    pictures = []
    for drawn in ({}, goal, {}):
        env.goal = {key: value.unsqueeze(0) for key, value in drawn.items()}
        try:
            pictures += env.render()
        except RenderingError as error:
            pytest.skip(str(error))
    env.close()
    assert np.array_equal(pictures[0], pictures[2])
    changed = (pictures[0] != pictures[1]).any(axis=-1)
    assert 30 < changed.sum() < 20_000


def test_rendering_does_not_change_what_happens(bfm):
    env = make_batch(IDS[1], bfm, num_envs=2, render_mode="rgb_array")
    expected = play(env, 6, seed=0)
    try:
        assert same(play(env, 6, seed=0, render=True), expected)
    except RenderingError as error:
        pytest.skip(str(error))
    env.close()


def test_without_a_render_mode_there_is_no_picture(bfm):
    env = make_batch(IDS[0], bfm)
    env.reset(seed=0)
    assert env.render() is None


# ---- outcomes of episodes -----------------------------------------------------------------------


def outcomes_after(
    steps: list[tuple[bool, bool]], *, at_end: bool = False, close_after: tuple[int, ...] = ()
) -> Outcomes:
    """One environment's outcomes after steps of (measured, good); goals end after some."""
    outcomes = Outcomes(1, at_end=at_end)
    for number, (measured, good) in enumerate(steps, start=1):
        value = {"x": torch.tensor([float(number)])}
        outcomes.add(
            value, {}, torch.tensor([measured]), torch.tensor([good]), valid=torch.tensor([True])
        )
        outcomes.close_goals(torch.tensor([number in close_after]))
    return outcomes


def summary(
    outcomes: Outcomes, *, terminated: bool = False, left: int = 0, diverged: bool = False
) -> tuple[int, int, bool]:
    """Goals, goals reached, success."""
    result = outcomes.summary(
        torch.tensor([terminated]), torch.tensor([left]), torch.tensor([diverged])
    )
    return (
        result["goals"].item(),
        result["goals_succeeded"].item(),
        result["is_success"].item(),
    )


BAD, GOOD, UNSEEN = (True, False), (True, True), (False, False)


def test_a_goal_needs_every_measured_step():
    assert summary(outcomes_after([UNSEEN, GOOD, GOOD])) == (1, 1, True)
    assert summary(outcomes_after([GOOD, BAD, GOOD])) == (1, 0, False)


def test_an_episode_without_a_measured_step_is_no_success():
    assert summary(outcomes_after([UNSEEN, UNSEEN])) == (0, 0, False)


def test_an_episode_needs_all_of_its_goals():
    assert summary(outcomes_after([GOOD, GOOD], close_after=(1,))) == (2, 2, True)
    assert summary(outcomes_after([BAD, GOOD], close_after=(1,))) == (2, 1, False)
    assert summary(outcomes_after([GOOD, BAD], close_after=(1,))) == (2, 1, False)


def test_a_goal_that_was_never_measured_does_not_count():
    assert summary(outcomes_after([UNSEEN, GOOD], close_after=(1,))) == (1, 1, True)
    assert summary(outcomes_after([GOOD, UNSEEN], close_after=(1,))) == (1, 1, True)


def test_a_termination_fails_the_goal_and_those_to_come():
    assert summary(outcomes_after([GOOD]), terminated=True, left=3) == (3, 0, False)
    assert summary(outcomes_after([UNSEEN]), terminated=True, left=1) == (1, 0, False)
    closed = outcomes_after([GOOD, GOOD], close_after=(1,))
    assert summary(closed, terminated=True, left=2) == (3, 1, False)


def test_a_termination_does_not_fail_a_goal_that_nobody_would_have_measured():
    too_late = outcomes_after([GOOD, UNSEEN], close_after=(1,))
    assert summary(too_late, terminated=True, left=0) == (1, 1, True)
    assert summary(outcomes_after([GOOD]), terminated=True) == (1, 0, False)


def test_success_at_the_end_looks_at_the_last_step_only():
    assert summary(outcomes_after([BAD, GOOD], at_end=True)) == (1, 1, True)
    assert summary(outcomes_after([GOOD, BAD], at_end=True)) == (1, 0, False)
    assert summary(outcomes_after([GOOD], at_end=True), terminated=True) == (1, 1, True)


def test_a_diverged_episode_is_no_success():
    assert summary(outcomes_after([GOOD], at_end=True), terminated=True, diverged=True)[2] is False


def test_terms_are_reported_as_means_over_the_episode():
    outcomes = outcomes_after([GOOD, GOOD, GOOD])
    no = torch.tensor([False])
    assert outcomes.summary(no, torch.tensor(0), no)["reward/x"].item() == 2.0


def test_a_step_that_blew_up_is_left_out_of_the_means():
    outcomes = outcomes_after([GOOD, GOOD, GOOD])
    yes, no = torch.tensor([True]), torch.tensor([False])
    outcomes.add({"x": torch.tensor([float("nan")])}, {}, yes, yes, valid=no)
    assert outcomes.summary(yes, torch.tensor(0), yes)["reward/x"].item() == 2.0


def test_a_restart_forgets_the_episode():
    outcomes = outcomes_after([BAD, GOOD], close_after=(1,))
    outcomes.restart(torch.tensor([0]))
    true = torch.tensor([True])
    outcomes.add({"x": torch.tensor([7.0])}, {}, true, true, valid=true)
    assert summary(outcomes) == (1, 1, True)
    no = torch.tensor([False])
    assert outcomes.summary(no, torch.tensor(0), no)["reward/x"].item() == 7.0


def test_outcomes_continue_from_a_saved_state():
    outcomes = outcomes_after([BAD, GOOD], close_after=(1,))
    saved = outcomes.get_state()
    outcomes.restart(torch.tensor([0]))
    other = Outcomes(1, at_end=False)
    other.set_state(saved)
    assert summary(other) == (2, 1, False)


@pytest.mark.parametrize("prompt", [None, "heading_speed"])
def test_a_faint_token_leaves_the_shipped_model_as_it_is(prompt):
    env = gymnasium.make_vec("TTDirection-v0", num_envs=32, control="prompt", prompt=prompt)
    env.reset(seed=0)
    still = np.zeros(env.action_space.shape, np.float32)
    for _ in range(45):
        env.step(still)
    seen = env.unwrapped.model_inputs(env.unwrapped.simulator.state)
    model, action = env.unwrapped.bfm, torch.from_numpy(random_actions(env, 1)[0])
    alone = model(seen.state, seen.goals)

    def change(size: float) -> float:
        """Root mean square over the PD targets, rad."""
        moved = model(seen.state, seen.goals, model.task_token(size * action))
        return float((moved - alone).square().mean().sqrt())

    assert change(0.0) < 0.02
    assert change(0.1) < 0.03
    assert change(1.0) > 0.06
