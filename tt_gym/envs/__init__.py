"""Gymnasium environments."""

from tt_gym.envs.perturbations import Perturbations
from tt_gym.envs.single_env import TaskTokenEnv
from tt_gym.envs.vector_env import TaskTokenVectorEnv

__all__ = ["Perturbations", "TaskTokenEnv", "TaskTokenVectorEnv"]
