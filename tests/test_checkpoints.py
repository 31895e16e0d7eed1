"""Files of the published models: recognised, checked, and never trusted."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import pickle
import re
import shutil
import signal
import sys
import tracemalloc
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from tt_gym.bfm.checkpoints import TASK, is_official, load_official, official_model
from tt_gym.bfm.maskedmimic import STATE, MaskedMimic
from tt_gym.bfm.pretrained_model import default_config, fingerprint, load_bfm, save_bfm
from tt_gym.bfm.targets import TARGETS
from tt_gym.bfm.torch_archive import read_torch_archive
from tt_gym.checkpoint import CheckpointError, save_checkpoint
from tt_gym.humanoids import DEEPMIMIC

DATA = Path(__file__).parent / "data"
V1, V3 = DATA / "maskedmimic_v1" / "tiny.ckpt", DATA / "maskedmimic_v3" / "tiny.ckpt"
FUZZ = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def v1_weights() -> dict[str, Tensor]:
    return dict(torch.load(V1, weights_only=True)["actor"])


def v3_weights() -> dict[str, Tensor]:
    return dict(torch.load(V3, weights_only=True)["model"])


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


# ---- recognising --------------------------------------------------------------------------------


def test_files_are_told_apart_by_content(tmp_path):
    ours = tmp_path / "ours.ckpt"
    save_bfm(MaskedMimic(default_config(DEEPMIMIC)), ours)
    found = [load_bfm(path).config.observations for path in (ours, V1, V3)]
    assert found == ["tt_gym", "maskedmimic_v1", "maskedmimic_v3"]


def test_our_own_file_is_ours_whatever_its_length(tmp_path):
    """The first byte of a safetensors file is that of a length, and may be that of a pickle."""
    path = tmp_path / "ours.safetensors"
    for filler in range(300):
        save_file({"x": torch.zeros(1)}, path, metadata={"filler": "x" * filler})
        assert not is_official(path)
        if path.read_bytes()[0] == 0x80:
            return
    pytest.fail("no file began with the byte of a pickle")


def test_a_file_from_before_the_published_models_still_loads(tmp_path):
    ours = default_config(DEEPMIMIC)
    model = MaskedMimic(dataclasses.replace(ours, token_types=ours.token_types[:2]))  # no words
    config = dataclasses.asdict(model.config)
    for name in ("norm_clip", "relu_features", "latent_embedding", "decoder_inputs", "action_map",
                 "observations"):  # fmt: skip
        del config[name]
    for item in config["token_types"]:
        del item["encoder_widths"]
    content = {"config": config, "weights": dict(model.state_dict())}
    save_checkpoint(tmp_path / "old.safetensors", kind="bfm", content=content)
    loaded = load_bfm(tmp_path / "old.safetensors")
    assert loaded.config == model.config
    assert fingerprint(loaded) == fingerprint(model)


def test_our_own_networks_tensors_keep_their_names():
    with torch.device("meta"):
        names = set(MaskedMimic(default_config(DEEPMIMIC)).state_dict())
    families = {name.split(".")[0] for name in names - {"token_basis"}}
    assert families == {"normalizers", "encoders", "transformer", "mu", "logvar", "decoder"}
    assert len(names) == 51


@pytest.mark.parametrize("path", [V1, V3])
def test_a_published_model_may_be_saved_as_ours(path, tmp_path):
    model = load_official(path)
    save_bfm(model, tmp_path / "copy.safetensors")
    copy = load_bfm(tmp_path / "copy.safetensors")
    assert copy.config == model.config
    assert fingerprint(copy) == fingerprint(model)


@pytest.mark.parametrize("prefix", ["module.", "_forward_module.", "_forward_module.module."])
def test_prefixes_of_wrappers_do_not_matter(prefix, tmp_path):
    wrapped = {prefix + name: tensor for name, tensor in v1_weights().items()}
    path = save({"actor": wrapped, "epoch": 7}, tmp_path / "wrapped.ckpt")
    assert fingerprint(load_official(path)) == fingerprint(load_official(V1))


@pytest.mark.parametrize(("path", "weights"), [(V1, v1_weights), (V3, v3_weights)])
def test_a_bare_state_dict_will_do(path, weights, tmp_path):
    bare = load_official(save(weights(), tmp_path / "bare.pt"))
    assert fingerprint(bare) == fingerprint(load_official(path))


def test_tensors_that_no_action_depends_on_may_be_missing():
    weights = v1_weights()
    needless = re.compile(
        r".*count|logstd|vae_encoder.*|.*type_embedding.*|.*sequence_pos_encoder.*|.*output_mapping.*"
    )
    needed = {name: value for name, value in weights.items() if not needless.fullmatch(name)}
    assert len(needed) < len(weights) - 20
    assert fingerprint(official_model(needed)) == fingerprint(load_official(V1))


def test_a_fine_tuned_file_brings_its_task_encoder():
    extra = torch.load(DATA / "maskedmimic_v1" / "tiny_task_token.pt", weights_only=True)
    model = official_model(v1_weights() | extra)
    assert model.types[TASK].width == 5
    assert model.types[TASK].encoder_widths == (18, 22, 26)
    assert TASK not in load_official(V1).types


# ---- sizes --------------------------------------------------------------------------------------


def test_sizes_are_those_of_the_tensors():
    config = load_official(V1).config
    assert (config.token_width, config.layers, config.feedforward) == (32, 2, 64)
    assert (config.latent_size, config.head_widths) == (16, (28, 18))
    assert config.decoder_widths == (48, 36, 44)
    assert config.latent_embedding == (28, 18, 16)
    assert config.action_size == 69


def test_heads_come_from_the_file_beside_or_the_caller(tmp_path):
    path = Path(shutil.copy(V1, tmp_path / "last.ckpt"))
    assert load_official(path).config.heads == 4
    (tmp_path / "config.yaml").write_text("prior:\n  num_layers: 2\n  num_heads: 8\n")
    assert load_official(path).config.heads == 8
    assert load_official(path, heads=2).config.heads == 2
    with pytest.raises(CheckpointError, match="heads must divide the token width 32, got 5"):
        load_official(path, heads=5)


# Widths of the reduced models -> other ones. 96 and 64 are thrice the token width and feedforward.
OTHER = {32: 48, 96: 144, 64: 40, 24: 26, 20: 22, 28: 30, 18: 17, 16: 12, 48: 50, 36: 35, 44: 45}
OTHER |= {358 + 256 + 16: 358 + 256 + 12, 358 + 69 + 16: 358 + 69 + 12}


def resized(
    weights: dict[str, Tensor], *, layers: int, deeper: tuple[str, ...]
) -> dict[str, Tensor]:
    """Random weights of other widths, another number of layers, and MLPs with one layer more."""
    generator = torch.Generator().manual_seed(0)
    used = {k: v for k, v in weights.items() if "encoder.trunk" not in k or "obs_encoder" in k}
    used = {k: v for k, v in used.items() if not k.startswith(("_encoder.", "vae_encoder."))}
    for name in [name for name in used if ".layers.1." in name]:
        tensor = used.pop(name)
        used |= {name.replace(".layers.1.", f".layers.{n}."): tensor for n in range(1, layers)}
    for prefix in deeper:
        last = max(int(name.split(".")[-2]) for name in used if name.startswith(prefix + "."))
        width = used[f"{prefix}.{last}.weight"].shape[1]
        for kind in ("weight", "bias"):
            used[f"{prefix}.{last + 2}.{kind}"] = used.pop(f"{prefix}.{last}.{kind}")
        used[f"{prefix}.{last}.weight"] = torch.zeros(width, width)
        used[f"{prefix}.{last}.bias"] = torch.zeros(width)

    def drawn(name: str, old: Tensor) -> Tensor:
        if not old.is_floating_point():
            return old
        values = torch.randn(*[OTHER.get(n, n) for n in old.shape], generator=generator)
        if name.endswith("var"):
            return 1.0 + values.square()
        if ".norm" in name and name.endswith("weight") and old.ndim == 1:
            return 1.0 + 0.1 * values
        # so that every layer passes on about as much as it is given
        return 1.5 * values / values.shape[1] ** 0.5 if old.ndim == 2 else 0.1 * values

    return {name: drawn(name, old) for name, old in used.items()}


def plain_mlp(weights: dict[str, Tensor], prefix: str, x: Tensor) -> Tensor:
    index = 0
    while f"{prefix}.{index}.weight" in weights:
        if index:
            x = x.relu()
        x = F.linear(x, weights[f"{prefix}.{index}.weight"], weights[f"{prefix}.{index}.bias"])
        index += 2
    assert index >= 2
    return x


def plain_norm(
    weights: dict[str, Tensor], prefix: str, x: Tensor, clip: float | None = None
) -> Tensor:
    mean, var = (
        weights[f"{prefix}.running_obs_norm.mean"],
        weights[f"{prefix}.running_obs_norm.var"],
    )
    x = (x - mean) / (var + 1e-5).sqrt()
    return x if clip is None else x.clamp(-clip, clip)


def plain_transformer(weights: dict[str, Tensor], prefix: str, x: Tensor, heads: int) -> Tensor:
    """Post-norm encoder layers, everything visible: (N, K, E) -> the first row (N, E)."""
    index = 0
    while f"{prefix}.{index}.linear1.weight" in weights:

        def w(name: str, index: int = index) -> Tensor:
            return weights[f"{prefix}.{index}.{name}"]

        qkv = F.linear(x, w("self_attn.in_proj_weight"), w("self_attn.in_proj_bias"))
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in qkv.chunk(3, dim=-1))
        attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(dim=-1)
        mixed = (attention @ v).transpose(1, 2).flatten(2)
        x = x + F.linear(mixed, w("self_attn.out_proj.weight"), w("self_attn.out_proj.bias"))
        x = F.layer_norm(x, x.shape[-1:], w("norm1.weight"), w("norm1.bias"))
        inner = F.linear(x, w("linear1.weight"), w("linear1.bias")).relu()
        x = x + F.linear(inner, w("linear2.weight"), w("linear2.bias"))
        x = F.layer_norm(x, x.shape[-1:], w("norm2.weight"), w("norm2.bias"))
        index += 1
    assert index
    return x[:, 0]


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("layers", "heads"), [(1, 2), (3, 6)])
def test_a_v1_model_of_any_size_does_what_its_tensors_say(layers, heads):
    prior = "vae_prior.trunk"
    deeper = (f"{prior}.obs_encoder.trunk", f"{prior}.extra_input_models.terrain.trunk",
              "mu_model.trunk", "vae_prior.output_models.mu.trunk",
              "vae_prior.output_models.logvar.trunk",
              "mu_model.extra_input_models.vae_latent.trunk")  # fmt: skip
    weights = resized(v1_weights(), layers=layers, deeper=deeper)
    model = official_model(weights, heads=heads)
    assert (model.config.layers, model.config.token_width, model.config.latent_size) == (
        layers, 48, 12,
    )  # fmt: skip
    state, terrain = random(3, 358, seed=0), random(3, 256, seed=1)
    extra = f"{prior}.extra_input_models.terrain"
    rows = [
        plain_mlp(weights, f"{prior}.obs_encoder.trunk",
                  plain_norm(weights, f"{prior}.obs_encoder", state)),
        plain_mlp(weights, f"{extra}.trunk", plain_norm(weights, extra, terrain)),
    ]  # fmt: skip
    row = plain_transformer(
        weights, f"{prior}.seqTransEncoder.layers", torch.stack(rows, dim=1), heads
    )
    mean = plain_mlp(weights, "vae_prior.output_models.mu.trunk", row)
    latent = plain_mlp(weights, "mu_model.extra_input_models.vae_latent.trunk", mean)
    seen = torch.cat((plain_norm(weights, "mu_model", state), terrain, latent), dim=1)
    action = plain_mlp(weights, "mu_model.trunk", seen)

    goals = {"terrain": (terrain.unsqueeze(1), torch.ones(3, 1, dtype=torch.bool))}
    ours, _ = model.prior(model.normalize(STATE, state), goals)
    torch.testing.assert_close(ours, mean, rtol=1e-4, atol=1e-4)
    other, _ = official_model(weights, heads=12).prior(model.normalize(STATE, state), goals)
    assert (other - mean).abs().max() > 0.05
    inputs = model.decoder_input({"state": state, "terrain": terrain})
    torch.testing.assert_close(model.decode(inputs, ours), action, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("layers", "heads"), [(1, 2), (3, 6)])
def test_a_v3_model_of_any_size_does_what_its_tensors_say(layers, heads):
    priors = (f"_prior.models.{index}.mlp" for index in (4, 5, 8, 9))
    deeper = (*priors, "_trunk.models.2.mlp")
    weights = resized(v3_weights(), layers=layers, deeper=deeper)
    model = official_model(weights, heads=heads)
    assert (model.config.layers, model.config.token_width) == (layers, 48)
    state, previous = random(3, 358, seed=0), random(3, 69, seed=1)
    poses, time = random(3, 5, 144, seed=2), random(3, 5, 1, seed=3).abs()
    bits = (random(3, 5, 12, seed=4) > 0).float()
    target = torch.cat(
        (
            plain_norm(weights, "_prior.models.0.norm", poses, 5.0),
            bits,
            plain_norm(weights, "_prior.models.2.norm", time, 5.0),
        ),
        dim=-1,
    )
    first = plain_mlp(
        weights, "_prior.models.4.mlp", plain_norm(weights, "_prior.models.4.norm", state, 5.0)
    )
    tokens = plain_mlp(weights, "_prior.models.5.mlp", target)
    visible = torch.ones(3, 5, dtype=torch.bool)
    visible[:, [1, 3]] = False
    sequence = torch.cat((first.unsqueeze(1), tokens[:, visible[0]]), dim=1)
    row = plain_transformer(weights, "_prior.models.7.seqTransEncoder.layers", sequence, heads)
    mean = plain_mlp(weights, "_prior.models.8.mlp", row.relu())
    seen = torch.cat(
        (
            plain_norm(weights, "_trunk.models.0.norm", state, 5.0),
            plain_norm(weights, "_trunk.models.1.norm", previous, 5.0),
            mean,
        ),
        dim=1,
    )
    action = plain_mlp(weights, "_trunk.models.2.mlp", seen)

    values, seen_state = torch.cat((poses, bits, time), dim=-1), model.normalize(STATE, state)
    ours, _ = model.prior(seen_state, {TARGETS: (values, visible)})
    torch.testing.assert_close(ours, mean, rtol=1e-4, atol=1e-4)
    others = official_model(weights, heads=12).prior(seen_state, {TARGETS: (values, visible)})
    everything = model.prior(seen_state, {TARGETS: (values, visible | True)})
    for other, _ in (others, everything):
        assert (other - mean).abs().max() > 0.05
    inputs = model.decoder_input({"state": state, "previous_action": previous})
    torch.testing.assert_close(model.decode(inputs, ours), action, rtol=1e-4, atol=1e-4)


# ---- what does not fit --------------------------------------------------------------------------


def test_everything_that_does_not_fit_is_listed_at_once(tmp_path):
    weights = v1_weights()
    del weights["vae_prior.output_models.mu.trunk.2.bias"]
    del weights["mu_model.trunk.4.weight"]
    weights["vae_prior.trunk.obs_encoder.trunk.0.bias"] = torch.zeros(7)
    path = save({"actor": weights}, tmp_path / "broken.ckpt")
    with pytest.raises(CheckpointError) as caught:
        load_official(path)
    text = str(caught.value)
    assert str(path) in text
    assert "maskedmimic_v1" in text
    assert "\n  missing: vae_prior.output_models.mu.trunk.2.bias (18)" in text
    assert "\n  missing: mu_model.trunk.4.weight (44, 36)" in text
    assert "\n  wrong shape: vae_prior.trunk.obs_encoder.trunk.0.bias is (7), not (24)" in text
    assert text.count("\n") == 3


def test_unknown_unusable_and_missing_tensors_are_in_one_list():
    weights = v3_weights() | {"_prior.models.10.mlp.0.weight": torch.zeros(2, 3)}
    del weights["_prior.models.8.mlp.0.bias"]
    weights["_trunk.models.2.mlp.0.bias"] = torch.full((7,), torch.nan)
    with pytest.raises(CheckpointError) as caught:
        official_model(weights)
    kinds = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert sorted(kinds) == ["missing", "unexpected", "unusable", "wrong shape"]


def test_unknown_tensors_are_listed():
    weights = v3_weights() | {"_prior.models.10.mlp.0.weight": torch.zeros(2, 3)}
    with pytest.raises(CheckpointError, match=r"unexpected: _prior\.models\.10\.mlp.*\(2, 3\)"):
        official_model(weights)


@pytest.mark.parametrize("index", [0, 2])
def test_missing_statistics_of_v3_targets_are_listed(index):
    weights = v3_weights()
    name = f"_prior.models.{index}.norm.running_obs_norm.var"
    del weights[name]
    with pytest.raises(CheckpointError, match=re.escape(f"missing: {name}")):
        official_model(weights)


@pytest.mark.parametrize("name", ["mu_model.trunk.0.bias", "vae_prior.trunk.terrain"])
def test_a_whole_family_may_be_missing(name):
    family = name.rpartition(".")[0] if name.startswith("mu") else "vae_prior.trunk.extra"
    weights = {key: value for key, value in v1_weights().items() if not key.startswith(family)}
    with pytest.raises(CheckpointError, match="missing: "):
        official_model(weights)


def test_weights_that_are_no_numbers_are_refused():
    weights = v1_weights()
    weights["mu_model.trunk.0.bias"][3] = torch.nan
    with pytest.raises(CheckpointError, match=r"mu_model\.trunk\.0\.bias holds NaN or infinity"):
        official_model(weights)


def test_a_tensor_larger_than_its_storage_is_refused():
    weights = v1_weights() | {"mu_model.trunk.0.weight": torch.zeros(1).expand(10**6, 10**6)}
    with pytest.raises(CheckpointError, match="larger than what is stored"):
        official_model(weights)


def test_a_file_without_a_model_says_what_it_holds(tmp_path):
    path = save({"policy": {"x": torch.zeros(1)}, "epoch": 3}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"no MaskedMimic weights.*epoch, policy"):
        load_official(path)


def test_a_git_lfs_pointer_says_what_to_do(tmp_path):
    path = tmp_path / "last.ckpt"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:447c\nsize 283236370\n")
    for load in (load_official, load_bfm):
        with pytest.raises(CheckpointError, match="this is a Git-LFS pointer, run git lfs pull"):
            load(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.ckpt: no such checkpoint file"):
        load_official(tmp_path / "nowhere.ckpt")


# ---- pickles ------------------------------------------------------------------------------------


class Evil:
    """Unpickled by plain pickle, it would run a shell command that leaves a mark."""

    def __init__(self, mark: Path, function: Any = os.system) -> None:
        self.mark, self.function = mark, function

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        if self.function is os.system:
            return os.system, (f"touch {self.mark}",)
        return self.function, (f"open({str(self.mark)!r}, 'w')",)


def test_the_attack_would_work_on_plain_pickle(tmp_path):
    mark = tmp_path / "mark"
    pickle.loads(pickle.dumps(Evil(mark)))
    assert mark.exists()


@pytest.mark.parametrize("function", [os.system, eval, exec])
@pytest.mark.parametrize("place", ["alone", "beside", "inside"])
def test_a_hostile_pickle_runs_nothing(function, place, tmp_path):
    evil, weights = Evil(tmp_path / "mark", function), v3_weights()
    content = {
        "alone": evil,
        "beside": {"model": weights, "extra": evil},
        "inside": {"model": weights | {"evil": evil}},
    }[place]
    path = save(content, tmp_path / "hostile.ckpt")
    asked = f"run {function.__module__.replace('nt', 'posix')}.{function.__name__}"
    for load in (load_official, load_bfm):
        with pytest.raises(CheckpointError, match=f"{asked}.*nothing was run, do not trust"):
            load(path)
    assert not (tmp_path / "mark").exists()


def test_a_bare_hostile_pickle_runs_nothing(tmp_path):
    path = tmp_path / "hostile.ckpt"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "mark")))
    for load in (load_official, load_bfm):
        with pytest.raises(CheckpointError, match="not a PyTorch checkpoint"):
            load(path)
    assert not (tmp_path / "mark").exists()


def test_objects_of_other_libraries_are_passed_over(tmp_path, monkeypatch):
    """As in the published v1 file, whose optimiser holds a list of a configuration library."""
    module = types.ModuleType("configuration_library")

    class Setting(list):
        def __init__(self, *values: Any) -> None:
            super().__init__(values)
            self.owner = "optimizer"

    Setting.__module__, Setting.__qualname__ = module.__name__, "Setting"
    module.Setting = Setting  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    content = {"model": v3_weights(), "optimizer": {"betas": Setting(0.9, 0.99)}}
    path = save(content, tmp_path / "last.ckpt")
    monkeypatch.delitem(sys.modules, module.__name__)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert fingerprint(load_official(path)) == fingerprint(load_official(V3))


def test_the_fixture_with_a_configuration_list_is_read():
    path = DATA / "maskedmimic_v1" / "listconfig_like.ckpt"
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    content = read_torch_archive(path)
    torch.testing.assert_close(content["actor"]["logstd"], torch.full((69,), -2.9))
    assert content["epoch"] == 7
    with pytest.raises(CheckpointError, match="no MaskedMimic weights"):
        load_official(path)


def every_kind_of_tensor() -> dict[str, Tensor]:
    base = torch.arange(24.0).view(4, 6)
    kinds = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16,
             torch.int8, torch.uint8, torch.bool)  # fmt: skip
    return {str(kind): base.to(kind) for kind in kinds} | {
        "scalar": torch.tensor(5),
        "empty": torch.zeros(0, 6),
        "transposed": base.t(),
        "a part": base[1:3, 2:],
        "parameter": torch.nn.Parameter(base),
    }


def test_the_restricted_reader_reads_every_kind_of_tensor(tmp_path):
    tensors = every_kind_of_tensor()
    path = save({"tensors": tensors, "other": unknown_object()}, tmp_path / "all.pt")
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    found = read_torch_archive(path)["tensors"]
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor), name
        assert found[name].dtype == tensor.dtype


def unknown_object() -> Any:
    """Something harmless that PyTorch's own restricted reader refuses."""
    return types.SimpleNamespace(x=1)


def rewritten(path: Path, change: Any) -> bytes:
    """A PyTorch file with its pickle changed and all check sums right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(buffer, "w") as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) if name.endswith("data.pkl") else data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # number of elements of a storage, in the storage itself and in the tensor's shape
        (b"K\x64tq", b"J\x00\xe1\xf5\x05tq"),
        (b"K\x64\x85q", b"J\x00\xe1\xf5\x05\x85q"),
    ],
)
def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(old, new, tmp_path):
    path = save({"x": torch.zeros(100), "y": unknown_object()}, tmp_path / "x.pt")
    changed = rewritten(path, lambda data: data.replace(old, new))
    assert changed != path.read_bytes()
    path.write_bytes(changed)
    with pytest.raises(CheckpointError, match="corrupt"):
        read_torch_archive(path)


def test_a_pickle_cannot_reserve_memory_that_it_does_not_fill(tmp_path):
    path = save({"y": unknown_object()}, tmp_path / "x.pt")
    bomb = b"\x80\x02}r\xff\xff\xff\x7f."
    path.write_bytes(rewritten(path, lambda data: bomb))
    with pytest.raises(CheckpointError, match="memo index"):
        read_torch_archive(path)


def test_a_pickle_cannot_make_python_count_for_ever(tmp_path):
    """Tuples of the same tuple twice, sixty times over, as a key that must be hashed."""
    path = save({"y": unknown_object()}, tmp_path / "x.pt")
    nested = b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(60))
    for keep in (b"}" + nested + b"K\x01s.", b"]" + nested + b"a."):
        path.write_bytes(rewritten(path, lambda data, keep=keep: b"\x80\x02" + keep))
        with pytest.raises(CheckpointError, match="tuples within tuples"):
            read_torch_archive(path)


def test_a_pickle_cannot_reserve_a_bytearray(tmp_path):
    path = save({"y": unknown_object()}, tmp_path / "x.pt")
    for module in (b"builtins", b"__builtin__"):
        asked = b"\x80\x02c%s\nbytearray\nJ\x00\x00\x00\x7f\x85R." % module
        path.write_bytes(rewritten(path, lambda data, asked=asked: asked))
        tracemalloc.start()
        read_torch_archive(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 10**8


def test_a_compressed_archive_is_refused(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", b"\x80\x02}.")
        archive.writestr("bomb/data/0", bytes(10**6))
    with pytest.raises(CheckpointError, match="compressed or overlap"):
        read_torch_archive(path)


# ---- damage -------------------------------------------------------------------------------------


class HangError(BaseException):
    """No Exception: nothing on the way may take it for damage."""


@contextlib.contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Whoever hangs is interrupted."""

    def interrupt(*_: Any) -> None:
        raise HangError(f"still reading after {seconds} s")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def test_patience_ends():
    with pytest.raises(HangError), patience(0.05):
        while True:
            pass


def loads_or_says_why(path: Path) -> None:
    with patience(20.0):
        try:
            model = load_official(path)
        except CheckpointError:
            return
    assert isinstance(model, MaskedMimic)


PLACE = st.floats(0, 1, exclude_max=True)  # in a file, as a share of its length
DAMAGE = st.lists(st.tuples(PLACE, st.integers(0, 255)), min_size=1)
OFFICIAL = pytest.mark.parametrize("version", [V1, V3], ids=["v1", "v3"])


@OFFICIAL
@FUZZ
@given(share=PLACE)
def test_a_truncated_file_gives_an_error(version, share, tmp_path):
    path = tmp_path / "cut.ckpt"
    content = version.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    for load in (load_official, load_bfm):
        with pytest.raises(CheckpointError), patience(20.0):
            load(path)


@OFFICIAL
@FUZZ
@given(damage=DAMAGE)
def test_a_damaged_file_loads_or_gives_an_error(version, damage, tmp_path):
    content = bytearray(version.read_bytes())
    for position, value in damage:
        content[int(position * len(content))] = value
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(content)
    loads_or_says_why(path)


@OFFICIAL
@FUZZ
@given(damage=DAMAGE, cut=st.floats(0.5, 1.5))
def test_a_damaged_pickle_loads_or_gives_an_error(version, damage, cut, tmp_path):
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        for position, value in damage:
            changed[int(position * len(data))] = value
        return bytes(changed[: int(cut * len(data))])

    path = tmp_path / "damaged.ckpt"
    path.write_bytes(rewritten(version, change))
    loads_or_says_why(path)


@FUZZ
@given(content=st.binary(max_size=300))
def test_any_bytes_give_an_error(content, tmp_path):
    for head in (b"", b"PK\x03\x04", b"\x80\x02"):
        path = tmp_path / "noise.ckpt"
        path.write_bytes(head + content)
        for load in (load_official, load_bfm):
            with pytest.raises(CheckpointError), patience(20.0):
                load(path)
