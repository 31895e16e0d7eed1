"""How much of raw physics speed is left in an environment step.

    python benchmarks/throughput.py --json throughput.json

Run it on idle cores. Blocks of the contenders alternate, so that a machine that slows down slows
all of them, and ratios are medians over the rounds:

* the batched environment, stepped with tokens (the policy's own time is not counted);
* its physics alone: ``Batch.step`` on the very states and controls that the environment has just
  gone through, so that contacts and restarts are the same;
* Stable-Baselines3's ``SubprocVecEnv`` and ``DummyVecEnv`` of the single environment.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from figures import of_machine

import agents  # noqa: F401  before torch: it makes OpenMP threads wait passively
from tt_gym.tokens import load_token, shipped_tokens

MEMORY_ENVS = 256
_WARM_UP_STEPS = 60


class BatchedEnv:
    """The batched environment, and its physics alone.

    Args:
        env_id: registered id.
        num_envs: N.
        bfm: file of the frozen model, None for the shipped one.
    """

    def __init__(self, env_id: str, *, num_envs: int, bfm: str | None) -> None:
        self.env: Any = gymnasium.make_vec(env_id, num_envs=num_envs, bfm=bfm)
        self.observations, _ = self.env.reset(seed=0)
        name = gymnasium.spec(env_id).kwargs["task"]
        self.token = load_token(name) if bfm is None and name in shipped_tokens() else None

    def run(self, steps: int) -> float:
        """Seconds inside ``env.step``, with the shipped token's actions or zeros."""
        actions = np.zeros(self.env.action_space.shape, np.float32)
        seconds = 0.0
        for _ in range(steps):
            if self.token is not None:
                actions = self.token.act(self.observations)
            start = time.perf_counter()
            self.observations = self.env.step(actions)[0]
            seconds += time.perf_counter() - start
        return seconds

    def run_both(self, steps: int) -> tuple[float, float]:
        """Seconds inside ``env.step``, and of the same physics alone."""
        simulator, states = self.env.simulator, []

        def record(step: Callable[[], None]) -> None:
            states.append(simulator.get_state())  # the controls are part of it
            step()

        with replaced(simulator, "step_physics", record):
            in_env = self.run(steps)
        now, alone = self.env.get_state(), 0.0
        for state in states:
            simulator.set_state(state)
            start = time.perf_counter()
            simulator.step_physics()
            alone += time.perf_counter() - start
        self.env.set_state(now)
        return in_env, alone

    def breakdown(self, steps: int) -> dict[str, float]:
        """Where a step's time goes, microseconds per environment step."""
        env, clock = self.env, dict.fromkeys(("simulator", "physics", "model", "observation"), 0.0)

        def timing(name: str) -> Callable[..., Any]:
            def call(inner: Callable[..., Any], *args: Any) -> Any:
                start = time.perf_counter()
                result = inner(*args)
                clock[name] += time.perf_counter() - start
                return result

            return call

        with (
            replaced(env.simulator, "step_physics", timing("physics")),
            replaced(env.simulator, "step", timing("simulator")),
            replaced(env, "pd_target", timing("model")),
            replaced(env, "_observe", timing("observation")),
        ):
            total = self.run(steps)
        rest = total - clock["simulator"] - clock["model"] - clock["observation"]
        seconds = {
            "physics": clock["physics"],
            "servo_targets_and_reading": clock["simulator"] - clock["physics"],
            "model": clock["model"],
            "observation": clock["observation"],
            "task_and_restarts": rest,
            "total": total,
        }
        return {name: 1e6 * value / (steps * env.num_envs) for name, value in seconds.items()}


@contextlib.contextmanager
def replaced(owner: Any, name: str, around: Callable[..., Any]) -> Iterator[None]:
    """Let ``around(method, *args, **kwargs)`` stand for a method of one object."""
    method = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: around(method, *args, **kwargs))
    try:
        yield
    finally:
        delattr(owner, name)


class Singles:
    """A vectorised environment of Stable-Baselines3 made of single ones.

    Args:
        kind: ``subproc`` (a process with one torch thread each) or ``dummy`` (one after the other
            in this process).
        env_id: registered id.
        num_envs: how many.
        bfm: file of the frozen model, None for the shipped one.
    """

    def __init__(self, kind: str, env_id: str, *, num_envs: int, bfm: str | None) -> None:
        # imported here, after `agents` has set how threads wait
        from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

        def build() -> gymnasium.Env:
            if kind == "subproc":
                import torch

                torch.set_num_threads(1)
            return gymnasium.make(f"tt_gym:{env_id}", bfm=bfm)

        vectorise = {"subproc": SubprocVecEnv, "dummy": DummyVecEnv}[kind]
        self.env: Any = vectorise([build] * num_envs)
        self.env.reset()

    def run(self, steps: int) -> float:
        """Seconds inside ``step``, with zeros as actions."""
        actions = np.zeros((self.env.num_envs, *self.env.action_space.shape), np.float32)
        start = time.perf_counter()
        for _ in range(steps):
            self.env.step(actions)
        return time.perf_counter() - start


def peak_memory_mb(env_id: str, num_envs: int, bfm: str | None) -> float:
    """Peak resident memory of a process of its own that makes a batch and steps it."""
    code = f"""
import gymnasium, tt_gym
env = gymnasium.make_vec({env_id!r}, num_envs={num_envs}, bfm={bfm!r})
env.reset(seed=0)
for _ in range(30):
    env.step(env.action_space.sample())
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    return int(output.split()[-2]) / 1024


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """All figures, as written to the JSON file."""
    memory = peak_memory_mb(args.env, MEMORY_ENVS, args.bfm)
    batch = BatchedEnv(args.env, num_envs=args.num_envs, bfm=args.bfm)
    singles = {
        "subproc": Singles("subproc", args.env, num_envs=args.subproc_envs, bfm=args.bfm),
        "dummy": Singles("dummy", args.env, num_envs=args.dummy_envs, bfm=args.bfm),
    }
    for contender in (batch, *singles.values()):
        contender.run(_WARM_UP_STEPS)
    names = ("token_env", "raw_physics", *singles)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(args.rounds):
        in_env, alone = batch.run_both(args.steps)
        speeds["token_env"].append(args.steps * args.num_envs / in_env)
        speeds["raw_physics"].append(args.steps * args.num_envs / alone)
        for name, contender in singles.items():
            seconds = contender.run(args.steps)
            speeds[name].append(args.steps * contender.env.num_envs / seconds)
        line = "  ".join(f"{name} {values[-1]:,.0f}/s" for name, values in speeds.items())
        print(f"round {number + 1}: {line}", flush=True)
    for contender in singles.values():
        contender.env.close()

    def ratio(other: str) -> float:
        pairs = zip(speeds["token_env"], speeds[other], strict=True)
        return statistics.median(ours / theirs for ours, theirs in pairs)

    return {
        "token_env_over_raw_physics": ratio("raw_physics"),
        "token_env_over_subproc": ratio("subproc"),
        "token_env_over_dummy": ratio("dummy"),
        **{f"{name}_steps_per_s": statistics.median(values) for name, values in speeds.items()},
        "memory_256_envs_mb": memory,
        "breakdown_us": batch.breakdown(args.steps),
        "env": args.env,
        "num_envs": args.num_envs,
        "subproc_envs": args.subproc_envs,
        "dummy_envs": args.dummy_envs,
        "rounds": args.rounds,
        "steps_per_round": args.steps,
        "actions": "zeros" if batch.token is None else "shipped token",
        **of_machine(),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--env", default="TTDirection-v0", help="registered id")
    parser.add_argument("--num-envs", type=int, default=128)
    parser.add_argument("--subproc-envs", type=int, default=16, help="processes of SubprocVecEnv")
    parser.add_argument("--dummy-envs", type=int, default=16, help="of DummyVecEnv")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=100, help="control steps of a block")
    parser.add_argument("--bfm", help="file of the frozen model (default: the shipped one)")
    args = parser.parse_args()
    figures = measure(args)
    print(json.dumps(figures, indent=2))
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
