"""Stage 1: one policy that tracks every clip, by Stable-Baselines3 PPO.

    python -m tt_gym.pretraining.tracker --run-dir runs/tracker --steps 20e6

A run that was killed continues from its last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections import deque
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from tt_gym.checkpoint import load_checkpoint, save_checkpoint
from tt_gym.command_line import one_line_errors, positive
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.library import MotionLibrary
from tt_gym.pretraining.clips import load_clips
from tt_gym.pretraining.ppo_state import GroupClippedAdam, ppo_state, restore_ppo
from tt_gym.pretraining.tracking_env import TrackingEnv
from tt_gym.simulation import SIMULATORS, build_simulator

OBS_CLIP = 5.0
HIDDEN = (512, 256)
SIGMA = 0.05
"""Exploration noise of a new run, rad."""
_NORM_EPSILON = 1e-8
_SAVE_EVERY = 50  # iterations


@dataclasses.dataclass(frozen=True)
class TrackerConfig:
    """Hyper-parameters of the tracker.

    Attributes:
        sigma: fixed exploration noise of the PD target, rad; None: that of ``init``, or
            :data:`SIGMA` without one.
        kl_range: the learning rate falls above and rises below this KL divergence per update.
        max_height_error, max_foot_error: see :class:`~tt_gym.pretraining.tracking_env.TrackingEnv`.
    """

    num_envs: int = 512
    n_steps: int = 16
    batch_size: int = 2048
    n_epochs: int = 2
    gamma: float = 0.95
    gae_lambda: float = 0.95
    learning_rate: float = 2e-4
    critic_learning_rate: float = 1e-3
    sigma: float | None = None
    kl_range: tuple[float, float] = (0.03, 0.06)
    max_height_error: float = math.inf
    max_foot_error: float = math.inf


class TrackerPolicy(ActorCriticPolicy):
    """Separate ELU networks of actor and critic, fixed noise, gradients clipped apart."""

    critic_learning_rate = TrackerConfig.critic_learning_rate

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.log_std.requires_grad_(False)
        actor = [*self.mlp_extractor.policy_net.parameters(), *self.action_net.parameters()]
        critic = [*self.mlp_extractor.value_net.parameters(), *self.value_net.parameters()]
        self.optimizer = GroupClippedAdam(
            [
                {"params": actor, "max_grad_norm": 1.0},
                {"params": critic, "max_grad_norm": 1.0},
            ],
            lr=lr_schedule(1),
            eps=1e-5,
        )


class TrackerPPO(PPO):
    """PPO whose actor's rate is set by :class:`TrackerCallback` while the critic's stays."""

    actor_learning_rate: float

    def _update_learning_rate(self, optimizers: Any) -> None:
        groups = self.policy.optimizer.param_groups
        groups[0]["lr"] = self.actor_learning_rate
        groups[1]["lr"] = TrackerPolicy.critic_learning_rate
        self.logger.record("train/learning_rate", self.actor_learning_rate)


class Tracker(nn.Module):
    """The trained tracker's deterministic action, apart from SB3.

    Args:
        policy: state dict of :class:`TrackerPolicy`.
        mean, var: observation statistics, (width,).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, policy: dict[str, Tensor], mean: Tensor, var: Tensor) -> None:
        super().__init__()
        prefix = "mlp_extractor.policy_net."
        weights = [policy[f"{prefix}{index}.weight"] for index in (0, 2)]
        weights.append(policy["action_net.weight"])
        biases = [policy[f"{prefix}{index}.bias"] for index in (0, 2)] + [policy["action_net.bias"]]
        layers: list[nn.Module] = []
        for weight, bias in zip(weights, biases, strict=True):
            linear = nn.Linear(weight.shape[1], weight.shape[0])
            linear.load_state_dict({"weight": weight, "bias": bias})
            layers += [linear, nn.ELU()]
        self.net = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", (var + _NORM_EPSILON).rsqrt().float())
        self.eval().requires_grad_(False)

    def forward(self, observation: Tensor) -> Tensor:
        """Residual PD target (N, D), rad, for raw observations (N, width)."""
        normalised = ((observation - self.mean) * self.scale).clamp(-OBS_CLIP, OBS_CLIP)
        return self.net(normalised).clamp(-1.0, 1.0)


def load_tracker(path: str | Path) -> Tracker:
    """The tracker of a checkpoint.

    Raises:
        CheckpointError: missing, corrupt or foreign file.
    """
    saved = load_checkpoint(path, kind="tracker")["ppo"]
    return Tracker(saved["policy"], saved["obs_rms"]["mean"], saved["obs_rms"]["var"])


class TrackerCallback(BaseCallback):
    """Adapts the learning rate, logs, and saves a checkpoint now and then and at the end."""

    model: TrackerPPO

    def __init__(self, env: TrackingEnv, path: Path, config: TrackerConfig) -> None:
        super().__init__()
        self.env, self.path, self.config = env, path, config
        self.iteration = 0
        self.lengths: deque[int] = deque(maxlen=1000)
        self.rewards: list[float] = []
        self.errors: list[float] = []
        self.started, self.started_at = time.monotonic(), 0

    def _on_training_start(self) -> None:
        self.started, self.started_at = time.monotonic(), self.model.num_timesteps

    def _on_step(self) -> bool:
        self.rewards.append(float(self.locals["rewards"].mean()))
        self.errors.append(float(self.env.last_error.mean()))
        self.lengths.extend(
            i["episode_steps"] for i in self.locals["infos"] if "episode_steps" in i
        )
        return True

    def _on_rollout_start(self) -> None:
        if self.iteration > 0:
            self._adapt_learning_rate()
            if self.iteration % _SAVE_EVERY == 0:
                self.save()
        self.iteration += 1

    def _on_training_end(self) -> None:
        self._adapt_learning_rate()  # a resumed run begins with a rollout, as after any other save
        self.save()

    def _adapt_learning_rate(self) -> None:
        divergence = self.model.logger.name_to_value.get("train/approx_kl", 0.0)
        low, high = self.config.kl_range
        rate = self.model.actor_learning_rate
        rate *= 1 / 1.3 if divergence > high else 1.3 if divergence < low else 1.0
        self.model.actor_learning_rate = float(np.clip(rate, 3e-6, 1e-3))

    def _on_rollout_end(self) -> None:
        record = self.logger.record
        steps = self.model.num_timesteps - self.started_at
        record("time/steps_per_s", steps / (time.monotonic() - self.started))
        record("rollout/reward", float(np.mean(self.rewards)))
        record("rollout/error_mm", 1000 * float(np.mean(self.errors)))
        record("rollout/episode_steps", float(np.mean(self.lengths)) if self.lengths else 0.0)
        rates = self.env.failures / self.env.tries
        record("rollout/failure_rate", float(rates.mean()))
        for name, rate in zip(self.env.library.names, rates.tolist(), strict=True):
            record(f"failure/{name}", rate, exclude="stdout")
        self.rewards.clear()
        self.errors.clear()

    def save(self) -> None:
        """Write the resumable checkpoint."""
        content = {
            "ppo": ppo_state(self.model),
            "env": self.env.get_state(),
            "learning_rate": self.model.actor_learning_rate,
        }
        save_checkpoint(self.path, kind="tracker", content=content)


def train(
    clips: list[str],
    run_dir: Path,
    *,
    steps: int,
    seed: int,
    config: TrackerConfig,
    init: Path | None,
    simulator: str = "mujoco_cpu",
) -> Path:
    """Train, or continue ``run_dir``, up to ``steps`` environment steps in all.

    Args:
        clips: names of shipped clips or paths to clip files or folders.
        run_dir: receives ``checkpoint.safetensors`` and TensorBoard events.
        steps: environment steps, those before a resume included.
        seed: of networks, noise and start states.
        config: hyper-parameters.
        init: checkpoint of another run to start from, with other clips perhaps.
        simulator: one of :data:`tt_gym.simulation.SIMULATORS`.

    Returns:
        Path of the checkpoint.
    """
    library = MotionLibrary(DEEPMIMIC, load_clips(clips))
    env = TrackingEnv(
        build_simulator(simulator, DEEPMIMIC, config.num_envs),
        library,
        seed=seed,
        max_height_error=config.max_height_error,
        max_foot_error=config.max_foot_error,
    )
    model = TrackerPPO(
        TrackerPolicy,
        VecNormalize(env, norm_reward=False, clip_obs=OBS_CLIP, epsilon=_NORM_EPSILON),
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        max_grad_norm=math.inf,  # clipped per group by the optimiser
        vf_coef=1.0,
        policy_kwargs={
            "net_arch": {"pi": list(HIDDEN), "vf": list(HIDDEN)},
            "activation_fn": nn.ELU,
            "log_std_init": math.log(config.sigma or SIGMA),
        },
        seed=seed,
        device="cpu",
    )
    model.actor_learning_rate = config.learning_rate
    model.set_logger(configure(str(run_dir), ["stdout", "tensorboard"]))
    checkpoint = run_dir / "checkpoint.safetensors"
    source = checkpoint if checkpoint.exists() else init
    if source is not None:
        saved = load_checkpoint(source, kind="tracker")
        env.set_state(saved["env"])
        restore_ppo(model, saved["ppo"])
        model.actor_learning_rate = saved["learning_rate"]
        if config.sigma is not None:
            nn.init.constant_(model.policy.log_std, math.log(config.sigma))
        if not env.fits(saved["env"]):
            model._last_obs = None
        print(f"continuing {source} at {model.num_timesteps:,} steps")
    print(
        f"{len(library.names)} clips, {float(library.durations_s.sum()):.0f} s, to {steps:,} steps"
    )
    callback = TrackerCallback(env, checkpoint, config)
    remaining = steps - model.num_timesteps
    if remaining > 0:
        model.learn(remaining, callback, log_interval=50, reset_num_timesteps=False)
    return checkpoint


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", nargs="+", default=["shipped"], help="names, files or folders")
    parser.add_argument("--run-dir", type=Path, default=Path("runs/tracker"))
    parser.add_argument(
        "--steps", type=positive, default=20e6, help="in all, those of --init or a resume included"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path, help="start from this checkpoint of another run")
    parser.add_argument("--threads", type=int, default=0, help="torch threads, 0: all cores")
    parser.add_argument(
        "--sigma",
        type=positive,
        help=f"exploration noise, rad; default: that of --init, {SIGMA} for a new run",
    )
    parser.add_argument(
        "--max-height-error",
        type=positive,
        default=TrackerConfig.max_height_error,
        metavar="M",
        help="of the pelvis, m, that ends an episode: 0.1 teaches to leave the ground in jumps",
    )
    parser.add_argument(
        "--max-foot-error",
        type=positive,
        default=TrackerConfig.max_foot_error,
        metavar="M",
        help="of a foot while both should stand, m, that ends an episode: 0.08 teaches to step",
    )
    parser.add_argument("--simulator", choices=SIMULATORS, default=SIMULATORS[0])
    parser.add_argument(
        "--kl-range",
        type=positive,
        nargs=2,
        default=TrackerConfig.kl_range,
        metavar=("LOW", "HIGH"),
        help="of an update, kept by the learning rate; lower settles a run at its end",
    )
    args = parser.parse_args()
    if args.kl_range[0] > args.kl_range[1]:
        parser.error(f"--kl-range must be in rising order, got {args.kl_range}")
    if args.threads:
        torch.set_num_threads(args.threads)
    gymnasium.logger.min_level = gymnasium.logger.ERROR
    with one_line_errors("tracker"):
        path = train(
            args.clips,
            args.run_dir,
            steps=int(args.steps),
            seed=args.seed,
            config=TrackerConfig(
                sigma=args.sigma,
                kl_range=tuple(args.kl_range),
                max_height_error=args.max_height_error,
                max_foot_error=args.max_foot_error,
            ),
            init=args.init,
            simulator=args.simulator,
        )
    print(f"tracker: {path}")


if __name__ == "__main__":
    main()
