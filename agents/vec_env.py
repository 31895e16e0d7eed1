"""The native batch as a Stable-Baselines3 ``VecEnv``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from tt_gym.envs.vector_env import TaskTokenVectorEnv


class TaskTokenVecEnv(VecEnv):
    """Adapter without copies of the logic: one batched step, infos split per environment.

    Args:
        env: a same-step autoreset vector env, as ``gymnasium.make_vec`` gives it.
    """

    def __init__(self, env: TaskTokenVectorEnv) -> None:
        self.env = env
        self.metadata = env.metadata
        self.spec = env.spec
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> dict[str, np.ndarray]:
        """Start new episodes everywhere, with the first's seed and options, if given."""
        observations, _ = self.env.reset(seed=self._seeds[0], options=self._options[0] or None)
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Remember the actions (N, A)."""
        self._actions = actions

    def step_wait(self) -> Any:
        """Step; finished environments come back restarted, their last observation in the info."""
        observations, rewards, terminated, truncated, info = self.env.step(self._actions)
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for index in np.flatnonzero(dones):
            final = info["final_info"]
            infos[index] = {
                key: value[index].item() for key, value in final.items() if not key.startswith("_")
            }
            infos[index]["terminal_observation"] = info["final_obs"][index]
            infos[index]["TimeLimit.truncated"] = bool(truncated[index])
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Release the batch."""
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One picture per environment."""
        return self.env.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The batch's attribute, once per environment."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the batch."""
        setattr(self.env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the batch, once; the result stands for every environment."""
        result = getattr(self.env, method_name)(*method_args, **method_kwargs)
        return [result] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """A native batch has no single-env wrappers."""
        return [False] * len(list(self._get_indices(indices)))


def native_env(env: VecEnv | None) -> TaskTokenVectorEnv:
    """The batch under any number of SB3 wrappers."""
    inner = None if env is None else env.unwrapped
    assert isinstance(inner, TaskTokenVecEnv)
    return inner.env


def native_batch(env: VecEnv) -> VecEnv:
    """Single environments that rl-zoo3 made, replaced by one native batch of as many.

    A ``vec_env_wrapper`` for rl-zoo3's files: the stock ``python -m rl_zoo3.train`` knows no
    environments that are born batched. What is not a ``DummyVecEnv`` stays as it is: batches of
    ``agents.train``, and processes where ``--vec-env subproc`` asks for them.

    Args:
        env: fresh single environments, monitored; they are closed and their monitor files deleted.

    Returns:
        A monitored batch with the same settings, seed and log folder.

    Raises:
        ValueError: the environments are wrapped (``env_wrapper``), which a batch cannot be.
    """
    if not isinstance(env, DummyVecEnv):
        return env
    spec = env.envs[0].spec
    assert spec is not None
    wrappers = [wrapper.name for wrapper in spec.additional_wrappers if wrapper.name != "Monitor"]
    if wrappers:
        raise ValueError(f"native_batch goes with no env_wrapper, got {', '.join(wrappers)}")
    env.close()
    writers = [single.get_wrapper_attr("results_writer") for single in env.envs]
    logs = [writer.file_handler.name for writer in writers if writer is not None]
    for log in logs:  # of environments that made no step
        Path(log).unlink()
    kwargs = {**spec.kwargs, "max_episode_steps": spec.max_episode_steps}
    batch: Any = gymnasium.make_vec(spec.id, num_envs=env.num_envs, **kwargs)
    native = TaskTokenVecEnv(batch)
    native.seed(env._seeds[0])
    return VecMonitor(native, logs[0] if logs else None, info_keywords=("is_success",))
