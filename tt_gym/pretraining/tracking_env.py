"""Follow a reference clip: the environment of both pre-training stages."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.tokens import observe_state, state_size
from tt_gym.humanoids import Humanoid
from tt_gym.motions.library import MotionFrames, MotionLibrary
from tt_gym.pretraining.hard_windows import HardWindows
from tt_gym.simulation import BodyState, Simulator

LOOK_AHEAD_STEPS = (1, 8)
"""Future reference poses in the tracker's observation."""
MAX_ERROR = 0.3
"""Mean body position error that ends an episode, m."""
_MIN_FRAMES = 12  # an episode starts at least this long before its clip ends
_RESTING, _MISPLACED_STEPS = 0.05, 10  # m/s: slower feet stand; for how long they may stand wrong
_RESIDUAL_SCALE = 1.0  # rad per unit action
_STATISTICS_DECAY = 0.99


def observe_reference(state: BodyState, reference: MotionFrames) -> Tensor:
    """One future reference pose relative to the current one, in the heading frame: (N, 12 B).

    Differences of body positions (3 B), rot6 of the reference (6 B), differences of velocities
    (3 B).
    """
    vectors = torch.cat(
        (
            reference.pos - state.pos,
            rotations.rot6(reference.rot).unflatten(-1, (2, 3)).flatten(1, 2),
            reference.vel - state.vel,
        ),
        dim=1,
    )
    return rotations.to_heading_frame(state.rot[:, 0], vectors).flatten(1)


def tracking_error(state: BodyState, reference: MotionFrames) -> Tensor:
    """Mean distance of the bodies from their reference, (N,), m."""
    return (state.pos - reference.pos).norm(dim=-1).mean(dim=-1)


def tracking_reward(state: BodyState, reference: MotionFrames) -> Tensor:
    """Closeness to the reference in positions, rotations and velocities, (N,), in (0, 1].

    The pelvis's velocity in the plane counts by itself: without it the pace within a step swings
    more than the reference's.
    """
    pos = (state.pos - reference.pos).square().sum(dim=-1).mean(dim=-1)
    rot = rotations.rotation_angle(state.rot, reference.rot).square().mean(dim=-1)
    vel = (state.vel - reference.vel).square().sum(dim=-1).mean(dim=-1)
    ang_vel = (state.ang_vel - reference.ang_vel).square().sum(dim=-1).mean(dim=-1)
    pace = (state.vel[:, 0, :2] - reference.vel[:, 0, :2]).square().sum(dim=-1)
    return (
        0.4 * torch.exp(-30.0 * pos)
        + 0.25 * torch.exp(-3.0 * rot)
        + 0.1 * torch.exp(-0.2 * vel)
        + 0.1 * torch.exp(-0.05 * ang_vel)
        + 0.15 * torch.exp(-20.0 * pace)
    )


class TrackingEnv(VecEnv):
    """SB3 VecEnv: the action corrects the reference's PD target, (D,) rad.

    Episodes start in a reference state, more often before what is hard, and end when the mean
    body error exceeds :data:`MAX_ERROR`, the pelvis is further than ``max_height_error`` above or
    below its reference, a foot is further than ``max_foot_error`` from its own for a third of a
    second in which both feet of the clip stand, the clip is over, or ``max_steps`` have passed.

    Args:
        simulator: N environments.
        library: clips to follow.
        seed: of the drawing of clips and start frames.
        max_steps: control steps per episode.
        max_height_error: m. The mean over bodies alone lets a jump pass that is not jumped.
        max_foot_error: m, in the plane. The mean lets feet stand crossed that should have stepped.

    Attributes:
        mining: begin more often before what is hard; otherwise clips are drawn by the root of
            their length and start frames evenly.
        minds_feet: clips whose feet ``max_foot_error`` is for, all at first, (C,) bool.
    """

    def __init__(
        self,
        simulator: Simulator,
        library: MotionLibrary,
        *,
        seed: int = 0,
        max_steps: int = 300,
        max_height_error: float = math.inf,
        max_foot_error: float = math.inf,
    ) -> None:
        self.simulator, self.library, self.max_steps = simulator, library, max_steps
        self.max_height_error, self.max_foot_error = max_height_error, max_foot_error
        humanoid: Humanoid = simulator.humanoid
        self.generator = torch.Generator().manual_seed(seed)
        num_envs = simulator.num_envs
        self.clip_ids = torch.zeros(num_envs, dtype=torch.long)
        self.frame = torch.zeros(num_envs, dtype=torch.long)
        self.age = torch.zeros(num_envs, dtype=torch.long)
        self.misplaced = torch.zeros(num_envs, dtype=torch.long)
        self.minds_feet = torch.ones(len(library.names), dtype=torch.bool)
        self._feet = list(humanoid.feet)
        foot_speed = library.frames.vel[:, self._feet, :2].norm(dim=-1)
        self._resting = (foot_speed < _RESTING).all(dim=-1)
        self.failures = torch.ones(len(library.names))
        self.tries = torch.ones(len(library.names))
        self.hard, self.mining = HardWindows(library), True
        width = state_size(humanoid) + len(LOOK_AHEAD_STEPS) * 12 * humanoid.num_bodies
        super().__init__(
            num_envs,
            gymnasium.spaces.Box(-np.inf, np.inf, (width,), np.float32),
            gymnasium.spaces.Box(-1.0, 1.0, (humanoid.num_dofs,), np.float32),
        )

    # ---- batched core ---------------------------------------------------------------------------

    def reference(self, ahead: int = 0) -> MotionFrames:
        """Reference frames ``ahead`` control steps from now, one per environment."""
        index = self.library.frame_index(self.clip_ids, self.frame + ahead)
        return self.library.frames[index]

    def observe(self, state: BodyState) -> Tensor:
        """Own state and the reference at :data:`LOOK_AHEAD_STEPS`: (N, width)."""
        parts = [observe_state(state)]
        parts += [observe_reference(state, self.reference(ahead)) for ahead in LOOK_AHEAD_STEPS]
        return torch.cat(parts, dim=1)

    def view(self) -> BodyState:
        """The state as it is compared with the reference (:mod:`distill` moves it)."""
        return self.simulator.state

    def draw_frames(self, count: int, *, margin: int) -> tuple[Tensor, Tensor]:
        """Clips and frames, (count,) long each, ``margin`` frames before the end at latest."""
        if self.mining:
            return self.hard.draw(count, self.generator, margin=margin)
        weights = self.library.durations_s.sqrt()
        return self.library.sample(count, weights, self.generator, margin=margin)

    def draw_starts(self, count: int) -> tuple[Tensor, Tensor]:
        """Clips and frames in which episodes begin, (count,) long each."""
        return self.draw_frames(count, margin=_MIN_FRAMES)

    def restart(self, ids: Tensor) -> None:
        """Put some environments into freshly drawn reference states."""
        clip_ids, start = self.draw_starts(len(ids))
        self.clip_ids[ids], self.frame[ids] = clip_ids, start
        self.age[ids], self.misplaced[ids] = 0, 0
        frames = self.library.frames[self.library.frame_index(clip_ids, start)]
        self.simulator.reset(ids, frames.qpos, frames.qvel)

    def advance(self, pd_target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One control step without restarting.

        Returns:
            Reward, failed, over (clip end or time limit), mean body error in m: (N,) each.
        """
        self.simulator.step(pd_target)
        self.frame += 1
        self.age += 1
        state = self.view()
        reference = self.reference()
        error = tracking_error(state, reference)
        height_error = (state.pos[:, 0, 2] - reference.pos[:, 0, 2]).abs()
        followed = (error <= MAX_ERROR) & (height_error <= self.max_height_error)
        failed = self.simulator.diverged | ~followed | self._stuck(state, reference)
        reward = torch.where(self.simulator.diverged, 0.0, tracking_reward(state, reference))
        last = self.library.lengths[self.clip_ids] - 1
        over = ~failed & ((self.frame >= last) | (self.age >= self.max_steps))
        return reward, failed, over, error

    def _stuck(self, state: BodyState, reference: MotionFrames) -> Tensor:
        """Whose feet have stood elsewhere for too long, (N,) bool."""
        away = (state.pos - reference.pos)[:, self._feet, :2].norm(dim=-1).amax(dim=-1)
        resting = self._resting[self.library.frame_index(self.clip_ids, self.frame)]
        wrong = (away > self.max_foot_error) & resting & self.minds_feet[self.clip_ids]
        self.misplaced = torch.where(wrong, self.misplaced + 1, 0)
        return self.misplaced > _MISPLACED_STEPS

    def count_outcomes(self, failed: Tensor, over: Tensor) -> None:
        """Keep running failure rates per clip and window."""
        self.hard.count(self.clip_ids, self.frame, failed)
        done = failed | over
        self.failures = self.failures * _STATISTICS_DECAY + 0.001
        self.tries = self.tries * _STATISTICS_DECAY + 0.001
        self.tries.index_add_(0, self.clip_ids[done], torch.ones(int(done.sum())))
        self.failures.index_add_(0, self.clip_ids[done], failed[done].float())

    # ---- Stable-Baselines3 ----------------------------------------------------------------------

    def reset(self) -> np.ndarray:
        """Restart all environments."""
        self.restart(torch.arange(self.num_envs))
        return self.observe(self.view()).numpy()

    def step_async(self, actions: np.ndarray) -> None:
        """Remember the residual actions (N, D) in [-1, 1]."""
        self._actions = torch.from_numpy(actions)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step; finished environments restart at once (SB3's convention)."""
        target = self.reference(1).pd_target + _RESIDUAL_SCALE * self._actions
        reward, failed, over, error = self.advance(target)
        self.count_outcomes(failed, over)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        done = (failed | over).nonzero().flatten()
        if len(done):
            final = self.observe(self.view())
            for index in done.tolist():
                infos[index] = {
                    "terminal_observation": final[index].numpy(),
                    "TimeLimit.truncated": bool(over[index]),
                    "episode_steps": int(self.age[index]),
                    "is_success": bool(over[index]),
                    "clip": int(self.clip_ids[index]),
                }
            self.restart(done)
        self.last_error = error
        observation = self.observe(self.view())
        return observation.numpy(), reward.numpy(), (failed | over).numpy(), infos

    def close(self) -> None:
        """Nothing to release."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """One copy of the attribute per environment (``None`` where there is none)."""
        return [getattr(self, attr_name, None)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the whole batch."""
        setattr(self, attr_name, value)

    def env_method(
        self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of the batch once."""
        return [getattr(self, method_name)(*args, **kwargs)]

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Gymnasium wrappers do not apply to a native batch."""
        return [False] * self.num_envs

    # ---- resuming -------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Everything the environment remembers, as checkpoint content."""
        return {
            "names": list(self.library.names),
            "lengths": self.library.lengths,
            "physics": torch.from_numpy(self.simulator.get_state()),
            "generator": self.generator.get_state(),
            "clip_ids": self.clip_ids,
            "frame": self.frame,
            "age": self.age,
            "misplaced": self.misplaced,
            "failures": self.failures,
            "tries": self.tries,
            "window_failures": self.hard.failures,
            "window_tries": self.hard.tries,
        }

    def fits(self, saved: dict[str, Any]) -> bool:
        """Whether a state is of as many environments and the same clips, by name and length."""
        lengths = saved.get("lengths")  # files of before do not have them
        return (
            len(saved["frame"]) == self.num_envs
            and saved["names"] == list(self.library.names)
            and lengths is not None
            and torch.equal(lengths, self.library.lengths)
        )

    def set_state(self, saved: dict[str, Any]) -> None:
        """Continue exactly where :meth:`get_state` was taken; with other clips it starts afresh."""
        self.generator.set_state(saved["generator"])
        if not self.fits(saved):
            self.reset()
            return
        self.simulator.set_state(saved["physics"].numpy())
        self.misplaced.zero_()  # files of before do not have it
        for name in ("clip_ids", "frame", "age", "misplaced", "failures", "tries"):
            if name in saved:
                getattr(self, name).copy_(saved[name])
        self.hard.failures.copy_(saved["window_failures"])
        self.hard.tries.copy_(saved["window_tries"])
