"""Training a behavior foundation model: a tracker of clips, then distillation."""
