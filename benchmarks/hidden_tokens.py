"""What leaving hidden tokens out is worth in a MaskedMimic of the published v1 size.

    python benchmarks/hidden_tokens.py --json hidden_tokens.json

Time of one forward pass on one thread, random weights. All variants give the same latent. Blocks of
the contenders alternate and ratios are medians over the rounds:

* ``whole``: all 31 tokens through every encoder and every layer, hidden ones masked, as the
  original does;
* ``prompts hidden``: what :class:`~tt_gym.bfm.maskedmimic.MaskedMimic` computes in the
  environments, where state, 15 tokens of history, terrain and task token are shown;
* ``all hidden``: state and task token alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from figures import write
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

import agents  # noqa: F401  before torch: it makes OpenMP threads wait passively
from tt_gym.bfm.checkpoints import HISTORY, OBJECT, TERRAIN
from tt_gym.bfm.maskedmimic import STATE, MaskedMimic, MaskedMimicConfig, TokenType, frozen
from tt_gym.bfm.targets import TARGETS, TEXT

V1 = MaskedMimicConfig(
    token_types=(
        TokenType(STATE, 358),
        TokenType(HISTORY, 217, count=15),
        TokenType(TARGETS, 184, count=11),
        TokenType(TEXT, 512),
        TokenType(OBJECT, 37),
        TokenType(TERRAIN, 256),
    ),
    action_size=69,
    token_width=512,
    encoder_widths=(256, 256),
    layers=4,
    heads=4,
    feedforward=1024,
    head_widths=(256, 128),
    decoder_widths=(1024, 1024, 1024),
)
"""Sizes of the published v1 model, as far as the latent depends on them."""
SHOWN = {"prompts hidden": (HISTORY, TERRAIN), "all hidden": ()}
"""By variant: token types that are shown beside state and task token."""

Goals = dict[str, tuple[Tensor, Tensor]]


def goals(model: MaskedMimic, batch: int, shown: tuple[str, ...]) -> Goals:
    """Random values of all token types but the state, and which of them are shown."""
    generator = torch.Generator().manual_seed(0)
    return {
        item.name: (
            torch.randn(batch, item.count, item.width, generator=generator),
            torch.full((batch, item.count), item.name in shown),
        )
        for item in model.config.token_types[1:]
    }


def whole_latent(model: MaskedMimic, state: Tensor, given: Goals, token: Tensor) -> Tensor:
    """The latent, (N, latent), from all rows of all tokens."""
    rows = [model.encoders[STATE](state).unsqueeze(1), token.unsqueeze(1)]
    hidden = [torch.zeros(len(state), 2, dtype=torch.bool)]
    for name, (values, visible) in given.items():
        rows.append(model.encoders[name](model.normalize(name, values)))
        hidden.append(~visible)
    padding = torch.cat(hidden, dim=1)
    encoded: Tensor = model.transformer(torch.cat(rows, dim=1), src_key_padding_mask=padding)
    return model.mu(encoded[:, 0])


@torch.no_grad()
def measure(*, batch: int, rounds: int, calls: int) -> dict[str, float]:
    """Seconds per call of both ways of every variant, medians over the rounds."""
    torch.manual_seed(0)
    model = frozen(MaskedMimic(V1))
    state, token = torch.randn(batch, 358), torch.randn(batch, V1.token_width)
    contenders = {}
    for variant, shown in SHOWN.items():
        given = goals(model, batch, shown)
        fewer = {name: given[name] for name in shown}
        contenders[variant] = lambda fewer=fewer: model.latent(state, fewer, token)
        contenders[f"whole, {variant}"] = lambda given=given: whole_latent(
            model, state, given, token
        )
        difference = contenders[variant]() - contenders[f"whole, {variant}"]()
        assert difference.abs().max() < 1e-5, "the ways must agree"
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, call in contenders.items():
            begin = time.perf_counter()
            for _ in range(calls):
                call()
            seconds[name].append((time.perf_counter() - begin) / calls)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here too")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=5, help="per round")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seconds = measure(batch=args.batch, rounds=args.rounds, calls=args.calls)
    table = Table(title=f"batch {args.batch}, one thread", box=box.SIMPLE, pad_edge=False)
    for column in ("shown", "whole, ms", "hidden left out, ms", "ratio"):
        table.add_column(column, justify="left" if column == "shown" else "right")
    ratios = {}
    for variant in SHOWN:
        slow, fast = seconds[f"whole, {variant}"], seconds[variant]
        ratios[variant] = slow / fast
        table.add_row(variant, f"{1e3 * slow:.1f}", f"{1e3 * fast:.1f}", f"{slow / fast:.1f}")
    Console().print(table)
    if args.json is not None:
        figures = {
            "ms": {name: 1e3 * value for name, value in seconds.items()},
            "whole_over_prompts_hidden": ratios["prompts hidden"],
            "whole_over_all_hidden": ratios["all hidden"],
            "batch": args.batch,
        }
        write(args.json, figures)


if __name__ == "__main__":
    main()
