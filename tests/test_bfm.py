"""The frozen model: network, what it sees, and its files."""

from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.maskedmimic import (
    STATE,
    TOKEN_SCALE,
    MaskedMimic,
    Normalizer,
    TokenType,
    frozen,
)
from tt_gym.bfm.pretrained_model import default_config, fingerprint, load_bfm, save_bfm
from tt_gym.bfm.targets import (
    MOST_TURN,
    TARGET_STEPS,
    TARGETS,
    Targets,
    heading_speed_targets,
    mirror_targets,
    observe_targets,
    target_size,
)
from tt_gym.bfm.tokens import mirror_state, observe_state, state_size
from tt_gym.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from tt_gym.envs.start_states import sample_start_states
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.simulation import BodyState, MujocoCpu

NUM_ENVS, TOKENS, BODIES = 7, len(TARGET_STEPS), DEEPMIMIC.num_bodies
SWAP = list(DEEPMIMIC.mirrored_bodies)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_rotations(*shape: int, seed: int = 0) -> Tensor:
    return rotations.quat_normalize(random(*shape, 4, seed=seed))


@pytest.fixture(scope="module")
def model() -> MaskedMimic:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return frozen(MaskedMimic(default_config(DEEPMIMIC)))


@pytest.fixture(scope="module")
def state() -> BodyState:
    """Humanoids in motion."""
    generator = torch.Generator().manual_seed(0)
    simulator = MujocoCpu(DEEPMIMIC, NUM_ENVS)
    simulator.reset(torch.arange(NUM_ENVS), *sample_start_states(NUM_ENVS, generator))
    for _ in range(10):
        simulator.step(0.4 * random(NUM_ENVS, DEEPMIMIC.num_dofs))
    return simulator.state


@pytest.fixture(scope="module")
def targets() -> Targets:
    def coin(*shape: int, seed: int) -> Tensor:
        return random(NUM_ENVS, TOKENS, *shape, seed=seed) > 0

    return Targets(
        pos=random(NUM_ENVS, TOKENS, BODIES, 3, seed=1),
        rot=random_rotations(NUM_ENVS, TOKENS, BODIES, seed=2),
        heading=random(NUM_ENVS, TOKENS, seed=3),
        velocity=random(NUM_ENVS, TOKENS, 2, seed=4),
        time_s=random(NUM_ENVS, TOKENS, seed=5).abs(),
        pos_visible=coin(BODIES, seed=6),
        rot_visible=coin(BODIES, seed=7),
        heading_visible=coin(seed=8),
        velocity_visible=coin(seed=9),
    )


# ---- network ------------------------------------------------------------------------------------


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Normalised state, target values, task token."""
    values = random(NUM_ENVS, TOKENS, target_size(DEEPMIMIC), seed=1)
    return random(NUM_ENVS, state_size(DEEPMIMIC)), values, random(NUM_ENVS, 128, seed=2)


@pytest.mark.parametrize("with_token", [False, True])
def test_hidden_tokens_may_be_left_out(model, with_token):
    state, values, token = inputs()
    hidden = torch.zeros(NUM_ENVS, TOKENS, dtype=torch.bool)
    task_token = token if with_token else None
    left_out = model(state, None, task_token)
    masked = model(state, {TARGETS: (values, hidden)}, task_token)
    torch.testing.assert_close(left_out, masked, rtol=0, atol=1e-5)


def test_of_some_hidden_tokens_the_visible_ones_alone_count(model):
    state, values, token = inputs()
    visible = torch.zeros(NUM_ENVS, TOKENS, dtype=torch.bool)
    visible[:, [1, 3]] = True
    masked = model(state, {TARGETS: (values, visible)}, token)
    alone = model(state, {TARGETS: (values[:, [1, 3]], visible[:, [1, 3]])}, token)
    torch.testing.assert_close(masked, alone, rtol=0, atol=1e-5)
    assert (masked - model(state, None, token)).abs().max() > 1e-3  # and they do count


@pytest.mark.parametrize("padded", [False, True])
def test_the_state_row_is_that_of_the_whole_transformer(model, padded):
    sequence = random(NUM_ENVS, TOKENS + 1, 128, seed=3)
    padding = random(NUM_ENVS, TOKENS + 1, seed=4) > 0.5
    padding[:, 0] = False  # the state is never hidden
    mask = padding if padded else None
    whole = model.transformer(sequence, src_key_padding_mask=mask)[:, 0]
    torch.testing.assert_close(model._state_row(sequence, mask), whole, rtol=0, atol=1e-5)


def test_the_token_basis_follows_the_spread_of_goal_tokens():
    model = MaskedMimic(dataclasses.replace(default_config(DEEPMIMIC), token_axes=None))
    action = random(5, 128)
    assert torch.equal(model.task_token(action), TOKEN_SCALE * action)
    mixing = random(128, 128, seed=1) * torch.linspace(0.1, 3.0, 128)
    model.fit_token_basis(random(20000, 128, seed=2) @ mixing + 7.0)
    basis = model.token_basis
    expected = TOKEN_SCALE**2 * mixing.T @ mixing
    assert (basis.T @ basis - expected).norm() < 0.15 * expected.norm()
    shorter = MaskedMimic(default_config(DEEPMIMIC))
    shorter.fit_token_basis(random(20000, 128, seed=2) @ mixing + 7.0)
    assert torch.equal(shorter.token_basis, basis[:32])
    orthogonal = basis @ basis.T
    assert (orthogonal - orthogonal.diag().diag()).norm() < 1e-3 * orthogonal.norm()
    assert not model.task_token(torch.zeros(2, 128)).any()


def test_random_actions_move_the_shipped_model_as_goals_do(state):
    model = load_bfm()
    seen = model.normalize(STATE, observe_state(state))
    calm = model(seen)
    moved = model(seen, None, model.task_token(0.5 * random(NUM_ENVS, model.token_axes)))
    heading = rotations.heading(state.rot[:, 0]) + random(NUM_ENVS)
    direction, speed = rotations.direction_xy(heading), random(NUM_ENVS, seed=1).abs()
    targets = heading_speed_targets(state, heading=heading, direction=direction, speed=speed)
    prompted = model(seen, {TARGETS: observe_targets(state, targets)})
    assert 0.4 < (moved - calm).norm() / (prompted - calm).norm() < 2.5


def test_the_task_token_counts(model):
    state, _, token = inputs()
    assert (model(state, None, token) - model(state)).abs().max() > 1e-3


def test_rows_do_not_see_each_other(model):
    state, values, token = inputs()
    visible = random(NUM_ENVS, TOKENS, seed=3) > 0
    together = model(state, {TARGETS: (values, visible)}, token)
    row = slice(2, 3)
    alone = model(state[row], {TARGETS: (values[row], visible[row])}, token[row])
    torch.testing.assert_close(together[row], alone, rtol=0, atol=1e-5)


def test_a_frozen_model_has_nothing_to_train(model):
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_gradients_reach_the_token_through_the_frozen_model(model):
    state, _, token = inputs()
    token.requires_grad_()
    model(state, None, token).square().sum().backward()
    assert token.grad is not None
    assert (token.grad.abs().sum(dim=1) > 0).all()


def test_the_state_leads_the_sequence():
    config = dataclasses.replace(default_config(DEEPMIMIC), token_types=(TokenType(TARGETS, 3),))
    with pytest.raises(ValueError, match="first token type must be 'state'"):
        MaskedMimic(config)


def test_the_normalizer_standardises_and_clips():
    normalizer = Normalizer(2)
    normalizer.fit(torch.tensor([[1.0, 0.0], [3.0, 0.0]]))  # variance 2; and a constant entry
    result = normalizer(torch.tensor([[4.0, 0.0], [100.0, 1.0]]))
    torch.testing.assert_close(result, torch.tensor([[2 / 2**0.5, 0.0], [5.0, 5.0]]))


# ---- what the model sees ------------------------------------------------------------------------


def mirror_vectors(v: Tensor, *, axial: bool = False) -> Tensor:
    """Reflection at the plane y = 0 of (..., B, 3) with left and right swapped."""
    signs = torch.tensor([-1.0, 1.0, -1.0] if axial else [1.0, -1.0, 1.0])
    return (v * signs)[..., SWAP, :]


def mirror_rotations(q: Tensor) -> Tensor:
    return (q * torch.tensor([1.0, -1.0, 1.0, -1.0]))[..., SWAP, :]


def mirrored_state(state: BodyState) -> BodyState:
    return dataclasses.replace(
        state,
        pos=mirror_vectors(state.pos),
        rot=mirror_rotations(state.rot),
        vel=mirror_vectors(state.vel),
        ang_vel=mirror_vectors(state.ang_vel, axial=True),
    )


def mirrored_targets(targets: Targets) -> Targets:
    return dataclasses.replace(
        targets,
        pos=mirror_vectors(targets.pos),
        rot=mirror_rotations(targets.rot),
        heading=-targets.heading,
        velocity=targets.velocity * torch.tensor([1.0, -1.0]),
        pos_visible=targets.pos_visible[..., SWAP],
        rot_visible=targets.rot_visible[..., SWAP],
    )


def test_mirroring_twice_changes_nothing(state, targets):
    seen = observe_state(state)
    assert torch.equal(mirror_state(mirror_state(seen, DEEPMIMIC), DEEPMIMIC), seen)
    values, _ = observe_targets(state, targets)
    assert torch.equal(mirror_targets(mirror_targets(values, DEEPMIMIC), DEEPMIMIC), values)


def test_the_mirrored_observation_is_that_of_the_mirrored_humanoid(state):
    mirrored = mirror_state(observe_state(state), DEEPMIMIC)
    assert (mirrored - observe_state(state)).abs().max() > 0.1
    torch.testing.assert_close(mirrored, observe_state(mirrored_state(state)), rtol=0, atol=1e-5)


def test_mirrored_targets_are_those_of_the_mirrored_world(state, targets):
    values, visible = observe_targets(state, targets)
    expected, expected_visible = observe_targets(mirrored_state(state), mirrored_targets(targets))
    torch.testing.assert_close(mirror_targets(values, DEEPMIMIC), expected, rtol=0, atol=1e-5)
    assert torch.equal(visible, expected_visible)


def moved_state(state: BodyState, yaw: Tensor, shift: Tensor) -> BodyState:
    turn = rotations.yaw_quat(yaw)
    return dataclasses.replace(
        state,
        pos=rotations.rotate(turn, state.pos) + shift,
        rot=rotations.quat_multiply(turn.expand_as(state.rot), state.rot),
        vel=rotations.rotate(turn, state.vel),
        ang_vel=rotations.rotate(turn, state.ang_vel),
    )


def test_place_and_heading_in_the_world_do_not_matter(state, targets):
    yaw, shift = torch.tensor(2.2), torch.tensor([30.0, -7.0, 0.0])
    turn = rotations.yaw_quat(yaw)
    moved = moved_state(state, yaw, shift)
    moved_targets = dataclasses.replace(
        targets,
        pos=rotations.rotate(turn, targets.pos) + shift,
        rot=rotations.quat_multiply(turn.expand_as(targets.rot), targets.rot),
        heading=targets.heading + yaw,
        velocity=rotations.rotate_xy(yaw, targets.velocity),
    )
    torch.testing.assert_close(observe_state(moved), observe_state(state), rtol=0, atol=1e-4)
    values, _ = observe_targets(state, targets)
    torch.testing.assert_close(observe_targets(moved, moved_targets)[0], values, rtol=0, atol=1e-4)


def test_height_matters(state):
    higher = moved_state(state, torch.tensor(0.0), torch.tensor([0.0, 0.0, 0.1]))
    torch.testing.assert_close(observe_state(higher)[:, 0], observe_state(state)[:, 0] + 0.1)


def test_hidden_targets_are_not_seen(state, targets):
    values, visible = observe_targets(state, targets)
    other = dataclasses.replace(
        targets,
        pos=torch.where(targets.pos_visible.unsqueeze(-1), targets.pos, 9.0),
        rot=torch.where(targets.rot_visible.unsqueeze(-1), targets.rot, targets.rot.flip(-1)),
        heading=torch.where(targets.heading_visible, targets.heading, 9.0),
        velocity=torch.where(targets.velocity_visible.unsqueeze(-1), targets.velocity, 9.0),
    )
    assert torch.equal(observe_targets(state, other)[0], values)
    assert visible.all()  # some part of every token is shown


@pytest.mark.parametrize(
    ("turn", "shown"), [(0.7, 0.7), (-0.7, -0.7), (1.8, MOST_TURN), (-3.0, -MOST_TURN)]
)
def test_large_turns_are_asked_for_in_parts(state, turn, shown):
    here = rotations.heading(state.rot[:, 0])
    # sideways to where it is to face
    direction, speed = rotations.direction_xy(here + turn + 1.5), torch.full_like(here, 1.2)
    targets = heading_speed_targets(state, heading=here + turn, direction=direction, speed=speed)
    asked = rotations.wrap_angle(targets.heading - here.unsqueeze(1))
    torch.testing.assert_close(asked, torch.full_like(asked, shown))
    expected = 1.2 * rotations.direction_xy(here + shown + 1.5)
    torch.testing.assert_close(targets.velocity[:, 0], expected, atol=1e-5, rtol=0)


def test_a_token_that_shows_nothing_is_hidden(state, targets):
    none = {
        field.name: torch.zeros_like(getattr(targets, field.name))
        for field in dataclasses.fields(targets)
        if field.name.endswith("_visible") and field.name != "text_visible"
    }
    values, visible = observe_targets(state, dataclasses.replace(targets, **none))
    assert not visible.any()
    assert not values[..., :-1].any()  # the last entry is the time
    only_heading = none | {"heading_visible": torch.ones(NUM_ENVS, TOKENS, dtype=torch.bool)}
    assert observe_targets(state, dataclasses.replace(targets, **only_heading))[1].all()


def test_a_thrown_body_is_bounded(state):
    wild = dataclasses.replace(state, vel=1e6 * torch.ones_like(state.vel))
    assert observe_state(wild).abs().max() == 20.0


# ---- files --------------------------------------------------------------------------------------


@pytest.fixture
def model_file(tmp_path: Path, model: MaskedMimic) -> Path:
    path = tmp_path / "model.safetensors"
    save_bfm(model, path)
    return path


def test_a_loaded_model_is_the_saved_one_frozen(model_file, model):
    loaded = load_bfm(model_file)
    assert loaded.config == model.config
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    state, _, token = inputs()
    assert torch.equal(loaded(state, None, token), model(state, None, token))


def test_a_file_that_changed_is_loaded_again(model_file, model):
    first = load_bfm(model_file)
    assert load_bfm(model_file) is first
    other = MaskedMimic(model.config)
    save_bfm(other, model_file)
    assert fingerprint(load_bfm(model_file)) == fingerprint(other)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: no such checkpoint file"):
        load_bfm(tmp_path / "gone.safetensors")


@pytest.mark.parametrize("kept", [0, 5, 100, 100_000])
def test_a_truncated_file_is_corrupt(model_file, kept):
    model_file.write_bytes(model_file.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="corrupt or not a safetensors file"):
        load_bfm(model_file)


def test_a_damaged_header_is_corrupt(model_file):
    content = bytearray(model_file.read_bytes())
    content[8:40] = b"\xff" * 32
    model_file.write_bytes(content)
    with pytest.raises(CheckpointError, match="corrupt or not a safetensors file"):
        load_bfm(model_file)


def test_a_git_lfs_pointer_says_what_to_do(model_file):
    model_file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="is a Git-LFS pointer, run git lfs pull"):
        load_bfm(model_file)


def test_weights_of_others_are_not_a_model(tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"not a bfm checkpoint of tt_gym \(kind: None\)"):
        load_bfm(path)


def test_another_kind_of_checkpoint_is_not_a_model(tmp_path):
    path = tmp_path / "tracker.safetensors"
    save_checkpoint(path, kind="tracker", content={"step": 1})
    with pytest.raises(CheckpointError, match=r"kind: 'tt_gym/tracker'"):
        load_bfm(path)


def test_tensors_that_do_not_fit_the_sizes_are_refused(tmp_path, model):
    content = {
        "config": dataclasses.asdict(dataclasses.replace(model.config, layers=1)),
        "weights": dict(model.state_dict()),
    }
    save_checkpoint(tmp_path / "odd.safetensors", kind="bfm", content=content)
    with pytest.raises(CheckpointError, match="tensors do not fit the sizes in the file"):
        load_bfm(tmp_path / "odd.safetensors")


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("write", [torch.save, lambda item, path: path.write_bytes(item)])
def test_pickles_are_never_executed(tmp_path, write):
    trace, path = tmp_path / "trace", tmp_path / "model.safetensors"
    content = Trap(trace) if write is torch.save else pickle.dumps(Trap(trace))
    write(content, path)
    with pytest.raises(CheckpointError, match=r"nothing was run|corrupt or not"):
        load_bfm(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Trap(trace)))
    assert trace.exists()  # the trap works


def test_checkpoints_keep_nested_content(tmp_path):
    path = tmp_path / "folder" / "some.safetensors"
    content = {
        "tensors": [torch.arange(3), {"deep": torch.ones(2, 2, dtype=torch.float64)}],
        "numbers": {"1": 2, "x": 0.5},
        "text": "ü",
        "nothing": None,
    }
    save_checkpoint(path, kind="some", content=content)
    loaded = load_checkpoint(path, kind="some")
    assert torch.equal(loaded["tensors"][0], torch.arange(3))
    assert loaded["tensors"][1]["deep"].dtype == torch.float64
    plain = {key: value for key, value in loaded.items() if key != "tensors"}
    assert json.dumps(plain) == json.dumps({k: v for k, v in content.items() if k != "tensors"})
    assert [item.name for item in path.parent.iterdir()] == [path.name]  # no temporary file left


def test_a_failed_save_keeps_the_old_file(tmp_path):
    path = tmp_path / "some.safetensors"
    save_checkpoint(path, kind="some", content={"step": 1})
    with pytest.raises(TypeError):
        save_checkpoint(path, kind="some", content={"step": object()})
    assert load_checkpoint(path, kind="some") == {"step": 1}


def test_every_number_of_the_model_is_in_its_fingerprint(model):
    changed = MaskedMimic(model.config)
    changed.load_state_dict(model.state_dict())
    assert fingerprint(changed) == fingerprint(model)
    for name, tensor in changed.state_dict().items():
        last = tensor.view(-1)[-1:]
        before = last.clone()
        last += 1e-3
        assert fingerprint(changed) != fingerprint(model), name
        last.copy_(before)
    assert fingerprint(changed) == fingerprint(model)
