"""Loading the published MaskedMimic checkpoints (ProtoMotions v1 and v3) into our network.

Both files name the same parts differently. A table of prefixes per format translates the names; all
sizes come from the tensors, except the number of attention heads, which no tensor shows.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tt_gym.bfm.maskedmimic import (
    NORM_EPSILON,
    STATE,
    TOKEN_SCALE,
    ActionMap,
    DecoderInput,
    MaskedMimic,
    MaskedMimicConfig,
    Observations,
    TokenType,
    frozen,
)
from tt_gym.bfm.targets import TARGETS, TEXT
from tt_gym.bfm.torch_archive import ZIP_MAGIC, read_torch_archive
from tt_gym.checkpoint import CheckpointError

HISTORY, OBJECT, TERRAIN = "history", "object", "terrain"
"""Names of the published models' further token types."""
TASK = "task"
"""Token type of the task encoder that a fine-tuned v1 file carries."""
PREVIOUS_ACTION = "previous_action"
"""What the v3 decoder sees beside the state."""

DEFAULT_HEADS = 4
"""Attention heads of both published models."""

_LFS_POINTER = b"version https://git-lfs"
_PICKLE = b"\x80"
_WRAPPERS = ("_forward_module.", "_original_module.", "module.")
_CONTAINERS = ("actor", "model", "state_dict")


@dataclasses.dataclass(frozen=True)
class _Format:
    """How one kind of file is laid out.

    Attributes:
        marker: prefix of names that only this format has.
        prefixes: their name -> ours, longest first where one contains another.
        unused: pattern of the names of tensors that take no part in inference.
        counts: tokens per type that has more than one.
        decoder_inputs: what the decoder sees beside the latent, and whether it is normalised.
        norm_clip, relu_features, action_map: as in the network's configuration.
    """

    observations: Observations
    marker: str
    prefixes: dict[str, str]
    unused: re.Pattern[str]
    counts: dict[str, int]
    decoder_inputs: dict[str, bool]
    norm_clip: float | None
    relu_features: bool
    action_map: ActionMap


def _v1_tokens() -> dict[str, str]:
    trunk = "vae_prior.trunk"
    modules = {f"{trunk}.obs_encoder": STATE} | {
        f"{trunk}.extra_input_models.{theirs}": ours
        for theirs, ours in {
            "historical_pose_obs": HISTORY,
            "masked_mimic_target_poses": TARGETS,
            "motion_text_embeddings": TEXT,
            "object_bounding_box_obs": OBJECT,
            "terrain": TERRAIN,
            "inversion_obs": TASK,
        }.items()
    }
    normalizers = {f"{key}.running_obs_norm.": f"normalizers.{v}." for key, v in modules.items()}
    return normalizers | {f"{key}.trunk.": f"encoders.{v}." for key, v in modules.items()}


_V1 = _Format(
    observations="maskedmimic_v1",
    marker="vae_prior.trunk.",
    prefixes={
        **_v1_tokens(),
        "vae_prior.trunk.seqTransEncoder.": "transformer.",
        "vae_prior.output_models.mu.trunk.": "mu.",
        "vae_prior.output_models.logvar.trunk.": "logvar.",
        "mu_model.running_obs_norm.": f"decoder_normalizers.{STATE}.",
        "mu_model.extra_input_models.vae_latent.trunk.": "latent_embedding.",
        "mu_model.trunk.": "decoder.",
    },
    # counters of the statistics, the fixed standard deviation, the posterior of pre-training, and
    # three modules of the prior that its forward pass never uses
    unused=re.compile(
        r".*\.count|logstd|vae_encoder\..*"
        r"|vae_prior\.trunk\.(type_embedding|sequence_pos_encoder|output_mapping)\..*"
    ),
    counts={HISTORY: 15, TARGETS: 11},
    decoder_inputs={STATE: True, TERRAIN: False},
    norm_clip=None,
    relu_features=False,
    action_map="clamp",
)

_V3 = _Format(
    observations="maskedmimic_v3",
    marker="_prior.models.",
    prefixes={
        "_prior.models.0.norm.running_obs_norm.": "target_pose_statistics.",
        "_prior.models.2.norm.running_obs_norm.": "target_time_statistics.",
        "_prior.models.3.norm.running_obs_norm.": f"normalizers.{HISTORY}.",
        "_prior.models.4.norm.running_obs_norm.": f"normalizers.{STATE}.",
        "_prior.models.4.mlp.": f"encoders.{STATE}.",
        "_prior.models.5.mlp.": f"encoders.{TARGETS}.",
        "_prior.models.6.mlp.": f"encoders.{HISTORY}.",
        "_prior.models.7.seqTransEncoder.": "transformer.",
        "_prior.models.8.mlp.": "mu.",
        "_prior.models.9.mlp.": "logvar.",
        "_trunk.models.0.norm.running_obs_norm.": f"decoder_normalizers.{STATE}.",
        "_trunk.models.1.norm.running_obs_norm.": f"decoder_normalizers.{PREVIOUS_ACTION}.",
        "_trunk.models.2.mlp.": "decoder.",
    },
    unused=re.compile(r".*\.count|_encoder\..*"),
    counts={TARGETS: 5, HISTORY: 5},
    decoder_inputs={STATE: True, PREVIOUS_ACTION: True},
    norm_clip=5.0,
    relu_features=True,
    action_map="tanh",
)


def is_official(path: str | Path) -> bool:
    """Whether a file is a PyTorch checkpoint, or the Git-LFS pointer to one, and not ours."""
    with Path(path).open("rb") as file:
        head = file.read(64)
    # ours start with a length, which may be any eight bytes, then a brace
    return head[8:9] != b"{" and head.startswith((ZIP_MAGIC, _LFS_POINTER, _PICKLE))


def load_official(path: str | Path, *, heads: int | None = None) -> MaskedMimic:
    """A frozen model from a published MaskedMimic checkpoint, v1 or v3, told apart by content.

    Args:
        path: ``last.ckpt``; tensors outside the inference path are ignored by name.
        heads: attention heads; by default what a ``*.yaml`` beside the file calls ``num_heads``,
            else 4 as in the published models.

    Raises:
        CheckpointError: missing or corrupt file, a Git-LFS pointer, a pickle that asks for code to
            be run, no MaskedMimic weights in it, or missing, unexpected or mis-shaped tensors
            (one list of all of them).
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint file")
    with path.open("rb") as file:
        if file.read(64).startswith(_LFS_POINTER):
            raise CheckpointError(f"{path}: this is a Git-LFS pointer, run git lfs pull")
    weights = _find_weights(path, read_torch_archive(path))
    if heads is None:
        heads = _heads_beside(path)
    try:
        return official_model(weights, heads=heads)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def official_model(weights: dict[str, Tensor], *, heads: int = DEFAULT_HEADS) -> MaskedMimic:
    """A frozen model from the tensors of a published MaskedMimic, under their published names.

    Args:
        weights: of the whole actor (v1) or model (v3); not kept, copied as float32.
        heads: attention heads.

    Raises:
        CheckpointError: neither format, or tensors missing, unexpected or mis-shaped.
    """
    layout = _recognise(weights)
    if layout is None:
        raise CheckpointError("holds no MaskedMimic weights")
    problems: list[str] = []
    tensors: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        ours = _our_name(layout, name)
        if ours is not None:
            tensors[ours] = tensor
            problems += _damage(name, tensor)
        elif not layout.unused.fullmatch(name):
            problems.append(f"unexpected: {name} {_shape(tensor)}")
    if layout is _V3:
        problems += _merge_target_statistics(tensors)
    try:
        config = _infer_config(layout, tensors, heads)
        with torch.device("meta"):
            model = MaskedMimic(config)
    except (CheckpointError, ValueError, RuntimeError, ZeroDivisionError) as error:
        if problems:  # they may be the reason
            raise _listed(layout, problems) from error
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"tensors of impossible sizes: {error}") from error
    tensors["token_basis"] = TOKEN_SCALE * torch.eye(config.token_width)
    problems += _compare(layout, tensors, model)
    if problems:
        raise _listed(layout, problems)
    copies = {name: tensors[name].to(torch.float32, copy=True) for name in model.state_dict()}
    model.load_state_dict(copies, assign=True)
    return frozen(model)


# ---- recognising --------------------------------------------------------------------------------


def _recognise(weights: dict[str, Tensor]) -> _Format | None:
    for layout in (_V1, _V3):
        if any(name.startswith(layout.marker) for name in weights):
            return layout
    return None


def _find_weights(path: Path, content: Any) -> dict[str, Tensor]:
    """The tensors of the model, wrappers' prefixes removed, wherever in the file they are."""
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds no MaskedMimic weights, only {type(content)}")
    for candidate in (*(content.get(key) for key in _CONTAINERS), content):
        if not isinstance(candidate, dict):
            continue
        weights = {
            _unwrapped(name): value
            for name, value in candidate.items()
            if isinstance(name, str) and isinstance(value, Tensor)
        }
        if _recognise(weights) is not None:
            return weights
    known = ", ".join(sorted(str(key)[:60] for key in content)[:20])
    raise CheckpointError(f"{path}: holds no MaskedMimic weights (v1 or v3); its entries: {known}")


def _unwrapped(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


def _heads_beside(path: Path) -> int:
    found = set()
    for side in sorted(path.parent.glob("*.yaml")):
        text = side.read_text(encoding="utf-8", errors="replace")
        found |= {int(number) for number in re.findall(r"\bnum_heads:\s*(\d{1,4})\b", text)}
    return found.pop() if len(found) == 1 else DEFAULT_HEADS


# ---- names --------------------------------------------------------------------------------------


def _our_name(layout: _Format, name: str) -> str | None:
    if layout.unused.fullmatch(name):
        return None
    for theirs, ours in layout.prefixes.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return None


def _their_name(layout: _Format, name: str) -> str:
    for theirs, ours in layout.prefixes.items():
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


# ---- sizes --------------------------------------------------------------------------------------


def _infer_config(layout: _Format, tensors: dict[str, Tensor], heads: int) -> MaskedMimicConfig:
    """Every size from the tensor that shows it; where that is missing any, to be reported later."""
    width = _mlp_sizes(tensors, f"encoders.{STATE}")[-1]
    if heads < 1 or width % heads:
        raise CheckpointError(f"heads must divide the token width {width}, got {heads}")
    types = []
    for name in _token_types(layout, tensors):
        inputs, *hidden, _ = _mlp_sizes(tensors, f"encoders.{name}")
        count = layout.counts.get(name, 1)
        types.append(TokenType(name, inputs, count, encoder_widths=tuple(hidden)))
    _, *head, latent = _mlp_sizes(tensors, "mu")
    _, *decoder, action = _mlp_sizes(tensors, "decoder")
    seen = {item.name: item.width for item in types} | {PREVIOUS_ACTION: action}
    embedded = "latent_embedding." in layout.prefixes.values()
    return MaskedMimicConfig(
        token_types=tuple(types),
        action_size=action,
        token_width=width,
        encoder_widths=(),
        layers=len({name.split(".")[2] for name in tensors if name.startswith("transformer.l")}),
        heads=heads,
        feedforward=_rows(tensors, "transformer.layers.0.linear1.weight"),
        latent_size=latent,
        head_widths=tuple(head),
        decoder_widths=tuple(decoder),
        norm_clip=layout.norm_clip,
        relu_features=layout.relu_features,
        latent_embedding=_mlp_sizes(tensors, "latent_embedding")[1:] if embedded else (),
        decoder_inputs=tuple(
            DecoderInput(name, seen[name], normalize)
            for name, normalize in layout.decoder_inputs.items()
        ),
        action_map=layout.action_map,
        observations=layout.observations,
    )


def _token_types(layout: _Format, tensors: dict[str, Tensor]) -> list[str]:
    """The format's token types in its order, the optional task encoder only if it is there."""
    encoders = [ours for ours in layout.prefixes.values() if ours.startswith("encoders.")]
    has_task = any(name.startswith(f"encoders.{TASK}.") for name in tensors)
    names = [ours.split(".")[1] for ours in encoders]
    return [name for name in names if name != TASK or has_task]


def _mlp_sizes(tensors: dict[str, Tensor], prefix: str) -> tuple[int, ...]:
    """Input, hidden and output widths of an :func:`mlp`; (1, 1) if it is not there at all."""
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d{{1,3}})\.weight")
    weights = {}
    for name, tensor in tensors.items():
        match = pattern.fullmatch(name)
        if match and tensor.ndim == 2:
            weights[int(match[1])] = tensor.shape
    if not weights:
        return (1, 1)
    last = max(weights)
    sizes = []
    for index in range(0, last + 1, 2):
        before = weights.get(index - 2, (1, 1))
        sizes.append(weights[index][1] if index in weights else before[0])
    return (*sizes, weights[last][0])


def _rows(tensors: dict[str, Tensor], name: str) -> int:
    tensor = tensors.get(name)
    return 1 if tensor is None or tensor.ndim == 0 else tensor.shape[0]


def _merge_target_statistics(tensors: dict[str, Tensor]) -> list[str]:
    """One normaliser for a v3 target token, which is pose features, mask bits and time.

    The file has statistics for the pose and for the time; the mask bits pass unchanged.
    """
    problems = []
    width = _mlp_sizes(tensors, f"encoders.{TARGETS}")[0]
    for kind, unchanged in (("mean", 0.0), ("var", 1.0 - NORM_EPSILON)):
        parts = [tensors.pop(f"target_{part}_statistics.{kind}", None) for part in ("pose", "time")]
        for part, index in zip(parts, (0, 2), strict=True):
            if part is None:
                problems.append(f"missing: _prior.models.{index}.norm.running_obs_norm.{kind}")
        pose, time = (torch.zeros(1) if part is None else part.flatten() for part in parts)
        bits = torch.full((max(width - len(pose) - len(time), 0),), unchanged, dtype=pose.dtype)
        tensors[f"normalizers.{TARGETS}.{kind}"] = torch.cat((pose, bits, time.to(pose.dtype)))
    return problems


# ---- reporting ----------------------------------------------------------------------------------


def _damage(name: str, tensor: Tensor) -> list[str]:
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_complex():
        return [f"unusable: {name} is not a plain real tensor"]
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return [f"unusable: {name} {_shape(tensor)} is larger than what is stored of it"]
    if not tensor.isfinite().all():
        return [f"unusable: {name} holds NaN or infinity"]
    return []


def _compare(layout: _Format, tensors: dict[str, Tensor], model: MaskedMimic) -> list[str]:
    expected = model.state_dict()
    problems = [
        f"missing: {_their_name(layout, name)} {_shape(tensor)}"
        for name, tensor in expected.items()
        if name not in tensors
    ]
    for name, tensor in tensors.items():
        if name not in expected:
            problems.append(f"unexpected: {_their_name(layout, name)} {_shape(tensor)}")
        elif tensor.shape != expected[name].shape:
            wanted = _shape(expected[name])
            found = _shape(tensor)
            problems.append(f"wrong shape: {_their_name(layout, name)} is {found}, not {wanted}")
    return problems


def _shape(tensor: Tensor) -> str:
    return f"({', '.join(str(size) for size in tensor.shape)})"


def _listed(layout: _Format, problems: list[str]) -> CheckpointError:
    lines = "\n  ".join(problems)
    return CheckpointError(f"does not fit the {layout.observations} network:\n  {lines}")
