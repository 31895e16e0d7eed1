"""Algorithms by name: those of rl-zoo3, and RecurrentPPO by its own name; what a search tries."""

from __future__ import annotations

from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from rl_zoo3.utils import ALGOS
from sb3_contrib import TRPO, RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from agents import search

ALGOS["recurrent_ppo"] = ALGOS["ppo_lstm"]
for _name in ("ppo", "ppo_lstm", "recurrent_ppo"):
    HYPERPARAMS_SAMPLER[_name] = search.sample_ppo
    HYPERPARAMS_CONVERTER[_name] = search.convert_ppo

RESUMABLE = (PPO, TRPO, RecurrentPPO)
"""Algorithms of which a checkpoint holds everything."""


def is_resumable(name: str) -> bool:
    """Whether runs of an algorithm can be continued exactly."""
    return issubclass(ALGOS[name], RESUMABLE)


def is_recurrent(model: BaseAlgorithm) -> bool:
    """Whether a policy remembers past observations, which no token file can hold."""
    return isinstance(model.policy, RecurrentActorCriticPolicy)
