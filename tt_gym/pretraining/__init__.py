"""Training a behavior foundation model: a tracker of clips, then distillation."""

from tt_gym.openmp import choose_waiting

choose_waiting()
