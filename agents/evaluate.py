"""Measure success on fresh episodes.

python -m agents.evaluate --env TTStrike-v0 --episodes 200 --seed 1 --json strike.json
python -m agents.evaluate --env TTDirection-v0 --token none --prompt heading_speed --episodes 200
python -m agents.evaluate --env TTDirection-v0 --perturb friction=0.2:1.0:5 --plot friction.png
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shlex
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from rich.console import Console

import tt_gym
from agents import perturb_option
from agents.actors import Actor, add_arguments, choose
from agents.charts import conditions_table, plot_conditions, plot_curve, results_table
from agents.perturb_option import Setting
from agents.statistics import Judged, breakdown, summarise
from tt_gym.checkpoint import CheckpointError


@dataclasses.dataclass
class Episode:
    """One episode of one environment.

    Attributes:
        numbers: final info, with ``terminated``, ``length`` and ``reward_per_step``.
        goals: those that were measured, in order.
    """

    numbers: dict[str, float] = dataclasses.field(default_factory=dict)
    goals: list[Judged] = dataclasses.field(default_factory=list)


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
    episodes count no more than long ones, and all actors meet the same start states and goals
    (a later goal of Reach lies around where the root then is).

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
        episodes), ``conditions`` (success by condition of the goal, see
        :func:`~agents.statistics.breakdown`; goals that a termination kept from beginning count
        in the total only), ``env`` and ``seed``.

    Raises:
        ValueError: ``episodes`` < 1, or environment settings that are not allowed.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    env: Any = gymnasium.make_vec(env_id, num_envs=min(num_envs, episodes), **env_kwargs)
    try:
        rounds = math.ceil(episodes / env.num_envs)
        seeds = np.random.SeedSequence(seed).generate_state(rounds)
        played = [row for number in seeds for row in _play_round(env, actor, int(number))]
    finally:
        env.close()
    return {
        "env": env_id,
        "seed": seed,
        **summarise([episode.numbers for episode in played[:episodes]]),
        "conditions": breakdown([goal for episode in played[:episodes] for goal in episode.goals]),
    }


def _play_round(env: Any, actor: Actor | None, seed: int) -> list[Episode]:
    """The first episode of every environment after a reset."""
    observations, _ = env.reset(seed=seed)
    idle = np.zeros(env.action_space.shape, dtype=np.float32)
    episodes = [Episode() for _ in range(env.num_envs)]
    running = np.ones(env.num_envs, dtype=bool)
    asked, reached = np.zeros((2, env.num_envs), dtype=int)  # goals told of so far
    rewards, length = np.zeros(env.num_envs), 0
    while running.any():
        actions = idle if actor is None else actor.act(observations)
        observations, reward, terminated, truncated, info = env.step(actions)
        rewards, length = rewards + reward, length + 1
        done = terminated | truncated
        for index in np.flatnonzero(running & (done | info["goal_over"])).tolist():
            told = _row(info["final_info"] if done[index] else info, index)
            if told["goals"] > asked[index]:
                condition = {
                    key.removeprefix("condition/"): value
                    for key, value in told.items()
                    if key.startswith("condition/")
                }
                success = told["goals_succeeded"] > reached[index]
                episodes[index].goals.append(Judged(condition, success))
            asked[index], reached[index] = told["goals"], told["goals_succeeded"]
            if done[index]:
                running[index] = False
                episodes[index].numbers = {
                    **told,
                    "terminated": float(terminated[index]),
                    "length": float(length),
                    "reward_per_step": float(rewards[index]) / length,
                }
    return episodes


def _row(info: dict[str, Any], index: int) -> dict[str, float]:
    """What an info tells of one environment."""
    hidden = ("_", "final_")
    return {key: float(v[index]) for key, v in info.items() if not key.startswith(hidden)}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m agents.evaluate", description="Measure success on fresh episodes."
    )
    add_arguments(parser)
    perturb_option.add_argument(parser)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument(
        "--plot",
        type=Path,
        metavar="FILE",
        help="picture (.png, .pdf, .svg): success by condition, or against a --perturb",
    )
    args = parser.parse_args(arguments)
    try:
        settings = perturb_option.parse(args.perturb)
        if args.json is not None and args.json.is_dir():
            raise ValueError(f"--json must name a file, got the folder {args.json}")
        if args.plot is not None:
            _check_plot(args.plot, settings)
        choice = choose(args)
        results = [
            evaluate(
                args.env,
                choice.actor,
                episodes=args.episodes,
                seed=args.seed,
                num_envs=args.num_envs,
                **perturb_option.perturbed(choice.env_kwargs, setting),
            )
            for setting in settings
        ]
    except (CheckpointError, ValueError) as error:
        raise SystemExit(f"agents.evaluate: {error}") from error
    console = Console()
    _print(console, results, settings, args.env, choice.label)
    title = f"{args.env}, {choice.label}, {args.episodes} episodes"
    if args.plot is not None:
        _plot(args.plot, results, settings, title)
        console.print(f"written: {args.plot}")
    if args.json is not None:
        given = sys.argv[1:] if arguments is None else arguments
        content = {
            **_content(results, settings),
            "actor": choice.label,
            "env_kwargs": perturb_option.perturbed(
                choice.env_kwargs, settings[0] if len(settings) == 1 else {}
            ),
            "command": shlex.join(("python", "-m", "agents.evaluate", *given)),
            "version": tt_gym.__version__,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(content, indent=2, default=repr) + "\n")
        console.print(f"written: {args.json}")


def _check_plot(path: Path, settings: list[Setting]) -> None:
    """Before hours of evaluation, not after."""
    known = (".png", ".pdf", ".svg")
    if path.suffix not in known:
        raise ValueError(f"--plot must end in {', '.join(known)}, got {str(path)!r}")
    if len(settings) > 1:
        perturb_option.varied(settings)


def _print(
    console: Console,
    results: list[dict[str, Any]],
    settings: list[Setting],
    env_id: str,
    actor: str,
) -> None:
    """One result with all its numbers, or a row for each of several."""
    title = f"{env_id}, {results[0]['episodes']} episodes"
    if len(results) > 1:
        labels = map(perturb_option.label, settings)
        rows = dict(zip(labels, results, strict=True))
        console.print(results_table(rows, f"{title}, {actor}"))
        return
    label = f"{actor}, {perturb_option.label(settings[0])}" if settings[0] else actor
    console.print(results_table({label: results[0]}, title))
    if results[0]["conditions"]:
        console.print(conditions_table(results[0]))
    for key, value in results[0]["metrics"].items():
        console.print(f"{key:24} {value:.4f}")


def _plot(path: Path, results: list[dict[str, Any]], settings: list[Setting], title: str) -> None:
    if len(results) == 1:
        plot_conditions(results[0], path, title=title)
        return
    name = perturb_option.varied(settings)
    plot_curve(name, [setting[name] for setting in settings], results, path, title=title)


def _content(results: list[dict[str, Any]], settings: list[Setting]) -> dict[str, Any]:
    """For the file: a result as it is, or several under ``sweep`` with their perturbations."""
    if len(results) == 1:
        return results[0]
    common = {key: results[0][key] for key in ("env", "seed")}
    sweep = [
        {"perturbations": setting, **result}
        for setting, result in zip(settings, results, strict=True)
    ]
    return {**common, "sweep": sweep}


if __name__ == "__main__":
    main()
