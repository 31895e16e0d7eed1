"""Which seconds of the clips are followed badly, and episodes that begin before them."""

from __future__ import annotations

import re

import torch
from torch import Tensor

from tt_gym.motions.clip import FPS
from tt_gym.motions.library import MotionLibrary

_LENGTH = FPS  # frames
_AHEAD = 3  # an episode begins up to this many windows before a hard one
_EASY = 0.1  # weight of a window that never fails, beside the root of the failure rate
_DECAY = 0.999  # of the counts, per control step
_PRIOR_RATE = 0.3


def kind(name: str) -> str:
    """A clip's name without numbers at its end: takes, tempi and variants are of one kind."""
    return re.sub(r"(_x?[\d.]+|\d+)+$", "", name) or name


class HardWindows:
    """Failure rate of every second of the clips, and start frames drawn by it.

    Kinds of clips (:func:`kind`) count by the root of their length in all: else a few recorded
    jumps would drown in hundreds of made walks.

    Args:
        library: the clips.

    Attributes:
        failures: decaying counts of failed passages, (M,).
        tries: of all passages, (M,).
    """

    def __init__(self, library: MotionLibrary) -> None:
        self.library = library
        counts = (library.lengths + _LENGTH - 1) // _LENGTH
        self._first = torch.cumsum(counts, dim=0) - counts
        self._clip = torch.repeat_interleave(torch.arange(len(counts)), counts)
        self._frame = (torch.arange(len(self._clip)) - self._first[self._clip]) * _LENGTH
        names = [kind(name) for name in library.names]
        kinds = torch.tensor([names.index(name) for name in names])
        total = torch.zeros(len(names)).index_add_(0, kinds, library.durations_s)
        share = library.durations_s / total[kinds].sqrt()
        self._share = (share / counts)[self._clip]
        last = (self._first + counts - 1)[self._clip]
        ahead = torch.arange(len(last)).unsqueeze(1) + torch.arange(_AHEAD)
        self._ahead = torch.minimum(ahead, last.unsqueeze(1))  # (M, A)
        self.tries = torch.ones(len(self._clip))
        self.failures = _PRIOR_RATE * self.tries

    def weights(self) -> Tensor:
        """Of drawing each window, (M,): the root of the failure rate in it and the next two."""
        rate = (self.failures / self.tries)[self._ahead].mean(dim=1)
        return self._share * (rate.sqrt() + _EASY)

    def draw(self, count: int, generator: torch.Generator, *, margin: int) -> tuple[Tensor, Tensor]:
        """Clips and start frames, (count,) long each, at least ``margin`` frames before the end."""
        window = torch.multinomial(self.weights(), count, replacement=True, generator=generator)
        clips = self._clip[window]
        frames = self._frame[window] + torch.randint(_LENGTH, (count,), generator=generator)
        return clips, torch.minimum(frames, (self.library.lengths[clips] - margin).clamp(min=0))

    def count(self, clips: Tensor, frames: Tensor, failed: Tensor) -> None:
        """Note a control step that led to ``frames`` (N,) of ``clips``, and who failed in it."""
        self.tries = _DECAY * self.tries + (1.0 - _DECAY)
        self.failures = _DECAY * self.failures + (1.0 - _DECAY) * _PRIOR_RATE
        done = failed | (frames % _LENGTH == 0)
        passed = (frames - 1).clamp(min=0)  # a reference that keeps pace may be back at the first
        window = (self._first[clips] + passed // _LENGTH)[done]
        self.tries.index_add_(0, window, torch.ones(len(window)))
        self.failures.index_add_(0, window, failed[done].float())
