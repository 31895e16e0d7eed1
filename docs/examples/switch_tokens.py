"""Two tokens switched at run time: Direction's walks up to the box, Strike's knocks it over.

    python docs/examples/switch_tokens.py --episodes 200 --output switch.mp4

Both steer the same frozen model, so one may follow the other at any step. Direction's was trained
beside the ``heading_speed`` prompt, so that is shown as long as it acts.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

import tt_gym
from agents.enjoy import film, video_file
from agents.evaluate import evaluate
from tt_gym.bfm.prompts import Rule, Schedule, near_object
from tt_gym.command_line import count

ENV_ID = "TTStrike-v0"
MAX_VIDEO_ENVS = 4


@dataclasses.dataclass(frozen=True)
class Switch:
    """Acts with ``walk`` far from the box and with ``strike`` near it.

    Attributes:
        walk: token of Direction.
        strike: token of Strike.
        distance: between root and box at which to switch, m.
        speed: asked of ``walk``, m/s.
    """

    walk: Any
    strike: Any
    distance: float
    speed: float

    def act(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        """Actions (N, E) for observations of Strike."""
        # the task observation of Strike begins with the box in the heading frame, m
        box = observations["task"][:, :2]
        distance = np.linalg.norm(box, axis=1, keepdims=True)
        direction = box / np.maximum(distance, 1e-6)
        asked = np.concatenate((direction, np.full_like(distance, self.speed)), axis=1)
        walking = self.walk({"state": observations["state"], "task": asked})
        return np.where(distance > self.distance, walking, self.strike(observations))


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Command line; share of boxes that are down at the end, by who acted."""
    parser = argparse.ArgumentParser(description="Two tokens switched at run time.")
    parser.add_argument("--distance", type=float, default=1.5, help="m")
    parser.add_argument("--speed", type=float, default=1.2, help="of the walk, m/s")
    parser.add_argument("--episodes", type=count, default=200)
    parser.add_argument("--max-episode-steps", type=int, default=300)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=video_file, default=Path("switch.mp4"))
    args = parser.parse_args(arguments)
    walk, strike = tt_gym.tokens.load("direction"), tt_gym.tokens.load("strike")
    settings: dict[str, Any] = {
        "early_termination": False,
        "max_episode_steps": args.max_episode_steps,
    }
    switch = Switch(walk, strike, args.distance, args.speed)
    plan = Schedule(
        {"walk": "heading_speed", "strike": strike.metadata.prompt},
        [Rule("walk", "strike", near_object(args.distance))],
    )
    actors = {
        "switched": (switch, plan),
        "Direction's alone": (Switch(walk, strike, 0.0, args.speed), "heading_speed"),
        "Strike's alone": (strike, strike.metadata.prompt),
    }
    toppled = {}
    for label, (actor, prompt) in actors.items():
        result = evaluate(
            ENV_ID,
            actor,
            episodes=args.episodes,
            num_envs=args.num_envs,
            seed=args.seed,
            prompt=prompt,
            **settings,
        )
        low, high = (100 * bound for bound in result["episode_ci95"])
        toppled[label] = result["episode_success_rate"]
        print(f"{label:18} boxes toppled {100 * toppled[label]:5.1f} % ({low:.1f} - {high:.1f})")
    num_envs = min(args.episodes, MAX_VIDEO_ENVS)
    settings |= {"seed": args.seed, "num_envs": num_envs, "prompt": plan}
    path = film(ENV_ID, switch, args.output, **settings)
    print(f"written: {path}")
    return toppled


if __name__ == "__main__":
    main()
