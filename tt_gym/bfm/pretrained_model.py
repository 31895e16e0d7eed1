"""Loading and saving behavior foundation models; the one that ships with the package."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from pathlib import Path
from typing import Any

import torch

from tt_gym.bfm.checkpoints import is_official, load_official
from tt_gym.bfm.maskedmimic import (
    STATE,
    DecoderInput,
    MaskedMimic,
    MaskedMimicConfig,
    TokenType,
    frozen,
)
from tt_gym.bfm.targets import TARGET_STEPS, TARGETS, TEXT, target_size
from tt_gym.bfm.tokens import state_size
from tt_gym.checkpoint import CheckpointError, check_finite, load_checkpoint, save_checkpoint
from tt_gym.humanoids import Humanoid
from tt_gym.text.embeddings import EMBEDDING_SIZE

SHIPPED = Path(__file__).parent / "pretrained" / "deepmimic.safetensors"
_KIND = "bfm"


def default_config(humanoid: Humanoid) -> MaskedMimicConfig:
    """Sizes of our own model: small enough that a step stays physics-bound on a CPU."""
    return MaskedMimicConfig(
        token_types=(
            TokenType(STATE, state_size(humanoid)),
            TokenType(TARGETS, target_size(humanoid), count=len(TARGET_STEPS), normalize=False),
            TokenType(TEXT, EMBEDDING_SIZE, normalize=False, encoder_widths=()),
        ),
        action_size=humanoid.num_dofs,
        token_axes=32,  # 98 % of the goal tokens' variance; PPO's noise on more does nothing else
        layers=2,
        feedforward=256,
    )


def save_bfm(model: MaskedMimic, path: str | Path) -> None:
    """Write weights, statistics and sizes."""
    content = {"config": dataclasses.asdict(model.config), "weights": dict(model.state_dict())}
    save_checkpoint(path, kind=_KIND, content=content)


def load_bfm(path: str | Path | None = None) -> MaskedMimic:
    """A frozen model: the shipped one, or the one in a file.

    Args:
        path: what :func:`save_bfm` wrote, or a published MaskedMimic checkpoint (see
            :func:`~tt_gym.bfm.checkpoints.load_official`), told apart by content; None for the
            shipped model.

    Raises:
        CheckpointError: missing, corrupt or foreign file, or tensors that do not fit its sizes.
    """
    path = Path(SHIPPED if path is None else path)
    return _load(str(path), path.stat().st_mtime_ns if path.is_file() else 0)


@functools.lru_cache(maxsize=4)
def _load(path: str, changed_ns: int) -> MaskedMimic:
    """Kept in memory until the file changes."""
    if changed_ns and is_official(path):
        return load_official(path)
    content = load_checkpoint(path, kind=_KIND)
    try:
        model = MaskedMimic(_config(content["config"]))
        model.load_state_dict(content["weights"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{path}: tensors do not fit the sizes in the file: {error}"
        ) from error
    check_finite(path, model.state_dict())
    return frozen(model)


def _config(saved: dict[str, Any]) -> MaskedMimicConfig:
    types = tuple(TokenType(**_tuples(item)) for item in saved["token_types"])
    # files written before the decoder had inputs of its own do not name any
    inputs = tuple(DecoderInput(**item) for item in saved.get("decoder_inputs", ()))
    return MaskedMimicConfig(**{**_tuples(saved), "token_types": types, "decoder_inputs": inputs})


def _tuples(saved: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in saved.items()}


def fingerprint(model: MaskedMimic) -> str:
    """Short hash of weights and statistics, by which a token knows its model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().to(torch.float32).numpy().tobytes())
    return digest.hexdigest()[:16]
