"""Joint control: the model's inputs as observation entries, its output as an action.

With these a learner can hold the frozen model itself and let gradients flow through it::

    seen = unpack(model, observations)              # what the environment packed
    latent = model.latent(seen.state, seen.goals, task_token)
    action = joint_action(model, model.decode(seen.decoder_input, latent))
"""

from __future__ import annotations

import math

from torch import Tensor

from tt_gym.bfm.inputs import Goals, Inputs, ModelInputs
from tt_gym.bfm.maskedmimic import STATE, MaskedMimic, TokenType
from tt_gym.bfm.targets import TARGETS, TEXT

JOINT_SCALE = 1.5
"""PD target at the bounds of the action space in joint control, rad; pi for official models."""
PREFIX = "model_"
"""Of the observation entries that only the model needs."""
DECODER = f"{PREFIX}decoder"
"""Entry for what the decoder sees, where that is not the state."""
_TANH_BOUND = 1.0 - 1e-6  # farther out the inverse is all rounding


def joint_scale(model: MaskedMimic) -> float:
    """PD target at the bounds of the action space, rad."""
    return JOINT_SCALE if model.config.action_map == "target" else math.pi


def joint_action(model: MaskedMimic, raw: Tensor) -> Tensor:
    """Action of joint control that commands what the decoder says.

    Args:
        model: frozen model.
        raw: output of :meth:`~tt_gym.bfm.maskedmimic.MaskedMimic.decode`, (N, D).

    Returns:
        (N, D); beyond +-1 where the environment will clip it.
    """
    if model.config.action_map == "tanh":
        return raw.tanh()
    return raw / JOINT_SCALE if model.config.action_map == "target" else raw


def raw_action(model: MaskedMimic, action: Tensor) -> Tensor:
    """Inverse of :func:`joint_action` for actions (N, D) within +-1."""
    if model.config.action_map == "tanh":
        return action.clamp(-_TANH_BOUND, _TANH_BOUND).atanh()
    return action * JOINT_SCALE if model.config.action_map == "target" else action


def input_shapes(
    model: MaskedMimic, inputs: Inputs, *, prompted: bool
) -> dict[str, tuple[int, ...]]:
    """Observation entries beside the normalised state that the model needs, and their shapes.

    Args:
        model: frozen model.
        inputs: what feeds it in the environment.
        prompted: whether there is a prompt, of goals or words.

    Returns:
        One entry per token type, (K, width + 1), and :data:`DECODER`, (W,), where the decoder does
        not see the state. Our own model without a prompt needs none.
    """
    shown = {*inputs.always_shown, *((TARGETS, TEXT) if prompted else ())}
    shapes: dict[str, tuple[int, ...]] = {
        PREFIX + item.name: (item.count, item.width + 1)
        for item in model.config.token_types
        if item.name in shown
    }
    if model.config.decoder_inputs:
        shapes[DECODER] = (sum(item.width for item in model.config.decoder_inputs),)
    return shapes


def pack(model: MaskedMimic, seen: ModelInputs, names: list[str]) -> dict[str, Tensor]:
    """The model's inputs as observation entries.

    Args:
        model: frozen model.
        seen: its inputs.
        names: keys of :func:`input_shapes`.

    Returns:
        Per token type (N, K, width + 1): values, and 1 where a token is shown, else 0. Tokens that
        ``seen`` leaves out are hidden.
    """
    packed = {
        PREFIX + item.name: _pack_tokens(item, seen)
        for item in model.config.token_types
        if PREFIX + item.name in names
    }
    return packed | ({DECODER: seen.decoder_input} if DECODER in names else {})


def _pack_tokens(item: TokenType, seen: ModelInputs) -> Tensor:
    packed = seen.state.new_zeros(len(seen.state), item.count, item.width + 1)
    if item.name in seen.goals:
        values, visible = seen.goals[item.name]
        if values.shape[1] > item.count:
            # tokens have no order: those that are shown come first, what is hidden may go
            first = (~visible).byte().argsort(dim=1, stable=True)
            values = values.gather(1, first.unsqueeze(-1).expand_as(values))[:, : item.count]
            most = int(visible.sum(dim=1).max())
            if most > item.count:
                raise ValueError(
                    f"joint control has room for {item.count} {item.name} tokens, "
                    f"the prompt shows {most}"
                )
            visible = visible.gather(1, first)[:, : item.count]
        packed[:, : values.shape[1], :-1] = values
        packed[:, : values.shape[1], -1] = visible.to(values.dtype)
    return packed


def unpack(model: MaskedMimic, observations: dict[str, Tensor]) -> ModelInputs:
    """Inverse of :func:`pack`.

    Args:
        model: frozen model.
        observations: ``state`` (N, W) and the entries of :func:`pack`; others are ignored.
    """
    goals: Goals = {}
    for item in model.config.token_types:
        if PREFIX + item.name in observations:
            packed = observations[PREFIX + item.name]
            goals[item.name] = packed[..., :-1], packed[..., -1] > 0.5
    state = observations[STATE]
    return ModelInputs(state, goals, decoder_input=observations.get(DECODER, state))
