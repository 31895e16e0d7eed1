"""The whole product in some minutes: train a token, compare it, watch the shipped ones.

python -m agents.demo
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import gymnasium
from rich.console import Console

import tt_gym  # noqa: F401  registers the environments
from agents.actors import load_policy
from agents.charts import results_table
from agents.enjoy import contact_sheet, film
from agents.evaluate import evaluate
from agents.resume import TOKEN_FILE
from agents.train import CONFIG_FOLDER, train
from tt_gym.checkpoint import CheckpointError
from tt_gym.command_line import natural, positive
from tt_gym.tokens import TokenEncoder, load_token, shipped_tokens

TRAINED_ENV = "TTStrike-v0"
SHIPPED_ENVS = ("TTStrike-v0", "TTDirection-v0", "TTLongJump-v0")

_STEPS_PER_S = 4000  # of one trainer on two cores, for the minutes that are given


@dataclasses.dataclass
class Demo:
    """What to run and where the results go.

    Attributes:
        output: folder.
        minutes: training time of the token.
        episodes: of each evaluation.
        seed: of training and evaluation.
        quick: only show that everything runs.
        bfm: file of the frozen model, None for the shipped one.
    """

    output: Path
    minutes: float
    episodes: int
    seed: int
    quick: bool
    bfm: str | None
    console: Console = dataclasses.field(default_factory=Console)
    files: dict[str, Path] = dataclasses.field(default_factory=dict)

    @property
    def env_kwargs(self) -> dict[str, Any]:
        """Settings of every environment of the demo."""
        return {} if self.bfm is None else {"bfm": self.bfm}

    def train_token(self) -> Path:
        """Folder of the run."""
        self.console.rule(f"1. A token for {TRAINED_ENV}, from scratch: {self.minutes:g} minutes")
        # the learning rate falls to nothing over what two cores do in that time
        steps = [] if self.quick else ["-n", str(round(60.0 * self.minutes * _STEPS_PER_S))]
        return self._train("token", ["--max-minutes", str(self.minutes), *steps])

    def train_plain(self, steps: int) -> Path:
        """The same learner without the frozen model, for as many steps."""
        self.console.rule(f"2. Plain PPO on joint targets: {steps:,} steps as well")
        return self._train("plain PPO", ["-n", str(steps)], control="joint")

    def _train(self, name: str, options: list[str], **env_kwargs: Any) -> Path:
        settings = {**self.env_kwargs, **env_kwargs}
        if settings:
            pairs = [f"{key}:{value!r}" for key, value in settings.items()]
            options = [*options, "--env-kwargs", *pairs]
        if self.quick:
            options = [*options, "-params", "n_envs:16", "batch_size:256", "n_timesteps:2048"]
        options = ["--log-folder", str(self.output), "--seed", str(self.seed), *options]
        settings_file = CONFIG_FOLDER / "ppo_without_prompt.yml"  # the token does all of the work
        common = ["--algo", "ppo", "--env", TRAINED_ENV, "--conf-file", str(settings_file)]
        run_dir = train([*common, *options])
        self.files[f"curves and checkpoints of {name}"] = run_dir
        return run_dir

    def compare(self, token: Path, plain: Path) -> dict[str, Any]:
        """All contenders on the same episodes."""
        self.console.rule("3. Comparison")
        encoder = load_token(token, bfm=self.bfm)
        contenders: dict[str, tuple[Any, dict[str, Any]]] = {
            "frozen model, no token": (None, {"control": "prompt"}),
            "heading and speed prompt": (None, {"control": "prompt", "prompt": "heading_speed"}),
            "plain PPO": (load_policy(plain, TRAINED_ENV), {"control": "joint"}),
            "the fresh token": (encoder, trained_with(encoder)),
        }
        results = {
            label: self._evaluate(TRAINED_ENV, actor, **settings)
            for label, (actor, settings) in contenders.items()
        }
        self.console.print(results_table(results, f"{TRAINED_ENV}, {self.episodes} episodes"))
        self._film("fresh_token", TRAINED_ENV, encoder, **trained_with(encoder))
        return results

    def show_shipped(self) -> dict[str, Any]:
        """Evaluation, video and pictures of the tokens that come with the package."""
        self.console.rule("4. The shipped tokens")
        results: dict[str, Any] = {}
        for env_id in SHIPPED_ENVS:
            name = gymnasium.spec(env_id).kwargs["task"]
            if name not in shipped_tokens():
                self.console.print(f"{env_id}: no token is shipped yet, skipped")
                continue
            try:
                encoder = load_token(name, bfm=self.bfm)
            except CheckpointError as error:  # a model of the user's own
                self.console.print(f"{env_id}: skipped, {error}")
                continue
            results[env_id] = self._evaluate(env_id, encoder, **trained_with(encoder))
            self._film(f"shipped_{name}", env_id, encoder, **trained_with(encoder))
        if results:
            self.console.print(results_table(results, f"shipped tokens, {self.episodes} episodes"))
        return results

    def _evaluate(self, env_id: str, actor: Any, **settings: Any) -> dict[str, Any]:
        settings = {**self.env_kwargs, "early_termination": False, **settings}
        episodes = self.episodes
        return evaluate(
            env_id, actor, episodes=episodes, num_envs=episodes, seed=self.seed + 1, **settings
        )

    def _film(self, name: str, env_id: str, actor: Any, **settings: Any) -> None:
        settings = {**self.env_kwargs, "early_termination": False, **settings}
        if self.quick:
            settings["max_episode_steps"] = 20
        path = film(env_id, actor, self.output / f"{name}.mp4", seed=self.seed + 3, **settings)
        self.files[f"video of {name}"] = path
        if path.suffix == ".mp4":
            self.files[f"picture of {name}"] = contact_sheet(path, path.with_suffix(".png"))

    def run(self) -> None:
        """Everything in order; ends with the paths of what was written."""
        token = self.train_token() / TOKEN_FILE
        metadata = load_token(token, bfm=self.bfm).metadata
        assert metadata is not None
        plain = self.train_plain(metadata.steps)
        numbers = {
            "steps": metadata.steps,
            "training_s": metadata.wall_clock_s,
            "comparison": self.compare(token, plain),
            "shipped": self.show_shipped(),
        }
        self.files["numbers"] = self.output / "demo.json"
        self.files["numbers"].write_text(json.dumps(numbers, indent=2) + "\n")
        self.console.rule("Written")
        for what, path in self.files.items():
            self.console.print(f"{what}: {path}", soft_wrap=True)
        self.console.print(f"curves: tensorboard --logdir {self.output}", soft_wrap=True)


def trained_with(encoder: TokenEncoder) -> dict[str, Any]:
    """Prompt and starts that a token was trained with, as an environment's keywords."""
    metadata = encoder.metadata
    return {} if metadata is None else {"prompt": metadata.prompt, "start": metadata.start}


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m agents.demo", description=__doc__)
    parser.add_argument("--minutes", type=positive, default=6.0, help="training time of the token")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"))
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--bfm", help="file of the frozen model (default: the shipped one)")
    parser.add_argument("--quick", action="store_true", help="a few thousand steps, short videos")
    args = parser.parse_args(arguments)
    demo = Demo(
        output=args.output,
        minutes=args.minutes,
        episodes=8 if args.quick else 100,
        seed=args.seed,
        quick=args.quick,
        bfm=args.bfm,
    )
    demo.run()


if __name__ == "__main__":
    main()
