"""The behavior foundation model: a variational transformer over goal tokens (paper section 3).

    state, goals ─► one encoder per token type ─► transformer ─► row of the state token
                 ─► prior mean and log variance ─► latent ─► decoder(state, latent) ─► PD target

A task token enters the sequence as it is, beside the encoded ones.
"""

from __future__ import annotations

import dataclasses
import itertools

import torch
from torch import Tensor, nn

STATE = "state"
"""Name of the token type that carries proprioception; it leads the sequence and is never hidden."""

_NORM_EPSILON = 1e-5
_NORM_CLIP = 5.0


@dataclasses.dataclass(frozen=True)
class TokenType:
    """One kind of input token.

    Attributes:
        name: key in the inputs.
        width: numbers per token.
        count: tokens of this kind in the sequence.
        normalize: whether the input is standardised by fixed statistics first.
    """

    name: str
    width: int
    count: int = 1
    normalize: bool = True


@dataclasses.dataclass(frozen=True)
class MaskedMimicConfig:
    """Sizes of the network.

    Attributes:
        token_types: the first must be the state.
        action_size: D, entries of the PD target.
        token_width: E, width of every token in the transformer, the task token's too.
    """

    token_types: tuple[TokenType, ...]
    action_size: int
    token_width: int = 128
    encoder_widths: tuple[int, ...] = (256,)
    layers: int = 3
    heads: int = 4
    feedforward: int = 256
    latent_size: int = 64
    head_widths: tuple[int, ...] = (128,)
    decoder_widths: tuple[int, ...] = (512, 256)


def mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them, linear output."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(sizes):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Normalizer(nn.Module):
    """Standardise by statistics that are set once and never move: ``clip((x - mean) / std)``."""

    mean: Tensor
    var: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("var", torch.ones(width))

    def fit(self, samples: Tensor) -> None:
        """Take mean and variance of samples (S, width)."""
        self.mean.copy_(samples.mean(dim=0))
        self.var.copy_(samples.var(dim=0))

    def forward(self, values: Tensor) -> Tensor:
        """(..., width) -> (..., width), within +-5."""
        standard = (values - self.mean) * torch.rsqrt(self.var + _NORM_EPSILON)
        return standard.clamp(-_NORM_CLIP, _NORM_CLIP)


class MaskedMimic(nn.Module):
    """The one network class, trainable; wrap it in :func:`frozen` for use inside an environment.

    Args:
        config: sizes.

    Raises:
        ValueError: the first token type is not the state.
    """

    def __init__(self, config: MaskedMimicConfig) -> None:
        super().__init__()
        if not config.token_types or config.token_types[0].name != STATE:
            raise ValueError(
                f"the first token type must be {STATE!r}, got {config.token_types[:1]}"
            )
        self.config = config
        self.types = {item.name: item for item in config.token_types}
        width = config.token_width
        self.normalizers = nn.ModuleDict(
            {item.name: Normalizer(item.width) for item in config.token_types if item.normalize}
        )
        self.encoders = nn.ModuleDict(
            {
                item.name: mlp((item.width, *config.encoder_widths, width))
                for item in config.token_types
            }
        )
        layer = nn.TransformerEncoderLayer(
            width, config.heads, config.feedforward, dropout=0.0, batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.mu = mlp((width, *config.head_widths, config.latent_size))
        self.logvar = mlp((width, *config.head_widths, config.latent_size))
        state_width = self.types[STATE].width
        self.decoder = mlp(
            (state_width + config.latent_size, *config.decoder_widths, config.action_size)
        )

    def normalize(self, name: str, values: Tensor) -> Tensor:
        """Input of one token type as its encoder sees it."""
        return self.normalizers[name](values) if name in self.normalizers else values

    def prior(
        self,
        state: Tensor,
        goals: dict[str, tuple[Tensor, Tensor]] | None = None,
        task_token: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent.

        Token types that are left out of ``goals`` are not computed at all, which gives the same
        result as computing and masking them: a hidden token is attended by nobody.

        Args:
            state: normalised state observation, (N, W).
            goals: per token type the values (N, K, width) and visibility (N, K), True = attended.
            task_token: (N, E) or (N, M, E).

        Returns:
            (N, latent), (N, latent).
        """
        sequence = [self.encoders[STATE](state).unsqueeze(1)]  # (N, 1, E)
        hidden = [torch.zeros(len(state), 1, dtype=torch.bool, device=state.device)]
        for name, (values, visible) in (goals or {}).items():
            sequence.append(self.encoders[name](self.normalize(name, values)))  # (N, K, E)
            hidden.append(~visible)
        if task_token is not None:
            tokens = task_token.view(len(state), -1, self.config.token_width)
            sequence.append(tokens)
            hidden.append(torch.zeros(tokens.shape[:2], dtype=torch.bool, device=state.device))
        padding = torch.cat(hidden, dim=1) if goals else None
        features = self.transformer(torch.cat(sequence, dim=1), src_key_padding_mask=padding)[:, 0]
        return self.mu(features), self.logvar(features)

    def decode(self, state: Tensor, latent: Tensor) -> Tensor:
        """PD target (N, D), rad, from normalised state (N, W) and latent."""
        return self.decoder(torch.cat((state, latent), dim=-1))

    def forward(
        self,
        state: Tensor,
        goals: dict[str, tuple[Tensor, Tensor]] | None = None,
        task_token: Tensor | None = None,
    ) -> Tensor:
        """PD target (N, D), rad, with the prior's mean as latent; arguments as in :meth:`prior`."""
        mean, _ = self.prior(state, goals, task_token)
        return self.decode(state, mean)


def frozen(model: MaskedMimic) -> MaskedMimic:
    """The same model, evaluation mode, no gradients for its parameters; statistics are buffers."""
    return model.eval().requires_grad_(False)
