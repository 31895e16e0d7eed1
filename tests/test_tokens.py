"""Token files: what they hold, and what is refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tt_gym import tokens
from tt_gym.bfm.pretrained_model import SHIPPED, fingerprint, load_bfm, save_bfm
from tt_gym.checkpoint import CheckpointError
from tt_gym.tokens import (
    EncoderConfig,
    TokenEncoder,
    TokenMetadata,
    load_token,
    save_token,
    shipped_tokens,
)

CONFIG = EncoderConfig(inputs={"state": 223, "task": 3}, hidden=(16, 8), token_width=128)


@pytest.fixture
def encoder() -> TokenEncoder:
    torch.manual_seed(0)
    return TokenEncoder(CONFIG)


@pytest.fixture
def token_file(tmp_path: Path, bfm: str, encoder: TokenEncoder) -> Path:
    path = tmp_path / "token.safetensors"
    save_token(path, encoder, metadata(bfm))
    return path


def metadata(bfm: str) -> TokenMetadata:
    return TokenMetadata(
        env_id="TTDirection-v0",
        task="direction",
        parameters={"speed_range": [0.8, 1.3]},
        prompt=None,
        bfm=fingerprint(load_bfm(bfm)),
        command="python -m agents.train --env TTDirection-v0",
        seed=0,
        steps=1000,
        wall_clock_s=1.5,
    )


def observations(count: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        name: generator.normal(size=(count, width)).astype(np.float32)
        for name, width in CONFIG.inputs.items()
    }


def test_a_loaded_token_acts_as_the_saved_one(token_file, bfm, encoder):
    loaded = load_token(token_file, bfm=bfm)
    assert np.array_equal(loaded.act(observations(5)), encoder.act(observations(5)))
    assert loaded.metadata == metadata(bfm)


def test_a_loaded_token_is_frozen(token_file, bfm):
    loaded = load_token(token_file, bfm=bfm)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_actions_stay_within_the_action_space(encoder):
    wild = {name: 1e3 * value for name, value in observations(4).items()}
    assert np.abs(encoder.act(wild)).max() == 1.0


def test_one_environment_acts_as_in_a_batch(encoder):
    batch = observations(3)
    one = encoder.act({name: value[1] for name, value in batch.items()})
    assert one.shape == (128,)
    np.testing.assert_allclose(one, encoder.act(batch)[1], atol=1e-6)


def test_inputs_are_taken_by_name_not_by_order(encoder):
    batch = observations(3)
    swapped = dict(reversed(batch.items()))
    assert np.array_equal(encoder.act(swapped), encoder.act(batch))


def test_a_token_made_for_another_model_is_refused(token_file, other_bfm):
    with pytest.raises(CheckpointError, match=r"made for the frozen model .* pass the model"):
        load_token(token_file, bfm=other_bfm)


def test_a_model_that_moved_by_one_weight_is_another_model(token_file, tmp_path, bfm):
    model = load_bfm(bfm)
    changed = type(model)(model.config)
    changed.load_state_dict(model.state_dict())
    with torch.no_grad():
        changed.decoder[0].bias[0] += 1e-3
    save_bfm(changed, tmp_path / "changed.safetensors")
    with pytest.raises(CheckpointError, match="made for the frozen model"):
        load_token(token_file, bfm=tmp_path / "changed.safetensors")


def test_an_unknown_name_lists_the_shipped_ones(token_file, monkeypatch):
    monkeypatch.setattr(tokens, "SHIPPED_FOLDER", token_file.parent)
    with pytest.raises(
        ValueError, match=r"unknown token 'tokn'; did you mean 'token'\? Known: token;"
    ):
        load_token("tokn")


def test_without_shipped_tokens_the_error_says_none(tmp_path, monkeypatch):
    monkeypatch.setattr(tokens, "SHIPPED_FOLDER", tmp_path)
    with pytest.raises(ValueError, match="Known: none; or give a file's path"):
        load_token("strike")


def test_a_truncated_file_is_corrupt(token_file, bfm):
    token_file.write_bytes(token_file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="corrupt or not a safetensors file"):
        load_token(token_file, bfm=bfm)


def test_a_missing_file_is_named(tmp_path, bfm):
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: no such checkpoint file"):
        load_token(tmp_path / "gone.safetensors", bfm=bfm)


def test_a_model_is_not_a_token(bfm):
    with pytest.raises(CheckpointError, match="is not a token checkpoint"):
        load_token(bfm, bfm=bfm)


def test_an_observation_of_another_task_is_refused(encoder):
    batch = observations(2) | {"task": np.zeros((2, 15), np.float32)}
    with pytest.raises(ValueError, match="entry 'task' must have width 3, got 15"):
        encoder.act(batch)


def test_an_unknown_activation_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown activation 'gelu'; known: elu, relu, tanh"):
        TokenEncoder(EncoderConfig(inputs={"task": 3}, hidden=(), token_width=4, activation="gelu"))


def test_tokens_need_no_stable_baselines():
    code = "import sys, tt_gym.tokens; sys.exit('stable_baselines3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.skipif(not SHIPPED.exists(), reason="no model is shipped yet")
@pytest.mark.parametrize("name", shipped_tokens())
def test_a_shipped_token_fits_the_shipped_model(name):
    encoder = load_token(name)
    assert encoder.metadata is not None
    task, prompt = encoder.metadata.task, encoder.metadata.prompt
    assert name == (f"{task}_alone" if prompt is None else task)


# ---- the library --------------------------------------------------------------------------------


def test_a_token_of_the_library_says_what_it_is_and_acts(token_file, bfm, encoder):
    token = tokens.load(token_file, bfm=bfm)
    assert token.name == str(token_file)
    assert token.metadata == metadata(bfm)
    assert token.config == CONFIG
    assert np.array_equal(token(observations(5)), encoder.act(observations(5)))
    assert token(observations(5)).shape == (5, 128)


def test_the_library_refuses_another_model(token_file, other_bfm):
    with pytest.raises(CheckpointError, match=r"made for the frozen model .* pass the model"):
        tokens.load(token_file, bfm=other_bfm)


def test_the_library_is_reached_from_the_package_which_stays_light():
    code = (
        "import sys, tt_gym\n"
        "assert 'torch' not in sys.modules\n"
        "assert isinstance(tt_gym.tokens.names(), list)\n"
        "try: tt_gym.tokns\n"
        "except AttributeError as error: assert 'tokns' in str(error)\n"
        "else: raise SystemExit('no error')\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def load_example(name: str) -> Any:
    path = Path(__file__).parents[1] / "docs" / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def example() -> Any:
    return load_example("switch_tokens")


@pytest.mark.skipif("strike_alone" not in shipped_tokens(), reason="none shipped")
def test_the_example_of_prompts_beside_a_token_runs(tmp_path, capsys):
    beside = load_example("prompts_beside_tokens")
    output = ["--output", str(tmp_path / "beside.mp4")]
    toppled = beside.main(["--episodes", "2", "--max-episode-steps", "4", *output])
    assert list(toppled) == list(beside.prompts(1.0))
    assert set(toppled.values()) == {(0.0, 0.0)}  # nobody is there after 4 steps
    assert list(tmp_path.glob("beside.*"))
    assert "heading, then a kick in words" in capsys.readouterr().out
    speed = {
        name: beside.play(prompt, control="prompt", episodes=8, steps=90, seed=1)[2]
        for name, prompt in beside.prompts(1.0).items()
    }
    assert speed["heading and speed"] > speed["nothing"] + 0.3


def test_the_example_walks_far_from_the_box_and_strikes_near_it(example):
    asked = []

    def walk(seen: dict[str, np.ndarray]) -> np.ndarray:
        asked.append(seen["task"])
        return np.full((2, 4), 1.0)

    switch = example.Switch(walk, lambda seen: np.full((2, 4), -1.0), distance=2.0, speed=1.2)
    task = np.zeros((2, 15), np.float32)
    task[:, :2] = [[3.0, 4.0], [0.0, 1.0]]
    actions = switch.act({"task": task, "state": np.zeros((2, 223), np.float32)})
    assert actions[:, 0].tolist() == [1.0, -1.0]
    np.testing.assert_allclose(asked[0], [[0.6, 0.8, 1.2], [0.0, 1.0, 1.2]], rtol=1e-6)


@pytest.mark.skipif(not {"direction", "strike"} <= set(shipped_tokens()), reason="none shipped")
def test_the_example_runs(example, tmp_path, capsys):
    output = ["--output", str(tmp_path / "switch.mp4")]
    toppled = example.main(["--episodes", "2", "--max-episode-steps", "4", *output])
    assert list(toppled) == ["switched", "Direction's alone", "Strike's alone"]
    assert list(tmp_path.glob("switch.*"))
    assert "boxes toppled" in capsys.readouterr().out
