"""Both stages of pre-training: what they optimise, and that a stopped run continues."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.maskedmimic import MaskedMimic
from tt_gym.bfm.pretrained_model import SHIPPED, load_bfm, save_bfm
from tt_gym.bfm.targets import TARGET_STEPS, TARGETS, TEXT
from tt_gym.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions import ClipError, MotionLibrary, shipped_clip
from tt_gym.motions.locomotion import random_locomotion
from tt_gym.motions.playback import RenderError
from tt_gym.motions.reaching import random_reaches, reaches_around
from tt_gym.motions.stepping import random_steps
from tt_gym.pretraining import distill, following, old_tokens, report, sift, tracker
from tt_gym.pretraining.average import average
from tt_gym.pretraining.average import main as main_of_average
from tt_gym.pretraining.clip_facts import aligned_poses, settled, stride_velocity
from tt_gym.pretraining.clips import load_clips
from tt_gym.pretraining.distill_env import PROMPT_MODES, DistillEnv
from tt_gym.pretraining.hard_windows import HardWindows, kind
from tt_gym.pretraining.sheet import draw_sheet, local_rotations
from tt_gym.pretraining.teachers import Teachers, share_out
from tt_gym.pretraining.tracker import TrackerConfig, TrackerPPO, load_tracker
from tt_gym.pretraining.tracking_env import (
    MAX_ERROR,
    TrackingEnv,
    observe_reference,
    tracking_error,
    tracking_reward,
)
from tt_gym.simulation import BodyState, MujocoCpu
from tt_gym.text import BEHAVIOURS, captions

CLIPS = ["idle", "walk_forward"]
NUM_ENVS = 8
TINY = TrackerConfig(num_envs=NUM_ENVS, n_steps=16, batch_size=64)
ROLLOUT = TINY.num_envs * TINY.n_steps


@pytest.fixture(scope="module")
def library() -> MotionLibrary:
    return MotionLibrary(DEEPMIMIC, load_clips(CLIPS))


@pytest.fixture
def env(library: MotionLibrary) -> TrackingEnv:
    env = TrackingEnv(MujocoCpu(DEEPMIMIC, NUM_ENVS), library)
    env.reset()
    return env


def differences(one: Any, other: Any, name: str = "") -> list[str]:
    """Where two nested contents are not bit-equal."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        return [d for key in one for d in differences(one[key], other[key], f"{name}/{key}")]
    if isinstance(one, list | tuple):
        assert len(one) == len(other)
        return [d for i in range(len(one)) for d in differences(one[i], other[i], f"{name}/{i}")]
    same = torch.equal(one, other) if isinstance(one, Tensor) else one == other
    return [] if same else [name]


# ---- following a reference ----------------------------------------------------------------------


def with_reference(env: TrackingEnv, **changes: Tensor) -> BodyState:
    """The state that equals the reference, up to some changes."""
    frames = env.reference()
    exact = {name: getattr(frames, name) for name in ("pos", "rot", "vel", "ang_vel")}
    return dataclasses.replace(env.simulator.state, **exact, **changes)


def test_episodes_begin_in_the_reference_state(env):
    state, reference = env.simulator.state, env.reference()
    assert tracking_error(state, reference).max() < 1e-4
    torch.testing.assert_close(state.vel, reference.vel, atol=2e-3, rtol=0)
    torch.testing.assert_close(state.ang_vel, reference.ang_vel, atol=2e-3, rtol=0)


def test_the_reward_is_one_at_the_exact_reference(env):
    reward = tracking_reward(with_reference(env), env.reference())
    torch.testing.assert_close(reward, torch.ones(NUM_ENVS), atol=1e-5, rtol=0)


def test_the_reward_away_from_the_reference_by_hand(env):
    reference = env.reference()
    state = with_reference(env)
    aside = dataclasses.replace(state, pos=state.pos + torch.tensor([0.0, 0.1, 0.0]))
    expected = torch.full((NUM_ENVS,), 0.6 + 0.4 * math.exp(-30 * 0.1**2))
    torch.testing.assert_close(tracking_reward(aside, reference), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(tracking_error(aside, reference), torch.full((NUM_ENVS,), 0.1))
    turn = rotations.quat_from_exp_map(torch.tensor([0.0, 0.0, 0.2])).expand_as(state.rot)
    turned = dataclasses.replace(state, rot=rotations.quat_multiply(state.rot, turn))
    expected = torch.full((NUM_ENVS,), 0.75 + 0.25 * math.exp(-3 * 0.2**2))
    torch.testing.assert_close(tracking_reward(turned, reference), expected, atol=1e-4, rtol=0)
    vel = state.vel.clone()
    vel[:, 0, 0] += 0.3
    faster = dataclasses.replace(state, vel=vel)
    bodies = state.vel.shape[1]
    expected = 0.75 + 0.1 * math.exp(-0.2 * 0.3**2 / bodies) + 0.15 * math.exp(-20 * 0.3**2)
    expected = torch.full((NUM_ENVS,), expected)
    torch.testing.assert_close(tracking_reward(faster, reference), expected, atol=1e-4, rtol=0)


def test_at_the_exact_reference_all_differences_are_zero(env):
    seen = observe_reference(with_reference(env), env.reference())
    bodies = DEEPMIMIC.num_bodies
    pos, rot, vel = seen.split([3 * bodies, 6 * bodies, 3 * bodies], dim=1)
    assert pos.abs().max() == 0.0
    assert vel.abs().max() == 0.0
    assert rot.view(NUM_ENVS, -1, 3).norm(dim=-1).sub(1).abs().max() < 1e-5  # unit vectors


def test_a_looping_clip_repeats_its_pose_and_goes_on(library):
    period = shipped_clip("walk_forward").num_frames - 1
    walk = torch.full((3,), CLIPS.index("walk_forward"))
    start = torch.tensor([1, 5, 20])  # velocities of the very first frame know no frame before it
    now, later = (library.frame_index(walk, start + ahead) for ahead in (0, 3 * period))
    poses = aligned_poses(library)
    torch.testing.assert_close(poses[later], poses[now], atol=5e-3, rtol=0)
    travel = library.frames.pos[later, 0, 0] - library.frames.pos[now, 0, 0]
    assert travel.min() > 3 * 1.0  # three cycles of more than a metre


def test_the_reference_is_held_at_the_end_of_a_clip(env):
    env.frame[:] = 10_000
    last = env.library.starts[env.clip_ids] + env.library.lengths[env.clip_ids] - 1
    assert torch.equal(env.reference(5).pos, env.library.frames.pos[last])


def test_losing_the_reference_ends_the_episode_as_a_failure(env):
    env.simulator.push(torch.tensor([2]), torch.tensor([[15.0, 0.0, 0.0]]))  # half a metre a step
    _, _, dones, infos = env.step(torch.zeros(NUM_ENVS, 28).numpy())
    assert dones.nonzero()[0].tolist() == [2]
    info = infos[2]
    assert not info["TimeLimit.truncated"]
    assert not info["is_success"]
    assert info["terminal_observation"].shape == env.observation_space.shape


@pytest.mark.parametrize(("most", "ends"), [(math.inf, []), (0.1, [2])])
def test_a_pelvis_too_far_from_its_height_can_end_the_episode(library, most, ends):
    env = TrackingEnv(MujocoCpu(DEEPMIMIC, NUM_ENVS), library, max_height_error=most)
    env.reset()
    env.simulator.push(torch.tensor([2]), torch.tensor([[0.0, 0.0, 5.0]]))  # 0.16 m a step
    _, _, dones, _ = env.step(torch.zeros(NUM_ENVS, 28).numpy())
    assert dones.nonzero()[0].tolist() == ends


@pytest.mark.parametrize(("most", "ends"), [(math.inf, []), (0.08, [2])])
def test_feet_that_stand_elsewhere_for_long_can_end_the_episode(most, ends):
    idle = MotionLibrary(DEEPMIMIC, [shipped_clip("idle")])
    env = TrackingEnv(MujocoCpu(DEEPMIMIC, 4), idle, max_foot_error=most)
    env.reset()
    frames = idle.frames[idle.frame_index(env.clip_ids, env.frame)]
    aside = frames.qpos.clone()
    aside[2, 0] += 0.15
    env.simulator.reset(torch.arange(4), aside, frames.qvel)
    ended = {}
    for step in range(20):
        _, failed, _, error = env.advance(env.reference(1).pd_target)
        ended |= {int(index): step for index in failed.nonzero() if int(index) not in ended}
    assert sorted(ended) == ends
    assert float(error[2]) < MAX_ERROR  # the mean over bodies lets it pass
    assert all(step >= 9 for step in ended.values())
    if ends:
        assert env.get_state()["misplaced"][2] > 10
        env.restart(torch.tensor(ends))
        assert int(env.misplaced[2]) == 0
        env.advance(env.reference(1).pd_target)
        env.minds_feet[:] = False
        env.simulator.reset(torch.arange(4), aside, frames.qvel)
        assert not any(env.advance(env.reference(1).pd_target)[1].any() for _ in range(15))


def test_the_end_of_a_clip_is_a_time_limit(env):
    env.frame[3] = env.library.lengths[env.clip_ids[3]] - 2
    ids = torch.tensor([3])
    frames = env.library.frames[env.library.frame_index(env.clip_ids[ids], env.frame[ids])]
    env.simulator.reset(ids, frames.qpos, frames.qvel)
    _, _, dones, infos = env.step(torch.zeros(NUM_ENVS, 28).numpy())
    assert dones.nonzero()[0].tolist() == [3]
    assert infos[3]["TimeLimit.truncated"]
    assert env.age[3] == 0


def test_episodes_begin_more_often_before_what_fails(env):
    hard = HardWindows(env.library)
    clip = torch.zeros(NUM_ENVS, dtype=torch.long)
    frames = torch.full((NUM_ENVS,), 46)  # in the second window of the first clip
    everyone = torch.ones(NUM_ENVS, dtype=torch.bool)
    before = hard.weights()
    for _ in range(20):
        hard.count(clip, frames, everyone)
        hard.count(clip, frames - 16, ~everyone)  # the first window is passed
    gain = hard.weights() / before
    windows = -(-env.library.lengths // 30)
    assert gain[1] > gain[int(windows[0])] == pytest.approx(1.0, rel=0.02)
    assert gain[0] > 1.0  # the way there counts, although the first window itself is easy


def test_a_failure_in_the_first_frame_counts_for_the_first_window(env):
    hard = HardWindows(env.library)
    clips = torch.arange(2)  # a reference that waits for a student may be back at the first frame
    before = hard.failures.clone()
    hard.count(clips, torch.zeros(2, dtype=torch.long), torch.ones(2, dtype=torch.bool))
    first = [0, -(-int(env.library.lengths[0]) // 30)]
    assert (hard.failures - before > 0.5).nonzero().flatten().tolist() == first


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("walk_forward", "walk_forward"),
        ("walk_forward_x0.95", "walk_forward"),
        ("turn_left0", "turn_left"),
        ("cmu_jumps_1_x1.03", "cmu_jumps"),
        ("reach_around_55_12", "reach_around"),
        ("07_03", "07_03"),
    ],
)
def test_takes_and_tempi_are_of_one_kind(name, expected):
    assert kind(name) == expected


def test_many_clips_of_a_kind_do_not_drown_the_others():
    tempi = [f"walk*{tempo / 100}" for tempo in range(92, 109)]
    library = MotionLibrary(DEEPMIMIC, load_clips(["cmu_jumps_0", *tempi]))
    hard = HardWindows(library)
    clips, _ = hard.draw(20000, torch.Generator().manual_seed(0), margin=12)
    walking = float(library.durations_s[1:].sum())
    roots = math.sqrt(float(library.durations_s[0])), math.sqrt(walking)
    share = (clips == 0).float().mean()
    assert share == pytest.approx(roots[0] / sum(roots), abs=0.02)
    assert share > 0.15  # one of eighteen clips


def test_drawn_frames_leave_the_margin(env):
    clips, frames = HardWindows(env.library).draw(5000, torch.Generator(), margin=12)
    lengths = env.library.lengths[clips]
    assert (frames >= 0).all() and (frames <= (lengths - 12).clamp(min=0)).all()
    assert set(clips.tolist()) == set(range(len(env.library.names)))


def test_evaluation_draws_frames_evenly(env):
    even = TrackingEnv(MujocoCpu(DEEPMIMIC, NUM_ENVS), env.library, seed=4)
    even.mining = False
    clips, frames = even.draw_starts(20000)
    first = frames[clips == 0].float() / (env.library.lengths[0] - 12)
    assert first.mean() == pytest.approx(0.5, abs=0.03)


def test_a_state_of_other_clips_of_the_same_name_is_not_continued():
    kick = shipped_clip("kick")
    short = dataclasses.replace(kick, root_pos=kick.root_pos[:30], joint_rot=kick.joint_rot[:30])
    long_env, env = (
        TrackingEnv(MujocoCpu(DEEPMIMIC, NUM_ENVS), MotionLibrary(DEEPMIMIC, [clip]))
        for clip in (kick, short)
    )
    long_env.reset()
    saved = long_env.get_state()
    assert long_env.fits(saved) and not env.fits(saved)
    env.set_state(saved)
    assert int(env.frame.max()) < 30 and int(env.age.max()) == 0


# ---- tracker ------------------------------------------------------------------------------------


def train_tracker(run_dir: Path, rollouts: int, *, seed: int = 0) -> Path:
    return tracker.train(
        CLIPS, run_dir, steps=rollouts * ROLLOUT, seed=seed, config=TINY, init=None
    )


@pytest.fixture(scope="module")
def tiny_tracker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a run of 24 rollouts."""
    return train_tracker(tmp_path_factory.mktemp("straight"), 24)


def test_a_stopped_tracker_run_continues_bit_for_bit(tiny_tracker, tmp_path, capsys):
    train_tracker(tmp_path, 10)
    resumed = train_tracker(tmp_path, 24)
    assert f"continuing {resumed} at {10 * ROLLOUT:,} steps" in capsys.readouterr().out
    one, other = (load_checkpoint(path, kind="tracker") for path in (tiny_tracker, resumed))
    assert one["ppo"]["num_timesteps"] == 24 * ROLLOUT
    assert differences(one, other) == []


def test_another_seed_trains_another_tracker(tiny_tracker, tmp_path):
    first = load_checkpoint(tiny_tracker, kind="tracker")
    other = load_checkpoint(train_tracker(tmp_path, 1, seed=1), kind="tracker")
    assert differences(first["ppo"]["policy"], other["ppo"]["policy"])


def test_a_finished_tracker_run_is_left_alone(tiny_tracker):
    before = tiny_tracker.read_bytes()
    train_tracker(tiny_tracker.parent, 24)
    assert tiny_tracker.read_bytes() == before


@pytest.mark.parametrize(("asked", "sigma"), [(None, tracker.SIGMA), (0.1, 0.1)])
def test_other_clips_continue_with_the_weights_alone(tiny_tracker, tmp_path, asked, sigma):
    config = dataclasses.replace(TINY, sigma=asked)
    path = tracker.train(
        ["jump"], tmp_path, steps=25 * ROLLOUT, seed=0, config=config, init=tiny_tracker
    )
    saved = load_checkpoint(path, kind="tracker")
    assert saved["ppo"]["num_timesteps"] == 25 * ROLLOUT
    assert saved["env"]["names"] == ["jump"]
    torch.testing.assert_close(
        saved["ppo"]["policy"]["log_std"], torch.full((DEEPMIMIC.num_dofs,), math.log(sigma))
    )


def test_the_exported_tracker_acts_as_the_trained_policy(tiny_tracker, library, monkeypatch):
    models: list[TrackerPPO] = []
    monkeypatch.setattr(TrackerPPO, "learn", lambda model, *_, **__: models.append(model))
    train_tracker(tiny_tracker.parent, 25)  # restores the model, then trains it no further
    observations = TrackingEnv(MujocoCpu(DEEPMIMIC, NUM_ENVS), library, seed=3).reset()
    normalised = models[0].get_vec_normalize_env().normalize_obs(observations)
    expected, _ = models[0].predict(normalised, deterministic=True)
    acted = load_tracker(tiny_tracker)(torch.from_numpy(observations))
    torch.testing.assert_close(acted, torch.from_numpy(expected), atol=1e-5, rtol=0)


def test_a_missing_tracker_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: no such checkpoint file"):
        load_tracker(tmp_path / "gone.safetensors")


# ---- prompts while distilling -------------------------------------------------------------------


def prompted(library: MotionLibrary, mode: str) -> DistillEnv:
    """An environment some steps after its start, pushed off its way."""
    env = DistillEnv(MujocoCpu(DEEPMIMIC, NUM_ENVS), library, only_mode=mode, disturb=False)
    env.reset()
    env.simulator.push(torch.arange(NUM_ENVS), torch.tensor([0.5, 1.0, 0.0]).expand(NUM_ENVS, 3))
    for _ in range(5):
        env.advance(env.reference(1).pd_target)
    return env


@pytest.mark.parametrize(
    ("mode", "pos", "heading"), [("full", 1.0, 5), ("nothing", 0.0, 0), ("heading_speed", 0.0, 2)]
)
def test_each_mode_shows_its_parts(library, mode, pos, heading):
    targets = prompted(library, mode).targets()
    assert targets.pos_visible.float().mean() == pos
    assert torch.equal(targets.pos_visible, targets.rot_visible)
    assert (targets.heading_visible.sum(dim=1) == heading).all()
    assert torch.equal(targets.heading_visible, targets.velocity_visible)


def test_the_root_mode_shows_the_root_on_the_far_tokens(library):
    visible = prompted(library, "root").targets().pos_visible
    assert visible[:, -2:, 0].all()
    assert visible.sum() == 2 * NUM_ENVS


def test_with_nothing_shown_place_and_heading_follow_the_student(library):
    env = prompted(library, "nothing")
    view, reference = env.view(), env.reference()
    torch.testing.assert_close(view.pos[:, 0, :2], reference.pos[:, 0, :2], atol=1e-5, rtol=0)
    apart = rotations.heading(view.rot[:, 0]) - rotations.heading(reference.rot[:, 0])
    assert rotations.wrap_angle(apart).abs().max() < 1e-4


def test_with_heading_and_speed_shown_only_the_place_follows(library):
    env = prompted(library, "heading_speed")
    assert not env.turn.any()
    torch.testing.assert_close(
        env.view().pos[:, 0, :2], env.reference().pos[:, 0, :2], atol=1e-5, rtol=0
    )


def test_with_everything_shown_the_reference_stays(library):
    env = prompted(library, "full")
    assert torch.equal(env.view().pos, env.simulator.state.pos)
    assert tracking_error(env.view(), env.reference()).min() > 0.01  # it was pushed


def test_the_stride_velocity_of_walking_is_steady(library):
    walk = CLIPS.index("walk_forward")
    rows = library.starts[walk] + torch.arange(15, int(library.lengths[walk]) - 15)
    speed = stride_velocity(library)[rows].norm(dim=-1)
    torch.testing.assert_close(speed, torch.ones(len(rows)), atol=0.1, rtol=0)


def test_targets_look_ahead_by_their_steps(library):
    env = prompted(library, "full")
    targets = env.targets()
    for index, steps in enumerate(TARGET_STEPS):
        assert torch.equal(targets.pos[:, index], env.reference(steps).pos)
    torch.testing.assert_close(targets.time_s[0], torch.tensor(TARGET_STEPS) / 30)


def test_a_led_clip_waits_for_the_last_step():
    library = MotionLibrary(DEEPMIMIC, reaches_around(count=2, duration_s=6.0, seed=3, walks=0.0))
    frames, feet = library.frames, list(DEEPMIMIC.feet)
    count = int(library.lengths[0])
    places = frames.pos[:count, feet, :2]
    standing = (frames.vel[:count, feet, :2].norm(dim=-1) < 0.05).all(dim=-1).tolist()
    moved = (places[10:-20] - places[:-30]).norm(dim=-1).amax(dim=-1)
    far = (moved > 0.07).nonzero().flatten().tolist()
    last = next(frame for frame in far if all(standing[frame + 15 : frame + 26]))
    first = next(frame for frame in far if not standing[frame + 25])

    def after_calls(start: int, calls: int) -> DistillEnv:
        """The students are in the pose of frame ``start``, ten frames late."""
        env = DistillEnv(MujocoCpu(DEEPMIMIC, 4), library, only_mode="led")
        env.reset()
        env.clip_ids[:], env.frame[:] = 0, start
        pose = frames[library.frame_index(env.clip_ids, env.frame)]
        env.simulator.reset(torch.arange(4), pose.qpos, pose.qvel)
        env.commanded[:] = torch.tensor([True, False, True, True])
        env.mode[2] = PROMPT_MODES.index("full")  # which says when
        env.waited[:] = torch.tensor([0, 0, 0, 20])  # the last one for long enough
        env.frame += 10
        for _ in range(calls):
            env.wait_for_feet()
        return env

    env = after_calls(last, 1)
    assert (env.frame - last).tolist() == [9, 10, 10, 10]
    assert env.waited.tolist() == [1, 0, 0, 0]
    env = after_calls(last, 12)
    assert 0 < int(env.frame[0]) - last < 10
    assert float((places[env.frame[0]] - places[last]).norm(dim=-1).amax()) < 0.06
    assert (after_calls(first, 1).frame - first).tolist() == [10] * 4


# ---- distillation -------------------------------------------------------------------------------


@pytest.fixture
def tiny_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"NUM_ENVS": 8, "STEPS_PER_ROUND": 4, "UPDATES_PER_ROUND": 2, "BATCH_SIZE": 16}
    for name, value in sizes.items():
        monkeypatch.setattr(distill, name, value)


def taught_by(tracker_path: Path, library: MotionLibrary) -> Teachers:
    return Teachers((load_tracker(tracker_path), len(library.names)))


def distiller(tracker_path: Path, library: MotionLibrary, run_dir: Path) -> distill.Distiller:
    return distill.Distiller(taught_by(tracker_path, library), library, run_dir, seed=0)


@pytest.mark.usefixtures("tiny_rounds")
def test_a_stopped_distillation_continues(tiny_tracker, library, tmp_path):
    first = distiller(tiny_tracker, library, tmp_path)
    first.run(0.3)
    assert first.round > 0
    second = distiller(tiny_tracker, library, tmp_path)
    second.resume()
    assert (second.round, second.trained_s) == (first.round, first.trained_s)
    for name in ("model", "average", "posterior", "optimizer"):
        ours, theirs = getattr(first, name).state_dict(), getattr(second, name).state_dict()
        assert differences(ours, theirs) == []
    second.run(first.trained_s + 0.2)
    assert second.round > first.round
    assert differences(first.model.state_dict(), second.model.state_dict())


@pytest.mark.usefixtures("tiny_rounds")
def test_a_run_of_a_model_with_other_parts_is_not_continued(tiny_tracker, library, tmp_path):
    first = distiller(tiny_tracker, library, tmp_path)
    first.run(0.1)
    saved = load_checkpoint(first.checkpoint, kind="distill")
    saved["model"] = {k: v for k, v in saved["model"].items() if not k.startswith("encoders.text")}
    save_checkpoint(first.checkpoint, kind="distill", content=saved)
    with pytest.raises(CheckpointError, match=r"other parts.*start a new one.*--init"):
        distiller(tiny_tracker, library, tmp_path).resume()


@pytest.mark.usefixtures("tiny_rounds")
def test_distillation_writes_a_model_for_the_environments(tiny_tracker, library, tmp_path):
    run = distiller(tiny_tracker, library, tmp_path)
    run.run(0.2)
    saved = load_bfm(tmp_path / "bfm.safetensors")
    assert differences(dict(run.average.state_dict()), dict(saved.state_dict())) == []
    basis = saved.token_basis
    # fitted to goals: it begins as a part of the unit matrix
    assert basis[:, len(basis) :].norm() > 0.1
    # the statistics were taken from the first round, so a state is about standard
    assert saved.normalizers["state"].mean.abs().max() > 0.1


@pytest.mark.usefixtures("tiny_rounds")
def test_samples_are_mirrored_unless_words_leave_the_side_open(tiny_tracker, library, tmp_path):
    run = distiller(tiny_tracker, library, tmp_path)
    run.env.reset()
    sample = {key: value[:4] for key, value in run.gather().items()}
    told = ("kick", "turn left", "punch", "walk")
    sample["behaviour"] = torch.tensor([captions.NAMES.index(name) for name in told])
    other = run.mirror(sample)
    shown = [captions.NAMES[index] for index in other["behaviour"].tolist()]
    assert shown == ["kick", "turn right", "punch", "walk"]
    for key in ("state", "targets", "label"):
        changed = (other[key] != sample[key]).flatten(1).any(dim=1)
        assert changed.tolist() == [False, True, False, True], key
    assert all(map(torch.equal, run.mirror(other).values(), sample.values()))


def test_weights_that_swing_around_a_middle_are_averaged(tiny_tracker, library, tmp_path):
    run = distiller(tiny_tracker, library, tmp_path)
    weight, average = (next(model.parameters()) for model in (run.model, run.average))
    with torch.no_grad():
        for number in range(200):
            weight.fill_(2.0 + (1.0 if number % 2 else -1.0))
            run.follow(number)
        torch.testing.assert_close(average, torch.full_like(average, 2.0), atol=0.1, rtol=0)
        weight.fill_(5.0)
        run.follow(10**6)  # after long training the average hardly moves in one update
    torch.testing.assert_close(average, torch.full_like(average, 2.0), atol=0.1, rtol=0)


WORDLESS = Path("checkpoints/words/without_words.safetensors")
"""An earlier model: it knows no words, and its task token has 128 axes."""


@pytest.mark.parametrize("init", [Path(SHIPPED), WORDLESS])
@pytest.mark.usefixtures("tiny_rounds")
def test_distillation_starts_from_a_model_that_acts_from_the_first_round(
    tiny_tracker, library, tmp_path, init
):
    teachers = taught_by(tiny_tracker, library)
    run = distill.Distiller(teachers, library, tmp_path, seed=0, init=init)
    known = load_bfm(init).state_dict()
    ours = {name: value for name, value in run.model.state_dict().items() if name in known}
    known["token_basis"] = known["token_basis"][:32]
    assert differences(ours, known) == []
    run.env.reset()
    samples = run.gather()
    student = run.act({key: value[:8] for key, value in samples.items()})
    assert (student - samples["label"][:8]).abs().max() > 1e-3
    before = run.model.normalizers["state"].mean.clone()
    run.run(0.1)
    assert torch.equal(run.model.normalizers["state"].mean, before)
    # tokens that were trained for the model before are a beginning for this one
    saved = load_bfm(tmp_path / "bfm.safetensors")
    assert torch.equal(saved.token_basis, known["token_basis"])
    assert any((saved.state_dict()[name] != known[name]).any() for name in known)


@pytest.mark.usefixtures("tiny_rounds")
def test_words_can_be_taught_to_a_model_that_stays_what_it_is(tiny_tracker, library, tmp_path):
    def build() -> distill.Distiller:
        settings = {"seed": 0, "init": Path(SHIPPED), "words_only": True}
        return distill.Distiller(taught_by(tiny_tracker, library), library, tmp_path, **settings)

    run = build()
    before = {name: tensor.clone() for name, tensor in run.model.state_dict().items()}
    run.run(0.3)
    changed = differences(before, dict(run.model.state_dict()))
    assert changed
    assert all(name.startswith("/encoders.text.") for name in changed)
    again = build()
    again.resume()
    assert differences(dict(run.model.state_dict()), dict(again.model.state_dict())) == []
    with pytest.raises(ValueError, match="words_only needs init"):
        teachers = taught_by(tiny_tracker, library)
        distill.Distiller(teachers, library, tmp_path, seed=0, words_only=True)


@pytest.mark.usefixtures("tiny_rounds")
def test_old_tokens_are_answered_as_the_shipped_model_answers_them(
    tiny_tracker, library, tmp_path, monkeypatch
):
    shipped = load_bfm(None)
    monkeypatch.setattr(old_tokens, "NUM_ENVS", 4)
    monkeypatch.setattr(distill, "OLD_TOKENS_FIRST", 3)

    def build(init: Path | None) -> distill.Distiller:
        named = {"old_tokens": ("direction", "long_jump", "strike_alone"), "init": init}
        return distill.Distiller(
            taught_by(tiny_tracker, library), library, tmp_path, seed=0, **named
        )

    def answer(model: MaskedMimic, rows: dict[str, Tensor]) -> Tensor:
        goals = {TARGETS: (rows["targets"], rows["visible"]), TEXT: (rows["words"], rows["told"])}
        with torch.no_grad():
            return model(rows["state"], goals, model.task_token(rows["action"]))

    run = build(Path(SHIPPED))
    with torch.no_grad():
        run.average.decoder[-1].bias += 0.1  # the student acts, the shipped model says what is due
    run.old_buffer.extend(run.old_tokens.gather(run.average, 10) for _ in range(3))
    shown = [(rows["visible"].any(), rows["told"].any()) for rows in run.old_buffer]
    assert shown == [(True, False), (True, False), (False, False)]  # no jump after 10 steps
    for rows in run.old_buffer:
        assert len(rows["label"]) == 4 * 10
        torch.testing.assert_close(answer(shipped, rows), rows["label"], atol=1e-4, rtol=0)
        assert (rows["action"].abs() <= 1).all() and rows["action"].std() > 0.05
    first = run.old_token_loss()
    assert first < 1e-6  # the model itself is still the shipped one
    with torch.no_grad():
        run.model.decoder[-1].bias += 0.1
    assert float(run.old_token_loss().detach()) == pytest.approx(
        distill.OLD_TOKENS_WEIGHT * 0.01, rel=0.01
    )
    run.run(0.3)
    assert len(run.old_buffer) >= 3
    other = average([shipped], [1.0])
    other.token_basis += 0.1
    save_bfm(other, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="needs a student with the shipped model's token_basis"):
        build(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="old_tokens needs init"):
        build(None)


def test_every_clip_has_its_teacher(tiny_tracker):
    one, other = load_tracker(tiny_tracker), load_tracker(tiny_tracker)
    other.net[-1].bias += 0.25
    observation = torch.randn(5, one.mean.shape[0], generator=torch.Generator().manual_seed(0))
    clips = torch.tensor([0, 2, 1, 4, 3])
    labels = Teachers((one, 2), (other, 1), (one, 2))(observation, clips)
    expected = torch.where((clips == 2).unsqueeze(1), other(observation), one(observation))
    assert torch.equal(labels, expected)
    assert not torch.equal(one(observation), other(observation))


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        (distill, "--expert tracker.safetensors", "--expert needs a tracker and at least one"),
        (distill, "--old-tokens reach", "--old-tokens needs --init"),
        (distill, "--minutes -1", "--minutes: must be a number above 0, got -1"),
        (tracker, "--steps 0", "--steps: must be a number above 0, got 0"),
        (tracker, "--sigma nan", "--sigma: must be a number above 0, got nan"),
        (tracker, "--kl-range 0.06 0.03", "--kl-range must be in rising order"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    command, options, message, monkeypatch, capsys, tmp_path
):
    given = [command.__name__, "--run-dir", str(tmp_path / "run"), *options.split()]
    monkeypatch.setattr(sys, "argv", given)
    with pytest.raises(SystemExit):
        command.main()
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", [tracker, distill, report])
def test_a_clip_that_is_not_there_ends_in_one_line(command, monkeypatch, tiny_tracker, tmp_path):
    options = ["--tracker", str(tiny_tracker)] if command is not tracker else []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["command", "--clips", "gone.npz", *options])
    with pytest.raises(SystemExit, match=r"^\w+: .*gone\.npz"):
        command.main()


def test_made_clips_show_what_they_are_on_their_way_to():
    (made,) = random_locomotion(shipped_clip("run"), count=1, duration_s=20.0, seed=1)
    env = prompted(MotionLibrary(DEEPMIMIC, [made]), "heading_speed")
    targets = env.targets()
    asked = made.asked[env.frame]
    assert torch.equal(targets.heading, asked[:, :1].expand_as(targets.heading))
    speed = targets.velocity.norm(dim=-1)
    torch.testing.assert_close(speed, asked[:, 1:].expand_as(speed))
    moving = asked[:, 1] > 0.1
    angle = torch.atan2(targets.velocity[..., 1], targets.velocity[..., 0])[moving]
    away = rotations.wrap_angle(angle - asked[moving, :1])
    assert moving.any()
    assert float(away.abs().max()) < 1e-4


def test_many_episodes_begin_where_something_else_is_about_to_be_asked():
    (made,) = random_locomotion(shipped_clip("run"), count=1, duration_s=60.0, seed=1)
    library = MotionLibrary(DEEPMIMIC, [shipped_clip("walk"), made])
    env = DistillEnv(MujocoCpu(DEEPMIMIC, 400), library, seed=2)
    env.reset()
    changed = (made.asked.diff(dim=0) != 0).any(dim=-1).nonzero().flatten() + 1
    ahead = changed.unsqueeze(0) - env.frame[env.clip_ids == 1].unsqueeze(1)
    soon = ((ahead >= 0) & (ahead < 15)).any(dim=-1)
    near = int(soon.sum()) / env.num_envs
    assert 0.3 < near < 0.55  # the share of such episodes, and some of the others by chance
    reference = env.reference()
    torch.testing.assert_close(env.view().pos, reference.pos, rtol=0, atol=2e-3)
    calm = DistillEnv(MujocoCpu(DEEPMIMIC, 8), MotionLibrary(DEEPMIMIC, [shipped_clip("walk")]))
    calm.reset()  # nothing to change in recorded clips


def test_made_clips_are_followed_unprompted_only_while_nothing_changes():
    (made,) = random_locomotion(shipped_clip("run"), count=1, duration_s=60.0, seed=1)
    library = MotionLibrary(DEEPMIMIC, [made])
    changed = (made.asked.diff(dim=0) != 0).any(dim=-1).nonzero().flatten() + 1
    since = torch.arange(made.num_frames).unsqueeze(1) - torch.cat((torch.zeros(1), changed))
    known = torch.where(since >= 0, since, torch.inf).amin(dim=1) >= 45
    assert torch.equal(settled(library), known)
    env = DistillEnv(MujocoCpu(DEEPMIMIC, 400), library, seed=2)
    env.reset()
    nothing = env.mode == PROMPT_MODES.index("nothing")
    assert nothing.any()
    assert known[env.frame[nothing]].all()
    index = int(nothing.nonzero()[0])
    env.frame[index] = changed[0] - 1
    env.advance(env.reference(1).pd_target)  # the step in which something else is asked
    assert env.mode[index] != PROMPT_MODES.index("nothing")


def test_recorded_clips_are_followed_unprompted_only_where_they_go_straight_on():
    names = ("walk", "idle", "turn_left0", "cmu_jumps_0")
    library = MotionLibrary(DEEPMIMIC, [shipped_clip(name) for name in names])
    parts = settled(library).split(library.lengths.tolist())
    assert [(bool(part.all()), bool(part.any())) for part in parts] == [
        (True, True),
        (True, True),
        (False, False),
        (False, False),
    ]


def test_wild_errors_count_linearly():
    error = torch.tensor([0.0, 0.1, -0.15, 0.3, -3.0])
    cost = distill.robust_square(error)
    torch.testing.assert_close(cost[:3], error[:3].square())
    # tangent to the square where it leaves it
    torch.testing.assert_close(cost[3:], 0.15 * (2.0 * error[3:].abs() - 0.15))


def paced(library, mode, *, off, age=4, calls=1):
    """By how many frames references that are ``off`` are off after some calls."""
    env = DistillEnv(MujocoCpu(DEEPMIMIC, 32), library, seed=3)
    env.reset()
    env.mode[:], env.age[:] = PROMPT_MODES.index(mode), age
    env.frame[:] = 20 + torch.arange(32)
    frames = env.reference()
    env.simulator.reset(torch.arange(32), frames.qpos, frames.qvel)
    env.frame += off
    for _ in range(calls):
        env.keep_pace()
    return (env.frame - 20 - torch.arange(32)).tolist()


@pytest.mark.parametrize("mode", ["heading_speed", "nothing", "text"])
def test_a_reference_that_need_not_be_on_time_waits_and_hurries(mode):
    walk = MotionLibrary(DEEPMIMIC, [shipped_clip("walk")])
    assert paced(walk, mode, off=0) == [0] * 32
    assert paced(walk, mode, off=3) == [2] * 32
    assert paced(walk, mode, off=3, calls=5) == [0] * 32
    assert paced(walk, mode, off=-2) == [-1] * 32
    for off in (8, -8):  # now and then it looks further
        assert paced(walk, mode, off=off, age=20) == [0] * 32
        assert paced(walk, mode, off=off, age=4) != [0] * 32
    # waits every fourth step, goes ahead every second
    assert paced(walk, mode, off=3, age=2) == [3] * 32
    assert paced(walk, mode, off=-2, age=2) == [-1] * 32
    assert paced(walk, mode, off=-2, age=5) == [-2] * 32


@pytest.mark.parametrize("mode", ["full", "root", "sparse"])
def test_a_reference_whose_goals_say_when_keeps_to_its_time(mode):
    walk = MotionLibrary(DEEPMIMIC, [shipped_clip("walk")])
    assert paced(walk, mode, off=3) == [3] * 32


def test_made_clips_do_not_wait_while_something_new_is_asked():
    (made,) = random_locomotion(shipped_clip("run"), count=1, duration_s=60.0, seed=1)
    library = MotionLibrary(DEEPMIMIC, [made])
    known = settled(library)[23:55]
    moved = torch.tensor(paced(library, "heading_speed", off=3)) != 3
    assert not known.all()
    assert not moved[~known].any()


def test_led_clips_show_the_led_body_and_are_not_followed_without_it():
    (reach,) = random_reaches(count=1, duration_s=20.0)
    library = MotionLibrary(DEEPMIMIC, [shipped_clip("idle"), reach])
    hand = DEEPMIMIC.right_hand
    assert library.led.tolist() == [-1, hand]
    env = DistillEnv(MujocoCpu(DEEPMIMIC, 64), library)
    env.reset()
    env.draw_prompts(torch.arange(64))
    modes = [PROMPT_MODES[index] for index in env.mode]
    followed = {mode for mode, led in zip(modes, env.clip_ids == 1, strict=True) if led}
    assert followed == {"full", "sparse", "led"}
    assert "led" not in {
        mode for mode, led in zip(modes, env.clip_ids == 1, strict=True) if not led
    }
    shown = env.pos_visible[env.mode == PROMPT_MODES.index("led")]
    assert shown[:, -2:, hand].all()
    assert not shown[..., [index for index in range(DEEPMIMIC.num_bodies) if index != hand]].any()
    led = env.mode == PROMPT_MODES.index("led")
    assert not env.rot_visible[led].any()
    assert not env.heading_visible[led].any()


def test_actions_are_followed_only_with_words_or_parts_of_their_poses_shown():
    library = MotionLibrary(DEEPMIMIC, [shipped_clip("kick"), shipped_clip("walk")])
    env = DistillEnv(MujocoCpu(DEEPMIMIC, 512), library)
    env.reset()
    modes = {
        name: {PROMPT_MODES[index] for index in env.mode[env.clip_ids == clip_id].tolist()}
        for clip_id, name in enumerate(library.names)
    }
    assert modes["kick"] == {"full", "root", "sparse", "text"}
    assert modes["walk"] == {"full", "heading_speed", "root", "sparse", "nothing", "text"}


def test_steps_off_the_facing_are_mostly_asked_for_by_heading_and_speed():
    steps = random_steps(count=8, duration_s=9.0, turns=0.0, steady=True)
    off = [float(rotations.wrap_angle(clip.asked[-1, 0] - clip.asked[-1, 2])) for clip in steps]
    env = DistillEnv(MujocoCpu(DEEPMIMIC, 1600), MotionLibrary(DEEPMIMIC, steps))
    env.reset()
    asked = env.mode == PROMPT_MODES.index("heading_speed")
    ahead = torch.tensor([abs(angle) < 0.3 for angle in off])[env.clip_ids]
    assert 0.1 < float(ahead.float().mean()) < 0.9
    assert float(asked[~ahead].float().mean()) == pytest.approx(0.72, abs=0.06)
    assert float(asked[ahead].float().mean()) == pytest.approx(0.3, abs=0.08)


def test_led_commands_show_the_point_that_is_asked_for():
    clips = [*random_reaches(count=4, duration_s=20.0), *reaches_around(count=4, duration_s=9.0)]
    library = MotionLibrary(DEEPMIMIC, clips)
    env, hand = prompted(library, "led"), DEEPMIMIC.right_hand
    env.commanded[:] = False
    shown = env.targets()
    env.commanded[:] = True
    later = env.targets()
    goals = library.goals[library.frame_index(env.clip_ids, env.frame)]
    asked = goals.isfinite().all(dim=-1)
    assert 0 < int(asked.sum()) < len(asked)
    expected = goals[asked].unsqueeze(1).expand(-1, len(TARGET_STEPS), -1)
    assert torch.equal(later.pos[asked][:, :, hand], expected)
    assert torch.equal(later.pos[~asked], shown.pos[~asked])
    others = [index for index in range(DEEPMIMIC.num_bodies) if index != hand]
    assert torch.equal(later.pos[:, :, others], shown.pos[:, :, others])
    # nobody is there in a moment: such commands are for the far tokens
    env.draw_prompts(torch.arange(env.num_envs))
    near = env.pos_visible[:, :-2, hand].any(dim=1)
    assert near.any()
    assert not (near & env.commanded).any()


def test_more_episodes_begin_just_before_the_hand_is_asked_somewhere():
    library = MotionLibrary(DEEPMIMIC, reaches_around(count=4, duration_s=20.0))
    goals = library.goals
    new = goals[1:].isfinite().all(dim=-1) & (goals.diff(dim=0) != 0).any(dim=-1)
    onsets = torch.cat((torch.tensor([False]), new))
    soon = torch.stack([onsets.roll(-ahead) for ahead in range(15)]).any(dim=0)

    def share(disturb: bool) -> float:
        env = DistillEnv(MujocoCpu(DEEPMIMIC, 1), library, disturb=disturb)
        clips, frames = env.draw_starts(4000)
        return float(soon[library.frame_index(clips, frames)].float().mean())

    assert share(True) > share(False) + 0.1


def test_commands_show_a_later_heading_and_velocity(library):
    env = prompted(library, "heading_speed")
    env.commanded[:] = False
    shown = env.targets()
    env.commanded[:] = True
    later = env.targets()
    index = library.frame_index(
        env.clip_ids.unsqueeze(1), env.frame.unsqueeze(1) + 30 + torch.tensor(TARGET_STEPS)
    )
    expected = rotations.heading(library.frames.rot[index, 0])
    torch.testing.assert_close(later.heading, expected)
    assert torch.equal(later.pos, shown.pos)
    assert torch.equal(later.time_s, shown.time_s)


@pytest.mark.usefixtures("tiny_rounds")
def test_a_first_round_is_labelled_by_the_tracker_and_lowers_the_loss(
    tiny_tracker, library, tmp_path
):
    run = distiller(tiny_tracker, library, tmp_path)
    run.env.reset()
    samples = run.gather()
    assert len(samples["label"]) == 8 * 4
    run.model.normalizers["state"].fit(samples["state"])
    run.buffer.append(samples)
    first = run.update(low_precision=False)
    for _ in range(30):
        last = run.update(low_precision=False)
    assert last["prior"] < 0.5 * first["prior"]


@pytest.mark.usefixtures("tiny_rounds")
def test_task_tokens_of_training_are_noise_around_zero_in_the_basis(
    tiny_tracker, library, tmp_path
):
    run = distiller(tiny_tracker, library, tmp_path)
    scale = torch.linspace(0.5, 3.0, 32)
    run.average.token_basis.copy_(scale.diag() @ torch.eye(32, 128))
    deviation = (run.idle_tokens(2000)[:, :32] / scale).std(dim=1)
    largest = distill.TASK_TOKEN_NOISE
    assert 0.9 * largest < deviation.max() < 1.6 * largest  # of 32 entries, so it varies itself
    assert deviation.min() < 0.01 * largest
    assert deviation.mean() == pytest.approx(0.5 * largest, rel=0.05)


def test_the_divergence_of_normal_distributions_by_hand():
    zero = torch.zeros(1, 3)
    assert distill.kl_divergence(zero, zero, zero).item() == 0.0
    shift = torch.tensor([[1.0, 2.0, 0.0]])
    assert distill.kl_divergence(shift, zero, zero).item() == pytest.approx(2.5)
    wide = torch.full((1, 3), math.log(4.0))  # twice the standard deviation
    expected = 3 * 0.5 * (4.0 - math.log(4.0) - 1.0)
    assert distill.kl_divergence(zero, wide, zero).item() == pytest.approx(expected)


def test_an_expert_takes_over_the_clips_that_it_is_given(tiny_tracker, tmp_path):
    saved = load_checkpoint(tiny_tracker, kind="tracker")
    saved["ppo"]["policy"]["action_net.bias"] += 0.1
    expert = tmp_path / "expert.safetensors"
    save_checkpoint(expert, kind="tracker", content=saved)
    clips = load_clips(CLIPS)
    first = clips[0].name
    teachers, shared = share_out(tiny_tracker, clips, [(expert, [first])])
    assert shared.names[-1] == first and set(shared.names) == {clip.name for clip in clips}
    observation = TrackingEnv(MujocoCpu(DEEPMIMIC, len(clips)), shared, seed=0).reset()
    labels = teachers(torch.from_numpy(observation), torch.arange(len(clips)))
    usual = load_tracker(tiny_tracker)(torch.from_numpy(observation))
    moved = (labels - usual).abs().amax(dim=-1)
    assert moved[-1] == pytest.approx(0.1, abs=1e-4) and float(moved[:-1].max()) == 0.0
    _, shared = share_out(tiny_tracker, clips, [(expert, [f"{first[:2]}*"])])
    assert shared.names[-1] == first
    with pytest.raises(ClipError, match="unknown clip of an expert 'juggle'"):
        share_out(tiny_tracker, clips, [(expert, ["juggle"])])


# ---- report and clips ---------------------------------------------------------------------------


def test_the_report_writes_its_figures(tiny_tracker, other_bfm, tmp_path, monkeypatch):
    path, card = tmp_path / "report.json", tmp_path / "card.md"
    card.write_text("before\n<!-- report -->\nstale row\n<!-- /report -->\nafter\n")
    options = ["--tracker", str(tiny_tracker), "--bfm", other_bfm, "--json", str(path)]
    options += ["--write", str(card)]
    options += ["--expert", str(tiny_tracker), CLIPS[0]]
    arguments = ["report", *options, "--windows", "8", "--clips", *CLIPS, "--unseen", "walk*1.02"]
    monkeypatch.setattr(sys, "argv", arguments)
    report.main()
    figures = json.loads(path.read_text())
    for key in (
        "tracker_success",
        "full_prompt_success",
        "full_prompt_success_unseen",
        "heading_speed_success",
        "no_prompt_standing",
        "reach_success",
        "facing_success",
        "text_success",
        "text_success_unseen",
    ):
        assert 0.0 <= figures[key] <= 1.0
    assert figures["told"].keys() == figures["told_unseen"].keys() == BEHAVIOURS.keys()
    shares = [share for share, alive in figures["told"].values() if share <= alive <= 1.0]
    assert sum(shares) / len(BEHAVIOURS) == pytest.approx(figures["text_success"])
    assert 0.0 < figures["tracker_error_mm"] < 300.0
    for alive, held, mean, faced in (*figures["speeds"].values(), *figures["facings"].values()):
        assert 0.0 <= faced <= held <= alive <= 1.0
        assert abs(mean) < 6.0
    text = card.read_text()
    assert text.startswith("before\n<!-- report -->\n| kind of clip |")
    assert text.endswith("\n<!-- /report -->\nafter\n")
    assert "stale row" not in text
    assert f"| `tracker_success` | {figures['tracker_success']:.4g} |" in text


def test_acrobatics_are_left_out_of_figures_of_their_own(other_bfm):
    clips = load_clips(["walk_forward", "cmu_jumps_2", "cmu_jumps_2*0.97", "cmu_jumps_0"])
    model = load_bfm(other_bfm)
    with torch.no_grad():
        followed = following.report_full_prompt(model, MotionLibrary(DEEPMIMIC, clips), 24, 0)
        plain = following.report_full_prompt(model, MotionLibrary(DEEPMIMIC, clips[:1]), 24, 0)
    assert followed.keys() == {"walk_forward", "cmu_jumps", following.ALL, following.GROUNDED}
    assert followed[following.GROUNDED] == followed["walk_forward"]
    assert followed[following.GROUNDED] != followed[following.ALL]
    assert following.GROUNDED not in plain  # nothing to leave out
    figures = following.over_clips("full_prompt", followed, "_unseen")
    share, error_mm = followed[following.GROUNDED]
    assert figures["full_prompt_success_unseen_without_acrobatics"] == share
    assert figures["full_prompt_error_mm_unseen_without_acrobatics"] == error_mm


def test_all_behaviours_are_drawn_in_one_picture(other_bfm, tmp_path):
    model = load_bfm(other_bfm)
    states = report.film_words(model, seed=0)
    assert len(states) == 121
    first, last = states[0].pos, states[-1].pos
    assert torch.equal(first, first[:1].expand_as(first))
    assert len({tuple(row.flatten().tolist()) for row in last}) == len(BEHAVIOURS)
    qpos = DEEPMIMIC.qpos_from_pose(last[:, 0], local_rotations(states[-1]))
    pos = DEEPMIMIC.forward_kinematics(qpos, torch.zeros(len(qpos), DEEPMIMIC.nv))[0]
    torch.testing.assert_close(pos, last, atol=2e-3, rtol=0)
    try:
        draw_sheet(states, tmp_path / "sheet.png")
    except RenderError as error:
        pytest.skip(str(error))
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_a_card_without_marks_is_refused_before_anything_is_measured(tmp_path, monkeypatch, capsys):
    plain = tmp_path / "plain.md"
    plain.write_text("nothing here")
    monkeypatch.setattr(sys, "argv", ["report", "--write", str(plain)])
    with pytest.raises(SystemExit):
        report.main()
    assert f"{plain}: needs the lines <!-- report -->" in capsys.readouterr().err
    assert plain.read_text() == "nothing here"


def test_an_empty_list_of_shipped_clips_is_all_of_them():
    names = {clip.name for clip in load_clips(["shipped"])}
    assert {"idle", "walk_forward", "jump", "kick", "punch", "run"} <= names


def test_a_star_plays_a_clip_faster():
    normal, fast = load_clips(["walk_forward", "walk_forward*2"])
    assert fast.duration_s == pytest.approx(normal.duration_s / 2, abs=1 / 30)
    assert fast.name != normal.name


def test_an_unknown_clip_or_kind_of_file_is_named(tmp_path):
    with pytest.raises(ClipError, match=r"unknown clip 'walk_forwrd'.*walk_forward"):
        load_clips(["walk_forwrd"])
    (tmp_path / "clip.c3d").touch()
    with pytest.raises(ClipError, match=r"clip\.c3d: unknown kind of clip file; allowed"):
        load_clips([str(tmp_path / "clip.c3d")])
    with pytest.raises(ClipError, match="no clip in this folder"):
        load_clips([str(tmp_path)])
    (tmp_path / "broken.bvh").write_text("HIERARCHY")
    with pytest.raises(ClipError, match=r"broken\.bvh"):
        load_clips([str(tmp_path)])


# ---- means of weights ---------------------------------------------------------------------------


def test_clips_that_the_tracker_follows_are_kept(tmp_path, capsys):
    options = ["--tracker", "checkpoints/tracker.safetensors", "--out", str(tmp_path / "kept")]
    sift.main([*options, "--clips", "idle", "walk*1.05", "run*2", "--windows", "4"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "idle",
        "walk_x1.05",
        "run_x2",
        lines[-1].split()[0],
    ]
    assert ["left out" in line for line in lines[:3]] == [False, False, True]
    kept = load_clips([str(tmp_path / "kept")])
    assert [clip.name for clip in kept] == ["idle", "walk_x1.05"]
    assert torch.equal(kept[0].joint_rot, shipped_clip("idle").joint_rot)
    with pytest.raises(SystemExit):
        sift.main([*options, "--clips", "idle", "--least", "1.1"])
    assert "must be from 0 to 1, got 1.1" in capsys.readouterr().err


def test_the_mean_of_two_models_lies_between_them(other_bfm, bfm, tmp_path, capsys):
    out = tmp_path / "mean.safetensors"
    main_of_average([bfm, other_bfm, "--shares", "3", "1", "--out", str(out)])
    assert str(out) in capsys.readouterr().out
    one, other, mean = (load_bfm(path).state_dict() for path in (bfm, other_bfm, out))
    shared = [name for name in mean if name in one and name in other]
    assert "decoder.0.weight" in shared
    assert torch.equal(mean["token_basis"], one["token_basis"][:32])  # the other one has no more
    for name in set(shared) - {"token_basis"}:
        torch.testing.assert_close(mean[name], 0.75 * one[name] + 0.25 * other[name])
    for name in set(mean) - set(one):  # what only the other one knows
        assert torch.equal(mean[name], other[name])


def test_a_model_of_nothing_but_nan_is_refused(bfm, tmp_path):
    broken = copy.deepcopy(load_bfm(bfm))
    broken.decoder[0].bias[0] = torch.nan
    path = tmp_path / "broken.safetensors"
    save_bfm(broken, path)
    with pytest.raises(CheckpointError, match=r"tensor decoder\.0\.bias holds NaN or infinity"):
        load_bfm(path)


def test_a_mean_needs_as_many_positive_shares_as_models(bfm, tmp_path, capsys):
    for shares in (["1"], ["1", "-1"], ["1", "0"], ["1", "nan"]):
        with pytest.raises(SystemExit):
            main_of_average([bfm, bfm, "--shares", *shares, "--out", str(tmp_path / "x")])
        assert "--shares needs 2 positive numbers" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main_of_average([str(tmp_path / "no"), "--shares", "1", "--out", str(tmp_path / "x")])
    assert "no" in capsys.readouterr().err


def test_the_mean_of_models_without_words_knows_none(tmp_path):
    out = tmp_path / "mean.safetensors"
    main_of_average([str(WORDLESS), str(WORDLESS), "--shares", "1", "1", "--out", str(out)])
    one, mean = load_bfm(WORDLESS), load_bfm(out)
    assert TEXT not in mean.types
    assert differences(dict(one.state_dict()), dict(mean.state_dict())) == []


def test_a_model_is_brought_to_fewer_axes_of_the_task_token(tmp_path, capsys):
    out = tmp_path / "fewer.safetensors"
    main_of_average([str(WORDLESS), "--shares", "1", "--axes", "32", "--out", str(out)])
    one, fewer = load_bfm(WORDLESS).state_dict(), load_bfm(out).state_dict()
    assert torch.equal(fewer.pop("token_basis"), one.pop("token_basis")[:32])
    assert differences(dict(one), dict(fewer)) == []
    for axes in ("129", "0"):
        with pytest.raises(SystemExit):
            main_of_average([str(out), "--shares", "1", "--axes", axes, "--out", str(out)])
        assert f"--axes must be from 1 to 32, got {axes}" in capsys.readouterr().err


def test_models_of_other_sizes_have_no_mean(bfm, tmp_path):
    model = load_bfm(bfm)
    larger = dataclasses.replace(model.config, latent_size=2 * model.config.latent_size)
    with pytest.raises(CheckpointError, match="models of different sizes have no mean"):
        average([model, MaskedMimic(larger)], [1.0, 1.0])


@pytest.mark.usefixtures("tiny_rounds")
def test_the_mean_takes_the_averaged_weights_of_a_checkpoint(tiny_tracker, library, tmp_path):
    run = distiller(tiny_tracker, library, tmp_path)
    run.run(0.2)
    out = tmp_path / "same.safetensors"
    main_of_average([str(run.checkpoint), "--shares", "1", "--out", str(out)])
    assert differences(dict(run.average.state_dict()), dict(load_bfm(out).state_dict())) == []
