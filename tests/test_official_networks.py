"""The published models: our network and observation builders against the originals' numbers."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.checkpoints import (
    HISTORY,
    OBJECT,
    PREVIOUS_ACTION,
    TASK,
    TERRAIN,
    load_official,
    official_model,
)
from tt_gym.bfm.inputs import V1Inputs, V3Inputs, build_inputs
from tt_gym.bfm.maskedmimic import STATE, MaskedMimic, frozen, without_hidden
from tt_gym.bfm.official_observations import (
    HISTORY_LAGS_V1,
    TARGET_BODIES_V1,
    TARGET_BODIES_V3,
    SparseTargets,
    box_corners,
    centre_of_mass_velocity,
    observe_history_v1,
    observe_history_v3,
    observe_object,
    observe_targets_v1,
    observe_targets_v3,
    observe_terrain,
    sparse_targets_v1,
    sparse_targets_v3,
)
from tt_gym.bfm.pretrained_model import default_config
from tt_gym.bfm.targets import (
    TARGETS,
    TEXT,
    Targets,
    heading_speed_targets,
    hidden_targets,
    observe_targets,
)
from tt_gym.bfm.tokens import observe_state, proprioception
from tt_gym.humanoids import DEEPMIMIC, SMPL
from tt_gym.humanoids.smpl import STANDING_HEIGHT
from tt_gym.simulation import BodyState, MujocoCpu

DATA = Path(__file__).parent / "data"
V1, V3 = DATA / "maskedmimic_v1", DATA / "maskedmimic_v3"
DT = 1 / 30

Goals = dict[str, tuple[Tensor, Tensor]]


class Reference:
    """Arrays of a file as tensors; quaternions (w, x, y, z)."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self.arrays = {name: file[name] for name in file.files}

    def __call__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def rot(self, name: str) -> Tensor:
        return self(name)[..., [3, 0, 1, 2]]

    def __contains__(self, name: str) -> bool:
        return name in self.arrays


@functools.cache
def reference(folder: Path, name: str) -> Reference:
    return Reference(folder / f"{name}.npz")


def close(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@functools.cache
def v1_model(with_task_encoder: bool = False) -> MaskedMimic:
    if not with_task_encoder:
        return load_official(V1 / "tiny.ckpt")
    weights = torch.load(V1 / "tiny.ckpt", weights_only=True)["actor"]
    return official_model(weights | torch.load(V1 / "tiny_task_token.pt", weights_only=True))


@functools.cache
def v3_model() -> MaskedMimic:
    return load_official(V3 / "tiny.ckpt")


# ---- network, version 1 -------------------------------------------------------------------------

V1_NAMES = {
    HISTORY: "historical_pose_obs",
    TASK: "inversion_obs",
    TARGETS: "masked_mimic_target_poses",
    TEXT: "motion_text_embeddings",
    OBJECT: "object_bounding_box_obs",
    TERRAIN: "terrain",
}
V1_PATTERNS = ("all_visible", "all_masked", "task_default", "random")


def v1_goals(model: MaskedMimic, pattern: str) -> Goals:
    io = reference(V1, "tiny_io")
    goals = {}
    for name, theirs in V1_NAMES.items():
        if name not in model.types:
            continue
        values = io(f"in/{theirs}").unflatten(1, (model.types[name].count, -1))
        visible = torch.ones(values.shape[:2], dtype=torch.bool)
        for mask in (f"mask/{pattern}/{theirs}_mask", f"mask/{pattern}/{theirs}_masks"):
            if mask in io:
                visible = io(mask)
        goals[name] = values, visible
    return goals


def v1_decoder_input(model: MaskedMimic) -> Tensor:
    io = reference(V1, "tiny_io")
    return model.decoder_input({STATE: io("in/obs"), TERRAIN: io("in/terrain")})


@pytest.mark.parametrize("pattern", V1_PATTERNS)
@pytest.mark.parametrize("variant", ["base", "task_token"])
def test_v1_gives_the_originals_latent_and_action(variant, pattern):
    model, io = v1_model(variant == "task_token"), reference(V1, "tiny_io")
    goals = v1_goals(model, pattern)
    mean, logvar = model.prior(model.normalize(STATE, io("in/obs")), goals)
    out = f"out/{variant}/{pattern}"
    close(mean, io(f"{out}/prior_mu"))
    close(logvar, io(f"{out}/prior_logvar"))
    seen = v1_decoder_input(model)
    close(model.decode(seen, mean), io(f"{out}/action_mu"))
    latent = mean + (0.5 * logvar).exp() * io("in/vae_noise")
    close(model.decode(seen, latent), io(f"{out}/action_mu_with_noise"))


def test_v1_encoders_give_the_originals_tokens():
    model, io = v1_model(True), reference(V1, "tiny_io")
    rows = [model.encoders[STATE](model.normalize(STATE, io("in/obs"))).unsqueeze(1)]
    for name, (values, _) in v1_goals(model, "all_visible").items():
        rows.append(model.encoders[name](model.normalize(name, values)))
    close(torch.cat(rows, dim=1), io("out/task_token/all_visible/tokens"))


def test_an_encoded_task_token_may_enter_as_it_is():
    model, io = v1_model(True), reference(V1, "tiny_io")
    goals = v1_goals(model, "task_default")
    observation, _ = goals.pop(TASK)
    token = model.encoders[TASK](model.normalize(TASK, observation)).squeeze(1)
    state = model.normalize(STATE, io("in/obs"))
    action = model(state, goals, token, v1_decoder_input(model))
    expected = io("out/task_token/task_default/action_mu")
    close(action, torch.pi * expected.clamp(-1, 1))


@pytest.mark.parametrize("pattern", V1_PATTERNS)
def test_v1_hidden_tokens_need_not_be_computed(pattern):
    model, io = v1_model(True), reference(V1, "tiny_io")
    goals = v1_goals(model, pattern)
    # as for a whole batch in one situation: the first row's masks for all
    goals = {name: (v, visible[:1].expand_as(visible)) for name, (v, visible) in goals.items()}
    state = model.normalize(STATE, io("in/obs"))
    fewer = without_hidden(goals)
    assert (len(fewer) < len(goals)) == (pattern != "all_visible")
    for full, short in zip(model.prior(state, goals), model.prior(state, fewer), strict=True):
        close(short, full)


# ---- network, version 3 -------------------------------------------------------------------------

V3_PATTERNS = ("all_visible", "all_masked", "random")


def v3_goals(pattern: str) -> Goals:
    io = reference(V3, "tiny_io")
    parts = ("masked_mimic_target_poses", "masked_mimic_target_masks", "masked_mimic_target_times")
    targets = torch.cat([io(f"in/{name}").unflatten(1, (5, -1)) for name in parts], dim=-1)
    history = io("in/historical_pose_obs").unflatten(1, (5, -1))
    return {
        TARGETS: (targets, io(f"mask/{pattern}/masked_mimic_target_poses_masks") > 0.5),
        HISTORY: (history, torch.ones(4, 5, dtype=torch.bool)),
    }


@pytest.mark.parametrize("noise", ["zero_noise", "noise"])
@pytest.mark.parametrize("pattern", V3_PATTERNS)
def test_v3_gives_the_originals_latent_and_action(pattern, noise):
    model, io = v3_model(), reference(V3, "tiny_io")
    state = io("in/max_coords_obs")
    mean, logvar = model.prior(model.normalize(STATE, state), v3_goals(pattern))
    out = f"out/{pattern}/{noise}"
    close(mean, io(f"{out}/latent_mu"))
    close(logvar, io(f"{out}/latent_logvar"))
    amount = io("in/vae_noise") if noise == "noise" else torch.zeros_like(mean)
    latent = mean + (0.5 * logvar).exp() * amount
    close(latent, io(f"{out}/latent"))
    seen = model.decoder_input({STATE: state, PREVIOUS_ACTION: io("in/previous_actions")})
    close(model.decode(seen, latent), io(f"{out}/action"))


def test_v3_actions_pass_a_tanh_and_v1_actions_are_clamped():
    action = torch.tensor([[0.5, -3.0]])
    close(v3_model().pd_target(action), torch.pi * action.tanh())
    close(v1_model().pd_target(action), torch.pi * torch.tensor([[0.5, -1.0]]))


def test_v3_takes_a_task_token_too():
    model, io = v3_model(), reference(V3, "tiny_io")
    state = model.normalize(STATE, io("in/max_coords_obs"))
    goals = v3_goals("all_masked")
    token = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    with_token, _ = model.prior(state, goals, token)
    assert (with_token - model.prior(state, goals)[0]).abs().max() > 1e-3
    short, _ = model.prior(state, without_hidden(goals), token)
    close(short, with_token)


def test_published_models_are_frozen():
    for model in (v1_model(), v3_model()):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


# ---- observations -------------------------------------------------------------------------------


def ground(height: Tensor) -> Tensor:
    """(N,) -> (N, 1, 3) to subtract from positions."""
    return torch.nn.functional.pad(height.view(-1, 1, 1), (2, 0))


def bodies(names: tuple[str, ...]) -> list[int]:
    return [SMPL.body_index(name) for name in names]


@pytest.mark.parametrize(
    ("folder", "name", "with_ground"),
    [(V1, "self_obs", True), (V1, "self_obs_flat", False), (V3, "max_coords_obs", True)],
)
def test_the_state_is_seen_as_by_the_original(folder, name, with_ground):
    io = reference(folder, "obs_io")
    pos = io("body_pos") - (ground(io("ground_height")) if with_ground else 0.0)
    seen = proprioception(
        pos=pos, rot=io.rot("body_rot_xyzw"), vel=io("body_vel"), ang_vel=io("body_ang_vel")
    )
    close(seen, io(name))


def test_v1_targets_are_seen_as_by_the_original():
    io = reference(V1, "obs_io")
    chosen = bodies(TARGET_BODIES_V1)
    targets = SparseTargets(
        pos=io("target_body_pos")[:, :, chosen],
        rot=io.rot("target_body_rot_xyzw")[:, :, chosen],
        time_s=io("target_times_rel"),
        visible=torch.cat((io("near_body_mask"), io("far_body_mask").unsqueeze(1)), dim=1),
        velocity=io("target_body_vel")[:, :, 0],
    )
    pos = io("body_pos") - ground(io("ground_height"))
    values, visible = observe_targets_v1(pos, io.rot("body_rot_xyzw"), targets)
    close(values.flatten(1), io("masked_mimic_target_poses"))
    assert torch.equal(visible, targets.visible.flatten(2).any(dim=-1))
    with pytest.raises(ValueError, match="need a velocity"):
        without = dataclasses.replace(targets, velocity=None)
        observe_targets_v1(pos, io.rot("body_rot_xyzw"), without)


def test_v3_targets_are_seen_as_by_the_original():
    io = reference(V3, "obs_io")
    chosen = bodies(TARGET_BODIES_V3)
    targets = SparseTargets(
        pos=io("target_body_pos")[:, :, chosen],
        rot=io.rot("target_body_rot_xyzw")[:, :, chosen],
        time_s=torch.arange(10.0).view(2, 5),
        visible=io("target_body_mask"),
    )
    values, _ = observe_targets_v3(io("body_pos"), io.rot("body_rot_xyzw"), targets)
    poses, bits, time = values.split((144, 12, 1), dim=-1)
    close(poses.flatten(1), io("masked_mimic_target_poses"))
    assert torch.equal(bits.flatten(2), targets.visible.flatten(2).float())
    assert torch.equal(time.squeeze(-1), targets.time_s)


def test_v1_history_is_seen_as_by_the_original():
    io = reference(V1, "obs_io")
    assert (0, *HISTORY_LAGS_V1) == tuple(io("hist_buffer_indices").tolist())
    tokens = observe_history_v1(io("hist_pos_sel"), io.rot("hist_rot_sel_xyzw"))
    close(tokens.flatten(1), io("historical_pose_obs"))


def past_states_v3() -> Tensor:
    io = reference(V3, "obs_io")
    pos = io("hist_body_pos") - ground(io("hist_ground_height").flatten()).unflatten(0, (2, 5))
    return proprioception(
        pos=pos.flatten(0, 1),
        rot=io.rot("hist_body_rot_xyzw").flatten(0, 1),
        vel=io("hist_body_vel").flatten(0, 1),
        ang_vel=io("hist_body_ang_vel").flatten(0, 1),
    ).unflatten(0, (2, 5))


def test_v3_history_is_seen_as_by_the_original():
    tokens = observe_history_v3(past_states_v3())
    close(tokens.flatten(1), reference(V3, "obs_io")("historical_pose_obs"))


def test_terrain_is_seen_as_by_the_original():
    io = reference(V1, "obs_io")
    samples, cell = io("height_samples"), 0.1

    def height(points: Tensor) -> Tensor:
        x, y = (points / cell).unbind(-1)
        i, j = x.floor().long(), y.floor().long()
        x, y = x - i, y - j
        low = samples[i, j] * (1 - y) + samples[i, j + 1] * y
        return low * (1 - x) + x * (samples[i + 1, j] * (1 - y) + samples[i + 1, j + 1] * y)

    root_pos, root_rot = io("body_pos")[:, 0], io.rot("body_rot_xyzw")[:, 0]
    close(observe_terrain(root_pos, root_rot, height), io("terrain_obs"))
    flat = observe_terrain(root_pos, root_rot)
    assert torch.equal(flat, root_pos[:, 2:].expand(-1, 256))


def test_an_object_is_seen_as_by_the_original():
    io = reference(V1, "obs_io")
    root_rot = io.rot("body_rot_xyzw")[:, 0]
    offset, category = io("object_offset_pos_rot_type")[:, 3:7], io("object_offset_pos_rot_type")
    object_rot = io("object_root_pos_rot")[:, 3:]
    seen = observe_object(
        root_pos=io("root_pos_ground_removed"),
        root_rot=root_rot,
        corners=io("object_corners_world"),
        object_rot=rotations.quat_multiply(offset[:, [3, 0, 1, 2]], object_rot[:, [3, 0, 1, 2]]),
        category=category[:, 7].long(),
    )
    close(seen, io("object_bounding_box_obs"))


def test_corners_of_a_turned_box_by_hand():
    quarter = rotations.yaw_quat(torch.tensor([torch.pi / 2]))
    corners = box_corners(torch.tensor([[5.0, 0.0, 1.0]]), quarter, torch.tensor([[2.0, 1.0, 0.5]]))
    close(corners[0, 0], torch.tensor([6.0, -2.0, 0.5]))  # (-, -, -) of the box
    close(corners[0, 1], torch.tensor([4.0, -2.0, 0.5]))  # (-, +, -)
    close(corners[0, 6], torch.tensor([4.0, 2.0, 1.5]))  # (+, +, +)


def test_the_centre_of_mass_moves_with_the_turning_body():
    state = standing_state(1)
    ang_vel = torch.zeros_like(state.ang_vel)
    head = SMPL.body_index("Head")
    ang_vel[0, head] = torch.tensor([0.0, 0.0, 2.0])
    vel = centre_of_mass_velocity(dataclasses.replace(state, ang_vel=ang_vel), SMPL)
    # centre at (-0.0116, -0.0042, 0.0876) of the head, so 2 z x that
    close(vel[0, head], torch.tensor([0.0084, -0.0232, 0.0]))
    assert torch.count_nonzero(vel) == 2


# ---- what is remembered between steps -----------------------------------------------------------


def standing_state(count: int, seed: int | None = None) -> BodyState:
    """At rest in the T-pose, or somewhere in motion."""
    simulator = MujocoCpu(SMPL, count, num_threads=1)
    joint_rot = torch.zeros(count, SMPL.num_bodies, 4)
    joint_rot[..., 0] = 1.0
    root_pos = torch.tensor([0.0, 0.0, STANDING_HEIGHT]).repeat(count, 1)
    qpos, qvel = SMPL.qpos_from_pose(root_pos, joint_rot), torch.zeros(count, SMPL.nv)
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        qvel = torch.randn(count, SMPL.nv, generator=generator)
    simulator.reset(torch.arange(count), qpos, qvel)
    return simulator.step(torch.zeros(count, 69)) if seed is not None else simulator.state


def test_v1_history_lags_one_step_and_reaches_back_113_more():
    inputs = V1Inputs(v1_model(), 2)
    both = torch.arange(2)
    states = [standing_state(2, seed=index) for index in range(130)]
    inputs.restart(both, states[0])
    for state in states[:-1]:
        inputs.remember(state, torch.zeros(2, 69))
    values, visible = inputs.observe(states[-1]).goals[HISTORY]
    reference_step = len(states) - 2  # one before the current state
    steps = [reference_step - lag for lag in (0, *HISTORY_LAGS_V1)]
    pos = torch.stack([states[step].pos for step in steps], dim=1)
    rot = torch.stack([states[step].rot for step in steps], dim=1)
    close(values, observe_history_v1(pos, rot))
    assert visible.all()


def test_v1_begins_an_episode_with_its_first_pose_as_past():
    inputs = V1Inputs(v1_model(), 2)
    first, other = standing_state(2), standing_state(2, seed=1)
    inputs.restart(torch.arange(2), other)
    inputs.remember(other, torch.zeros(2, 69))
    inputs.restart(torch.tensor([1]), first)
    values, _ = inputs.observe(first).goals[HISTORY]
    still = first.pos[1:, None].expand(-1, 16, -1, -1), first.rot[1:, None].expand(-1, 16, -1, -1)
    close(values[1:], observe_history_v1(*still))
    assert (values[0] - values[1]).abs().max() > 0.01


def test_v3_remembers_five_states_and_the_action_before_the_last():
    model = v3_model()
    inputs = V3Inputs(model, 2)
    states = [standing_state(2, seed=index) for index in range(7)]
    actions = [torch.full((2, 69), float(index)) for index in range(7)]
    inputs.restart(torch.arange(2), states[0])
    for state, action in zip(states[:-1], actions, strict=False):
        inputs.remember(state, action)
    seen = inputs.observe(states[-1])
    past = torch.stack([_proprioception(states[index]) for index in (5, 4, 3, 2, 1)], dim=1)
    close(seen.goals[HISTORY][0], observe_history_v3(past))
    expected = model.decoder_input({STATE: _proprioception(states[6]), PREVIOUS_ACTION: actions[4]})
    close(seen.decoder_input, expected)


def test_v3_begins_an_episode_without_actions():
    inputs = V3Inputs(v3_model(), 2)
    state = standing_state(2, seed=0)
    inputs.restart(torch.arange(2), state)
    for _ in range(2):
        inputs.remember(state, torch.ones(2, 69))
    inputs.restart(torch.tensor([0]), state)
    seen = inputs.observe(state).decoder_input
    none, one = (torch.full((2, 69), value) for value in (0.0, 1.0))
    observation = _proprioception(state)
    for row, previous in ((0, none), (1, one)):
        whole = v3_model().decoder_input({STATE: observation, PREVIOUS_ACTION: previous})
        close(seen[row], whole[row])


def _proprioception(state: BodyState) -> Tensor:
    vel = centre_of_mass_velocity(state, SMPL)
    return proprioception(pos=state.pos, rot=state.rot, vel=vel, ang_vel=state.ang_vel)


def some_targets(count: int, *, with_heading: bool) -> Targets:
    """For five future times, of which the last three are shown."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, 5)
    shown = (torch.arange(5) >= 2).expand(shape)
    every_body = shown.unsqueeze(-1).expand(*shape, SMPL.num_bodies)
    return Targets(
        pos=torch.randn(*shape, SMPL.num_bodies, 3, generator=generator),
        rot=rotations.quat_normalize(torch.randn(*shape, SMPL.num_bodies, 4, generator=generator)),
        heading=torch.randn(shape, generator=generator),
        velocity=torch.randn(*shape, 2, generator=generator),
        time_s=torch.rand(shape, generator=generator),
        pos_visible=every_body,
        rot_visible=every_body & torch.tensor([False] + 23 * [True]),
        heading_visible=shown & with_heading,
        velocity_visible=shown & with_heading,
    )


def test_goals_become_v1_targets_of_the_bodies_that_it_knows():
    goals = some_targets(2, with_heading=True)
    sparse = sparse_targets_v1(goals)
    hand, left_hand = SMPL.body_index("R_Hand"), SMPL.body_index("L_Hand")
    assert torch.equal(sparse.pos[:, :, 4], goals.pos[:, :, left_hand])
    assert torch.equal(sparse.rot[:, :, 5], goals.rot[:, :, hand])
    # the pelvis (third) shows no rotation of its own, so it is turned to the heading
    close(rotations.heading(sparse.rot[:, :, 2]), goals.heading)
    assert torch.equal(sparse.visible[:, :, 2, 0], goals.pos_visible[:, :, 0])
    assert not sparse.visible[:, :, 2, 1].any()
    assert torch.equal(sparse.visible[:, :, 6, 0], goals.heading_visible)
    state = standing_state(2)
    values, _ = observe_targets_v1(state.pos, state.rot, sparse)
    heading_entry = values[:, 2:, 156:162]  # first slot of the last of seven entries of 26
    close(heading_entry[..., 0], goals.heading[:, 2:].cos())  # the humanoid faces +x
    close(heading_entry[..., 1], goals.heading[:, 2:].sin())
    close(values[:, 2:, 169:171], goals.velocity[:, 2:])


def test_a_shown_rotation_of_the_pelvis_stays():
    goals = some_targets(2, with_heading=True)
    goals = dataclasses.replace(goals, rot_visible=torch.ones_like(goals.rot_visible))
    assert torch.equal(sparse_targets_v1(goals).rot[:, :, 2], goals.rot[:, :, 0])


def test_v3_has_no_place_for_heading_and_velocity():
    with pytest.raises(ValueError, match="no heading or velocity"):
        sparse_targets_v3(some_targets(2, with_heading=True))
    goals = some_targets(2, with_heading=False)
    head = SMPL.body_index("Head")
    assert torch.equal(sparse_targets_v3(goals).pos[:, :, 5], goals.pos[:, :, head])


@pytest.mark.parametrize("version", [1, 3])
def test_a_published_model_runs_the_humanoid_with_tokens_and_targets(version):
    """Random weights make no walker: what counts is that the whole loop closes."""
    model = v1_model() if version == 1 else v3_model()
    count, generator = 2, torch.Generator().manual_seed(0)
    simulator = MujocoCpu(SMPL, count, num_threads=1)
    inputs = build_inputs(model, count)
    state = standing_state(count)
    qpos = simulator.qpos
    qpos[:, 2] = STANDING_HEIGHT
    simulator.reset(torch.arange(count), qpos, simulator.qvel)
    state = simulator.state
    inputs.restart(torch.arange(count), state)
    for step in range(20):
        targets = some_targets(count, with_heading=version == 1) if step >= 10 else None
        seen = inputs.observe(state, targets)
        assert (TARGETS in seen.goals) == (step >= 10)
        if targets is not None:  # two of the tokens are hidden, so not computed
            assert seen.goals[TARGETS][0].shape[1] == 3
        token = torch.randn(count, model.config.token_width, generator=generator)
        mean, _ = model.prior(seen.state, seen.goals, token)
        action = model.decode(seen.decoder_input, mean)
        pd_target = model.pd_target(action)
        close(pd_target, model(seen.state, seen.goals, token, seen.decoder_input))
        inputs.remember(state, action)
        state = simulator.step(pd_target)
        assert not simulator.diverged.any()
    assert state.pos.isfinite().all()


def test_v1_shows_a_text_where_there_is_one():
    inputs = V1Inputs(v1_model(), 2)
    state = standing_state(2)
    inputs.restart(torch.arange(2), state)
    embedding = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
    told = dataclasses.replace(
        hidden_targets(state, torch.zeros(2, 0)),
        text=embedding.unsqueeze(1),
        text_visible=torch.tensor([[True], [False]]),
    )
    values, visible = inputs.observe(state, told).goals[TEXT]
    assert torch.equal(values[:, 0], embedding)
    assert visible.tolist() == [[True], [False]]
    hidden = dataclasses.replace(told, text_visible=torch.zeros(2, 1, dtype=torch.bool))
    assert TEXT not in inputs.observe(state, hidden).goals
    with pytest.raises(ValueError, match="takes embeddings of 512 entries"):
        inputs.observe(state, dataclasses.replace(told, text=torch.zeros(2, 1, 384)))
    v3 = V3Inputs(v3_model(), 2)
    v3.restart(torch.arange(2), state)
    with pytest.raises(ValueError, match="trained without words"):
        v3.observe(state, told)


@pytest.mark.parametrize("version", [1, 3])
def test_what_is_remembered_can_be_saved_and_restored(version):
    model = v1_model() if version == 1 else v3_model()
    original, copy = build_inputs(model, 2), build_inputs(model, 2)
    states = [standing_state(2, seed=index) for index in range(20)]
    original.restart(torch.arange(2), states[0])
    for index, state in enumerate(states):
        if index == 12:
            copy.set_state(original.get_state())
        original.remember(state, torch.full((2, 69), float(index)))
        if index >= 12:
            copy.remember(state, torch.full((2, 69), float(index)))
    seen, again = original.observe(states[-1]), copy.observe(states[-1])
    assert torch.equal(seen.goals[HISTORY][0], again.goals[HISTORY][0])
    assert torch.equal(seen.decoder_input, again.decoder_input)


def test_our_own_model_sees_state_and_goals_and_remembers_nothing():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = frozen(MaskedMimic(default_config(DEEPMIMIC)))
    inputs = build_inputs(model, 2)
    assert (inputs.humanoid, build_inputs(v1_model(), 1).humanoid) == (DEEPMIMIC, SMPL)
    state = MujocoCpu(DEEPMIMIC, 2, num_threads=1).state
    inputs.restart(torch.arange(2), state)
    inputs.remember(state, torch.ones(2, DEEPMIMIC.num_dofs))
    assert inputs.get_state() == {}
    shown = heading_speed_targets(
        state, heading=torch.zeros(2), direction=torch.tensor([[1.0, 0.0]]), speed=torch.ones(2)
    )
    normal = model.normalize(STATE, observe_state(state))
    for targets in (None, shown):
        seen = inputs.observe(state, targets)
        goals = None if targets is None else {TARGETS: observe_targets(state, targets)}
        ours = model(seen.state, seen.goals, decoder_input=seen.decoder_input)
        assert torch.equal(ours, model(normal, goals))
