"""Who acts in an evaluation or a video: a token, a whole policy, or nobody."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
from pathlib import Path
from typing import Any, Protocol

import gymnasium
import numpy as np
from rl_zoo3.utils import StoreDict
from stable_baselines3.common.base_class import BaseAlgorithm

import tt_gym  # noqa: F401  registers the environments
from agents.algorithms import ALGOS, is_recurrent
from agents.policies import ThroughBFMPolicy
from agents.resume import TOKEN_FILE
from tt_gym.bfm.joint_control import PREFIX
from tt_gym.bfm.pretrained_model import load_bfm
from tt_gym.bfm.prompts import Text, Together
from tt_gym.bfm.targets import TARGETS
from tt_gym.checkpoint import CheckpointError
from tt_gym.command_line import natural, quoted
from tt_gym.tokens import TokenEncoder, load_token, shipped_tokens


class Actor(Protocol):
    """Anything that chooses actions."""

    def act(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        """Actions (N, A) within +-1 for a batch of observations."""
        ...


class PolicyActor:
    """Deterministic actions of a Stable-Baselines3 model."""

    def __init__(self, model: BaseAlgorithm) -> None:
        self.model = model

    def act(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        """See :class:`Actor`."""
        return self.model.predict(observations, deterministic=True)[0]


@dataclasses.dataclass(frozen=True)
class Choice:
    """An actor and the environment it needs.

    Attributes:
        actor: None where the frozen model acts on its prompt alone.
        env_kwargs: for ``gymnasium.make_vec``.
        label: for people.
    """

    actor: Actor | None
    env_kwargs: dict[str, Any]
    label: str


class Settings(StoreDict):
    """rl-zoo3's ``KEY:VALUE``, where plain words need no quotes."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        """See :class:`argparse.Action`."""
        try:
            super().__call__(parser, namespace, [quoted(text) for text in values], option_string)
        except (ValueError, NameError, SyntaxError, TypeError) as error:
            parser.error(f"--env-kwargs {' '.join(values)}: {error}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options that say who acts and where, for :func:`choose`."""
    parser.add_argument("--env", required=True, help="registered id")
    parser.add_argument(
        "--token", help="name of a shipped token, a file, or none (default: the shipped one)"
    )
    parser.add_argument("--control", choices=("token", "joint", "prompt"))
    parser.add_argument("--prompt", help="hand-written prompt to show to the frozen model")
    parser.add_argument(
        "--text", metavar="WORDS", help="tell the frozen model what to do, beside token and prompt"
    )
    parser.add_argument("--bfm", help="file of the frozen model (default: the shipped one)")
    parser.add_argument(
        "--policy", type=Path, metavar="RUN_DIR", help="run of agents.train whose whole policy acts"
    )
    parser.add_argument(
        "--termination",
        action="store_true",
        help="falls, illegal hits and landings end episodes, as in training",
    )
    parser.add_argument("--env-kwargs", nargs="+", action=Settings, metavar="KEY:VALUE")
    add_packages_argument(parser)
    parser.add_argument("--seed", type=natural, default=0)


def add_packages_argument(parser: argparse.ArgumentParser) -> None:
    """The option whose value :func:`import_packages` takes."""
    parser.add_argument(
        "--gym-packages",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="modules to import first, which register ids",
    )


def choose(args: argparse.Namespace) -> Choice:
    """The actor and environment that the options of :func:`add_arguments` describe.

    Raises:
        ValueError: unknown module, environment or token, an environment without a task, or options
            that contradict each other.
        CheckpointError: a file that cannot be used.
    """
    import_packages(args.gym_packages)
    choice = _without_words(args)
    if args.text is None:
        return choice
    try:
        words = Text(args.text)
    except ImportError as error:
        raise ValueError(f"--text {error}") from error
    shown = choice.env_kwargs.get("prompt")
    prompt = words if shown is None else Together((shown, words))
    kwargs = {**choice.env_kwargs, "prompt": prompt}
    return dataclasses.replace(
        choice, env_kwargs=kwargs, label=f"{choice.label}, told {args.text!r}"
    )


def _without_words(args: argparse.Namespace) -> Choice:
    task, own = _task_of(args.env), dict(args.env_kwargs or {})
    if args.prompt is not None:
        own.setdefault("prompt", args.prompt)
    # single --env-kwargs win over every other option
    own = {"bfm": args.bfm, "early_termination": args.termination, **own}
    control, bfm = own.pop("control", args.control), own["bfm"]
    if args.token not in (None, "none") and (args.policy or control in ("joint", "prompt")):
        raise ValueError("--token goes with neither --policy nor --control joint or prompt")
    if args.policy is not None:
        actor, label = load_policy(args.policy, args.env), f"policy {args.policy.resolve().name}"
        token = args.policy / TOKEN_FILE
        trained = _trained_with(load_token(token, bfm=bfm), own) if token.is_file() else {}
        kwargs = {**trained, **own}
        control = control or _control_of(actor, bfm=bfm, prompt=kwargs.get("prompt"))
        return Choice(actor, {"control": control, **_given(kwargs)}, label)
    if control == "joint":
        raise ValueError(
            "--control joint needs --policy RUN_DIR: a token says nothing about joints"
        )
    if args.token == "none" or control == "prompt":
        label = f"no token, prompt {own.get('prompt')}"
        return Choice(None, {"control": "prompt", **_given(own)}, label)
    if args.token is None and task not in shipped_tokens():
        raise ValueError(
            f"no token is shipped for {args.env}: give --token FILE, --policy RUN_DIR, or "
            "--token none with a --prompt"
        )
    name = args.token or task
    encoder = load_token(name, bfm=bfm)
    assert encoder.metadata is not None
    if encoder.metadata.env_id != args.env:
        raise ValueError(f"token {name} was trained for {encoder.metadata.env_id}, not {args.env}")
    kwargs = {"control": "token", **_trained_with(encoder, own), **own}
    # a file in a run folder is known by that folder
    label = Path(name).resolve().parent.name if Path(name).name == TOKEN_FILE else Path(name).name
    return Choice(encoder, _given(kwargs), f"token {label}")


def _trained_with(encoder: TokenEncoder, own: dict[str, Any]) -> dict[str, Any]:
    """What a token was trained with; its goals only unless a preset asks for others."""
    metadata = encoder.metadata
    assert metadata is not None
    parameters = {} if "preset" in own else metadata.parameters
    return {**parameters, "prompt": metadata.prompt, "start": metadata.start}


def _control_of(actor: PolicyActor, *, bfm: str | None, prompt: str | None) -> str:
    """The control that a policy was most likely trained for; one that holds the model is sure."""
    policy = actor.model.policy
    if not isinstance(policy, ThroughBFMPolicy):
        return "token"
    policy.check_model(load_bfm(bfm))
    assert isinstance(policy.observation_space, gymnasium.spaces.Dict)
    trained_with = PREFIX + TARGETS in policy.observation_space.spaces
    if trained_with != (prompt is not None):
        raise ValueError(
            f"--prompt must be that of the training, which had {'one' if trained_with else 'none'},"
            f" got {prompt}"
        )
    return "joint"


def import_packages(modules: list[str]) -> None:
    """Import modules that register ids.

    Raises:
        ValueError: one is not to be found.
    """
    for module in modules:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            raise ValueError(
                f"--gym-packages {module}: {error}; it must be installed or lie in the folder "
                "where the command is run"
            ) from error


def _task_of(env_id: str) -> str:
    if env_id not in gymnasium.registry:
        known = ", ".join(name for name in gymnasium.registry if name.startswith("TT"))
        raise ValueError(f"unknown --env {env_id!r}; known: {known}")
    registered = gymnasium.spec(env_id).kwargs
    if "task" not in registered:
        raise ValueError(
            f"--env {env_id} is registered without a task: register it with "
            'kwargs={"task": NAME}, as docs/new_task.md shows'
        )
    return registered["task"]


def _given(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if value is not None}


def load_policy(run_dir: Path, env_id: str) -> PolicyActor:
    """Whole SB3 model of a run. The zip holds pickles: load runs of people you trust.

    Raises:
        CheckpointError: no finished run of a known algorithm, or its policy has a memory.
    """
    path = run_dir / f"{env_id}.zip"
    if not path.is_file():
        raise CheckpointError(f"{path}: no such model; --policy takes the folder of a finished run")
    algorithm = run_dir.resolve().parent.name
    if algorithm not in ALGOS:
        raise CheckpointError(f"{run_dir}: must lie in a folder named after its algorithm")
    model = ALGOS[algorithm].load(path, device="cpu")
    if is_recurrent(model):
        raise CheckpointError(
            f"{path}: a policy with a memory of past steps cannot act here; "
            "use it with sb3_contrib.RecurrentPPO.load"
        )
    return PolicyActor(model)
