"""Stop and resume PPO and its kin at a rollout boundary, exactly and without pickles."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from tt_gym.checkpoint import optimizer_state, restore_optimizer


class GroupClippedAdam(torch.optim.Adam):
    """Adam that clips the gradient norm of each parameter group apart, at its ``max_grad_norm``.

    One norm over actor and critic together lets the critic's gradient scale the actor's steps. A
    group may have an ``lr_scale``, by which its rate is multiplied: PPO sets one rate for all.
    """

    def step(self, closure: Any = None) -> Any:
        """Clip, then step."""
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            torch.nn.utils.clip_grad_norm_(group["params"], group["max_grad_norm"])
            group["lr"] *= group.get("lr_scale", 1.0)
        result = super().step(closure)
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate
        return result


def ppo_state(model: OnPolicyAlgorithm) -> dict[str, Any]:
    """Content for ``save_checkpoint``: networks, optimiser, counters, observations, random states.

    The environment's own state is not included.
    """
    state: dict[str, Any] = {
        "policy": dict(model.policy.state_dict()),
        "optimizer": optimizer_state(model.policy.optimizer),
        "num_timesteps": model.num_timesteps,
        "n_updates": model._n_updates,
        "last_obs": _to_tensors(model._last_obs),
        "last_episode_starts": _to_tensors(model._last_episode_starts),
        "torch_rng": torch.get_rng_state(),
        "numpy_rng": _numpy_rng(),
    }
    env = model.get_env()
    if isinstance(env, VecNormalize) and env.norm_obs:
        rms = env.obs_rms
        assert not isinstance(rms, dict)
        state["obs_rms"] = {
            "mean": torch.from_numpy(rms.mean),
            "var": torch.from_numpy(rms.var),
            "count": float(rms.count),
        }
    return state


def restore_ppo(model: OnPolicyAlgorithm, state: dict[str, Any]) -> None:
    """Inverse of :func:`ppo_state`; continue with ``learn(..., reset_num_timesteps=False)``."""
    model.policy.load_state_dict(state["policy"])
    restore_optimizer(model.policy.optimizer, state["optimizer"])
    model.num_timesteps = int(state["num_timesteps"])
    model._n_updates = int(state["n_updates"])
    model._last_obs = _to_arrays(state["last_obs"])
    model._last_episode_starts = _to_arrays(state["last_episode_starts"])
    env = model.get_env()
    if isinstance(env, VecNormalize) and "obs_rms" in state:
        rms, saved = env.obs_rms, state["obs_rms"]
        assert not isinstance(rms, dict)
        rms.mean, rms.var = saved["mean"].numpy().copy(), saved["var"].numpy().copy()
        rms.count = saved["count"]
    torch.set_rng_state(state["torch_rng"])
    keys, position, has_gauss, gauss = state["numpy_rng"]
    np.random.set_state(("MT19937", keys.numpy().view(np.uint32), position, has_gauss, gauss))


def _numpy_rng() -> list[Any]:
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return [torch.from_numpy(np.array(keys).view(np.int32)), position, has_gauss, gauss]


def _to_tensors(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_tensors(item) for key, item in value.items()}
    return torch.from_numpy(np.array(value))


def _to_arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _to_arrays(item) for key, item in value.items()}
    assert isinstance(value, Tensor)
    return value.numpy().copy()
