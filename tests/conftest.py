"""What several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tt_gym.bfm.maskedmimic import MaskedMimic
from tt_gym.bfm.pretrained_model import SHIPPED, default_config, save_bfm
from tt_gym.humanoids import DEEPMIMIC


def save_random_bfm(path: Path, seed: int) -> str:
    """An untrained frozen model of our sizes, as a file."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_bfm(MaskedMimic(default_config(DEEPMIMIC)), path)
    return str(path)


@pytest.fixture(scope="session")
def bfm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """File of a frozen model: the shipped one, or an untrained one where none is shipped yet."""
    if SHIPPED.exists():
        return str(SHIPPED)
    return save_random_bfm(tmp_path_factory.mktemp("bfm") / "random.safetensors", seed=0)


@pytest.fixture(scope="session")
def other_bfm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """File of a model that differs from :func:`bfm`."""
    return save_random_bfm(tmp_path_factory.mktemp("bfm") / "other.safetensors", seed=1)
