"""Where the time of a PPO iteration goes.

    python benchmarks/ppo_iteration.py --json ppo_iteration.json

Run it on idle cores. Stock PPO trains on the native batch with the sizes of
``zoo_configs/ppo.yml``; methods of the real parts are timed while it does, each without the parts
called inside it, so that the shares sum up to the whole.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agents  # noqa: F401  # isort: skip  before torch: it makes OpenMP threads wait passively

import gymnasium
import yaml
from figures import write
from rich import box
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from throughput import replaced
from torch import nn

import zoo_configs
from agents.vec_env import TaskTokenVecEnv

_SIZES = ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "clip_range")
_CONFIG = Path(zoo_configs.__file__).parent / "ppo.yml"


class Clock:
    """Time spent in parts of a program, each without the parts inside it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inside: list[float] = []  # time of inner parts, per open part

    def timing(self, part: str) -> Any:
        """For :func:`throughput.replaced`: count a method under ``part``."""

        def call(inner: Any, *args: Any, **kwargs: Any) -> Any:
            self._inside.append(0.0)
            start = time.perf_counter()
            try:
                return inner(*args, **kwargs)
            finally:
                whole = time.perf_counter() - start
                own = whole - self._inside.pop()
                self.seconds[part] = self.seconds.get(part, 0.0) + own
                if self._inside:
                    self._inside[-1] += whole

        return call


def build(env_id: str, *, num_envs: int, bfm: str | None) -> PPO:
    """PPO as ``agents.train`` makes it, but for what has no bearing on time."""
    blocks = yaml.safe_load(_CONFIG.read_text())
    block = blocks.get(env_id, blocks["default"])
    sizes = {name: block[name] for name in _SIZES}
    # rl-zoo3 evaluates this text of our own file as well
    policy_kwargs = eval(block["policy_kwargs"], {"dict": dict, "nn": nn})
    env = TaskTokenVecEnv(gymnasium.make_vec(env_id, num_envs=num_envs, bfm=bfm))
    settings = {**sizes, "policy_kwargs": policy_kwargs, "seed": 0, "device": "cpu"}
    return PPO(block["policy"], env, **settings)


@contextlib.contextmanager
def timed(model: PPO, clock: Clock) -> Iterator[None]:
    """Count the parts of ``model`` and of its environment while it trains."""
    assert isinstance(model.env, TaskTokenVecEnv)
    env = model.env.env
    methods = (
        (env.simulator, "step_physics", "physics"),
        (env.simulator, "step", "servo targets, reading the state"),
        (env, "pd_target", "frozen model"),
        (env, "_observe", "observation"),
        (env, "step", "task, restarts"),
        (model.policy, "forward", "policy"),
        (model.policy, "predict_values", "policy"),
        (model, "train", "update"),
        (model, "learn", "rest"),
    )
    with contextlib.ExitStack() as stack:
        for owner, name, part in methods:
            clock.seconds[part] = 0.0
            stack.enter_context(replaced(owner, name, clock.timing(part)))
        yield


def measure(model: PPO, *, iterations: int) -> dict[str, float]:
    """Seconds per iteration by part, after one iteration to warm up.

    Args:
        model: not trained yet.
        iterations: how many to average over, at least 1.
    """
    rollout = model.n_steps * model.n_envs
    model.learn(rollout)
    clock = Clock()
    with timed(model, clock):
        model.learn(iterations * rollout, reset_num_timesteps=False)
    return {part: seconds / iterations for part, seconds in clock.seconds.items()}


def table(seconds: dict[str, float], title: str) -> Table:
    """A row per part."""
    result = Table(title=title, box=box.SIMPLE, pad_edge=False)
    for column in ("", "ms", "share"):
        result.add_column(column, justify="right" if column else "left", no_wrap=True)
    total = sum(seconds.values())
    for part, value in seconds.items():
        result.add_row(part, f"{1e3 * value:.1f}", f"{100 * value / total:.1f} %")
    result.add_section()
    result.add_row("iteration", f"{1e3 * total:.1f}", "100.0 %")
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--env", default="TTDirection-v0", help="registered id")
    parser.add_argument("--num-envs", type=int, default=128)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--bfm", help="file of the frozen model (default: the shipped one)")
    args = parser.parse_args()
    model = build(args.env, num_envs=args.num_envs, bfm=args.bfm)
    seconds = measure(model, iterations=args.iterations)
    total, steps = sum(seconds.values()), model.n_steps * model.n_envs
    Console().print(table(seconds, f"{args.env}, {steps:,} steps per iteration"))
    if args.json is not None:
        figures = {
            "ms": {part: 1e3 * value for part, value in seconds.items()},
            "share": {part: value / total for part, value in seconds.items()},
            "iteration_ms": 1e3 * total,
            "env_steps_per_s": steps / total,
            "env": args.env,
            "num_envs": args.num_envs,
            "steps_per_iteration": steps,
            "iterations": args.iterations,
        }
        write(args.json, figures)


if __name__ == "__main__":
    main()
