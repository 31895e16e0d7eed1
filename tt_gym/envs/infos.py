"""What a step tells beside observation and reward, as Gymnasium's vector environments do."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor


def as_info(summary: dict[str, Tensor]) -> dict[str, Any]:
    """Numbers of every environment, (N,) each, with masks ``_NAME`` that are True everywhere."""
    info: dict[str, Any] = {}
    for key, value in summary.items():
        info[key] = value.numpy()
        info[f"_{key}"] = np.ones(len(value), dtype=bool)
    return info


def with_final(
    info: dict[str, Any], observations: dict[str, np.ndarray], done: np.ndarray
) -> dict[str, Any]:
    """The info of a same-step autoreset: what was last seen and told where ``done`` (N,)."""
    final_obs = np.full(len(done), None, dtype=object)
    for index in np.flatnonzero(done):
        final_obs[index] = {key: value[index].copy() for key, value in observations.items()}
    final_info = {key: done.copy() if key.startswith("_") else value for key, value in info.items()}
    running = {key: ~done if key.startswith("_") else value for key, value in info.items()}
    return {
        **running,
        "final_obs": final_obs,
        "_final_obs": done.copy(),
        "final_info": final_info,
        "_final_info": done.copy(),
    }
