"""Both forms of the method around a published model of full size, with random weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import zoo_configs
from agents.evaluate import main as evaluate
from agents.train import train
from tt_gym.bfm.maskedmimic import mlp
from tt_gym.bfm.pretrained_model import load_bfm
from tt_gym.checkpoint import CheckpointError
from tt_gym.tokens import load_token

CONFIGS = Path(zoo_configs.__file__).parent
TINY = ("n_envs:2", "n_steps:4", "batch_size:8", "n_epochs:1")
TOKEN_FORM = (
    "policy:'agents.policies.TaskTokenPolicy'",
    "policy_kwargs:dict(actor_sees_state=False)",
)
TRUNK = "vae_prior.trunk"
TOKENS = {
    "obs_encoder": 358,
    "extra_input_models.historical_pose_obs": 217,
    "extra_input_models.masked_mimic_target_poses": 184,
    "extra_input_models.motion_text_embeddings": 512,
    "extra_input_models.object_bounding_box_obs": 37,
    "extra_input_models.terrain": 256,
}


def v1_actor() -> dict[str, Tensor]:
    """Tensors of the inference path, with the published names and sizes."""
    modules: dict[str, nn.Module] = {
        f"{TRUNK}.{name}.trunk": mlp((width, 256, 256, 512)) for name, width in TOKENS.items()
    }
    layer = nn.TransformerEncoderLayer(512, 4, 1024, dropout=0.0)
    modules |= {
        f"{TRUNK}.seqTransEncoder": nn.TransformerEncoder(layer, 4, enable_nested_tensor=False),
        "vae_prior.output_models.mu.trunk": mlp((512, 256, 128, 64)),
        "vae_prior.output_models.logvar.trunk": mlp((512, 256, 128, 64)),
        "mu_model.extra_input_models.vae_latent.trunk": mlp((64, 256, 128, 64)),
        "mu_model.trunk": mlp((678, 1024, 1024, 1024, 69)),
    }
    actor = {
        f"{prefix}.{name}": tensor
        for prefix, module in modules.items()
        for name, tensor in module.state_dict().items()
    }
    widths = {f"{TRUNK}.{name}": width for name, width in TOKENS.items()} | {"mu_model": 358}
    for prefix, width in widths.items():
        statistics = {"mean": torch.zeros(width), "var": torch.ones(width)}
        statistics["count"] = torch.tensor(1)
        actor |= {f"{prefix}.running_obs_norm.{key}": value for key, value in statistics.items()}
    return actor


@pytest.fixture(scope="module")
def v1_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained v1 checkpoint of the published size."""
    path = tmp_path_factory.mktemp("v1") / "last.ckpt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save({"actor": v1_actor(), "epoch": 0}, path)
    return str(path)


def test_a_full_sized_v1_model_has_the_published_number_of_elements(v1_file):
    unused = len(TOKENS) + 1 + 69  # counters of the statistics, and the fixed log std
    tensors = load_bfm(v1_file).state_dict()
    del tensors["token_basis"]  # ours
    assert sum(tensor.numel() for tensor in tensors.values()) + unused == 13_269_205


def test_a_missing_model_file_is_named(tmp_path):
    options = ["--env", "TTDirection-v0", "--bfm", "gone.ckpt", "--log-folder", str(tmp_path)]
    with pytest.raises(CheckpointError, match=r"gone\.ckpt: no such checkpoint file"):
        train(options)


@pytest.mark.parametrize(
    ("form", "noise"), [("ppo", ", noise 512"), ("ppo_through_bfm", "")], ids=["token", "through"]
)
def test_an_encoder_of_the_paper_is_trained_in_both_forms(tmp_path, capsys, v1_file, form, noise):
    own = TOKEN_FORM if form == "ppo" else ()
    run_dir = train(
        [
            *("--env", "TTDirection-v0", "--bfm", v1_file, "--n-timesteps", "8"),
            *("--env-kwargs", "prompt:'joint_conditioning'", "start:'standing'"),
            *("--conf-file", str(CONFIGS / f"{form}.yml"), "--log-folder", str(tmp_path)),
            *("--hyperparams", *TINY, *own),
        ]
    )
    assert f"trainable parameters: actor 198,400{noise}, critic" in capsys.readouterr().out
    assert train(["--resume", str(run_dir)]) == run_dir  # knows its model
    token = run_dir / "token.safetensors"
    config = load_token(token, bfm=v1_file).config
    assert (config.inputs, config.token_width) == ({"task": 3}, 512)
    result = tmp_path / "result.json"
    options = ("--env", "TTDirection-v0", "--token", str(token), "--bfm", v1_file)
    short = ("--episodes", "1", "--env-kwargs", "max_episode_steps:5", "start:'standing'")
    evaluate([*options, *short, "--json", str(result)])
    assert json.loads(result.read_text())["episodes"] == 1
