"""Trained task tokens: the small network that maps observations to tokens, without its trainer.

It needs neither Stable-Baselines3 nor a critic::

    token = tt_gym.tokens.load("strike")  # one of tt_gym.tokens.names(), or a path
    actions = token(observations)
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tt_gym.bfm.pretrained_model import fingerprint, load_bfm
from tt_gym.checkpoint import CheckpointError, check_finite, load_checkpoint, save_checkpoint
from tt_gym.names import unknown

SHIPPED_FOLDER = Path(__file__).parent / "trained_tokens"
ACTIVATIONS: dict[str, type[nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh}
BOUNDS: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp": lambda values: values.clamp(-1.0, 1.0),
    "tanh": torch.tanh,
}
_KIND = "token"
_SUFFIX = ".safetensors"


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Sizes of a token encoder.

    Attributes:
        inputs: observation entries in the order in which they are concatenated, and their widths.
        hidden: widths of the hidden layers.
        token_width: A, entries of the action.
        activation: key of :data:`ACTIVATIONS`.
        bound: key of :data:`BOUNDS`, how the last layer's output is kept within +-1.
    """

    inputs: dict[str, int]
    hidden: tuple[int, ...]
    token_width: int
    activation: str = "relu"
    bound: str = "clamp"


@dataclasses.dataclass(frozen=True)
class TokenMetadata:
    """What a token was trained for and how.

    Attributes:
        env_id: registered id.
        task: name of the task.
        parameters: of the task, all of them.
        prompt: hand-written prompt that was shown beside the token.
        bfm: fingerprint of the frozen model.
        command: that trained it.
        seed: of the training.
        steps: environment steps.
        wall_clock_s: time those took.
        success_rate: share of goals reached, as ``agents.evaluate`` measures it, if measured.
        start: where its episodes began, see :data:`tt_gym.envs.start_states.STARTS`; None: unknown.
    """

    env_id: str
    task: str
    parameters: dict[str, Any]
    prompt: str | None
    bfm: str
    command: str
    seed: int | None
    steps: int
    wall_clock_s: float
    success_rate: float | None = None
    start: str | None = None


class TokenEncoder(nn.Module):
    """The actor of a trained policy: an MLP on the concatenated observation entries.

    Args:
        config: sizes.
        metadata: origin, for encoders that were loaded.

    Raises:
        ValueError: unknown activation or bound.
    """

    def __init__(self, config: EncoderConfig, metadata: TokenMetadata | None = None) -> None:
        super().__init__()
        if config.activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise ValueError(f"unknown activation {config.activation!r}; known: {known}")
        if config.bound not in BOUNDS:
            raise ValueError(f"unknown bound {config.bound!r}; known: {', '.join(BOUNDS)}")
        self.config, self.metadata = config, metadata
        widths = (sum(config.inputs.values()), *config.hidden)
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise(widths):
            layers += [nn.Linear(inner, outer), ACTIVATIONS[config.activation]()]
        self.net = nn.Sequential(*layers, nn.Linear(widths[-1], config.token_width))

    def forward(self, inputs: Tensor) -> Tensor:
        """Action (..., A) within +-1 for concatenated observations (..., sum of input widths)."""
        return BOUNDS[self.config.bound](self.net(inputs))

    @torch.no_grad()
    def act(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        """Deterministic action for the observations of one environment or of a batch.

        Args:
            observations: entries (width,) or (N, width).

        Returns:
            (A,) or (N, A) float32, within +-1.

        Raises:
            ValueError: an entry is missing or of another width.
        """
        for name, width in self.config.inputs.items():
            found = np.shape(observations[name])[-1] if name in observations else None
            if found != width:
                raise ValueError(
                    f"observation entry {name!r} must have width {width}, got {found}: "
                    "this token was trained for another environment"
                )
        parts = [
            torch.as_tensor(observations[name], dtype=torch.float32) for name in self.config.inputs
        ]
        return self(torch.cat(parts, dim=-1)).numpy()


@dataclasses.dataclass(frozen=True)
class Token:
    """A trained token, ready to act: ``token(observations)`` gives the environments' actions.

    Attributes:
        name: as it was asked for.
        encoder: the network.
        metadata: what it was trained for, with which frozen model, and how well it does.
    """

    name: str
    encoder: TokenEncoder
    metadata: TokenMetadata

    @property
    def config(self) -> EncoderConfig:
        """Inputs and sizes of the network."""
        return self.encoder.config

    def __call__(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        """Actions (N, A) within +-1 for a batch of observations; see :meth:`TokenEncoder.act`."""
        return self.encoder.act(observations)

    def act(self, observations: dict[str, np.ndarray]) -> np.ndarray:
        """The same, for what asks an actor."""
        return self.encoder.act(observations)


def load(name_or_path: str | Path, *, bfm: str | Path | None = None) -> Token:
    """A trained token that acts; arguments and errors are those of :func:`load_token`."""
    encoder = load_token(name_or_path, bfm=bfm)
    assert encoder.metadata is not None
    return Token(str(name_or_path), encoder, encoder.metadata)


def shipped_tokens() -> list[str]:
    """Names of the tokens that come with the package."""
    return sorted(path.stem for path in SHIPPED_FOLDER.glob(f"*{_SUFFIX}"))


names = shipped_tokens
"""The same, for ``tt_gym.tokens.names()``."""


def save_token(path: str | Path, encoder: TokenEncoder, metadata: TokenMetadata) -> None:
    """Write an encoder and its origin, atomically."""
    content = {
        "config": dataclasses.asdict(encoder.config),
        "metadata": dataclasses.asdict(metadata),
        "weights": dict(encoder.state_dict()),
    }
    save_checkpoint(path, kind=_KIND, content=content)


def load_token(name_or_path: str | Path, *, bfm: str | Path | None = None) -> TokenEncoder:
    """A trained token by name, or from a file that :func:`save_token` wrote.

    Args:
        name_or_path: one of :func:`shipped_tokens`, or a path (with a slash or the file's suffix).
        bfm: the frozen model it shall act on: a file, None for the shipped one.

    Raises:
        ValueError: no shipped token has this name (the shipped ones are listed).
        CheckpointError: missing, corrupt or foreign file, or a token made for another model.
    """
    path = _locate(name_or_path)
    content = load_checkpoint(path, kind=_KIND)
    try:
        saved = content["config"]
        config = EncoderConfig(**{**saved, "hidden": tuple(saved["hidden"])})
        encoder = TokenEncoder(config, TokenMetadata(**content["metadata"]))
        encoder.load_state_dict(content["weights"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{path}: written by another version of tt_gym ({error})") from error
    check_finite(path, encoder.state_dict())
    _check_model(encoder, path, bfm)
    return encoder.eval().requires_grad_(False)


def _check_model(encoder: TokenEncoder, path: Path, bfm: str | Path | None) -> None:
    assert encoder.metadata is not None
    wanted, found = encoder.metadata.bfm, fingerprint(load_bfm(bfm))
    source = "the shipped one" if bfm is None else bfm
    if wanted != found:
        raise CheckpointError(
            f"{path}: made for the frozen model {wanted}, got {found} ({source}): "
            "pass the model it was trained with, or train a token for this one"
        )


def _locate(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(_SUFFIX):
        return Path(name_or_path)
    known = shipped_tokens()
    if text not in known:
        raise ValueError(f"{unknown('token', text, known)}; or give a file's path")
    return SHIPPED_FOLDER / f"{text}{_SUFFIX}"
