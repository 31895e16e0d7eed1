"""The mean of the weights of several models, which came from one by distillation.

    python -m tt_gym.pretraining.average A/bfm.safetensors B/bfm.safetensors --shares 7 3 --out C

Distillations that go on from the same weights with other clips pull in different directions. Often
there is a model between their results that does most of what each of them does.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from tt_gym.bfm.maskedmimic import MaskedMimic
from tt_gym.bfm.pretrained_model import default_config, load_bfm, save_bfm
from tt_gym.checkpoint import CheckpointError, load_checkpoint
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.pretraining.weights import first_axes, knows_all_of


def average(
    models: Sequence[MaskedMimic], shares: Sequence[float], axes: int | None = None
) -> MaskedMimic:
    """A model of all token types that any of them knows, each from those that know it.

    Args:
        models: of the same sizes, apart from token types that some may not know.
        shares: positive, one per model; only their ratios count. The basis of the task token is
            that of the model with the largest.
        axes: of the task token, the first ones; None: as many as all have.

    Raises:
        ValueError: shares that are not positive or of another number, or more axes than that.
        CheckpointError: the models have other sizes.
    """
    if (
        len(shares) != len(models)
        or not models
        or not all(0.0 < share < math.inf for share in shares)
    ):
        raise ValueError(f"--shares needs {len(models)} positive numbers, got {list(shares)}")
    widest = max(models, key=lambda model: len(model.types))
    if not all(knows_all_of(widest, model) for model in models):
        raise CheckpointError("models of different sizes have no mean")
    most = min(model.token_axes for model in models)
    axes = most if axes is None else axes
    if not 1 <= axes <= most:
        raise ValueError(f"--axes must be from 1 to {most}, got {axes}")
    result = MaskedMimic(dataclasses.replace(widest.config, token_axes=axes))
    # principal axes have no mean: their order and signs are of each model
    largest = max(zip(shares, models, strict=True), key=lambda pair: pair[0])[1]
    mean = {"token_basis": largest.token_basis[:axes]}
    states = [model.state_dict() for model in models]
    for name, like in widest.state_dict().items():
        if name in mean:
            continue
        having = [
            (state[name], share)
            for state, share in zip(states, shares, strict=True)
            if name in state
        ]
        total = sum(share for _, share in having)
        mean[name] = (
            torch.stack([value * (share / total) for value, share in having]).sum(dim=0)
            if like.is_floating_point()
            else like
        )
    result.load_state_dict(mean)
    return result


def load(path: Path) -> MaskedMimic:
    """The model of a file that distillation wrote: the weights alone, or its checkpoint.

    Raises:
        CheckpointError: it is neither.
    """
    try:
        return load_bfm(path)
    except CheckpointError:
        model = MaskedMimic(default_config(DEEPMIMIC))
        saved = load_checkpoint(path, kind="distill")
        weights = saved.get("average", saved["model"])
        model.load_state_dict(first_axes(weights, model.token_axes))
        return model


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="model files or checkpoints")
    parser.add_argument("--shares", type=float, nargs="+", required=True)
    parser.add_argument("--axes", type=int, help="of the task token; as many as all have")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    try:
        mean = average([load(path) for path in options.models], options.shares, options.axes)
    except (CheckpointError, ValueError) as error:
        parser.error(str(error))
    save_bfm(mean, options.out)
    print(f"model: {options.out}")


if __name__ == "__main__":
    main()
