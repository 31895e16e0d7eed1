"""Words for what the clips show, and their embeddings."""

from tt_gym.text.captions import BEHAVIOURS, Behaviour

__all__ = ["BEHAVIOURS", "Behaviour"]
