"""The behavior foundation model: a variational transformer over goal tokens (paper section 3).

    state, goals ─► one encoder per token type ─► transformer ─► row of the state token
                 ─► prior mean and log variance ─► latent ─► decoder(state, latent) ─► PD target

A task token enters the sequence as it is, beside the encoded ones. Our own model and both published
MaskedMimic models (ProtoMotions v1 and v3) are this one class with different configurations.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Literal

import torch
from torch import Tensor, nn

STATE = "state"
"""Name of the token type that carries proprioception; it leads the sequence and is never hidden."""

TOKEN_SCALE = 2.0
"""Size of a task token at the bounds of the action space: in standard deviations of the model's own
goal tokens along each of their principal axes, or of its entries in a model without such axes."""

NORM_EPSILON = 1e-5
"""Added to the variance before an input is standardised."""
_NORM_CLIP = 5.0
_OFFICIAL_ACTION_SCALE = math.pi  # rad, of every degree of freedom of the SMPL humanoid

ActionMap = Literal["target", "clamp", "tanh"]
Observations = Literal["tt_gym", "maskedmimic_v1", "maskedmimic_v3"]


@dataclasses.dataclass(frozen=True)
class TokenType:
    """One kind of input token.

    Attributes:
        name: key in the inputs.
        width: numbers per token.
        count: tokens of this kind in the sequence.
        normalize: whether the input is standardised by fixed statistics first.
        encoder_widths: hidden layers of its encoder, None for the configuration's.
    """

    name: str
    width: int
    count: int = 1
    normalize: bool = True
    encoder_widths: tuple[int, ...] | None = None


@dataclasses.dataclass(frozen=True)
class DecoderInput:
    """One observation that the decoder sees beside the latent, with statistics of its own."""

    name: str
    width: int
    normalize: bool = True


@dataclasses.dataclass(frozen=True)
class MaskedMimicConfig:
    """Sizes of the network.

    Attributes:
        token_types: the first must be the state.
        action_size: D, entries of the PD target.
        token_width: E, width of every token in the transformer, the task token's too.
        token_axes: A, entries of the action that gives the task token; None: E.
        norm_clip: bound on standardised inputs, None for no bound.
        relu_features: whether the state token's row passes a ReLU before the prior's heads.
        latent_embedding: layers between the latent and the decoder; empty: the latent itself.
        decoder_inputs: what the decoder sees beside the latent, in order; empty: the state as the
            prior sees it.
        action_map: how the decoder's output becomes the PD target: as it is, or as pi times its
            value clamped to +-1 (``clamp``), or as pi times its ``tanh``.
        observations: the layout of the inputs, for whoever builds them.
    """

    token_types: tuple[TokenType, ...]
    action_size: int
    token_width: int = 128
    token_axes: int | None = None
    encoder_widths: tuple[int, ...] = (256,)
    layers: int = 3
    heads: int = 4
    feedforward: int = 256
    latent_size: int = 64
    head_widths: tuple[int, ...] = (128,)
    decoder_widths: tuple[int, ...] = (512, 256)
    norm_clip: float | None = _NORM_CLIP
    relu_features: bool = False
    latent_embedding: tuple[int, ...] = ()
    decoder_inputs: tuple[DecoderInput, ...] = ()
    action_map: ActionMap = "target"
    observations: Observations = "tt_gym"


def mlp(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers with ReLU between them, linear output."""
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(sizes):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Normalizer(nn.Module):
    """Standardise by statistics that are set once and never move: ``clip((x - mean) / std)``.

    Args:
        width: of the input.
        clip: bound on the result, None for no bound.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, width: int, clip: float | None = _NORM_CLIP) -> None:
        super().__init__()
        self.clip = clip
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("var", torch.ones(width))

    def fit(self, samples: Tensor) -> None:
        """Take mean and variance of samples (S, width)."""
        self.mean.copy_(samples.mean(dim=0))
        self.var.copy_(samples.var(dim=0))

    def forward(self, values: Tensor) -> Tensor:
        """(..., width) -> (..., width), within +-``clip``."""
        standard = (values - self.mean) * torch.rsqrt(self.var + NORM_EPSILON)
        return standard if self.clip is None else standard.clamp(-self.clip, self.clip)


class MaskedMimic(nn.Module):
    """The one network class, trainable; wrap it in :func:`frozen` for use inside an environment.

    Args:
        config: sizes.

    Attributes:
        token_basis: (A, E), see :meth:`task_token`.

    Raises:
        ValueError: the first token type is not the state.
    """

    token_basis: Tensor

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
            {
                item.name: Normalizer(item.width, config.norm_clip)
                for item in config.token_types
                if item.normalize
            }
        )
        self.encoders = nn.ModuleDict(
            {item.name: self._encoder(item) for item in config.token_types}
        )
        layer = nn.TransformerEncoderLayer(
            width, config.heads, config.feedforward, dropout=0.0, batch_first=True
        )
        self.transformer = nn.TransformerEncoder(layer, config.layers, enable_nested_tensor=False)
        self.mu = mlp((width, *config.head_widths, config.latent_size))
        self.logvar = mlp((width, *config.head_widths, config.latent_size))
        self.latent_embedding = (
            mlp((config.latent_size, *config.latent_embedding))
            if config.latent_embedding
            else nn.Identity()
        )
        self.decoder_normalizers = nn.ModuleDict(
            {
                item.name: Normalizer(item.width, config.norm_clip)
                for item in config.decoder_inputs
                if item.normalize
            }
        )
        seen = sum(item.width for item in config.decoder_inputs) or self.types[STATE].width
        latent = (config.latent_size, *config.latent_embedding)[-1]
        self.decoder = mlp((seen + latent, *config.decoder_widths, config.action_size))
        axes = width if config.token_axes is None else config.token_axes
        self.register_buffer("token_basis", TOKEN_SCALE * torch.eye(axes, width))

    @property
    def token_axes(self) -> int:
        """A, entries of the action that gives the task token."""
        return len(self.token_basis)

    def _encoder(self, item: TokenType) -> nn.Sequential:
        config = self.config
        hidden = config.encoder_widths if item.encoder_widths is None else item.encoder_widths
        return mlp((item.width, *hidden, config.token_width))

    def normalize(self, name: str, values: Tensor) -> Tensor:
        """Input of one token type as its encoder sees it."""
        return self.normalizers[name](values) if name in self.normalizers else values

    def decoder_input(self, observations: dict[str, Tensor]) -> Tensor:
        """What the decoder sees beside the latent.

        Args:
            observations: by name, each (N, width) as observed, not yet standardised.

        Returns:
            (N, W).
        """
        if not self.config.decoder_inputs:
            return self.normalize(STATE, observations[STATE])
        parts = []
        for item in self.config.decoder_inputs:
            values = observations[item.name]
            parts.append(self.decoder_normalizers[item.name](values) if item.normalize else values)
        return torch.cat(parts, dim=-1)

    def task_token(self, action: Tensor) -> Tensor:
        """Task token (..., E) of an action (..., A) within +-1: its coordinates in the basis.

        In a fitted basis the transformer meets what it knows: an action of random entries is about
        as likely as a goal, and zero is the zero token.
        """
        return action @ self.token_basis

    @torch.no_grad()
    def fit_token_basis(self, tokens: Tensor) -> None:
        """Take the A first principal axes of encoded goals (S, E) as basis of the task token."""
        variance, axes = torch.linalg.eigh(torch.cov(tokens.double().T, correction=0))
        deviation = variance.clamp(min=0.0).sqrt()
        self.token_basis.copy_(TOKEN_SCALE * (deviation * axes).T.flip(0)[: self.token_axes])

    def prior(
        self,
        state: Tensor,
        goals: dict[str, tuple[Tensor, Tensor]] | None = None,
        task_token: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the latent, (N, latent) each; arguments as in :meth:`latent`."""
        features = self._features(state, goals, task_token)
        return self.mu(features), self.logvar(features)

    def latent(
        self,
        state: Tensor,
        goals: dict[str, tuple[Tensor, Tensor]] | None = None,
        task_token: Tensor | None = None,
    ) -> Tensor:
        """The prior's mean, (N, latent).

        Token types that are left out of ``goals`` are not computed at all, which gives the same
        result as computing and masking them: a hidden token is attended by nobody.

        Args:
            state: normalised state observation, (N, W).
            goals: per token type the values (N, K, width) and visibility (N, K), True = attended.
            task_token: (N, E) or (N, M, E).
        """
        return self.mu(self._features(state, goals, task_token))

    def _features(
        self,
        state: Tensor,
        goals: dict[str, tuple[Tensor, Tensor]] | None,
        task_token: Tensor | None,
    ) -> Tensor:
        """What the prior's heads see, (N, E)."""
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
        features = self._state_row(torch.cat(sequence, dim=1), padding)
        return features.relu() if self.config.relu_features else features

    def _state_row(self, sequence: Tensor, padding: Tensor | None) -> Tensor:
        """Row of the state token after the transformer, (N, E), of tokens (N, K, E).

        Nobody reads the other rows of the last layer, so they are not computed.
        """
        *lower, last = self.transformer.layers
        for layer in lower:
            sequence = layer(sequence, src_key_padding_mask=padding)
        assert isinstance(last, nn.TransformerEncoderLayer)
        state = sequence[:, :1]
        attended, _ = last.self_attn(
            state, sequence, sequence, key_padding_mask=padding, need_weights=False
        )
        state = last.norm1(state + attended)
        widened = last.linear2(last.activation(last.linear1(state)))
        return last.norm2(state + widened)[:, 0]

    def decode(self, seen: Tensor, latent: Tensor) -> Tensor:
        """Raw action (N, D) from :meth:`decoder_input` (N, W) and latent.

        In our own model the input is the normalised state and the action is the PD target.
        """
        return self.decoder(torch.cat((seen, self.latent_embedding(latent)), dim=-1))

    def pd_target(self, action: Tensor) -> Tensor:
        """PD target (N, D), rad, of a raw action of the decoder."""
        if self.config.action_map == "clamp":
            return _OFFICIAL_ACTION_SCALE * action.clamp(-1.0, 1.0)
        if self.config.action_map == "tanh":
            return _OFFICIAL_ACTION_SCALE * action.tanh()
        return action

    def forward(
        self,
        state: Tensor,
        goals: dict[str, tuple[Tensor, Tensor]] | None = None,
        task_token: Tensor | None = None,
        decoder_input: Tensor | None = None,
    ) -> Tensor:
        """PD target (N, D), rad, with the prior's mean as latent; arguments as in :meth:`latent`.

        ``decoder_input`` is that of :meth:`decoder_input`; None where it is the normalised state.
        """
        mean = self.latent(state, goals, task_token)
        return self.pd_target(self.decode(state if decoder_input is None else decoder_input, mean))


def without_hidden(
    goals: dict[str, tuple[Tensor, Tensor]],
) -> dict[str, tuple[Tensor, Tensor]]:
    """The goals without those tokens that no row of the batch sees, which need not be computed."""
    seen = {name: visible.any(dim=0) for name, (_, visible) in goals.items()}
    return {
        name: (values[:, seen[name]], visible[:, seen[name]])
        for name, (values, visible) in goals.items()
        if bool(seen[name].any())
    }


def frozen(model: MaskedMimic) -> MaskedMimic:
    """The same model, evaluation mode, no gradients for its parameters; statistics are buffers."""
    return model.eval().requires_grad_(False)
