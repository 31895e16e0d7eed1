"""Training, resuming, evaluating and filming, through the commands that people use."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gymnasium
import imageio.v2 as imageio
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from matplotlib.figure import Figure
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tt_gym  # noqa: F401
from agents import actors, demo, enjoy, viewer
from agents.evaluate import evaluate, main
from agents.export import encoder_of
from agents.statistics import summarise, wilson_interval
from agents.train import train
from agents.vec_env import TaskTokenVecEnv
from tt_gym.bfm.pretrained_model import fingerprint, load_bfm
from tt_gym.checkpoint import CheckpointError, load_checkpoint
from tt_gym.tasks.direction import PAPER_SPEED_RANGE, Direction
from tt_gym.tokens import load_token

IDS = (
    "TTDirection-v0",
    "TTStrike-v0",
    "TTSteering-v0",
    "TTReach-v0",
    "TTLongJump-v0",
    "TTPathFollowing-v0",
)
ROLLOUT = 4 * 16  # environments times steps of the runs below
# a learning rate that falls over the steps asked for would differ where a run is asked for more
TINY = ("-params", "n_envs:4", "n_steps:16", "batch_size:32", "n_epochs:2", "learning_rate:3e-4")


def arguments(folder: Path, bfm: str, *options: str, steps: int, env_id: str = IDS[0]) -> list[str]:
    """Command line of a run of a few hundred steps."""
    return [
        *("--env", env_id, "--env-kwargs", f"bfm:{bfm!r}", *TINY),
        *("--log-folder", str(folder), "-n", str(steps), "--checkpoint-every", "1", *options),
    ]


def checkpoint_of(run_dir: Path) -> dict[str, Any]:
    return load_checkpoint(run_dir / "checkpoint.safetensors", kind="ppo")


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Where two nested contents are not bit-equal; wall-clock times are left out."""
    if name.endswith("/t") or name == "/trained_s":
        return []
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return [d for key in one for d in differences(one[key], other[key], f"{name}/{key}")]
    if isinstance(one, list):
        assert len(one) == len(other)
        return [d for i in range(len(one)) for d in differences(one[i], other[i], f"{name}/{i}")]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [name]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, bfm: str) -> Path:
    """A finished run of 24 rollouts, longer than an episode."""
    return train(arguments(tmp_path_factory.mktemp("straight"), bfm, steps=24 * ROLLOUT))


# ---- environments as learners see them ----------------------------------------------------------


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_accepts_the_environment(env_id, bfm):
    env = gymnasium.make(env_id, bfm=bfm)
    gymnasium_check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("env_id", IDS)
def test_stable_baselines_accepts_the_environment(env_id, bfm):
    sb3_check_env(gymnasium.make(env_id, bfm=bfm), skip_render_check=True)


def test_terminal_observation_is_that_of_the_finished_episode(bfm):
    settings: dict[str, Any] = {"num_envs": 3, "bfm": bfm, "max_episode_steps": 4}
    env = TaskTokenVecEnv(gymnasium.make_vec(IDS[1], **settings))
    twin: Any = gymnasium.make_vec(IDS[1], autoreset=False, **settings)
    env.seed(0)
    env.reset()
    twin.reset(seed=0)
    action = np.zeros(env.env.action_space.shape, np.float32)
    for _ in range(4):
        after, _, dones, infos = env.step(action)
        final = twin.step(action)[0]
    assert dones.all()
    for index, info in enumerate(infos):
        assert info["TimeLimit.truncated"]
        for key, value in info["terminal_observation"].items():
            assert np.array_equal(value, final[key][index])
            assert not np.array_equal(value, after[key][index])


# ---- training -----------------------------------------------------------------------------------


def test_a_run_leaves_its_files(straight):
    for name in (
        "TTDirection-v0.zip",
        "TTDirection-v0/config.yml",
        "0.monitor.csv",
        "arguments.json",
        "checkpoint.safetensors",
        "token.safetensors",
    ):
        assert (straight / name).stat().st_size > 0


def test_tensorboard_holds_the_curves(straight):
    events = EventAccumulator(str(straight / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {
        "reward/direction",
        "task/speed_error",
        "rollout/success_rate",
        "rollout/diverged",
        "rollout/ep_len_mean",
        "rollout/ep_rew_mean",
        "time/env_steps_per_s",
        "train/approx_kl",
    } <= tags
    means = [item.value for item in events.Scalars("reward/direction")]
    assert all(0.0 <= mean <= 1.0 for mean in means)


def test_parameter_counts_are_printed(tmp_path, bfm, capsys):
    train(arguments(tmp_path, bfm, steps=ROLLOUT))
    frozen = sum(parameter.numel() for parameter in load_bfm(bfm).parameters())
    actor = 226 * 256 + 256 + 256 * 256 + 256 + 256 * 32 + 32
    critic = 226 * 256 + 256 + 256 * 256 + 256 + 256 + 1
    counts = f"actor {actor:,}, noise 32, critic {critic:,}; frozen model {frozen:,}"
    assert f"trainable parameters: {counts}" in capsys.readouterr().out


def test_one_seed_gives_bit_identical_runs(tmp_path, bfm, straight):
    again = train(arguments(tmp_path, bfm, steps=24 * ROLLOUT))
    assert differences(checkpoint_of(straight), checkpoint_of(again)) == []


def test_another_seed_gives_another_run(tmp_path, bfm, straight):
    other = train(arguments(tmp_path, bfm, "--seed", "1", steps=ROLLOUT))
    mine, theirs = (load_token(run / "token.safetensors", bfm=bfm) for run in (straight, other))
    assert not torch.equal(mine.net[0].weight, theirs.net[0].weight)


def test_the_frozen_model_stays_and_the_encoder_moves(bfm):
    env = TaskTokenVecEnv(gymnasium.make_vec(IDS[0], num_envs=4, bfm=bfm))
    model = PPO("MultiInputPolicy", env, n_steps=16, batch_size=32, seed=0, device="cpu")
    frozen = {key: value.clone() for key, value in env.env.bfm.state_dict().items()}
    encoder = encoder_of(model.policy).state_dict()
    model.learn(2 * ROLLOUT)
    for key, value in env.env.bfm.state_dict().items():
        assert torch.equal(value, frozen[key]), key
    for key, value in encoder_of(model.policy).state_dict().items():
        assert not torch.equal(value, encoder[key]), key


def test_the_token_acts_as_the_policy(straight, bfm):
    policy = PPO.load(straight / "TTDirection-v0.zip", device="cpu")
    encoder = load_token(straight / "token.safetensors", bfm=bfm)
    batch = {key: value for key, value in policy.observation_space.sample().items()}
    expected, _ = policy.predict(batch, deterministic=True)
    np.testing.assert_array_equal(encoder.act(batch), expected)
    assert encoder.metadata is not None
    assert encoder.metadata.steps == 24 * ROLLOUT
    assert encoder.metadata.parameters["interval_steps"] == 199
    assert encoder.metadata.start == "clips"


def test_the_best_token_acts_as_the_best_model(tmp_path, bfm):
    evaluation = ("--eval-freq", str(ROLLOUT), "--n-eval-envs", "2", "--eval-episodes", "2")
    run_dir = train(arguments(tmp_path, bfm, *evaluation, steps=3 * ROLLOUT))
    policy = PPO.load(run_dir / "best_model.zip", device="cpu")
    encoder = load_token(run_dir / "best_token.safetensors", bfm=bfm)
    batch = {key: value for key, value in policy.observation_space.sample().items()}
    expected, _ = policy.predict(batch, deterministic=True)
    np.testing.assert_array_equal(encoder.act(batch), expected)
    assert encoder.metadata is not None
    assert encoder.metadata.steps == policy.num_timesteps


def test_joint_control_trains_without_a_token_file(tmp_path, bfm):
    options = ("--env-kwargs", f"bfm:{bfm!r}", "control:'joint'", "prompt:None")
    evaluation = ("--eval-freq", str(ROLLOUT), "--n-eval-envs", "2", "--eval-episodes", "2")
    run_dir = train(arguments(tmp_path, bfm, *options, *evaluation, steps=2 * ROLLOUT))
    assert not (run_dir / "token.safetensors").exists()
    assert (run_dir / "best_model.zip").exists()
    assert not (run_dir / "best_token.safetensors").exists()
    result = tmp_path / "plain.json"
    main(
        [
            *("--env", IDS[0], "--policy", str(run_dir), "--control", "joint", "--bfm", bfm),
            *("--episodes", "2", "--json", str(result)),
        ]
    )
    assert json.loads(result.read_text())["env_kwargs"]["control"] == "joint"


def test_normalised_observations_are_refused(tmp_path, bfm):
    options = (*TINY, "normalize:True")
    with pytest.raises(ValueError, match="normalize must have norm_obs=False"):
        train(arguments(tmp_path, bfm, *options, steps=ROLLOUT))


def test_environments_of_other_packages_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"CartPole-v1 is no TaskTokenVectorEnv.*rl_zoo3\.train"):
        train(["--env", "CartPole-v1", "--log-folder", str(tmp_path)])


def test_an_unknown_id_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        train(["--env", "TTStriek-v0"])
    assert (
        "unknown --env 'TTStriek-v0'; known: TTDirection-v0, TTStrike-v0" in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["train", "evaluate", "enjoy"])
def test_a_missing_package_ends_in_one_line(command, capsys):
    run = {"train": train, "evaluate": main, "enjoy": enjoy.main}[command]
    message = (
        rf"^agents\.{command}: --gym-packages my_tsaks: No module named 'my_tsaks'; it must.*$"
    )
    with pytest.raises(SystemExit, match=message):
        run(["--env", "TTMine-v0", "--gym-packages", "my_tsaks"])
    assert capsys.readouterr().err == ""


def test_an_id_that_no_package_registers_is_unknown(capsys):
    with pytest.raises(SystemExit):
        train(["--env", "TTMine-v0", "--gym-packages", "json"])
    assert "unknown --env 'TTMine-v0'" in capsys.readouterr().err


# ---- resuming -----------------------------------------------------------------------------------


def test_a_resumed_run_equals_one_that_was_never_stopped(tmp_path, bfm, straight):
    run_dir = train(arguments(tmp_path, bfm, steps=10 * ROLLOUT))
    assert differences(checkpoint_of(straight)["ppo"], checkpoint_of(run_dir)["ppo"])
    assert train(["--resume", str(run_dir), "-n", str(24 * ROLLOUT)]) == run_dir
    assert differences(checkpoint_of(straight), checkpoint_of(run_dir)) == []


def test_a_resumed_run_with_scaled_rewards_is_exact_too(tmp_path, bfm):
    options = (*TINY, "normalize:dict(norm_obs=False)")
    whole = train(arguments(tmp_path / "whole", bfm, *options, steps=6 * ROLLOUT))
    part = train(arguments(tmp_path / "part", bfm, *options, steps=3 * ROLLOUT))
    train(["--resume", str(part), "-n", str(6 * ROLLOUT)])
    assert differences(checkpoint_of(whole), checkpoint_of(part)) == []


def test_a_killed_run_continues_to_the_same_end(tmp_path, bfm, straight):
    command = arguments(tmp_path, bfm, steps=24 * ROLLOUT)
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    process = subprocess.Popen([sys.executable, "-m", "agents.train", *command], env=environment)
    run_dir = tmp_path / "ppo" / "TTDirection-v0_1"
    deadline = time.monotonic() + 120
    while not (run_dir / "checkpoint.safetensors").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < checkpoint_of(run_dir)["ppo"]["num_timesteps"] < 24 * ROLLOUT
    train(["--resume", str(run_dir)])
    assert differences(checkpoint_of(straight), checkpoint_of(run_dir)) == []


def test_a_run_out_of_time_stops_at_a_rollout_and_can_go_on(tmp_path, bfm):
    run_dir = train(arguments(tmp_path, bfm, "--max-minutes", "0", steps=8 * ROLLOUT))
    assert checkpoint_of(run_dir)["ppo"]["num_timesteps"] == ROLLOUT
    whole = train(arguments(tmp_path, bfm, steps=2 * ROLLOUT))
    train(["--resume", str(run_dir), "--max-minutes", "60", "-n", str(2 * ROLLOUT)])
    assert differences(checkpoint_of(whole), checkpoint_of(run_dir)) == []


def test_a_run_can_begin_with_what_another_learnt_on_another_frozen_model(
    tmp_path, bfm, other_bfm, capsys
):
    first = train(arguments(tmp_path / "first", bfm, steps=2 * ROLLOUT))
    with pytest.raises(ValueError, match="saved with the frozen model"):
        train(["--resume", str(first), "--bfm", other_bfm, "-n", str(4 * ROLLOUT)])
    command = arguments(tmp_path / "then", other_bfm, "--init", str(first), steps=2 * ROLLOUT)
    begun = train(command)
    assert f"at {2 * ROLLOUT} steps" in capsys.readouterr().out
    policy = PPO.load(begun / "TTDirection-v0.zip").policy.state_dict()
    assert differences(dict(policy), checkpoint_of(first)["ppo"]["policy"]) == []
    assert train(["--resume", str(begun), "-n", str(4 * ROLLOUT)]) == begun
    token = load_token(begun / "token.safetensors", bfm=other_bfm)
    assert token.metadata.bfm == fingerprint(load_bfm(Path(other_bfm)))
    assert token.metadata.steps == 4 * ROLLOUT
    assert "--init" in token.metadata.command
    assert differences(checkpoint_of(begun)["ppo"]["policy"], dict(policy))


def test_a_run_begins_with_less_noise_than_another(tmp_path, bfm, capsys):
    first = train(arguments(tmp_path / "first", bfm, steps=2 * ROLLOUT))
    options = ("--init", str(first), "--scale-noise", "0.5")
    begun = train(arguments(tmp_path / "then", bfm, *options, steps=2 * ROLLOUT))
    noise = PPO.load(begun / "TTDirection-v0.zip").policy.log_std
    before = checkpoint_of(first)["ppo"]["policy"]["log_std"]
    torch.testing.assert_close(noise.detach(), before + math.log(0.5))
    with pytest.raises(SystemExit):
        train(arguments(tmp_path / "run", bfm, "--scale-noise", "0.5", steps=ROLLOUT))
    assert "--scale-noise is for runs that begin with another's" in capsys.readouterr().err


def test_a_run_begins_only_with_networks_like_its_own(tmp_path, bfm):
    with pytest.raises(CheckpointError, match=r"--init needs a run of agents\.train"):
        train(arguments(tmp_path / "run", bfm, "--init", str(tmp_path), steps=ROLLOUT))
    first = train(arguments(tmp_path / "first", bfm, steps=ROLLOUT))
    small = (*TINY, "policy_kwargs:dict(net_arch=[8])")
    with pytest.raises(CheckpointError, match="its networks are others than this run's"):
        train(arguments(tmp_path / "run", bfm, *small, "--init", str(first), steps=2 * ROLLOUT))


def test_only_runs_can_be_resumed(tmp_path):
    with pytest.raises(CheckpointError, match=r"is not a run of agents\.train"):
        train(["--resume", str(tmp_path)])


# ---- evaluation ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_interval(successes, n, low, high):
    assert wilson_interval(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_success_is_the_share_of_goals_not_of_episodes():
    common = {"diverged": 0, "reward/x": 1.0}
    good = {"goals": 2, "goals_succeeded": 2, "is_success": 1, "terminated": 0, "length": 300}
    bad = {"goals": 3, "goals_succeeded": 0, "is_success": 0, "terminated": 1, "length": 100}
    result = summarise(
        [{**good, **common, "reward_per_step": 0.5}, {**bad, **common, "reward_per_step": 0.1}]
    )
    assert result["success_rate"] == pytest.approx(2 / 5)
    assert result["n"] == 5
    assert result["episode_success_rate"] == 0.5
    assert result["terminated_rate"] == 0.5
    assert result["episode_length"] == 200
    assert result["reward_per_step"] == pytest.approx(0.3)


def test_evaluation_counts_each_episode_once_and_repeats(bfm):
    settings: dict[str, Any] = {"bfm": bfm, "control": "prompt", "max_episode_steps": 70}
    one, two = (
        evaluate(IDS[0], None, episodes=5, num_envs=2, seed=3, **settings) for _ in range(2)
    )
    assert one == two
    assert one["episodes"] == one["n"] == 5


def test_the_command_writes_what_it_prints(tmp_path, bfm, straight, capsys):
    path = tmp_path / "result.json"
    token = str(straight / "token.safetensors")
    command = ["--env", IDS[0], "--token", token, "--bfm", bfm, "--episodes", "4", "--seed", "1"]
    main([*command, "--json", str(path)])
    result = json.loads(path.read_text())
    assert result["env"] == IDS[0]
    assert result["seed"] == 1
    assert result["episodes"] == 4
    assert result["ci95"] == list(
        wilson_interval(round(result["success_rate"] * result["n"]), result["n"])
    )
    assert 0.0 <= result["reward_per_step"] <= 1.0
    assert math.isclose(
        result["metrics"]["reward/direction"], result["reward_per_step"], rel_tol=1e-4
    )
    assert f"{100 * result['success_rate']:.1f} %" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--env", "TTStriek-v0"], "unknown --env 'TTStriek-v0'; known: TTDirection-v0"),
        (["--env", IDS[0], "--control", "joint"], "--control joint needs --policy"),
        (["--env", IDS[0], "--token", "none", "--episodes", "0"], "episodes must be at least 1"),
        (["--env", IDS[0], "--token", "none", "--prompt", "hop"], "unknown prompt 'hop'"),
        (["--env", IDS[0], "--token", "none", "--text", "42"], "a wording needs words, got '42'"),
        (["--env", IDS[0], "--token", "gone.safetensors"], "no such checkpoint file"),
        (["--env", IDS[0], "--token", "direction", "--control", "prompt"], "--token goes with nei"),
        (["--env", "CartPole-v1", "--token", "none"], "CartPole-v1 is registered without a task"),
        (["--env", IDS[0], "--gym-packages", "my_tsaks"], "--gym-packages my_tsaks: No module"),
    ],
)
def test_wrong_options_end_in_one_line(options, message, bfm):
    with pytest.raises(SystemExit, match=message):
        main([*options, "--bfm", bfm])


def test_a_token_is_evaluated_on_the_goals_it_was_trained_for(tmp_path, bfm):
    options = arguments(tmp_path, bfm, steps=ROLLOUT)
    options.insert(options.index(f"bfm:{bfm!r}"), "speed_range:(0.5, 0.6)")
    token = str(train(options) / "token.safetensors")
    parser = argparse.ArgumentParser()
    actors.add_arguments(parser)
    common = ["--env", IDS[0], "--token", token, "--bfm", bfm]
    choice = actors.choose(parser.parse_args(common))
    assert tuple(choice.env_kwargs["speed_range"]) == (0.5, 0.6)
    assert choice.env_kwargs["start"] == "clips"
    evaluate(IDS[0], choice.actor, episodes=1, seed=0, max_episode_steps=2, **choice.env_kwargs)
    other = [*common, "--env-kwargs", "speed_range:(0.7, 0.8)"]
    assert actors.choose(parser.parse_args(other)).env_kwargs["speed_range"] == (0.7, 0.8)


def test_a_preset_replaces_the_goals_a_token_was_trained_for(straight, bfm):
    parser = argparse.ArgumentParser()
    actors.add_arguments(parser)
    token = str(straight / "token.safetensors")
    given = ["preset:'paper'", "grace_steps:70"]
    options = ["--env", IDS[0], "--token", token, "--bfm", bfm, "--env-kwargs", *given]
    settings = actors.choose(parser.parse_args(options)).env_kwargs
    env: Any = gymnasium.make_vec(IDS[0], num_envs=1, **settings)
    assert env.task == Direction(speed_range=PAPER_SPEED_RANGE, grace_steps=70)


def test_ids_of_other_packages_can_be_evaluated_and_filmed(tmp_path, bfm, monkeypatch):
    for known, name in ((sys.modules, "my_tasks"), (gymnasium.registry, "TTMine-v0")):
        monkeypatch.setitem(known, name, None)  # to be taken out again after the test
        del known[name]
    (tmp_path / "my_tasks.py").write_text(
        "import gymnasium\n"
        "entry = 'tt_gym.envs:TaskTokenVectorEnv'\n"
        "settings = {'max_episode_steps': 3, 'kwargs': {'task': 'reach'}}\n"
        "gymnasium.register('TTMine-v0', vector_entry_point=entry, **settings)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    options = ["--gym-packages", "my_tasks", "--env", "TTMine-v0", "--token", "none", "--bfm", bfm]
    main([*options, "--episodes", "1", "--json", str(tmp_path / "result.json")])
    assert json.loads((tmp_path / "result.json").read_text())["episode_length"] == 3
    enjoy.main([*options, "--output", str(tmp_path / "film.mp4")])
    assert list(tmp_path.glob("film.*"))


def test_only_resumable_runs_can_be_limited(tmp_path, bfm, capsys):
    with pytest.raises(SystemExit):
        train(["--algo", "a2c", *arguments(tmp_path, bfm, "--max-minutes", "1", steps=ROLLOUT)])
    assert (
        "--max-minutes is for --algo ppo, trpo, ppo_lstm, recurrent_ppo, not a2c"
        in capsys.readouterr().err
    )


def test_a_token_of_another_environment_is_refused(straight, bfm):
    token = str(straight / "token.safetensors")
    with pytest.raises(SystemExit, match="was trained for TTDirection-v0, not TTStrike-v0"):
        main(["--env", IDS[1], "--token", token, "--bfm", bfm])


# ---- pictures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_film_writes_a_video_or_where_it_cannot_a_map(tmp_path, bfm, name):
    settings: dict[str, Any] = {"control": "prompt", "bfm": bfm, "max_episode_steps": 6}
    path = enjoy.film(IDS[0], None, tmp_path / name, seed=0, num_envs=2, **settings)
    assert path.stat().st_size > 1000
    assert path.name in (name, "film.png")


def test_without_opengl_a_map_is_drawn(tmp_path, bfm):
    code = (
        "from pathlib import Path; from agents.enjoy import film; "
        f"film('TTStrike-v0', None, Path({str(tmp_path / 'film.mp4')!r}), seed=0, "
        f"control='prompt', bfm={bfm!r}, max_episode_steps=6)"
    )
    environment = {**os.environ, "MUJOCO_GL": "disable"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "no video: rendering needs OpenGL" in done.stdout
    assert (tmp_path / "film.png").stat().st_size > 1000
    assert not (tmp_path / "film.mp4").exists()


def test_a_map_shows_each_goal_once():
    figure = Figure()
    axes = figure.subplots()
    first = {
        "angle": torch.tensor([0.0, 1.0]),
        "speed": torch.tensor([1.0, 0.0]),
        "facing": torch.tensor([0.0, 0.0]),
        "target": torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
        "line": torch.tensor([[[6.0, -1.0], [6.0, 1.0]]]).repeat(2, 1, 1),
    }
    then = {**first, "angle": torch.tensor([0.5, 1.0]), "target": first["target"] + 1.0}
    enjoy.draw_goals(axes, [first, first, then], paths=np.zeros((3, 2, 2)))
    points, line = axes.lines
    assert points.get_xydata().tolist() == [[1, 2], [2, 3], [4, 5], [5, 6]]
    assert line.get_xydata().tolist() == [[6, -1], [6, 1]]
    # of the first environment two directions, the other is to stand; of each where to face
    assert len(axes.patches) == 2 + 2


def test_film_refuses_other_formats(tmp_path):
    with pytest.raises(ValueError, match=r"output must end in \.mp4 or \.gif"):
        enjoy.film(IDS[0], None, tmp_path / "film.avi", seed=0)


def test_pictures_are_laid_out_in_a_grid():
    pictures = tuple(np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3))
    assert enjoy.grid(pictures)[:, :, 0].tolist() == [
        [1, 1, 1, 2, 2, 2],
        [1, 1, 1, 2, 2, 2],
        [3, 3, 3, 0, 0, 0],
        [3, 3, 3, 0, 0, 0],
    ]


def test_nine_environments_fill_a_grid_in_one_film(tmp_path, bfm):
    options = ["--env", IDS[3], "--token", "none", "--bfm", bfm, "--num-envs", "9"]
    output = tmp_path / "film.mp4"
    enjoy.main([*options, "--env-kwargs", "max_episode_steps:3", "--output", str(output)])
    if not output.exists():
        pytest.skip("no OpenGL")
    assert imageio.mimread(output, memtest=False)[0].shape == (3 * 360, 3 * 480, 3)


@pytest.mark.skipif(sys.platform != "linux", reason="displays are found another way")
def test_a_window_needs_a_display(bfm, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    options = ["--env", IDS[0], "--token", "none", "--bfm", bfm, "--viewer"]
    message = r"^agents\.enjoy: --viewer needs a display, .* write a video with --output FILE\.mp4"
    with pytest.raises(SystemExit, match=message):
        enjoy.main(options)


@pytest.mark.skipif(sys.platform != "linux", reason="displays are found another way")
def test_a_display_that_does_not_answer_is_told(bfm, monkeypatch):
    monkeypatch.setenv("DISPLAY", ":98765")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SystemExit, match="--viewer cannot open a window"):
        enjoy.main(["--env", IDS[0], "--token", "none", "--bfm", bfm, "--viewer"])


def test_a_window_shows_one_environment(bfm):
    options = ["--env", IDS[0], "--token", "none", "--bfm", bfm, "--viewer", "--num-envs", "2"]
    with pytest.raises(SystemExit, match="--viewer shows one environment, got --num-envs 2"):
        enjoy.main(options)


class Window:
    """As MuJoCo's, but without a screen; somebody closes it after some pictures."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, closes_after: int) -> None:
        self.data, self.closes_after = data, closes_after
        self.cam, self.user_scn = mujoco.MjvCamera(), mujoco.MjvScene(model, 100)
        self.roots: list[list[float]] = []
        self.shapes: list[int] = []
        self.lock = contextlib.nullcontext

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *args: object) -> None:
        self.closes_after = 0

    def is_running(self) -> bool:
        return len(self.roots) < self.closes_after

    def sync(self) -> None:
        self.roots.append(self.data.xpos[1].tolist())
        self.shapes.append(self.user_scn.ngeom)


@pytest.mark.parametrize(("closes_after", "shown"), [(100, 8), (5, 5)])
def test_a_window_shows_what_happens_until_it_is_closed(closes_after, shown, bfm):
    windows: list[Window] = []

    def launch(model: mujoco.MjModel, data: mujoco.MjData) -> Window:
        windows.append(Window(model, data, closes_after))
        return windows[0]

    settings: dict[str, Any] = {"control": "prompt", "bfm": bfm, "max_episode_steps": 4}
    steps = viewer.watch(IDS[3], None, seed=0, episodes=2, launch=launch, **settings)
    twin: Any = gymnasium.make_vec(IDS[3], num_envs=1, **settings)
    twin.reset(seed=0)
    expected = []
    for _ in range(shown):
        expected.append(twin.simulator.state.pos[0, 0].tolist())
        twin.step(np.zeros(twin.action_space.shape, np.float32))
    assert steps == shown
    assert windows[0].shapes == [1] * shown  # Reach's ball
    np.testing.assert_allclose(windows[0].roots, expected, atol=1e-5)


def test_the_demo_runs_through(tmp_path, bfm, capsys):
    demo.main(["--quick", "--output", str(tmp_path), "--bfm", bfm])
    numbers = json.loads((tmp_path / "demo.json").read_text())
    assert list(numbers["comparison"]) == [
        "frozen model, no token",
        "heading and speed prompt",
        "plain PPO",
        "the fresh token",
    ]
    assert len({result["episodes"] for result in numbers["comparison"].values()}) == 1
    printed = capsys.readouterr().out
    assert "tensorboard --logdir" in printed
    assert str(tmp_path / "demo.json") in printed.replace("\n", "")
