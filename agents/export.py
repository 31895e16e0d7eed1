"""From a Stable-Baselines3 policy to a token file."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.torch_layers import CombinedExtractor
from torch import nn

from agents.algorithms import is_recurrent
from agents.networks import SplitNetworks
from agents.policies import ThroughBFMPolicy
from agents.vec_env import native_env
from tt_gym.bfm.pretrained_model import fingerprint
from tt_gym.tasks import parameters_of
from tt_gym.tokens import ACTIVATIONS, EncoderConfig, TokenEncoder, TokenMetadata


def encoder_of(policy: BasePolicy) -> TokenEncoder:
    """A copy of the actor of a ``MultiInputPolicy`` or of one of :mod:`agents.policies`.

    Where the policy's action is the token, both give the same deterministic actions, bit for bit;
    of a ``ThroughBFMPolicy`` it is the encoder, to be used with ``control="token"``.

    Raises:
        ValueError: the actor is not an MLP on the concatenated observation entries.
    """
    if not (
        isinstance(policy, ActorCriticPolicy)
        and isinstance(policy.features_extractor, CombinedExtractor)
        and isinstance(policy.observation_space, spaces.Dict)
        and not isinstance(policy, RecurrentActorCriticPolicy)
        and not policy.squash_output
    ):
        raise ValueError(
            f"only the actor of a MultiInputPolicy is a token, got {type(policy).__name__}"
        )
    networks: Any = policy.mlp_extractor
    split = isinstance(networks, SplitNetworks)
    names = networks.actor_inputs if split else policy.features_extractor.extractors
    layers = [*networks.policy_net, policy.action_net]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    config = EncoderConfig(
        inputs={name: spaces.flatdim(policy.observation_space[name]) for name in names},
        hidden=tuple(layer.out_features for layer in linear[:-1]),
        token_width=linear[-1].out_features,
        activation=_activation_name(policy.activation_fn),
        bound="tanh" if isinstance(policy, ThroughBFMPolicy) else "clamp",
    )
    with torch.random.fork_rng(devices=[]):  # saving a token must not change the training after it
        encoder = TokenEncoder(config)
    copies = [layer for layer in encoder.net if isinstance(layer, nn.Linear)]
    for copy, layer in zip(copies, linear, strict=True):
        copy.load_state_dict(layer.state_dict())
    return encoder.eval().requires_grad_(False)


def has_token(model: BaseAlgorithm) -> bool:
    """Whether what is trained is an encoder that can become a token file."""
    if isinstance(model.policy, ThroughBFMPolicy):
        return True
    return native_env(model.get_env()).control == "token" and not is_recurrent(model)


def describe(model: BaseAlgorithm, *, command: str, wall_clock_s: float) -> TokenMetadata:
    """Where the token of a model in training comes from."""
    env = native_env(model.get_env())
    assert env.spec is not None
    if not (env.prompt is None or isinstance(env.prompt, str)):
        raise ValueError(f"a token file holds prompts by name only, got {env.prompt!r}")
    return TokenMetadata(
        env_id=env.spec.id,
        task=env.spec.kwargs["task"],
        parameters=parameters_of(env.task),
        prompt=env.prompt,
        start=env.start,
        bfm=fingerprint(env.bfm),
        command=command,
        seed=model.seed,
        steps=model.num_timesteps,
        wall_clock_s=round(wall_clock_s, 1),
    )


def parameter_counts(model: BaseAlgorithm) -> str:
    """One line: trainable parameters of the policy beside those of the frozen model."""
    policy = model.policy
    env = native_env(model.get_env())
    frozen = f"frozen model {_count(env.bfm):,}"
    if env.control == "joint" and not isinstance(policy, ThroughBFMPolicy):
        frozen += " (takes no part: control='joint')"
    total = sum(p.numel() for p in policy.parameters() if p.requires_grad)
    if not isinstance(policy, ActorCriticPolicy):
        return f"trainable parameters: {total:,}; {frozen}"
    parts = [policy.mlp_extractor.value_net, policy.value_net]
    if isinstance(policy, RecurrentActorCriticPolicy):
        parts += [part for part in (policy.critic, policy.lstm_critic) if part is not None]
    critic = sum(_count(part) for part in parts)
    noise = policy.log_std.numel() if policy.log_std.requires_grad else 0
    actor = f"actor {total - critic - noise:,}" + (f", noise {noise:,}" if noise else "")
    return f"trainable parameters: {actor}, critic {critic:,}; {frozen}"


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _activation_name(cls: type[nn.Module]) -> str:
    for name, known in ACTIVATIONS.items():
        if known is cls:
            return name
    raise ValueError(
        f"activation {cls.__name__} has no token format; known: {', '.join(ACTIVATIONS)}"
    )
