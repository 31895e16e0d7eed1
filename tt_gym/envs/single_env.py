"""The single environment: a batch of one."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from tt_gym.bfm.prompts import Prompt
from tt_gym.envs.vector_env import TaskTokenVectorEnv


class TaskTokenEnv(gymnasium.Env):
    """:class:`~tt_gym.envs.vector_env.TaskTokenVectorEnv` with one environment and no autoreset.

    Time limits are Gymnasium's ``TimeLimit`` wrapper's business; ``info`` tells at every step what
    the episode would count as if it ended there.

    Args:
        settings: as for the vectorised environment, ``task`` required.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012

    def __init__(self, *, render_mode: str | None = None, **settings: Any) -> None:
        settings = {"num_threads": 1, "max_episode_steps": None, **settings}
        self.batch = TaskTokenVectorEnv(1, autoreset=False, render_mode=render_mode, **settings)
        self.render_mode = render_mode
        self.observation_space = self.batch.single_observation_space
        self.action_space = self.batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start a new episode."""
        super().reset(seed=seed)
        observations, _ = self.batch.reset(seed=seed)
        return {key: value[0] for key, value in observations.items()}, {}

    def step(
        self, action: np.ndarray
    ) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step (1/30 s).

        Raises:
            ValueError: wrong shape, NaN or infinity.
        """
        action = np.asarray(action)
        if action.shape != self.action_space.shape:
            raise ValueError(
                f"action must have shape {self.action_space.shape}, got {action.shape}: "
                "build the policy from env.action_space"
            )
        observations, reward, terminated, truncated, info = self.batch.step(action[None])
        observation = {key: value[0] for key, value in observations.items()}
        single = {key: value[0].item() for key, value in info.items() if not key.startswith("_")}
        return observation, float(reward[0]), bool(terminated[0]), bool(truncated[0]), single

    def render(self) -> np.ndarray | None:
        """RGB picture (H, W, 3) uint8, None without ``rgb_array``."""
        pictures = self.batch.render()
        return None if pictures is None else pictures[0]

    def set_prompt(self, prompt: str | Prompt | None) -> None:
        """Show another prompt; see :meth:`TaskTokenVectorEnv.set_prompt`."""
        self.batch.set_prompt(prompt)

    def close(self) -> None:
        """Release the renderer."""
        self.batch.close()
