"""Measure all shipped tokens and write the table of results.

python -m agents.results --episodes 1000 --seed 0 --json results.json --write README.md
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import tt_gym
from agents.actors import Choice, add_arguments, choose
from agents.evaluate import evaluate
from tt_gym.checkpoint import CheckpointError
from tt_gym.command_line import natural
from tt_gym.documents import write_table
from tt_gym.names import unknown
from tt_gym.tokens import SHIPPED_FOLDER, TokenMetadata, load, save_token, shipped_tokens

TABLE = "results"
"""Name of the marker lines around the table, see :mod:`tt_gym.documents`."""
PAPER = {
    "direction": 0.993,
    "long_jump": 0.998,
    "reach": 0.949,
    "steering": 0.887,
    "strike": 0.766,
}
"""Success rates of the paper by task."""


@dataclasses.dataclass(frozen=True)
class Measured:
    """What a token does.

    Attributes:
        token: name of a shipped token.
        metadata: of the token.
        paper: rule of the paper's evaluation, nothing ends an episode early: what
            :func:`agents.evaluate.evaluate` returns.
        training: the same with the terminations of training.
        without: the same as ``paper`` without the token, on the prompt alone if it has one.
    """

    token: str
    metadata: TokenMetadata
    paper: dict[str, Any]
    training: dict[str, Any]
    without: dict[str, Any]


def measure(token: str, *, episodes: int, seed: int, num_envs: int = 64) -> Measured:
    """Evaluate one shipped token, also with terminations, and the model without it.

    As ``agents.evaluate`` does, on the same goals each time.

    Raises:
        ValueError: unknown token, or ``episodes`` < 1.
        CheckpointError: it is not for the shipped model.
    """
    metadata = load(token).metadata
    parser = argparse.ArgumentParser()
    add_arguments(parser)

    def choice(*options: str) -> Choice:
        return choose(parser.parse_args(["--env", metadata.env_id, "--token", token, *options]))

    def result(choice: Choice) -> dict[str, Any]:
        return evaluate(
            metadata.env_id,
            choice.actor,
            episodes=episodes,
            seed=seed,
            num_envs=num_envs,
            **choice.env_kwargs,
        )

    with_token = choice()
    bare = {**with_token.env_kwargs, "control": "prompt"}
    found = {}
    for name, way in (
        ("paper", with_token),
        ("training", choice("--termination")),
        ("without", Choice(None, bare, "no token")),
    ):
        found[name] = result(way)
        # minutes each: somebody may be waiting
        print(f"{token}, {name}: {_percent(found[name]['success_rate'])}", flush=True)
    return Measured(token, metadata, **found)


def markdown(rows: list[Measured]) -> str:
    """A Markdown table, one row per token."""
    lines = [
        "| token | starts | success | 95 % interval | goals | without token | with termination "
        "| paper | steps | training |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = (100 * bound for bound in row.paper["ci95"])
        cells = (
            row.token,
            row.metadata.start or "-",
            _percent(row.paper["success_rate"]),
            f"{low:.1f} - {high:.1f}",
            f"{row.paper['n']:,}",
            _percent(row.without["success_rate"]),
            _percent(row.training["success_rate"]),
            _percent(PAPER.get(row.metadata.task)),
            f"{row.metadata.steps / 1e6:.1f} M",
            f"{row.metadata.wall_clock_s / 60:.0f} min",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def record(row: Measured, folder: Path = SHIPPED_FOLDER) -> None:
    """Write the success rate into the metadata of the token's file in ``folder``."""
    path = folder / f"{row.token}.safetensors"
    token = load(path)
    measured = dataclasses.replace(token.metadata, success_rate=row.paper["success_rate"])
    save_token(path, token.encoder, measured)


def _percent(rate: float | None) -> str:
    return "-" if rate is None else f"{100 * rate:.1f} %"


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m agents.results", description="Measure shipped tokens, print their table."
    )
    known = shipped_tokens()
    parser.add_argument("--tokens", nargs="+", default=known, metavar="NAME", help=", ".join(known))
    parser.add_argument("--episodes", type=int, default=1000)
    parser.add_argument("--seed", type=natural, default=0)
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    parser.add_argument(
        "--write", type=Path, metavar="FILE.md", help=f"put the table between its {TABLE} markers"
    )
    parser.add_argument(
        "--record", action="store_true", help="write each success rate into its token's file too"
    )
    args = parser.parse_args(arguments)
    try:
        _check(args)
        rows = [
            measure(token, episodes=args.episodes, seed=args.seed, num_envs=args.num_envs)
            for token in args.tokens
        ]
    except (CheckpointError, OSError, ValueError) as error:
        raise SystemExit(f"agents.results: {error}") from error
    table = markdown(rows)
    print(table)
    if args.record:
        for row in rows:
            record(row)
    if args.json is not None:
        given = sys.argv[1:] if arguments is None else arguments
        content = {
            "tokens": [dataclasses.asdict(row) for row in rows],
            "paper": PAPER,
            "command": shlex.join(("python", "-m", "agents.results", *given)),
            "version": tt_gym.__version__,
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(content, indent=2) + "\n")
        print(f"written: {args.json}")
    if args.write is not None:
        write_table(args.write, TABLE, table)
        print(f"written: {args.write}")


def _check(args: argparse.Namespace) -> None:
    """Before hours of evaluation, not after."""
    for token in args.tokens:
        if token not in shipped_tokens():
            raise ValueError(unknown("token", token, shipped_tokens()))
    if args.write is not None:
        write_table(args.write, TABLE, None)


if __name__ == "__main__":
    main()
