"""Parts of the policies: split networks, the frozen model within a policy, a loss of its own."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from tt_gym.bfm.inputs import build_inputs
from tt_gym.bfm.joint_control import PREFIX, input_shapes, joint_action, unpack
from tt_gym.bfm.maskedmimic import STATE, MaskedMimic
from tt_gym.bfm.pretrained_model import fingerprint, load_bfm
from tt_gym.bfm.targets import TARGETS


class FrozenModel:
    """Encoder output to mean action, through a model that no state dict and no optimiser sees.

    It is no ``nn.Module`` for that reason, and always in evaluation mode.

    Args:
        path: of the model, None for the shipped one.
        observation_space: of the environment.
        action_space: of the environment.

    Raises:
        ValueError: the spaces are not those of ``control="joint"`` around this model.
        CheckpointError: the model cannot be loaded.
    """

    def __init__(
        self, path: str | None, observation_space: spaces.Dict, action_space: spaces.Space
    ) -> None:
        model = load_bfm(path)
        prompted = PREFIX + TARGETS in observation_space.spaces
        needed = {
            "action": (model.config.action_size,),
            STATE: (model.types[STATE].width,),
            **input_shapes(model, build_inputs(model, 1), prompted=prompted),
        }
        found = {"action": action_space.shape} | {
            name: space.shape for name, space in observation_space.items()
        }
        for name, shape in needed.items():
            if found.get(name) != shape:
                raise ValueError(
                    f"the frozen model needs {name!r} of shape {shape}, got {found.get(name)}: "
                    "make the environment with control='joint' and the same bfm as the policy"
                )
        self.fingerprint = fingerprint(model)
        self.token_axes, self.action_size = model.token_axes, model.config.action_size
        self._models = {torch.device("cpu"): model}

    def mean_action(self, output: Tensor, observations: dict[str, Tensor]) -> Tensor:
        """Mean action (N, D) for the encoder's output (N, A) before its bound."""
        model = self._on(output.device)
        seen = unpack(model, observations)
        token = model.task_token(output.tanh())
        latent = model.latent(seen.state, seen.goals, token)
        return joint_action(model, model.decode(seen.decoder_input, latent))

    def _on(self, device: torch.device) -> MaskedMimic:
        # a copy elsewhere: the environment shares the one on the CPU
        if device not in self._models:
            self._models[device] = copy.deepcopy(self._models[torch.device("cpu")]).to(device)
        return self._models[device]


class SplitNetworks(nn.Module):
    """Hidden layers of actor and critic, each on its own entries of the observation.

    Stands where SB3 has its ``mlp_extractor``, behind a ``CombinedExtractor``.

    Args:
        space: of the observations.
        actor_inputs: entries that the actor sees.
        critic_inputs: entries that the critic sees.
        net_arch: hidden widths, ``{"pi": [...], "vf": [...]}`` or one list for both.
        activation_fn: after every hidden layer.
        model: None: the actor's last hidden layer comes out; else the mean action that the frozen
            model gives for a token, (N, D).
    """

    def __init__(
        self,
        space: spaces.Dict,
        *,
        actor_inputs: tuple[str, ...],
        critic_inputs: tuple[str, ...],
        net_arch: Any,
        activation_fn: type[nn.Module],
        model: FrozenModel | None = None,
    ) -> None:
        super().__init__()
        self.space, self.model = space, model
        self.actor_inputs, self.critic_inputs = actor_inputs, critic_inputs
        widths = net_arch if isinstance(net_arch, dict) else {"pi": net_arch, "vf": net_arch}
        actor = [self._width(actor_inputs), *widths.get("pi", [])]
        critic = [self._width(critic_inputs), *widths.get("vf", [])]
        self.policy_net = _hidden(actor, activation_fn)
        self.value_net = _hidden(critic, activation_fn)
        self.latent_dim_pi, self.latent_dim_vf = actor[-1], critic[-1]
        if model is not None:
            self.policy_net.append(nn.Linear(actor[-1], model.token_axes))
            self.latent_dim_pi = model.action_size

    def _width(self, names: tuple[str, ...]) -> int:
        return sum(spaces.flatdim(self.space[name]) for name in names)

    def _entries(self, features: Tensor) -> dict[str, Tensor]:
        """The observation, (N, *shape) each, out of concatenated features (N, sum of sizes)."""
        sizes = [spaces.flatdim(space) for space in self.space.values()]
        parts = features.split(sizes, dim=-1)
        return {
            name: part.unflatten(-1, space.shape)
            for (name, space), part in zip(self.space.items(), parts, strict=True)
            if space.shape is not None
        }

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Both outputs."""
        return self.forward_actor(features), self.forward_critic(features)

    def forward_actor(self, features: Tensor) -> Tensor:
        """Last hidden layer of the actor, or the mean action."""
        entries = self._entries(features)
        output = self.policy_net(torch.cat([entries[name] for name in self.actor_inputs], dim=-1))
        return output if self.model is None else self.model.mean_action(output, entries)

    def forward_critic(self, features: Tensor) -> Tensor:
        """Last hidden layer of the critic."""
        entries = self._entries(features)
        return self.value_net(torch.cat([entries[name] for name in self.critic_inputs], dim=-1))


def _hidden(widths: list[int], activation_fn: type[nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inner, outer in itertools.pairwise(widths):
        layers += [nn.Linear(inner, outer), activation_fn()]
    return nn.Sequential(*layers)


class AddedLoss(torch.autograd.Function):
    """Hands its first argument on, and adds the second to any loss that is made of the first.

    Backward, the second argument gets the gradient 1 whatever the first one gets: exactly what
    ``loss + added`` would give, for a learner whose loss is out of reach.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, added: Tensor) -> Tensor:
        """``values`` as they are; ``added`` is a scalar."""
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of ``values`` as it is, and 1."""
        return gradients[0], gradients[0].new_ones(())


def bounds_loss(mean: Tensor) -> Tensor:
    """Squared excess of means (N, D) over +-1, summed over entries, averaged over the batch: ()."""
    return (mean.abs() - 1.0).relu().square().sum(dim=-1).mean()
