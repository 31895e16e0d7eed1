"""One safe file per checkpoint: tensors in safetensors, everything else as JSON in its header.

Loading never executes code: there is no pickle anywhere.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_TENSOR_KEY = "__tensor__"


class CheckpointError(ValueError):
    """A checkpoint file that cannot be used; the text says why and what to do."""


def save_checkpoint(path: str | Path, *, kind: str, content: dict[str, Any]) -> None:
    """Write nested dicts and lists of tensors and JSON values, atomically.

    Args:
        path: replaced in one step, so that a kill leaves the old file or the new one.
        kind: what the file is, checked when loading (such as ``tracker``).
        content: dicts with string keys, lists, tensors, numbers, strings, None.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    plain = _split(content, "", tensors)
    temporary = path.with_name(f".{path.name}.tmp")
    save_file(tensors, temporary, metadata={"kind": f"tt_gym/{kind}", "content": json.dumps(plain)})
    os.replace(temporary, path)


def load_checkpoint(path: str | Path, *, kind: str) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        CheckpointError: the file is missing, truncated, foreign or of another kind.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        head = path.read_bytes()[:64]
        if head.startswith(b"version https://git-lfs"):
            raise CheckpointError(f"{path}: is a Git-LFS pointer, run git lfs pull") from error
        raise CheckpointError(f"{path}: corrupt or not a safetensors file ({error})") from error
    found = metadata.get("kind")
    if found != f"tt_gym/{kind}":
        raise CheckpointError(f"{path}: is not a {kind} checkpoint of tt_gym (kind: {found!r})")
    try:
        return _join(json.loads(metadata["content"]), tensors)
    except (KeyError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: damaged: its header does not fit its tensors") from error


def check_finite(path: str | Path, weights: dict[str, Tensor]) -> None:
    """Refuse weights that would act on nothing but NaN.

    Raises:
        CheckpointError: names the file and the first tensor with NaN or infinity.
    """
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path}: tensor {name} holds NaN or infinity")


def _split(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().contiguous().clone()
        return {_TENSOR_KEY: name}
    if isinstance(value, dict):
        return {key: _split(item, f"{name}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_split(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
    return value


def _join(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        if _TENSOR_KEY in value:
            return tensors[value[_TENSOR_KEY]]
        return {key: _join(item, tensors) for key, item in value.items()}
    if isinstance(value, list):
        return [_join(item, tensors) for item in value]
    return value


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimiser's state as content for :func:`save_checkpoint` (string keys)."""
    state = optimizer.state_dict()
    groups = [
        {key: value for key, value in group.items() if not callable(value)}
        for group in state["param_groups"]
    ]
    return {"state": {str(key): value for key, value in state["state"].items()}, "groups": groups}


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Inverse of :func:`optimizer_state`."""
    optimizer.load_state_dict(
        {
            "state": {int(key): value for key, value in saved["state"].items()},
            "param_groups": saved["groups"],
        }
    )
