"""Train a task token with rl-zoo3 and Stable-Baselines3.

    python -m agents.train --algo ppo --env TTStrike-v0
    python -m agents.train --algo ppo --env TTDirection-v0 --bfm last.ckpt
    python -m agents.train --resume runs/ppo/TTStrike-v0_1

All options of ``python -m rl_zoo3.train`` are understood; hyper-parameters are those of
``zoo_configs``. A run that was killed continues exactly with ``--resume``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import gymnasium
import rl_zoo3.train

import tt_gym  # noqa: F401  registers the environments
import zoo_configs
from agents.actors import add_packages_argument, import_packages
from agents.algorithms import ALGOS, is_resumable
from agents.zoo import ARGUMENTS_FILE, RunOptions, SetupError, TaskTokenExperiments
from tt_gym.checkpoint import CheckpointError
from tt_gym.command_line import count, positive, quoted

CONFIG_FOLDER = Path(zoo_configs.__file__).parent
CONFIGURED = [name for name in ALGOS if (CONFIG_FOLDER / f"{name}.yml").exists()]
"""Algorithms with hyper-parameters of ours."""
CONF_FILE = ("-conf", "--conf")  # how rl-zoo3 takes others
DEFAULTS = (
    *("--log-folder", "runs"),
    *("--seed", "0"),
    *("--device", "cpu"),  # the networks are small and the environments give NumPy arrays
    *("--eval-freq", "-1"),
    *("--n-eval-envs", "32"),
    *("--eval-episodes", "64"),
    *("--verbose", "0"),
)


def train(arguments: list[str]) -> Path:
    """Run one training, or continue one, to its end.

    Args:
        arguments: command line as for :func:`main`.

    Returns:
        Folder of the run: ``token.safetensors``, ``checkpoint.safetensors``, TensorBoard events in
        ``tensorboard``, ``ENV.zip`` (the SB3 model), monitor files and configuration.

    Raises:
        SystemExit: options that are not understood, or a module that is not to be found.
        CheckpointError: the run to resume is none.
    """
    parser = _parser()
    # of the resumed command first: later options override earlier ones
    resume = parser.parse_known_args(arguments)[0].resume
    given = [*_arguments_of(resume), *arguments] if resume else list(arguments)
    own, others = parser.parse_known_args(given)
    if own.env is None:
        parser.error(f"--env is required; known: {', '.join(_known_ids())}")
    try:
        import_packages(own.gym_packages)
    except ValueError as error:
        raise SystemExit(f"agents.train: {error}") from error
    if own.env not in gymnasium.registry:
        parser.error(f"unknown --env {own.env!r}; known: {', '.join(_known_ids())}")
    if own.algo not in ALGOS:
        parser.error(f"unknown --algo {own.algo!r}; known: {', '.join(CONFIGURED)}")
    _check_combination(parser, own, others)
    options = RunOptions(
        arguments=tuple(_without_resume(given)),
        resume=own.resume,
        init=own.init,
        scale_noise=own.scale_noise,
        checkpoint_every=own.checkpoint_every,
        max_minutes=own.max_minutes,
        video_every=own.video_every,
    )
    named = ["--algo", own.algo, "--env", own.env, "--gym-packages", "tt_gym", *own.gym_packages]
    try:
        settings = [quoted(setting) for setting in own.env_kwargs]
    except ValueError as error:
        parser.error(str(error))
    if own.bfm is not None:
        settings.append(f"bfm:{own.bfm!r}")
    if settings:
        others += ["--env-kwargs", *settings]
    return _run_zoo([*_defaults(own.algo), *named, *others], options)


def _check_combination(
    parser: argparse.ArgumentParser, own: argparse.Namespace, others: list[str]
) -> None:
    """Exit with a message where options do not go together."""
    limited = {"--resume": own.resume, "--init": own.init, "--max-minutes": own.max_minutes}
    if not is_resumable(own.algo) and any(limited.values()):
        option = next(name for name, value in limited.items() if value)
        known = ", ".join(name for name in ALGOS if is_resumable(name))
        parser.error(f"{option} is for --algo {known}, not {own.algo}")
    if own.algo not in CONFIGURED and not any(item.startswith(CONF_FILE) for item in others):
        parser.error(
            f"--algo {own.algo} needs a --conf-file with its hyper-parameters; "
            f"there are some for {', '.join(CONFIGURED)}"
        )
    if own.scale_noise != RunOptions.scale_noise and own.init is None:
        parser.error("--scale-noise is for runs that begin with another's networks (--init)")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m agents.train",
        description="Train a task token; further options are those of rl_zoo3.train.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--algo", default="ppo")
    parser.add_argument("--env", help="registered id")
    add_packages_argument(parser)
    parser.add_argument("--bfm", metavar="FILE", help="frozen model (default: the shipped one)")
    parser.add_argument(
        "--env-kwargs", nargs="+", default=[], metavar="KEY:VALUE", help="of the environment"
    )
    parser.add_argument("--resume", type=Path, metavar="RUN_DIR", help="continue this run")
    parser.add_argument(
        "--init",
        type=Path,
        metavar="RUN_DIR",
        help="begin with the networks and the step count of this run, of another model perhaps",
    )
    parser.add_argument(
        "--scale-noise",
        type=positive,
        default=RunOptions.scale_noise,
        metavar="FACTOR",
        help="with --init: multiply that run's exploration noise (standard deviation) by this",
    )
    parser.add_argument(
        "--checkpoint-every", type=int, default=RunOptions.checkpoint_every, metavar="ROLLOUTS"
    )
    parser.add_argument("--max-minutes", type=float, help="stop after this training time in all")
    parser.add_argument(
        "--video-every", type=count, metavar="STEPS", help="steps between videos in TensorBoard"
    )
    return parser


def _arguments_of(run_dir: Path) -> list[str]:
    path = run_dir / ARGUMENTS_FILE
    if not path.is_file():
        raise CheckpointError(f"{run_dir}: is not a run of agents.train (no {ARGUMENTS_FILE})")
    return json.loads(path.read_text())


def _without_resume(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for item in arguments:
        if not skip and item != "--resume" and not item.startswith("--resume="):
            kept.append(item)
        skip = item == "--resume"
    return kept


def _defaults(algo: str) -> list[str]:
    """Options that the command line may override."""
    config = CONFIG_FOLDER / f"{algo}.yml"
    return [*(["--conf-file", str(config)] if config.exists() else []), *DEFAULTS]


def _run_zoo(arguments: list[str], options: RunOptions) -> Path:
    """rl-zoo3's own ``main`` with our experiment manager; it reads ``sys.argv``."""
    managers: list[TaskTokenExperiments] = []

    def build(*args: Any, **kwargs: Any) -> TaskTokenExperiments:
        managers.append(TaskTokenExperiments(*args, options=options, **kwargs))
        return managers[-1]

    zoo: Any = rl_zoo3.train
    saved = sys.argv, zoo.ExperimentManager
    sys.argv, zoo.ExperimentManager = ["agents.train", *arguments], build
    try:
        zoo.train()
    finally:
        sys.argv, zoo.ExperimentManager = saved
    return managers[-1].run_dir


def _known_ids() -> list[str]:
    return [name for name in gymnasium.registry if name.startswith("TT")]


def main() -> None:
    """Command line."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        _parser().print_help()
        print()
        rl_zoo3.train.train()
    try:
        run_dir = train(sys.argv[1:])
    except (CheckpointError, SetupError) as error:
        raise SystemExit(f"agents.train: {error}") from error
    if not (run_dir / ARGUMENTS_FILE).exists():  # a search trains, but it is no run
        return
    print(f"curves: tensorboard --logdir {run_dir}")
    token = run_dir / "token.safetensors"
    if token.exists():
        print(f"token: {token}")


if __name__ == "__main__":
    main()
