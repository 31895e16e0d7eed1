"""Weights of models that differ in what they know, for means and for training on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from torch import Tensor

from tt_gym.bfm.maskedmimic import MaskedMimic
from tt_gym.checkpoint import CheckpointError


def knows_all_of(model: MaskedMimic, source: MaskedMimic) -> bool:
    """Whether ``source`` lacks at most token types of ``model``; axes of tokens may differ."""
    types = [item for item in model.config.token_types if item.name in source.types]
    axes = source.config.token_axes
    shared = dataclasses.replace(model.config, token_types=tuple(types), token_axes=axes)
    return shared == source.config


def first_axes(weights: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The same weights with at most ``count`` axes of the task token: older files have more."""
    return weights | {"token_basis": weights["token_basis"][:count]}


def load_all_it_has(model: MaskedMimic, source: MaskedMimic, path: Path) -> None:
    """Take the weights of a model that may know fewer token types, but nothing else differently.

    Of the basis of its task token the first axes are taken.

    Raises:
        CheckpointError: other sizes.
    """
    if not knows_all_of(model, source) or source.token_axes < model.token_axes:
        raise CheckpointError(f"{path}: --init needs a model of the sizes trained here")
    model.load_state_dict(first_axes(source.state_dict(), model.token_axes), strict=False)
