"""A trained token beside prompts it was not trained with: how much of each is left?

    python docs/examples/prompts_beside_tokens.py --episodes 200 --output beside.mp4

The token `strike_alone` was trained without any prompt. Here it meets a heading and speed towards
the box, words, and a plan: approach facing the box, then a kick in words within striking distance.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import tt_gym
from agents.enjoy import film, video_file
from agents.statistics import wilson_interval
from tt_gym.bfm.prompts import Prompt, Rule, Schedule, Text, near_object
from tt_gym.command_line import count

ENV_ID = "TTStrike-v0"
VIDEO_ENVS = 4


def prompts(distance: float) -> dict[str, Prompt | str | None]:
    """What is shown beside the token, by a name for people."""
    kick = Schedule(
        {"approach": "heading_speed", "kick": Text("a person kicks")},
        [Rule("approach", "kick", near_object(distance))],
    )
    return {
        "nothing": None,
        "heading and speed": "heading_speed",
        '"a person walks fast"': Text("a person walks fast"),
        '"a person jogs"': Text("a person jogs"),
        "heading, then a kick in words": kick,
    }


def play(
    prompt: Prompt | str | None, *, control: str, episodes: int, steps: int, seed: int
) -> tuple[float, float, float]:
    """One episode in every environment.

    Returns:
        Share of boxes that are down in the end; share of episodes without a fall before the box is
        touched or the end; mean root speed over the first three seconds, m/s.
    """
    settings: dict[str, Any] = {"early_termination": False, "max_episode_steps": steps}
    env: Any = gymnasium.make_vec(
        ENV_ID, num_envs=episodes, prompt=prompt, control=control, **settings
    )
    token = tt_gym.tokens.load("strike_alone")
    observations, _ = env.reset(seed=seed)
    idle = np.zeros(env.action_space.shape, dtype=np.float32)
    start = env.unwrapped.simulator.state.object_pos[:, 0]
    untouched, fell = np.ones(episodes, dtype=bool), np.zeros(episodes, dtype=bool)
    speeds: list[float] = []
    for step in range(steps):
        actions = idle if control == "prompt" else token.act(observations)
        observations, _, _, _, info = env.step(actions)
        told = info.get("final_info", info)
        state = env.unwrapped.simulator.state
        if step < steps - 1:
            untouched &= ((state.object_pos[:, 0] - start).norm(dim=-1) < 0.02).numpy()
            fell |= untouched & info["fallen"]
        if step < 90:
            speeds.append(float(state.vel[:, 0, :2].norm(dim=-1).mean()))
    env.close()
    return float(np.mean(told["is_success"])), 1.0 - float(fell.mean()), statistics.mean(speeds)


def main(arguments: list[str] | None = None) -> dict[str, tuple[float, float]]:
    """Command line; share of boxes toppled with and without the token, by what was shown."""
    parser = argparse.ArgumentParser(description="A token beside prompts.")
    parser.add_argument("--distance", type=float, default=1.0, help="of the kick, m")
    parser.add_argument("--episodes", type=count, default=200)
    parser.add_argument("--max-episode-steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=video_file, default=Path("beside.mp4"))
    args = parser.parse_args(arguments)
    settings = {"episodes": args.episodes, "steps": args.max_episode_steps, "seed": args.seed}
    print(
        "| shown | token: toppled | 95 % | no fall before | m/s "
        "| no token: toppled | no fall before | m/s |\n|---|---|---|---|---|---|---|---|"
    )
    toppled = {}
    for name, prompt in prompts(args.distance).items():
        with_token = play(prompt, control="token", **settings)
        alone = play(prompt, control="prompt", **settings)
        toppled[name] = with_token[0], alone[0]
        low, high = wilson_interval(round(with_token[0] * args.episodes), args.episodes)
        print(
            f"| {name} | {with_token[0]:.1%} | {low:.1%} - {high:.1%} | {with_token[1]:.1%} "
            f"| {with_token[2]:.2f} | {alone[0]:.1%} | {alone[1]:.1%} | {alone[2]:.2f} |",
            flush=True,
        )
    path = film(
        ENV_ID,
        tt_gym.tokens.load("strike_alone"),
        args.output,
        seed=args.seed,
        num_envs=min(args.episodes, VIDEO_ENVS),
        prompt=prompts(args.distance)["heading, then a kick in words"],
        max_episode_steps=args.max_episode_steps,
        early_termination=False,
    )
    print(f"written: {path}")
    return toppled


if __name__ == "__main__":
    main()
