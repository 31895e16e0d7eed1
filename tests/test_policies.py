"""Both forms of the method as policies of unmodified PPO, with the real model and simulator."""

from __future__ import annotations

import copy
import json
import zipfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import yaml
from stable_baselines3 import PPO
from stable_baselines3.common.utils import obs_as_tensor

import tt_gym  # noqa: F401
from agents.evaluate import main
from agents.export import encoder_of, parameter_counts
from agents.networks import AddedLoss, bounds_loss
from agents.policies import TaskTokenPolicy, ThroughBFMPolicy
from agents.train import CONFIG_FOLDER, train
from agents.vec_env import TaskTokenVecEnv, native_env
from tt_gym.bfm.joint_control import input_shapes, joint_action, pack, raw_action, unpack
from tt_gym.bfm.pretrained_model import load_bfm, save_bfm
from tt_gym.checkpoint import CheckpointError, load_checkpoint
from tt_gym.envs.vector_env import TaskTokenVectorEnv
from tt_gym.tokens import EncoderConfig, TokenEncoder, load_token

DATA = Path(__file__).parent / "data"
V1, V3 = (str(DATA / f"maskedmimic_{version}" / "tiny.ckpt") for version in ("v1", "v3"))
ENV = "TTDirection-v0"
SMALL: dict[str, Any] = {"net_arch": {"pi": [32], "vf": [16]}}
FORMS = {"token": TaskTokenPolicy, "joint": ThroughBFMPolicy}
both_forms = pytest.mark.parametrize("control", FORMS)


def batch(bfm: str, control: str, *, num_envs: int = 4, **settings: Any) -> TaskTokenVectorEnv:
    env: Any = gymnasium.make_vec(ENV, num_envs=num_envs, bfm=bfm, control=control, **settings)
    return env


def learner(bfm: str, control: str, env: Any = None, **settings: Any) -> PPO:
    """PPO with a small policy of one form; ``settings`` are the policy's."""
    kwargs = {**SMALL, **({"bfm": bfm} if control == "joint" else {}), **settings}
    vec_env = TaskTokenVecEnv(env or batch(bfm, control))
    sizes = {"n_steps": 8, "batch_size": 16, "n_epochs": 2, "learning_rate": 1e-3}
    return PPO(FORMS[control], vec_env, policy_kwargs=kwargs, seed=0, device="cpu", **sizes)


def large_tokens(model: PPO) -> None:
    """Make the encoder say something that differs between observations and from nothing."""
    torch.manual_seed(1)
    last = model.policy.mlp_extractor.policy_net[-1]
    torch.nn.init.normal_(last.weight, std=0.3)
    torch.nn.init.normal_(last.bias, std=0.5)


def weights(model: PPO) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.policy.state_dict().items()}


def means(model: PPO, observations: dict[str, np.ndarray]) -> torch.Tensor:
    """Mean actions, unclipped."""
    policy = model.policy
    with torch.no_grad():
        return policy.get_distribution(obs_as_tensor(observations, "cpu")).distribution.mean


# ---- training -----------------------------------------------------------------------------------


@both_forms
def test_encoder_and_critic_learn_and_the_frozen_model_does_not(control, bfm):
    model = learner(bfm, control)
    frozen = {name: value.clone() for name, value in load_bfm(bfm).state_dict().items()}
    before = weights(model)
    model.learn(128)
    for name, value in weights(model).items():
        fixed = control == "joint" and name in ("log_std", "bfm_fingerprint")
        assert torch.equal(value, before[name]) == fixed, name
    for name, value in load_bfm(bfm).state_dict().items():
        assert torch.equal(value, frozen[name]), name


def test_gradients_reach_the_encoder_through_the_model_and_nothing_else(bfm):
    model = learner(bfm, "joint")
    observations = obs_as_tensor(model.get_env().reset(), "cpu")
    actions = torch.zeros(4, *model.action_space.shape)
    _, log_prob, _ = model.policy.evaluate_actions(observations, actions)
    log_prob.sum().backward()
    touched = {name for name, p in model.policy.named_parameters() if p.grad is not None}
    encoder = {name for name in weights(model) if name.startswith("mlp_extractor.policy_net")}
    assert touched == encoder
    for name in encoder:
        assert model.policy.get_parameter(name).grad.abs().max() > 0, name
    assert all(p.grad is None and not p.requires_grad for p in load_bfm(bfm).parameters())


def test_the_optimiser_holds_encoder_and_critic_alone(bfm):
    model = learner(bfm, "joint")
    held = [p for group in model.policy.optimizer.param_groups for p in group["params"]]
    trainable = [p for p in model.policy.parameters() if p.requires_grad]
    assert {id(p) for p in held} == {id(p) for p in trainable}
    frozen = {id(p) for p in load_bfm(bfm).parameters()}
    assert not frozen & {id(p) for p in model.policy.parameters()}


@both_forms
def test_actor_and_critic_have_their_own_rates(control, bfm):
    moved = {}
    for scale in (0.0, 0.5):
        model = learner(bfm, control, critic_lr_scale=scale)
        before = weights(model)
        model.policy.optimizer.zero_grad()
        for parameter in model.policy.parameters():
            parameter.grad = torch.ones_like(parameter)
        model.policy.optimizer.step()  # Adam's first step has the size of the rate
        moved[scale] = {
            name: (value - before[name]).abs().max().item()
            for name, value in weights(model).items()
            if name.endswith("weight")
        }
    for name in moved[0.5]:
        critic = "value_net" in name
        assert moved[0.0][name] == pytest.approx(0.0 if critic else 1e-3, rel=0.01), name
        assert moved[0.5][name] == pytest.approx(5e-4 if critic else 1e-3, rel=0.01), name
    assert {group["lr"] for group in model.policy.optimizer.param_groups} == {1e-3}


def test_noise_is_fixed_at_the_papers_size(bfm):
    model = learner(bfm, "joint")
    model.learn(64)
    assert torch.equal(model.policy.log_std, torch.full((28,), -2.9))


def test_training_begins_with_what_the_model_does_without_a_task(bfm):
    model, env = learner(bfm, "joint"), batch(bfm, "token")
    observations, _ = env.reset(seed=0)
    nothing = env.pd_target(torch.zeros(4, 32)) / 1.5
    torch.testing.assert_close(means(model, observations), nothing, atol=0.03, rtol=0)


# ---- the bounds loss ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide_bfm(other_bfm: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A random model with PD targets thirty times as large, many of them out of bounds."""
    model = copy.deepcopy(load_bfm(other_bfm))
    for parameter in model.decoder[-1].parameters():
        parameter.mul_(30.0)
    path = tmp_path_factory.mktemp("bfm") / "wide.safetensors"
    save_bfm(model, path)
    return str(path)


def test_bounds_loss_by_hand():
    mean = torch.tensor([[1.5, -3.0, 0.2], [1.0, -1.0, 0.0]])
    assert bounds_loss(mean) == pytest.approx((0.5**2 + 2.0**2) / 2)


def test_an_added_loss_counts_whatever_becomes_of_the_other():
    x = torch.tensor([2.0, 3.0], requires_grad=True)
    carried = AddedLoss.apply(x * 1.0, (x**2).sum())
    assert torch.equal(carried, x)
    (0.0 * carried).sum().backward()
    assert torch.equal(x.grad, 2 * x)


def test_the_bounds_loss_has_the_gradient_of_the_formula(wide_bfm):
    gradients = []
    for coefficient in (0.0, 10.0):
        model = learner(wide_bfm, "joint", bounds_coef=coefficient)
        large_tokens(model)
        observations = obs_as_tensor(model.get_env().reset(), "cpu")
        policy = model.policy
        _, log_prob, _ = policy.evaluate_actions(observations, torch.zeros(4, 28))
        loss = (log_prob * 0.1).mean()
        if not coefficient:  # the reference adds the loss by hand
            mean = policy.get_distribution(observations).distribution.mean
            excess = (mean - 1).clamp(min=0).square() + (mean + 1).clamp(max=0).square()
            assert excess.max() > 0
            loss = loss + 10.0 * excess.sum(dim=1).mean()
        loss.backward()
        gradients.append([p.grad for p in policy.mlp_extractor.policy_net.parameters()])
    for reference, gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, reference, atol=1e-4, rtol=1e-4)


def test_unmodified_ppo_obeys_the_bounds_loss(wide_bfm):
    excess = {}
    for coefficient in (0.0, 10.0):
        model = learner(wide_bfm, "joint", bounds_coef=coefficient)
        assert type(model) is PPO
        assert model.ent_coef == 0.0
        large_tokens(model)
        observations = model.get_env().reset()
        before = bounds_loss(means(model, observations))
        model.learn(6144)
        excess[coefficient] = bounds_loss(means(model, observations)) / before
        assert (model.policy.last_bounds_loss > 0) == (coefficient > 0)
    assert excess[10.0] < min(1.0, 0.85 * excess[0.0])


# ---- files --------------------------------------------------------------------------------------


@both_forms
def test_a_saved_policy_predicts_the_same_and_trains_on(control, bfm, tmp_path):
    model = learner(bfm, control)
    model.learn(64)
    model.save(tmp_path / "model.zip")
    again = PPO.load(tmp_path / "model.zip", env=TaskTokenVecEnv(batch(bfm, control)), device="cpu")
    observations = model.get_env().reset()
    np.testing.assert_array_equal(
        again.predict(observations, deterministic=True)[0],
        model.predict(observations, deterministic=True)[0],
    )
    again.learn(64, reset_num_timesteps=False)
    assert again.num_timesteps == 128


@both_forms
def test_the_policy_alone_can_be_saved(control, bfm, tmp_path):
    model = learner(bfm, control, actor_sees_state=control == "joint", critic_lr_scale=3.0)
    model.policy.save(tmp_path / "policy.pt")
    again = FORMS[control].load(tmp_path / "policy.pt", device="cpu")
    observations = model.get_env().reset()
    np.testing.assert_array_equal(
        again.predict(observations, deterministic=True)[0],
        model.predict(observations, deterministic=True)[0],
    )
    assert again.critic_lr_scale == 3.0


def test_the_zip_holds_no_tensor_of_the_model(bfm, tmp_path):
    model = learner(bfm, "joint")
    model.learn(64)
    model.save(tmp_path / "model.zip", exclude=["_last_obs", "_last_original_obs"])
    trained = sum(p.numel() for p in model.policy.parameters())
    frozen = [value for value in load_bfm(bfm).state_dict().values() if value.numel() > 1000]
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        archive.extractall(tmp_path / "model")
        assert archive.getinfo("policy.pth").file_size < 4 * trained + 20_000
    content = [path.read_bytes() for path in (tmp_path / "model").iterdir()]
    for tensor in frozen:
        part = tensor.flatten()[:32].numpy().tobytes()
        assert not any(part in data for data in content)


def test_weights_trained_with_another_model_are_refused(bfm, other_bfm, tmp_path):
    learner(bfm, "joint").save(tmp_path / "model.zip")
    with pytest.raises(CheckpointError, match=r"trained with the frozen model .*give the same bfm"):
        PPO.load(
            tmp_path / "model.zip",
            device="cpu",
            custom_objects={"policy_kwargs": {**SMALL, "bfm": other_bfm}},
        )


# ---- the model within the policy ----------------------------------------------------------------


def token_of(model: PPO, observations: dict[str, np.ndarray]) -> np.ndarray:
    return encoder_of(model.policy).act(observations)


@pytest.mark.parametrize("prompt", [None, "heading_speed"])
def test_the_mean_action_is_what_the_token_environment_commands(prompt, other_bfm):
    joint, token = (batch(other_bfm, control, prompt=prompt) for control in ("joint", "token"))
    model = learner(other_bfm, "joint", joint)
    large_tokens(model)
    observations, _ = joint.reset(seed=0)
    token.reset(seed=0)
    for _ in range(5):
        tokens = token_of(model, observations)
        assert np.abs(tokens).max() > 0.1
        wanted = token.pd_target(torch.from_numpy(tokens))
        mean = means(model, observations)
        torch.testing.assert_close(mean * 1.5, wanted, atol=1e-6, rtol=1e-5)
        observations = joint.step(mean.clamp(-1, 1).numpy())[0]
        token.set_state(joint.get_state())  # the same state, clipped targets or not


@pytest.mark.parametrize(("bfm", "prompt"), [(V1, None), (V1, "heading_speed"), (V3, None)])
def test_the_same_holds_for_published_models_with_their_history(bfm, prompt):
    joint, token = (batch(bfm, control, prompt=prompt) for control in ("joint", "token"))
    model = learner(bfm, "joint", joint)
    large_tokens(model)
    observations, _ = joint.reset(seed=0)
    seen, _ = token.reset(seed=0)
    assert np.array_equal(seen["state"], observations["state"])
    for _ in range(20):
        mean = means(model, observations).clamp(-1, 1)
        saved = token.get_state()
        wanted = token.pd_target(torch.from_numpy(token_of(model, observations)))
        token.set_state(saved)
        torch.testing.assert_close(mean * torch.pi, wanted, atol=1e-5, rtol=1e-4)
        observations = joint.step(mean.numpy())[0]
        token.step(token_of(model, {**seen, "task": seen["task"]}))
        token.set_state(joint.get_state())
        seen = {name: observations[name] for name in seen}


@pytest.mark.parametrize("bfm", [V1, V3])
def test_published_models_train_through(bfm):
    model = learner(bfm, "joint", batch(bfm, "joint", num_envs=2))
    before = weights(model)
    model.learn(16)
    name = "mlp_extractor.policy_net.0.weight"
    assert not torch.equal(model.policy.state_dict()[name], before[name])


@pytest.mark.parametrize("policy", ["MultiInputPolicy", TaskTokenPolicy])
@pytest.mark.parametrize("bfm", [None, V1])
def test_plain_policies_train_in_joint_control_as_well(policy, bfm):
    env = TaskTokenVecEnv(batch(bfm, "joint"))
    model = PPO(policy, env, n_steps=8, batch_size=16, n_epochs=1, device="cpu").learn(32)
    assert model.predict(env.reset())[0].shape == env.env.action_space.shape


@pytest.mark.parametrize(
    ("bfm", "prompt", "entries"),
    [
        (None, None, set()),
        (None, "heading_speed", {"model_targets", "model_text"}),
        (V1, None, {"model_history", "model_terrain", "model_decoder"}),
        (V3, None, {"model_history", "model_decoder"}),
    ],
)
def test_joint_control_adds_what_the_model_needs_and_no_more(bfm, prompt, entries):
    env = batch(bfm, "joint", prompt=prompt)
    assert env.single_observation_space.keys() == {"task", "state", *entries}
    observations, _ = env.reset(seed=0)
    assert env.observation_space.contains(observations)
    token = batch(bfm, "token", prompt=prompt)
    assert token.single_observation_space.keys() == {"task", "state"}


@pytest.mark.parametrize("bfm", [V1, V3])
def test_packing_and_unpacking_are_inverse(bfm):
    env = batch(bfm, "joint")
    env.reset(seed=0)
    seen = env.inputs.observe(env.simulator.state)
    names = list(input_shapes(env.bfm, env.inputs, prompted=False))
    back = unpack(env.bfm, {"state": seen.state, **pack(env.bfm, seen, names)})
    assert torch.equal(back.decoder_input, seen.decoder_input)
    assert back.goals.keys() == seen.goals.keys()
    for name, (values, visible) in seen.goals.items():
        assert torch.equal(back.goals[name][0], values)
        assert torch.equal(back.goals[name][1], visible)


@pytest.mark.parametrize("bfm", [None, V1, V3])
def test_raw_actions_are_found_again(bfm):
    model = load_bfm(bfm)
    raw = torch.linspace(-0.99, 0.99, 5)
    torch.testing.assert_close(raw_action(model, joint_action(model, raw)), raw)


@pytest.mark.parametrize(("sees_state", "entries"), [(False, ("task",)), (True, ("state", "task"))])
@both_forms
def test_the_actor_sees_what_it_is_told_to(control, sees_state, entries, bfm):
    model = learner(bfm, control, actor_sees_state=sees_state)
    assert tuple(encoder_of(model.policy).config.inputs) == entries
    networks = model.policy.mlp_extractor
    assert networks.policy_net[0].in_features == (226 if sees_state else 3)
    assert networks.value_net[0].in_features == 226


# ---- what is refused ----------------------------------------------------------------------------


def test_token_environments_are_refused(bfm):
    with pytest.raises(ValueError, match=r"'action' of shape \(28,\), got \(32,\): make the env"):
        learner(bfm, "joint", batch(bfm, "token"))


def test_an_environment_around_another_kind_of_model_is_refused(bfm):
    with pytest.raises(ValueError, match="the frozen model needs 'action'"):
        learner(V1, "joint", batch(bfm, "joint"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer_class": torch.optim.SGD}, "has an Adam of its own, got optimizer_class=SGD"),
        ({"use_sde": True}, "needs use_sde=False"),
    ],
)
@both_forms
def test_other_optimisers_and_noise_are_refused(control, settings, message, bfm):
    env = batch(bfm, control)
    spaces = env.single_observation_space, env.single_action_space
    with pytest.raises(ValueError, match=message):
        FORMS[control](*spaces, lambda _: 1e-3, **settings)


def test_unknown_bounds_of_tokens_are_refused():
    with pytest.raises(ValueError, match="unknown bound 'sigmoid'; known: clamp, tanh"):
        TokenEncoder(EncoderConfig({"task": 3}, (8,), 128, bound="sigmoid"))


# ---- commands -----------------------------------------------------------------------------------

THROUGH = CONFIG_FOLDER / "ppo_through_bfm.yml"
TINY = ("-params", "n_envs:4", "n_steps:16", "batch_size:32", "n_epochs:2")


def command(folder: Path, bfm: str, *options: str, steps: int) -> list[str]:
    return [
        *("--env", ENV, "--conf-file", str(THROUGH), "--env-kwargs", f"bfm:{bfm!r}", *TINY),
        *("--log-folder", str(folder), "-n", str(steps), "--checkpoint-every", "1", *options),
    ]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, other_bfm) -> Path:
    """A run through a frozen model that is not the shipped one."""
    return train(command(tmp_path_factory.mktemp("through"), other_bfm, steps=6 * 64))


def test_every_task_has_an_entry_for_the_second_form():
    entries = yaml.safe_load(THROUGH.read_text())
    assert entries.keys() == yaml.safe_load((CONFIG_FOLDER / "ppo.yml").read_text()).keys()
    for entry in entries.values():
        assert entry["env_kwargs"]["control"] == "joint"


def test_a_run_through_the_model_leaves_a_token(run_dir, other_bfm):
    token = load_token(run_dir / "token.safetensors", bfm=other_bfm)
    policy = PPO.load(run_dir / f"{ENV}.zip", device="cpu").policy
    assert isinstance(policy, ThroughBFMPolicy)
    assert token.config.bound == "tanh"
    for name, value in encoder_of(policy).state_dict().items():
        assert torch.equal(value, token.state_dict()[name])


def test_a_resumed_run_through_the_model_is_exact(run_dir, tmp_path, other_bfm):
    part = train(command(tmp_path, other_bfm, steps=3 * 64))
    train(["--resume", str(part), "-n", str(6 * 64)])
    one, other = (
        load_checkpoint(folder / "checkpoint.safetensors", kind="ppo")["ppo"]["policy"]
        for folder in (run_dir, part)
    )
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("actor", ["policy", "token"])
def test_both_the_policy_and_its_token_can_be_evaluated(actor, run_dir, tmp_path, other_bfm):
    path = run_dir if actor == "policy" else run_dir / "token.safetensors"
    options = ["--env", ENV, f"--{actor}", str(path), "--bfm", other_bfm, "--episodes", "2"]
    main([*options, "--json", str(tmp_path / "result.json")])
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["env_kwargs"]["control"] == ("joint" if actor == "policy" else "token")


def test_a_policy_is_not_evaluated_around_another_model(run_dir, bfm):
    options = ["--env", ENV, "--policy", str(run_dir), "--bfm", bfm, "--episodes", "1"]
    with pytest.raises(SystemExit, match="made for the frozen model"):
        main(options)


def test_a_policy_needs_the_prompt_it_was_trained_with(run_dir, other_bfm):
    options = ["--env", ENV, "--policy", str(run_dir), "--bfm", other_bfm, "--episodes", "1"]
    with pytest.raises(SystemExit, match="which had none, got heading_speed"):
        main([*options, "--prompt", "heading_speed"])


def test_parameter_counts_name_the_part_that_the_model_takes(bfm):
    through, token = (learner(bfm, control) for control in ("joint", "token"))
    frozen = sum(p.numel() for p in load_bfm(bfm).parameters())
    encoder, critic = 3 * 32 + 32 + 32 * 32 + 32, 226 * 16 + 16 + 16 + 1
    expected = (
        f"trainable parameters: actor {encoder:,}, critic {critic:,}; frozen model {frozen:,}"
    )
    assert parameter_counts(through) == expected
    assert parameter_counts(token).endswith(f"frozen model {frozen:,}")
    plain = PPO("MultiInputPolicy", TaskTokenVecEnv(native_env(through.get_env())), device="cpu")
    assert parameter_counts(plain).endswith("(takes no part: control='joint')")
