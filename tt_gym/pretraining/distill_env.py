"""The tracking environment of stage 2: the reference follows the student where no goal pins it."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import TARGET_STEPS, Targets
from tt_gym.motions.library import MotionLibrary
from tt_gym.pretraining.clip_facts import (
    ASKED_CHANGE,
    aligned_pose,
    aligned_poses,
    settled,
    stride_velocity,
)
from tt_gym.pretraining.tracking_env import TrackingEnv
from tt_gym.simulation import CONTROL_DT, BodyState, Simulator
from tt_gym.text import captions
from tt_gym.text.embeddings import VARIANTS

PROMPT_MODES = ("full", "heading_speed", "root", "sparse", "nothing", "led", "text")
"""What is shown: everything, heading and speed, the root's path, random parts, nothing, where a
clip leads a body, or what is done in words."""
ACTIONS = ("jump", "kick", "punch", "cmu_jumps", "actions")
"""Clips whose names begin so are followed only with words or parts of their poses shown."""
_MODE_WEIGHTS = (0.36, 0.30, 0.05, 0.08, 0.11, 0.0, 0.10)
_TOLD_SHARE = 0.35  # of the prompts on recorded clips that are no plain walk or stand, in words
_ASIDE_SHARE = 0.6  # of the prompts on steps off the facing, heading and speed: the hardest way
_ASIDE_RAD = 0.3  # between facing and course
_WORDS_BESIDE, _HEADING_BESIDE = 0.2, 0.4  # chance of words beside heading and speed; a heading
_SPEED_BESIDE = 0.6  # chance of a speed beside heading and words
_MODE_CHANGE_PROBABILITY = 1.0 / 90.0  # per control step: prompts switch within an episode too
_SWITCH_PROBABILITY = 1.0 / 60.0  # per control step: go over to another clip
_SWITCH_CANDIDATES = 48
_SWITCH_MAX_ERROR = 0.2  # m, mean over bodies: what the tracker recovers from
_SWITCH_MARGIN = 45  # frames left in the new clip
_VELOCITY_WEIGHT = 0.1  # s, of the difference of velocities beside that of positions
_TIMELESS = ("heading_speed", "nothing", "text")  # modes whose goals say neither when nor where
_PACE_STEPS = 2  # the reference goes ahead by one more frame at most that often
_SEARCH_STEPS, _SEARCH_FRAMES = 10, 10  # where nothing new comes, by up to that many that often
_PACE_MARGIN = 1.02  # how much more alike another frame must be
_LATE, _MOST_WAITING = 0.06, 20  # m that a foot is behind a led clip's; steps it is waited for
_LAST_STEP = (15, 20)  # frames on the clip stands: waited for before, nobody would begin to turn
_PUSH_PROBABILITY = 1.0 / 90.0
_PUSH_SPEED = 0.3  # m/s, standard deviation
_COMMAND_SHARE = 0.5  # of prompts say what is to be reached, not what is due at their times
_COMMAND_STEPS = {"heading_speed": 30}  # how much further ahead they look for it
_CHANGE_SHARE, _CHANGE_FRAMES = 0.3, 15  # of episodes begin that shortly before a change, at most
_SPARSE_BODY, _SPARSE_TOKEN = 0.2, 0.5  # chance to show a body's goal, and a token at all
_FOOT_ERROR = 0.12  # m; labels of crossed feet at rest would teach to leave out the last step
_LED_NEAR = 0.3  # chance to show a near goal of a led body; the far ones are what users show


def _is_special(name: str) -> bool:
    """A recorded clip that shows something else than a plain walk or stand."""
    index = captions.of_clip(name)
    return index != captions.NONE and captions.NAMES[index] not in (captions.STAND, captions.WALK)


class DistillEnv(TrackingEnv):
    """Tracking with prompts. Without a goal for the root's position the reference is moved along.

    The tracker's label would otherwise pull towards a place (or, with nothing shown, a heading)
    that the student cannot know. Led clips end where feet stand that should have stepped.

    Args:
        simulator, library, seed: as for :class:`TrackingEnv`.
        only_mode: use this prompt mode alone.
        disturb: push humanoids, lead them over to other clips, change prompts that cannot tell
            what comes next, keep pace with students; not for evaluation.

    Attributes:
        mode: index into :data:`PROMPT_MODES`, (N,).
        wording: which of a behaviour's captions is shown, (N,).
        text_visible: whether words are shown where there are any, (N,).
        commanded: whether prompts show what is to be reached, as users do: a later heading and
            velocity, and the point that the hand is led to, (N,).
        waited: for how many steps in a row the reference has waited for late feet, (N,).
    """

    def __init__(
        self,
        simulator: Simulator,
        library: MotionLibrary,
        *,
        seed: int = 0,
        only_mode: str | None = None,
        disturb: bool = True,
    ) -> None:
        self.disturb = disturb
        self._index = {name: index for index, name in enumerate(PROMPT_MODES)}
        self._mode_weights = torch.tensor(_MODE_WEIGHTS)
        if only_mode is not None:
            self._mode_weights = torch.tensor([float(name == only_mode) for name in PROMPT_MODES])
        self._command_steps = torch.tensor([_COMMAND_STEPS.get(name, 0) for name in PROMPT_MODES])
        num_envs, bodies = simulator.num_envs, simulator.humanoid.num_bodies
        self.mode = torch.zeros(num_envs, dtype=torch.long)
        self.shift = torch.zeros(num_envs, 2)
        self.turn = torch.zeros(num_envs)
        self.commanded = torch.zeros(num_envs, dtype=torch.bool)
        self.waited = torch.zeros(num_envs, dtype=torch.long)
        count = len(TARGET_STEPS)
        self.pos_visible = torch.zeros(num_envs, count, bodies, dtype=torch.bool)
        self.rot_visible = torch.zeros(num_envs, count, bodies, dtype=torch.bool)
        self.heading_visible = torch.zeros(num_envs, count, dtype=torch.bool)
        self.velocity_visible = torch.zeros(num_envs, count, dtype=torch.bool)
        self.wording = torch.zeros(num_envs, dtype=torch.long)
        self.text_visible = torch.zeros(num_envs, dtype=torch.bool)
        foot_error = _FOOT_ERROR if disturb else math.inf
        super().__init__(simulator, library, seed=seed, max_foot_error=foot_error)
        self.minds_feet = library.led >= 0
        self._stride_velocity = stride_velocity(library)
        self._aligned = aligned_poses(library)
        self._changes = self._moments_of_change()
        self._settled, self._made = settled(library), library.asked.isfinite().all(dim=-1)
        self._timeless = torch.tensor([self._index[name] for name in _TIMELESS])
        self._action = torch.tensor([name.startswith(ACTIONS) for name in library.names])
        self._steps_aside = self._off_course()
        self._told = self._action | torch.tensor([_is_special(name) for name in library.names])

    def view(self) -> BodyState:
        """The state in the reference's frame: turned by ``turn``, then moved by ``shift``."""
        state = self.simulator.state
        yaw = rotations.yaw_quat(self.turn).unsqueeze(1)
        pos = rotations.rotate(yaw, state.pos)
        pos[..., :2] += self.shift.unsqueeze(1)
        return dataclasses.replace(
            state,
            pos=pos,
            rot=rotations.quat_multiply(yaw, state.rot),
            vel=rotations.rotate(yaw, state.vel),
            ang_vel=rotations.rotate(yaw, state.ang_vel),
        )

    def advance(self, pd_target: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As :meth:`TrackingEnv.advance`; then prompts may change and the reference is moved."""
        outcome = super().advance(pd_target)
        if self.disturb:
            self.disturbances()
        change = torch.rand(self.num_envs, generator=self.generator) < _MODE_CHANGE_PROBABILITY
        change |= self._unforeseen(self.mode, self.clip_ids, self.frame)
        self.draw_prompts(change.nonzero().flatten())
        if self.disturb:
            self.keep_pace()
            self.wait_for_feet()
        self.follow()
        return outcome

    def disturbances(self) -> None:
        """Push some humanoids; lead others over to another clip in a similar pose."""
        pushed = torch.rand(self.num_envs, generator=self.generator) < _PUSH_PROBABILITY
        ids = pushed.nonzero().flatten()
        if len(ids):
            push = _PUSH_SPEED * torch.randn(len(ids), 3, generator=self.generator)
            self.simulator.push(ids, push)
        switch = torch.rand(self.num_envs, generator=self.generator) < _SWITCH_PROBABILITY
        self.switch_clips(switch.nonzero().flatten())

    def switch_clips(self, ids: Tensor) -> None:
        """Continue with the most similar of some random frames, where one is similar enough."""
        count = len(ids)
        if count == 0:
            return
        clips, frames = self.draw_frames(count * _SWITCH_CANDIDATES, margin=_SWITCH_MARGIN)
        clips, frames = clips.view(count, -1), frames.view(count, -1)
        error, difference = self._unlikeness(ids, clips, frames)
        best = difference.argmin(dim=1)
        rows = torch.arange(count)
        similar = error[rows, best] < _SWITCH_MAX_ERROR
        similar &= ~self._unforeseen(self.mode[ids], clips[rows, best], frames[rows, best])
        chosen, rows = ids[similar], rows[similar]
        self.clip_ids[chosen] = clips[rows, best[similar]]
        self.frame[chosen] = frames[rows, best[similar]]
        self.follow(chosen)

    def _unlikeness(self, ids: Tensor, clips: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Of poses (n, C) to those of humanoids (n,): mean over bodies, m, and with velocities."""
        state = self.simulator.state[ids]
        pose = aligned_pose(state.pos, state.rot[:, 0], state.vel)
        other = self._aligned[self.library.frame_index(clips, frames)]  # (n, C, 2 B, 3)
        difference = (other - pose.unsqueeze(1)).norm(dim=-1)
        bodies = state.pos.shape[1]
        error = difference[..., :bodies].mean(dim=-1)
        return error, error + _VELOCITY_WEIGHT * difference[..., bodies:].mean(dim=-1)

    def keep_pace(self) -> None:
        """Where no goal says when, let the reference wait for the student or go ahead with it.

        Otherwise the label leads back to a phase of the gait that the student cannot know of, and
        it learns the average of all phases. Made clips are not waited for while something new is
        asked: standing is like the beginning of every walk.
        """
        free = torch.isin(self.mode, self._timeless) & (self.frame > 0)
        index = self.library.frame_index(self.clip_ids, self.frame)
        settled, made = self._settled[index], self._made[index]
        near = free & (settled | ~made) & (self.age % _PACE_STEPS == 0)
        offsets = torch.tensor([0, 1, -1])
        # waiting half as often as going ahead, so that nobody stands still for good
        waits = self.age % (2 * _PACE_STEPS) == 0
        self._go_to_most_alike(near, offsets, waits.unsqueeze(1) | (offsets >= 0))
        far = free & settled & (self.age % _SEARCH_STEPS == 0)
        offsets = torch.arange(-_SEARCH_FRAMES, _SEARCH_FRAMES + 1)
        frames = self.frame.unsqueeze(1) + offsets
        within = (frames >= 0) & (frames < self.library.lengths[self.clip_ids].unsqueeze(1))
        index = self.library.frame_index(self.clip_ids.unsqueeze(1), frames.clamp(min=0))
        self._go_to_most_alike(far, offsets, within & self._settled[index])

    def _go_to_most_alike(self, chosen: Tensor, offsets: Tensor, allowed: Tensor) -> None:
        """Move the reference of the chosen (N,) by that of ``offsets`` (C,) of the likest pose."""
        ids = chosen.nonzero().flatten()
        if len(ids) == 0:
            return
        frames = self.frame[ids].unsqueeze(1) + offsets
        _, difference = self._unlikeness(ids, self.clip_ids[ids].unsqueeze(1), frames)
        difference = torch.where(offsets == 0, difference, _PACE_MARGIN * difference)
        difference[~allowed[ids]] = torch.inf
        self.frame[ids] = frames[torch.arange(len(ids)), difference.argmin(dim=1)]

    def wait_for_feet(self) -> None:
        """Where a hand is led and no goal says when, let the reference wait for the last step.

        Otherwise it soon stands while the student has yet to step, and the label is to stand.
        """
        led = self.commanded & (self.mode == self._index["led"]) & (self.frame > 0)
        feet = self.view().pos[:, self._feet, :2]
        now, before = (
            self.library.frames.pos[self.library.frame_index(self.clip_ids, self.frame - ago)]
            for ago in (0, 1)
        )
        away, earlier = (
            (feet - pos[:, self._feet, :2]).norm(dim=-1).amax(dim=-1) for pos in (now, before)
        )
        soon = self.frame.unsqueeze(1) + torch.tensor(_LAST_STEP)
        index = self.library.frame_index(self.clip_ids.unsqueeze(1), soon)
        stands_soon = self._resting[index].all(dim=1)
        late = led & stands_soon & (away > _LATE) & (earlier < away) & (self.waited < _MOST_WAITING)
        self.waited = torch.where(late, self.waited + 1, 0)
        self.frame -= late.long()

    def restart(self, ids: Tensor) -> None:
        """As :meth:`TrackingEnv.restart`, with new prompts."""
        super().restart(ids)
        self.shift[ids], self.turn[ids], self.waited[ids] = 0.0, 0.0, 0
        self.draw_prompts(ids)

    def draw_starts(self, count: int) -> tuple[Tensor, Tensor]:
        """Often where a made clip is about to start, stop, turn, hurry, act or reach."""
        clips, frames = super().draw_starts(count)
        if self.disturb and len(self._changes):
            chance = torch.rand(count, generator=self.generator)
            chosen = (chance < _CHANGE_SHARE).nonzero().flatten()
            size = (len(chosen),)
            pick = torch.randint(len(self._changes), size, generator=self.generator)
            early = torch.randint(_CHANGE_FRAMES, size, generator=self.generator)
            clips[chosen] = self._changes[pick, 0]
            frames[chosen] = (self._changes[pick, 1] - early).clamp(min=0)
        return clips, frames

    def _off_course(self) -> Tensor:
        """Clips that are asked to face elsewhere than they go, (L,) bool."""
        facing, speed, way = self.library.asked.unbind(dim=-1)
        off = (speed > 0.0) & (rotations.wrap_angle(facing - way).abs() > _ASIDE_RAD)
        clips = off.split(self.library.lengths.tolist())
        return torch.stack([part.any() for part in clips])

    def _moments_of_change(self) -> Tensor:
        """Clip and frame from which on something else is asked, (M, 2)."""
        moments = []
        for clip_id, (start, length) in enumerate(
            zip(self.library.starts.tolist(), self.library.lengths.tolist(), strict=True)
        ):
            asked = self.library.asked[start : start + max(2, length - _CHANGE_FRAMES)]
            done = self.library.behaviour[start : start + len(asked)]
            other = (asked.diff(dim=0).abs() > ASKED_CHANGE).any(dim=-1)
            other |= (done.diff() != 0) & asked[1:].isnan().all(dim=-1)
            goals = self.library.goals[start : start + len(asked)]
            other |= (goals.diff(dim=0) != 0).any(dim=-1) & goals[1:].isfinite().all(dim=-1)
            changed = other.nonzero().flatten() + 1
            moments.append(torch.stack((torch.full_like(changed, clip_id), changed), dim=-1))
        return torch.cat(moments)

    def follow(self, switched: Tensor | None = None) -> None:
        """Move the reference onto the student where the prompt leaves position or heading open.

        Args:
            switched: environments where place and heading are moved whatever the prompt.
        """
        state, reference = self.simulator.state, self.reference()
        told = self.mode == self._index["text"]
        free_heading = (self.mode == self._index["nothing"]) | (told & ~self.heading_visible[:, -1])
        free_place = torch.isin(self.mode, self._timeless)
        if switched is not None:
            free_heading = torch.zeros_like(free_heading)
            free_heading[switched] = True
            free_place = free_heading
        turn = rotations.heading(reference.rot[:, 0]) - rotations.heading(state.rot[:, 0])
        self.turn = torch.where(free_heading, rotations.wrap_angle(turn), self.turn)
        moved = rotations.rotate_xy(self.turn, state.pos[:, 0, :2])
        shift = reference.pos[:, 0, :2] - moved
        self.shift = torch.where(free_place.unsqueeze(-1), shift, self.shift)

    def draw_prompts(self, ids: Tensor) -> None:
        """Draw mode and visibility afresh for some environments."""
        count, tokens = len(ids), len(TARGET_STEPS)
        if count == 0:
            return
        mode = torch.multinomial(
            self._mode_weights, count, replacement=True, generator=self.generator
        )
        if self.disturb:
            told = torch.rand(count, generator=self.generator) < _TOLD_SHARE
            mode = torch.where(self._told[self.clip_ids[ids]] & told, self._index["text"], mode)
            aside = torch.rand(count, generator=self.generator) < _ASIDE_SHARE
            aside &= self._steps_aside[self.clip_ids[ids]]
            mode = torch.where(aside, self._index["heading_speed"], mode)
        unforeseen = self._unforeseen(mode, self.clip_ids[ids], self.frame[ids])
        instead = torch.full_like(mode, self._index["heading_speed"])
        instead[self._action[self.clip_ids[ids]]] = self._index["full"]
        instead[self.library.led[self.clip_ids[ids]] >= 0] = self._index["led"]
        mode = torch.where(unforeseen, instead, mode)
        self.mode[ids] = mode
        self.commanded[ids] = torch.rand(count, generator=self.generator) < _COMMAND_SHARE
        self.show(ids, mode, tokens)

    def _unforeseen(self, mode: Tensor, clips: Tensor, frames: Tensor) -> Tensor:
        """Where a clip would be followed without a sign of what comes next, (len(mode),) bool.

        Nobody could foresee the turns of a clip or when a kick begins, and the average of all that
        might come is a fall. While nothing changes, a made clip is a gait like any other.
        """
        index = self.library.frame_index(clips, frames)
        changing = ~self._settled[index]
        nothing, told = mode == self._index["nothing"], mode == self._index["text"]
        no_sign = nothing | (mode == self._index["heading_speed"]) | (mode == self._index["root"])
        wordless = told & (self.library.behaviour[index] == captions.NONE)
        led = self.library.led[clips] >= 0
        action = self._action[clips] & (nothing | (mode == self._index["heading_speed"]))
        return ((changing & nothing) | (led & no_sign) | action | wordless) & self.disturb

    def show(self, ids: Tensor, mode: Tensor, tokens: int) -> None:
        """Set the visibility that belongs to ``mode`` (len(ids),)."""

        def is_mode(name: str) -> Tensor:
            return (mode == self._index[name]).view(-1, 1)

        def coin(probability: float, *shape: int) -> Tensor:
            return torch.rand(len(ids), *shape, generator=self.generator) < probability

        bodies = self.simulator.humanoid.num_bodies
        full, sparse = is_mode("full"), is_mode("sparse") & coin(_SPARSE_TOKEN, tokens)
        far = torch.arange(tokens) >= tokens - 2
        root = torch.zeros(bodies, dtype=torch.bool)
        root[0] = True
        path = (is_mode("root") & far).unsqueeze(-1) & root
        led = self.library.led[self.clip_ids[ids]].view(-1, 1, 1) == torch.arange(bodies)
        near = coin(_LED_NEAR, tokens) & ~self.commanded[ids].unsqueeze(-1)
        led = led & (is_mode("led") & (far | near)).unsqueeze(-1)
        for visible in (self.pos_visible, self.rot_visible):
            random_parts = sparse.unsqueeze(-1) & coin(_SPARSE_BODY, tokens, bodies)
            visible[ids] = full.unsqueeze(-1) | path | random_parts
        self.pos_visible[ids] |= led
        guided = full | (is_mode("heading_speed") & far)
        told = is_mode("text")
        turned = told & far & coin(_HEADING_BESIDE, 1)
        self.heading_visible[ids] = guided | turned | (sparse & coin(0.3, tokens))
        paced = turned & coin(_SPEED_BESIDE, 1)
        self.velocity_visible[ids] = guided | paced | (sparse & coin(0.3, tokens))
        beside = is_mode("heading_speed") & coin(_WORDS_BESIDE, 1)
        self.text_visible[ids] = (told | beside).squeeze(-1)
        size = (len(ids),)
        self.wording[ids] = torch.randint(VARIANTS, size, generator=self.generator)

    def behaviour(self) -> Tensor:
        """Index of what is done where words say so, else none: (N,)."""
        index = self.library.behaviour[self.library.frame_index(self.clip_ids, self.frame)]
        return torch.where(self.text_visible, index, captions.NONE)

    def _with_goals(self, pos: Tensor, now: Tensor) -> Tensor:
        """``pos`` (N, K, B, 3) with led bodies where they are asked to be, where they are."""
        goals, rows = self.library.goals[now], torch.arange(self.num_envs)
        asked = self.commanded & (self.mode == self._index["led"]) & goals.isfinite().all(dim=-1)
        body = self.library.led[self.clip_ids].clamp(min=0)
        goals = torch.where(asked.view(-1, 1, 1), goals.unsqueeze(1), pos[rows, :, body])
        pos[rows, :, body] = goals
        return pos

    def targets(self) -> Targets:
        """The goals of this step with their visibility, in the reference's frame."""
        steps = torch.tensor(TARGET_STEPS)
        clips, times = self.clip_ids.unsqueeze(1), self.frame.unsqueeze(1) + steps
        index = self.library.frame_index(clips, times)  # (N, K)
        frames, now = self.library.frames, self.library.frame_index(self.clip_ids, self.frame)
        ahead = self.commanded * self._command_steps[self.mode]
        later = self.library.frame_index(clips, times + ahead.unsqueeze(-1))
        heading, velocity = rotations.heading(frames.rot[later, 0]), self._stride_velocity[later]
        # a made clip knows what it is on its way to: that is what users will show
        asked = self.library.asked[now]
        known = self._made[now] & (self.mode == self._index["heading_speed"])
        course = rotations.direction_xy(asked[:, 2:]) * asked[:, 1:2].unsqueeze(-1)
        heading = torch.where(known.unsqueeze(-1), asked[:, :1], heading)
        velocity = torch.where(known.view(-1, 1, 1), course, velocity)
        return Targets(
            pos=self._with_goals(frames.pos[index], now),
            rot=frames.rot[index],
            heading=heading,
            velocity=velocity,
            time_s=(steps * CONTROL_DT).expand(index.shape),
            pos_visible=self.pos_visible,
            rot_visible=self.rot_visible,
            heading_visible=self.heading_visible,
            velocity_visible=self.velocity_visible,
        )
