"""Measure success on fresh episodes.

python -m agents.evaluate --env TTStrike-v0 --episodes 200 --seed 1 --json strike.json
python -m agents.evaluate --env TTDirection-v0 --token none --prompt heading_speed --episodes 200
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

import tt_gym
from agents.actors import Actor, add_arguments, choose
from tt_gym.checkpoint import CheckpointError

_Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution

Episode = dict[str, float]
"""Final info of an episode, with ``terminated``, ``length`` and ``reward_per_step``."""


def evaluate(
    env_id: str,
    actor: Actor | None,
    *,
    episodes: int,
    seed: int,
    num_envs: int = 64,
    **env_kwargs: Any,
) -> dict[str, Any]:
    """Success with its uncertainty over ``episodes`` episodes.

    Episodes are played in rounds of one per environment, each round from a seed of its own: short
    episodes count no more than long ones, and all actors meet the same start states and
    goals.

    Args:
        env_id: registered id.
        actor: gives the actions; None gives zeros (for ``control="prompt"``).
        episodes: how many.
        seed: of start states and goals.
        num_envs: environments stepped together.
        env_kwargs: for ``gymnasium.make_vec``.

    Returns:
        ``success_rate`` (share of goals reached, as the paper counts), ``n`` (goals), ``ci95``
        (Wilson interval), ``episode_success_rate``, ``episode_ci95``, ``episodes``,
        ``terminated_rate`` (episodes that ended early: a fall, but also the landing of a jump),
        ``diverged``, ``reward_per_step``, ``episode_length`` (steps), ``metrics`` (means over
        episodes), ``env`` and ``seed``.

    Raises:
        ValueError: ``episodes`` < 1, or environment settings that are not allowed.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    env: Any = gymnasium.make_vec(env_id, num_envs=min(num_envs, episodes), **env_kwargs)
    rounds = math.ceil(episodes / env.num_envs)
    seeds = np.random.SeedSequence(seed).generate_state(rounds)
    played = [row for number in seeds for row in _play_round(env, actor, int(number))]
    env.close()
    return {"env": env_id, "seed": seed, **summarise(played[:episodes])}


def _play_round(env: Any, actor: Actor | None, seed: int) -> list[Episode]:
    """The first episode of every environment after a reset."""
    observations, _ = env.reset(seed=seed)
    idle = np.zeros(env.action_space.shape, dtype=np.float32)
    rows: list[Episode | None] = [None] * env.num_envs
    rewards, length = np.zeros(env.num_envs), 0
    while any(row is None for row in rows):
        actions = idle if actor is None else actor.act(observations)
        observations, reward, terminated, truncated, info = env.step(actions)
        rewards, length = rewards + reward, length + 1
        for index in np.flatnonzero(terminated | truncated):
            if rows[index] is None:
                final = info["final_info"]
                rows[index] = {
                    **{key: float(v[index]) for key, v in final.items() if not key.startswith("_")},
                    "terminated": float(terminated[index]),
                    "length": float(length),
                    "reward_per_step": float(rewards[index]) / length,
                }
    return [row for row in rows if row is not None]


def summarise(played: list[Episode]) -> dict[str, Any]:
    """Rates and means over episodes; see :func:`evaluate`."""

    def total(key: str) -> float:
        return sum(row[key] for row in played)

    count, goals = len(played), int(total("goals"))
    metrics = [key for key in played[0] if key.startswith(("reward/", "task/"))]
    return {
        "success_rate": total("goals_succeeded") / goals if goals else None,
        "n": goals,
        "ci95": list(wilson_interval(int(total("goals_succeeded")), goals)),
        "episodes": count,
        "episode_success_rate": total("is_success") / count,
        "episode_ci95": list(wilson_interval(int(total("is_success")), count)),
        "terminated_rate": total("terminated") / count,
        "diverged": int(total("diverged")),
        "reward_per_step": total("reward_per_step") / count,
        "episode_length": total("length") / count,
        "metrics": {key: total(key) / count for key in metrics},
    }


def wilson_interval(successes: int, n: int) -> tuple[float, float]:
    """95 % interval of a rate (Wilson 1927), (0, 1) without any trial."""
    if n == 0:
        return 0.0, 1.0
    rate, z2 = successes / n, _Z95**2
    centre = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z95 * math.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def results_table(results: dict[str, dict[str, Any]], title: str) -> Table:
    """One row per result of :func:`evaluate`, keyed by a label; reward is the mean per step."""
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    for column in ("", "success", "95 %", "goals", "ended early", "reward", "steps"):
        table.add_column(column, justify="right" if column else "left", no_wrap=bool(column))
    for label, result in results.items():
        table.add_row(label, *_cells(result))
    return table


def _cells(result: dict[str, Any]) -> Iterator[str]:
    rate, (low, high) = result["success_rate"], result["ci95"]
    yield "-" if rate is None else f"{100 * rate:.1f} %"
    yield f"{100 * low:.1f} - {100 * high:.1f}"
    yield str(result["n"])
    yield f"{100 * result['terminated_rate']:.1f} %"
    yield f"{result['reward_per_step']:.3f}"
    yield f"{result['episode_length']:.0f}"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m agents.evaluate", description="Measure success on fresh episodes."
    )
    add_arguments(parser)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    args = parser.parse_args(arguments)
    try:
        choice = choose(args)
        result = evaluate(
            args.env,
            choice.actor,
            episodes=args.episodes,
            seed=args.seed,
            num_envs=args.num_envs,
            **choice.env_kwargs,
        )
    except (CheckpointError, ValueError) as error:
        raise SystemExit(f"agents.evaluate: {error}") from error
    console = Console()
    title = f"{args.env}, {result['episodes']} episodes"
    console.print(results_table({choice.label: result}, title))
    for key, value in result["metrics"].items():
        console.print(f"{key:24} {value:.4f}")
    if args.json is not None:
        given = sys.argv[1:] if arguments is None else arguments
        result |= {
            "actor": choice.label,
            "env_kwargs": choice.env_kwargs,
            "command": " ".join(("python -m agents.evaluate", *given)),
            "version": tt_gym.__version__,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(result, indent=2) + "\n")
        console.print(f"written: {args.json}")


if __name__ == "__main__":
    main()
