"""Hyper-parameters in rl-zoo3's format, one file per algorithm."""
