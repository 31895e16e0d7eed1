"""rl-zoo3's experiment manager on the native batch of environments."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import gymnasium
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecMonitor

from agents.algorithms import is_resumable
from agents.callbacks import BestBySuccess, Curves, Films, ProgressLine, comparable
from agents.export import encoder_of, has_token, parameter_counts
from agents.policies import ThroughBFMPolicy
from agents.resume import BEST_TOKEN_FILE, ResumableRun
from agents.vec_env import TaskTokenVecEnv, native_env
from tt_gym.checkpoint import CheckpointError
from tt_gym.envs import TaskTokenVectorEnv

ARGUMENTS_FILE = "arguments.json"
_EVALUATION_SEED = 1_000_003  # added to the run's seed: other episodes than those of training


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """What ``agents.train`` knows beyond rl-zoo3's own options.

    Attributes:
        arguments: the command line, kept with the run so that it can be resumed.
        resume: folder of the run to continue.
        init: folder of the run whose networks and counters a new one begins with.
        scale_noise: by which a new one multiplies the exploration noise of ``init``.
        checkpoint_every: rollouts between checkpoints.
        max_minutes: training time after which to stop.
        video_every: environment steps between videos in TensorBoard, None for none.
    """

    arguments: tuple[str, ...]
    resume: Path | None = None
    init: Path | None = None
    scale_noise: float = 1.0
    checkpoint_every: int = 20
    max_minutes: float | None = None
    video_every: int | None = None


class SetupError(ValueError):
    """A training that cannot begin; the text says why."""


class TaskTokenExperiments(ExperimentManager):
    """Creates native batches, and adds curves, progress, exact resume and the token file.

    Args:
        options: see :class:`RunOptions`; all other arguments are rl-zoo3's.
    """

    def __init__(self, *args: Any, options: RunOptions, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.options = options
        if options.resume is not None:
            self.save_path = str(options.resume)
            self.params_path = f"{self.save_path}/{self.env_name}"
        self.run_dir = Path(self.save_path)
        self.run: ResumableRun | None = None

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """A native batch, monitored.

        Raises:
            ValueError: the id is not one of this package's kind of environments, or the
                hyper-parameters ask for normalised observations.
        """
        if self.normalize and self.normalize_kwargs.get("norm_obs", True):
            raise ValueError(
                "normalize must have norm_obs=False: the frozen model's statistics standardise the "
                "state already, and a token file holds no others"
            )
        # rl-zoo3 forgets the file's env_kwargs for the evaluation environment
        kwargs = {**self.env_kwargs, **(self.eval_env_kwargs if eval_env else {})}
        batch = gymnasium.make_vec(self.env_name.gym_id, num_envs=n_envs, **kwargs)
        if not isinstance(batch, TaskTokenVectorEnv):
            raise ValueError(
                f"{self.env_name} is no TaskTokenVectorEnv: train it with python -m rl_zoo3.train"
            )
        env: VecEnv = TaskTokenVecEnv(batch)
        env.seed(self.seed + (_EVALUATION_SEED if eval_env else 0))
        log = None if eval_env or no_log else str(self._free_monitor_file())
        env = VecMonitor(env, log, info_keywords=("is_success",))
        if self.vec_env_wrapper is not None:
            env = self.vec_env_wrapper(env)
        return self._maybe_normalize(env, eval_env)

    def _free_monitor_file(self) -> Path:
        """A resumed run must not overwrite the episodes of its first part."""
        count = len(list(self.run_dir.glob("*.monitor.csv")))
        return self.run_dir / f"{count}.monitor.csv"

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """rl-zoo3's, but single ``--env-kwargs`` replace single ones of the file, not all."""
        given, self.env_kwargs = self.env_kwargs, {}
        hyperparams, saved = super().read_hyperparameters()
        merged = {**hyperparams.get("env_kwargs", {}), **given}
        if merged:
            hyperparams["env_kwargs"] = saved["env_kwargs"] = merged
        return hyperparams, saved

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        result = super()._preprocess_hyperparams(hyperparams)
        result[0].setdefault("stats_window_size", 4 * self.n_envs)
        if result[0]["policy"] is ThroughBFMPolicy and "bfm" in self.env_kwargs:
            # the environment's frozen model is the policy's
            policy_kwargs = result[0].setdefault("policy_kwargs", {})
            policy_kwargs.setdefault("bfm", self.env_kwargs["bfm"])
        return result

    def create_callbacks(self) -> None:
        """rl-zoo3's, with evaluation judged by success, and ours."""
        frequency, self.eval_freq = self.eval_freq, -1
        super().create_callbacks()
        counting: list[Any] = [Curves()]
        if frequency > 0 and not self.optimize_hyperparameters:
            best = BestBySuccess(
                self.create_envs(self.n_eval_envs, eval_env=True),
                seed=self.seed + _EVALUATION_SEED,
                folder=self.run_dir,
                eval_freq=max(frequency // self.n_envs, 1),
                n_eval_episodes=self.n_eval_episodes,
                on_best=self._keep_best_token,
            )
            counting.append(best)
        self.callbacks += [*counting, ProgressLine(self.n_timesteps)]
        if self.options.video_every is not None:
            films = Films(
                self.env_name.gym_id,
                self.env_kwargs,
                seed=self.seed + _EVALUATION_SEED,
                every_steps=self.options.video_every,
            )
            self.callbacks.append(films)
        if is_resumable(self.algo):
            self.run = ResumableRun(
                self.run_dir,
                command=shlex.join(("python", "-m", "agents.train", *self.options.arguments)),
                every_rollouts=self.options.checkpoint_every,
                max_minutes=self.options.max_minutes,
                others=counting,
                init=self.options.init,
                scale_noise=self.options.scale_noise,
            )
            self.callbacks.append(self.run)

    def _keep_best_token(self) -> None:
        if self.run is not None:
            self.run.save_token(BEST_TOKEN_FILE)

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        """Build the model and bring it to where the run to resume was.

        Raises:
            SetupError: hyper-parameters or environment settings that cannot be used.
            CheckpointError: the frozen model or the run to resume cannot be loaded.
        """
        try:
            results = super().setup_experiment()
        except (ValueError, TypeError, OSError) as error:
            for folder in (Path(self.params_path), self.run_dir):
                with contextlib.suppress(OSError):  # not empty, or not made yet
                    folder.rmdir()
            if isinstance(error, CheckpointError):
                raise
            raise SetupError(str(error)) from error
        if results is None:
            return None
        model, hyperparams = results
        if isinstance(model.policy, ThroughBFMPolicy):
            model.policy.check_model(native_env(model.get_env()).bfm)
        (self.run_dir / ARGUMENTS_FILE).write_text(json.dumps(self.options.arguments))
        print(parameter_counts(model))
        curves = self.run_dir / "tensorboard"
        if self.tensorboard_log is not None:
            curves = Path(self.tensorboard_log, self.run_dir.name)
        model.set_logger(configure(str(curves), ["tensorboard", *["stdout"] * (self.verbose > 0)]))
        settings = {**hyperparams, "algo": self.algo, "env": self.env_name, "seed": self.seed}
        settings |= {f"env_kwargs/{key}": value for key, value in self.env_kwargs.items()}
        model.logger.record("hparams", comparable(settings), exclude=("stdout",))
        if self.run is not None:
            assert isinstance(model, OnPolicyAlgorithm)
            if has_token(model):
                encoder_of(model.policy)  # raises now rather than at the first checkpoint
            self.run.restore(model)
        if model.num_timesteps:
            print(f"continuing {self.run_dir} at {model.num_timesteps:,} steps")
        return results

    def learn(self, model: BaseAlgorithm) -> None:
        """Train up to ``n_timesteps`` in all; Ctrl-C stops and keeps what there is."""
        remaining = self.n_timesteps - model.num_timesteps
        kwargs: dict[str, Any] = {}
        if self.log_interval != -1:  # rl-zoo3's marks: -1 the algorithm's own, below: none
            kwargs["log_interval"] = self.log_interval if self.log_interval > 0 else None
        assert model.env is not None
        try:
            if remaining > 0:
                # the counters of a resumed model go on; those of a new one are zero anyway
                model.learn(remaining, self.callbacks, reset_num_timesteps=False, **kwargs)
        except KeyboardInterrupt:
            print(f"stopped; continue with: python -m agents.train --resume {self.run_dir}")
        finally:
            model.env.close()
