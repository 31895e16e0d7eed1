"""What `python -m agents.train --algo ppo -optimize` tries.

rl-zoo3's own ranges are made for a handful of environments: with a native batch of 128 its longest
rollout has half a million steps.
"""

from __future__ import annotations

from typing import Any

import optuna

from tt_gym.tokens import ACTIVATIONS

_NETWORKS = {"small": [128, 128], "medium": [256, 256], "large": [512, 512]}


def sample_ppo(
    trial: optuna.Trial, n_actions: int, n_envs: int, additional_args: dict[str, Any]
) -> dict[str, Any]:
    """Hyper-parameters of one trial; the arguments beside ``trial`` are rl-zoo3's and unused."""
    trial.suggest_int("n_steps_pow", 3, 6)
    trial.suggest_int("batch_size_pow", 8, 12)
    trial.suggest_int("n_epochs", 2, 8)
    trial.suggest_float("learning_rate", 1e-4, 2e-3, log=True)
    trial.suggest_float("one_minus_gamma", 0.005, 0.1, log=True)
    trial.suggest_float("one_minus_gae_lambda", 0.01, 0.2, log=True)
    trial.suggest_float("clip_range", 0.1, 0.3)
    trial.suggest_float("log_std_init", -3.0, 0.0)
    trial.suggest_categorical("net_arch", list(_NETWORKS))
    trial.suggest_categorical("activation_fn", list(ACTIVATIONS))
    return convert_ppo(trial.params)


def convert_ppo(sampled_params: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the SB3 constructor for the parameters of a trial."""
    width = _NETWORKS[sampled_params["net_arch"]]
    return {
        "n_steps": 2 ** sampled_params["n_steps_pow"],
        "batch_size": 2 ** sampled_params["batch_size_pow"],
        "n_epochs": sampled_params["n_epochs"],
        "learning_rate": sampled_params["learning_rate"],
        "gamma": 1.0 - sampled_params["one_minus_gamma"],
        "gae_lambda": 1.0 - sampled_params["one_minus_gae_lambda"],
        "clip_range": sampled_params["clip_range"],
        "policy_kwargs": {
            "log_std_init": sampled_params["log_std_init"],
            "net_arch": {"pi": width, "vf": width},
            "activation_fn": ACTIVATIONS[sampled_params["activation_fn"]],
        },
    }
