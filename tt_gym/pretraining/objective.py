"""Terms of the loss of stage 2, and the network that only it needs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tt_gym.bfm.maskedmimic import mlp
from tt_gym.bfm.targets import target_size
from tt_gym.humanoids import Humanoid

USUAL_ERROR = 0.15  # rad; beyond it the loss grows linearly: labels just before a fall are wild


class Posterior(nn.Module):
    """Training-only encoder that sees every goal; adds to the prior's mean (paper section 3)."""

    def __init__(self, humanoid: Humanoid, state_width: int, num_targets: int, latent: int) -> None:
        super().__init__()
        width = state_width + num_targets * target_size(humanoid)
        self.net = mlp((width, 512, 256, 2 * latent))

    def forward(self, state: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Shift of the mean and log variance, (N, latent) each."""
        shift, logvar = self.net(torch.cat((state, targets.flatten(1)), dim=-1)).chunk(2, dim=-1)
        return shift, logvar.clamp(-8.0, 4.0)


def kl_divergence(shift: Tensor, logvar: Tensor, prior_logvar: Tensor) -> Tensor:
    """KL(posterior | prior) per sample, (N,), for means that differ by ``shift``."""
    ratio = (logvar - prior_logvar).exp()
    distance = shift.square() / prior_logvar.exp()
    return 0.5 * (prior_logvar - logvar + ratio + distance - 1.0).sum(dim=-1)


def robust_square(error: Tensor) -> Tensor:
    """Square up to :data:`USUAL_ERROR`, from there on linear (twice Huber's loss); any shape."""
    nothing = torch.zeros_like(error)
    return 2.0 * nn.functional.huber_loss(error, nothing, delta=USUAL_ERROR, reduction="none")
