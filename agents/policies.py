"""Both forms of the method as Stable-Baselines3 policies, for ``PPO(policy, env)`` as it is.

:class:`TaskTokenPolicy` emits the task token (``control="token"``): the frozen model is part of the
environment. :class:`ThroughBFMPolicy` holds the frozen model and emits its PD target
(``control="joint"``): gradients reach the encoder through the model, as in the paper.
"""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from torch import Tensor, nn

from agents.networks import AddedLoss, FrozenModel, SplitNetworks, bounds_loss
from tt_gym.bfm.maskedmimic import STATE, MaskedMimic
from tt_gym.bfm.pretrained_model import fingerprint
from tt_gym.checkpoint import CheckpointError
from tt_gym.pretraining.ppo_state import GroupClippedAdam

TASK = "task"
SIZES: dict[str, Any] = {"net_arch": {"pi": [256, 256], "vf": [256, 256]}, "activation_fn": nn.ReLU}
"""Hidden layers of both policies where none are given."""
FINGERPRINT = "bfm_fingerprint"
"""Buffer of a policy that holds the frozen model: which one."""


class TaskTokenPolicy(MultiInputActorCriticPolicy):
    """An actor for the task token, and a critic with a learning rate of its own.

    The actor sees ``task`` and, unless told otherwise, ``state``; the critic sees both. Other
    entries of the observation are ignored.

    Args:
        args: as PPO gives them.
        actor_sees_state: False: the actor sees the task alone, as in the paper.
        critic_lr_scale: learning rate of the critic over that of the actor, which is PPO's
            ``learning_rate``.
        max_grad_norm: bound on the gradient norms of actor and critic, each apart; PPO clips both
            together at its own ``max_grad_norm`` before that.
        kwargs: of SB3's ``ActorCriticPolicy``; sizes default to :data:`SIZES`, ``log_std_init`` to
            -1.

    Raises:
        ValueError: another optimiser, gSDE or observations without a task are asked for.
    """

    def __init__(
        self,
        *args: Any,
        actor_sees_state: bool = True,
        critic_lr_scale: float = 1.0,
        max_grad_norm: float = 50.0,
        **kwargs: Any,
    ) -> None:
        self.actor_sees_state = actor_sees_state
        self.critic_lr_scale, self.max_grad_norm = critic_lr_scale, max_grad_norm
        super().__init__(*args, **{**SIZES, "log_std_init": -1.0, **kwargs})

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = ("actor_sees_state", "critic_lr_scale", "max_grad_norm")
        return super()._get_constructor_parameters() | {name: getattr(self, name) for name in own}

    def _build_mlp_extractor(self) -> None:
        self.mlp_extractor = _networks(self)  # type: ignore[assignment]

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.optimizer = _adam(self, lr_schedule)


class ThroughBFMPolicy(MultiInputActorCriticPolicy):
    """The paper's own form: encoder and frozen model together give the mean of the PD targets.

    ``mean = model(state, history, prompt, token)``, in units of the action space, with
    ``token = tanh(encoder(task)) @ token_basis`` (the basis of published models is twice the unit
    matrix); the noise is fixed. Only encoder and critic are trained. The model's
    weights are neither in the zip nor in the optimiser; its fingerprint is in the zip, and compared
    when that is loaded.

    The bounds loss, ``bounds_coef`` times the squared excess of the mean over +-1 (summed over
    entries, averaged over the batch), joins PPO's own by :class:`~agents.networks.AddedLoss`.

    Args:
        args: as PPO gives them.
        bfm: file of the frozen model, None for the shipped one; the environment's must be the same.
        actor_sees_state: True: the encoder sees ``state`` beside ``task``.
        critic_lr_scale: as in :class:`TaskTokenPolicy`; the paper's rates are 1e-4 and 2e-5.
        max_grad_norm: as in :class:`TaskTokenPolicy`.
        bounds_coef: weight of the bounds loss.
        kwargs: of SB3's ``ActorCriticPolicy``; sizes default to :data:`SIZES`, ``log_std_init`` to
            -2.9.

    Attributes:
        last_bounds_loss: of the last mini-batch, weight included, for curves.

    Raises:
        ValueError: the spaces are not those of ``control="joint"`` around this model, or another
            optimiser or gSDE is asked for.
        CheckpointError: ``bfm`` cannot be loaded.
    """

    bfm_fingerprint: Tensor

    def __init__(
        self,
        *args: Any,
        bfm: str | None = None,
        actor_sees_state: bool = False,
        critic_lr_scale: float = 5.0,
        max_grad_norm: float = 50.0,
        bounds_coef: float = 10.0,
        **kwargs: Any,
    ) -> None:
        self.bfm, self.bounds_coef = bfm, bounds_coef
        self.actor_sees_state = actor_sees_state
        self.critic_lr_scale, self.max_grad_norm = critic_lr_scale, max_grad_norm
        self.last_bounds_loss = 0.0
        super().__init__(*args, **{**SIZES, "log_std_init": -2.9, **kwargs})

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = ("bfm", "bounds_coef", "actor_sees_state", "critic_lr_scale", "max_grad_norm")
        return super()._get_constructor_parameters() | {name: getattr(self, name) for name in own}

    def _build_mlp_extractor(self) -> None:
        assert isinstance(self.observation_space, spaces.Dict)
        model = FrozenModel(self.bfm, self.observation_space, self.action_space)
        self.mlp_extractor = _networks(self, model)  # type: ignore[assignment]
        digest = torch.frombuffer(bytearray.fromhex(model.fingerprint), dtype=torch.uint8)
        self.register_buffer(FINGERPRINT, digest)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = nn.Identity()  # SplitNetworks gives the mean already
        if self.ortho_init:
            # as SB3's last layers: training begins with what the model does without a task
            self.init_weights(self.mlp_extractor.policy_net[-1], gain=0.01)
        self.log_std.requires_grad_(False)
        self.optimizer = _adam(self, lr_schedule)

    def evaluate_actions(self, obs: Any, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """As in SB3; the gradient of the bounds loss comes with that of the log likelihood."""
        values, log_prob, entropy = super().evaluate_actions(obs, actions)
        assert isinstance(self.action_dist, DiagGaussianDistribution)
        loss = self.bounds_coef * bounds_loss(self.action_dist.distribution.mean)
        self.last_bounds_loss = loss.item()
        return values, AddedLoss.apply(log_prob, loss), entropy

    def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
        """As in torch.

        Raises:
            CheckpointError: the weights were trained with another frozen model.
        """
        if FINGERPRINT in state_dict:
            self._compare(_hex(state_dict[FINGERPRINT]), "the policy was trained with")
        return super().load_state_dict(state_dict, *args, **kwargs)

    def check_model(self, model: MaskedMimic) -> None:
        """Compare the environment's frozen model with the policy's.

        Raises:
            CheckpointError: they differ.
        """
        self._compare(fingerprint(model), "the environment is made for")

    def _compare(self, wanted: str, who: str) -> None:
        found = _hex(self.bfm_fingerprint)
        if wanted != found:
            source = "the shipped one" if self.bfm is None else self.bfm
            raise CheckpointError(
                f"{who} the frozen model {wanted}, got {found} ({source}): give the same bfm in "
                "policy_kwargs and to the environment"
            )


def _networks(
    policy: TaskTokenPolicy | ThroughBFMPolicy, model: FrozenModel | None = None
) -> SplitNetworks:
    space = policy.observation_space
    if not isinstance(space, spaces.Dict) or not {TASK, STATE} <= space.keys():
        raise ValueError(
            f"{type(policy).__name__} needs observations with {TASK!r} and {STATE!r}, got {space}"
        )
    if not isinstance(policy.action_dist, DiagGaussianDistribution):
        raise ValueError(f"{type(policy).__name__} needs use_sde=False and a Box of actions")
    # in the order of the observation space, which is that of a token file
    both = tuple(name for name in space if name in (STATE, TASK))
    return SplitNetworks(
        space,
        actor_inputs=both if policy.actor_sees_state else (TASK,),
        critic_inputs=both,
        net_arch=policy.net_arch,
        activation_fn=policy.activation_fn,
        model=model,
    )


def _adam(policy: TaskTokenPolicy | ThroughBFMPolicy, lr_schedule: Any) -> GroupClippedAdam:
    """One group for the actor, one for the critic; nothing that is frozen."""
    if policy.optimizer_class is not torch.optim.Adam:
        raise ValueError(
            f"{type(policy).__name__} has an Adam of its own, got optimizer_class="
            f"{policy.optimizer_class.__name__}: leave it out"
        )
    networks = policy.mlp_extractor
    actor = [*networks.policy_net.parameters(), *policy.action_net.parameters()]
    if policy.log_std.requires_grad:
        actor.append(policy.log_std)
    critic = [*networks.value_net.parameters(), *policy.value_net.parameters()]
    norm = policy.max_grad_norm
    return GroupClippedAdam(
        [
            {"params": actor, "lr_scale": 1.0, "max_grad_norm": norm},
            {"params": critic, "lr_scale": policy.critic_lr_scale, "max_grad_norm": norm},
        ],
        lr=lr_schedule(1),
        **policy.optimizer_kwargs,
    )


def _hex(digest: Tensor) -> str:
    return bytes(digest.tolist()).hex()
