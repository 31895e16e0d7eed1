"""rl-zoo3's own commands, other algorithms, and the search for hyper-parameters."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
import yaml
from gymnasium.wrappers import RescaleAction
from sb3_contrib import TRPO, RecurrentPPO
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import SubprocVecEnv, VecMonitor
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from test_agents import IDS, ROLLOUT, TINY, checkpoint_of, differences

import zoo_configs
from agents.algorithms import ALGOS
from agents.callbacks import Curves
from agents.train import train
from agents.vec_env import TaskTokenVecEnv, native_batch
from agents.zoo import SetupError
from tt_gym.envs.rendering import RenderingError
from tt_gym.tokens import load, load_token

CONFIGS = Path(zoo_configs.__file__).parent
ALGORITHMS = {"ppo": PPO, "trpo": TRPO, "recurrent_ppo": RecurrentPPO}
SMALL = ("n_envs:4", "n_steps:16", "batch_size:32")


def run(module: str, *options: str) -> str:
    """What a command prints."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", module, *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def stock(folder: Path, bfm: str, algo: str, config: str, *options: str) -> Path:
    """Folder of a run of the unmodified ``rl_zoo3.train``."""
    run(
        "rl_zoo3.train",
        *("--algo", algo, "--env", IDS[0], "--gym-packages", "tt_gym"),
        *("--conf-file", str(CONFIGS / f"{config}.yml"), "--log-folder", str(folder)),
        *("--env-kwargs", f"bfm:{bfm!r}", "max_episode_steps:20", *options),
    )
    return folder / algo / f"{IDS[0]}_1"


def episodes(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "0.monitor.csv").open() as file:
        next(file)
        return list(csv.DictReader(file))


# ---- the stock commands -------------------------------------------------------------------------


@pytest.mark.slow
def test_the_stock_command_trains_on_the_native_batch(tmp_path, bfm):
    options = ("-n", "512", "--eval-freq", "256", "--eval-episodes", "2", "-params", "n_envs:8")
    run_dir = stock(tmp_path, bfm, "ppo", "ppo", *options, "n_steps:32", "batch_size:64")
    assert (run_dir / f"{IDS[0]}.zip").exists()
    assert (run_dir / "best_model.zip").exists()
    assert [path.name for path in run_dir.glob("*.monitor.csv")] == ["0.monitor.csv"]
    finished = episodes(run_dir)
    assert len(finished) > 16  # of 8 environments in one file
    assert max(int(row["l"]) for row in finished) == 20
    assert all(row["is_success"] in ("True", "False") for row in finished)
    model = PPO.load(run_dir / f"{IDS[0]}.zip", device="cpu")
    assert model.n_envs == 8
    assert model.num_timesteps == 512
    # its own viewer makes a batch of it too
    viewer = ("--algo", "ppo", "--env", IDS[0], "--gym-packages", "tt_gym", "--folder")
    run("rl_zoo3.enjoy", *viewer, str(tmp_path), "--no-render", "--n-timesteps", "30", "-P")


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "config"), [("trpo", "trpo"), ("ppo_lstm", "recurrent_ppo")])
def test_the_stock_command_knows_the_other_algorithms(tmp_path, bfm, algo, config):
    options = ("-n", "128", "--eval-freq", "-1", "-params", *SMALL)
    run_dir = stock(tmp_path, bfm, algo, config, *options)
    assert ALGOS[algo].load(run_dir / f"{IDS[0]}.zip", device="cpu").num_timesteps == 128


def single_envs(bfm: str, **options: Any) -> Any:
    spec = gymnasium.spec(IDS[1])
    settings = {"bfm": bfm, "prompt": "heading_speed", "max_episode_steps": 5}
    return make_vec_env(
        lambda **kwargs: spec.make(**kwargs), n_envs=3, seed=7, env_kwargs=settings, **options
    )


def test_the_batch_has_the_settings_and_the_seed_of_the_single_environments(bfm, tmp_path):
    batch = native_batch(single_envs(bfm, monitor_dir=str(tmp_path)))
    inner = batch.unwrapped
    assert isinstance(batch, VecMonitor)
    assert isinstance(inner, TaskTokenVecEnv)
    assert (inner.num_envs, inner.env.prompt, inner.env.max_steps) == (3, "heading_speed", 5)
    expected, _ = inner.env.reset(seed=7)
    assert (batch.reset()["state"] == expected["state"]).all()
    batch.close()
    assert [path.name for path in tmp_path.iterdir()] == ["0.monitor.csv"]


def test_a_batch_and_processes_stay_as_they_are(bfm):
    batch = native_batch(single_envs(bfm))
    assert native_batch(batch) is batch
    processes = single_envs(bfm, vec_env_cls=SubprocVecEnv)
    assert native_batch(processes) is processes
    processes.close()


def test_a_batch_cannot_have_wrappers_of_single_environments(bfm):
    options = {
        "wrapper_class": RescaleAction,
        "wrapper_kwargs": {"min_action": -2, "max_action": 2},
    }
    with pytest.raises(
        ValueError, match="native_batch goes with no env_wrapper, got RescaleAction"
    ):
        native_batch(single_envs(bfm, **options))


# ---- files of hyper-parameters ------------------------------------------------------------------


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_every_id_has_hyper_parameters(algo):
    blocks = yaml.safe_load((CONFIGS / f"{algo}.yml").read_text())
    assert set(blocks) == {*IDS, "default"}
    for block in blocks.values():
        assert block["vec_env_wrapper"] == "agents.vec_env.native_batch"
        rollout = block["n_envs"] * block["n_steps"]
        assert rollout % block["batch_size"] == 0


def test_tokens_are_trained_without_a_prompt_on_request(tmp_path, bfm):
    file = CONFIGS / "ppo_without_prompt.yml"
    assert set(yaml.safe_load(file.read_text())) <= {*IDS, "default"}
    options = arguments(tmp_path, bfm, "ppo", "n_epochs:1", steps=ROLLOUT)
    run_dir = train([*options, "--conf-file", str(file)])
    assert yaml.safe_load((CONFIGS / "ppo.yml").read_text())[IDS[0]]["env_kwargs"]["prompt"]
    assert load(run_dir / "token.safetensors").metadata.prompt is None


# ---- algorithms ---------------------------------------------------------------------------------


def arguments(folder: Path, bfm: str, algo: str, *options: str, steps: int) -> list[str]:
    return [
        *("--algo", algo, "--env", IDS[0], "--env-kwargs", f"bfm:{bfm!r}"),
        *("--log-folder", str(folder), "-n", str(steps), "--checkpoint-every", "1"),
        *("-params", *SMALL, "learning_rate:3e-4", *options),
    ]


@pytest.mark.parametrize("algo", ["trpo", "recurrent_ppo"])
def test_other_algorithms_train_and_resume_exactly(tmp_path, bfm, algo, capsys):
    whole = train(arguments(tmp_path / "whole", bfm, algo, steps=6 * ROLLOUT))
    assert "trainable parameters: actor" in capsys.readouterr().out
    model = ALGORITHMS[algo].load(whole / f"{IDS[0]}.zip", device="cpu")
    assert model.num_timesteps == 6 * ROLLOUT
    part = train(arguments(tmp_path / "part", bfm, algo, steps=3 * ROLLOUT))
    assert differences(checkpoint_of(whole)["ppo"], checkpoint_of(part)["ppo"])
    train(["--resume", str(part), "-n", str(6 * ROLLOUT)])
    assert differences(checkpoint_of(whole), checkpoint_of(part)) == []


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("env_id", IDS)
def test_every_algorithm_trains_every_task(tmp_path, bfm, algo, env_id):
    command = arguments(tmp_path, bfm, algo, steps=ROLLOUT)
    command[command.index(IDS[0])] = env_id
    run_dir = train(command)
    parameters = checkpoint_of(run_dir)["ppo"]["policy"]
    assert all(torch.isfinite(value).all() for value in parameters.values())


def test_trpo_leaves_a_token(tmp_path, bfm):
    run_dir = train(arguments(tmp_path, bfm, "trpo", steps=ROLLOUT))
    policy = TRPO.load(run_dir / f"{IDS[0]}.zip", device="cpu")
    seen = {key: value for key, value in policy.observation_space.sample().items()}
    encoder = load_token(run_dir / "token.safetensors", bfm=bfm)
    assert (encoder.act(seen) == policy.predict(seen, deterministic=True)[0]).all()


def test_a_policy_with_a_memory_leaves_no_token_and_cannot_be_evaluated(tmp_path, bfm):
    from agents.evaluate import main

    run_dir = train(arguments(tmp_path, bfm, "recurrent_ppo", steps=ROLLOUT))
    assert not (run_dir / "token.safetensors").exists()
    with pytest.raises(SystemExit, match="a policy with a memory of past steps cannot act here"):
        main(["--env", IDS[0], "--policy", str(run_dir), "--bfm", bfm])


def test_an_unknown_algorithm_lists_the_known_ones(capsys, tmp_path):
    with pytest.raises(SystemExit):
        train(["--algo", "trop", "--env", IDS[0]])
    assert "unknown --algo 'trop'; known: ppo, trpo, " in capsys.readouterr().err
    with pytest.raises(SystemExit):
        train(["--algo", "sac", "--env", IDS[0]])
    assert "--algo sac needs a --conf-file" in capsys.readouterr().err
    with pytest.raises(SetupError, match=r"gone\.yml"):
        train(["--algo", "sac", "--env", IDS[0], "-conf", "gone.yml", "-f", str(tmp_path)])


def test_a_training_that_cannot_begin_says_why_and_leaves_no_folder(tmp_path, bfm):
    wrong = [*arguments(tmp_path, bfm, "ppo", steps=ROLLOUT), "--env-kwargs", "prompt:hop"]
    with pytest.raises(SetupError, match="unknown prompt 'hop' for task Direction"):
        train(wrong)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith("TT")]


# ---- search -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_search_leaves_a_report_and_its_best_trial_can_be_trained(tmp_path, bfm):
    study = ("--storage", str(tmp_path / "study.log"), "--study-name", "search")
    common = ("--env", IDS[0], "--env-kwargs", f"bfm:{bfm!r}", "--log-folder", str(tmp_path))
    printed = run(
        "agents.train",
        *(*common, *study, "-optimize", "--n-trials", "2", "--n-startup-trials", "1"),
        *("--n-evaluations", "1", "--n-eval-envs", "2", "--eval-episodes", "2"),
        *("-n", "64", "--no-optim-plots", *TINY),
    )
    assert "Number of finished trials:  2" in printed
    assert "curves:" not in printed
    (report,) = (tmp_path / "ppo").glob("report_*.csv")
    with report.open() as file:
        trials = list(csv.DictReader(file))
    assert len(trials) == 2
    run_dir = train([*common, *study, "--trial-id", "1", "-n", "64", "-params", "n_envs:2"])
    model = PPO.load(run_dir / f"{IDS[0]}.zip", device="cpu")
    assert model.n_steps == 2 ** int(trials[1]["params_n_steps_pow"])
    assert model.gamma == 1 - float(trials[1]["params_one_minus_gamma"])


# ---- TensorBoard --------------------------------------------------------------------------------


def events_of(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    return events


def test_videos_appear_in_tensorboard_and_change_nothing(tmp_path, bfm):
    env = gymnasium.make_vec(IDS[0], num_envs=1, bfm=bfm, render_mode="rgb_array")
    env.reset(seed=0)
    try:
        env.render()
    except RenderingError as error:
        pytest.skip(str(error))
    settings = ("--env-kwargs", f"bfm:{bfm!r}", "max_episode_steps:8")
    plain = train([*arguments(tmp_path / "a", bfm, "ppo", steps=4 * ROLLOUT), *settings])
    command = [*arguments(tmp_path / "b", bfm, "ppo", steps=4 * ROLLOUT), *settings]
    filmed = train([*command, "--video-every", str(2 * ROLLOUT)])
    assert differences(checkpoint_of(plain), checkpoint_of(filmed)) == []
    pictures = events_of(filmed).Images("rollout/video")
    assert [item.step for item in pictures] == [2 * ROLLOUT, 4 * ROLLOUT]
    assert (pictures[0].width, pictures[0].height) == (240, 180)
    assert "rollout/video" not in events_of(plain).Tags()["images"]


def test_tensorboard_compares_runs_by_their_settings(tmp_path, bfm):
    run_dir = train(arguments(tmp_path, bfm, "ppo", steps=24 * ROLLOUT))
    events = events_of(run_dir)
    data = events.SummaryMetadata("_hparams_/session_start_info").plugin_data
    settings = HParamsPluginData.FromString(data.content).session_start_info.hparams
    assert settings["n_steps"].number_value == 16
    assert settings["algo"].string_value == "ppo"
    assert settings["env_kwargs/bfm"].string_value == bfm
    for tag in ("rollout/fall_rate", "rollout/divergence_rate"):
        assert all(0.0 <= item.value <= 1.0 for item in events.Scalars(tag))
    # 32 entries within +-1 of a basis of length 2, and none can be zero
    assert all(0.0 < item.value < 2 * 32**0.5 for item in events.Scalars("rollout/token_norm"))


def test_the_token_norm_is_that_of_what_the_model_receives(other_bfm):
    env = VecMonitor(TaskTokenVecEnv(gymnasium.make_vec(IDS[0], num_envs=2, bfm=other_bfm)))
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=16, device="cpu")
    model.policy.log_std.data.fill_(5.0)  # every entry beyond the bounds
    model.set_logger(configure(None, []))
    curves = Curves()
    model.learn(8, curves, log_interval=None)
    recorded = model.logger.name_to_value["rollout/token_norm"]
    assert recorded == pytest.approx(2 * 32**0.5, rel=0.05)


@pytest.mark.parametrize("value", ["0", "-5"])
def test_a_video_needs_a_positive_distance(value, capsys):
    with pytest.raises(SystemExit):
        train(["--env", IDS[0], "--video-every", value])
    assert f"must be a whole number from 1 on, got {value}" in capsys.readouterr().err
