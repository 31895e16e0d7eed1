"""How well clips are followed, by the tracker and by the model with every joint prompted."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable

import torch
from torch import Tensor

from tt_gym.bfm.maskedmimic import MaskedMimic
from tt_gym.bfm.targets import TARGETS, observe_targets
from tt_gym.bfm.tokens import observe_state
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.library import MotionLibrary
from tt_gym.pretraining.distill_env import DistillEnv
from tt_gym.pretraining.hard_windows import kind
from tt_gym.pretraining.teachers import Teachers
from tt_gym.pretraining.tracking_env import TrackingEnv
from tt_gym.simulation import MujocoCpu
from tt_gym.tasks.task import Transition, fallen

WINDOW_STEPS = 300
"""Longest window, control steps (10 s)."""
ACROBATICS = ("cmu_jumps_*", "*leap*")
"""Clips (shell patterns) that :data:`GROUNDED` leaves out: jump after jump, leaps out of a run."""
ALL, GROUNDED = "all", "all but acrobatics"
"""Keys of the figures over clips."""

Tracking = dict[str, tuple[float, float]]
"""Per kind of clip: share of windows tracked to the end, mean body error in mm."""


def track(env: TrackingEnv, act: Callable[[], Tensor], *, seed: int) -> Tracking:
    """Follow windows of up to 10 s from random starts, clips drawn evenly, no restarts.

    A window is tracked if the mean body error never exceeds 0.3 m and there is no fall.

    Args:
        env: whose environments are the windows.
        act: gives the PD targets (N, D) of the current step.
        seed: of clips and start frames.

    Returns:
        Per kind of clip (:func:`~tt_gym.pretraining.hard_windows.kind`), under :data:`ALL` and,
        where it is something else, under :data:`GROUNDED`: success rate and error (mm) while
        tracked.
    """
    env.generator.manual_seed(seed)
    env.mining = False
    env.restart(torch.arange(env.num_envs))
    alive = torch.ones(env.num_envs, dtype=torch.bool)
    running, total, count = alive.clone(), torch.zeros(env.num_envs), torch.zeros(env.num_envs)
    for _ in range(WINDOW_STEPS):
        before = env.simulator.state
        _, failed, over, error = env.advance(act())
        failed = failed | fallen(Transition(before, env.simulator.state, env.age), DEEPMIMIC)
        alive &= ~(failed & running)
        total += torch.where(running & ~failed, error, 0.0)
        count += (running & ~failed).float()
        running &= ~(failed | over)
        if not running.any():
            break
    names = env.library.names
    acrobatic = [any(fnmatch.fnmatchcase(name, like) for like in ACROBATICS) for name in names]
    grounded = ~torch.tensor(acrobatic)[env.clip_ids]
    of_kind = [kind(name) for name in names]
    of_window = torch.tensor([of_kind.index(name) for name in of_kind])[env.clip_ids]
    rows_of = {of_kind[index]: of_window == index for index in of_window.unique().tolist()}
    rows_of[ALL] = torch.ones_like(alive)
    if bool(grounded.any()) and not bool(grounded.all()):
        rows_of[GROUNDED] = grounded
    result = {}
    for name, rows in rows_of.items():
        error_mm = float(1000.0 * total[rows].sum() / count[rows].sum().clamp(min=1.0))
        result[name] = (float(alive[rows].float().mean()), error_mm)
    return result


def report_tracker(teachers: Teachers, library: MotionLibrary, windows: int, seed: int) -> Tracking:
    """Tracking by stage 1."""
    env = TrackingEnv(MujocoCpu(DEEPMIMIC, windows), library, seed=seed)

    def act() -> Tensor:
        return env.reference(1).pd_target + teachers(env.observe(env.view()), env.clip_ids)

    return track(env, act, seed=seed)


def report_full_prompt(
    model: MaskedMimic, library: MotionLibrary, windows: int, seed: int
) -> Tracking:
    """Tracking by the frozen model with every joint prompted."""
    env = DistillEnv(
        MujocoCpu(DEEPMIMIC, windows), library, seed=seed, only_mode="full", disturb=False
    )

    def act() -> Tensor:
        state = env.view()
        normal = model.normalize("state", observe_state(state))
        return model(normal, {TARGETS: observe_targets(state, env.targets())})

    return track(env, act, seed=seed)


def over_clips(who: str, followed: Tracking, which: str = "") -> dict[str, float]:
    """Figures over clips by the names under which they are written."""
    figures = {}
    for which_clips, ending in ((ALL, ""), (GROUNDED, "_without_acrobatics")):
        if which_clips in followed:
            success, error_mm = followed[which_clips]
            figures[f"{who}_success{which}{ending}"] = success
            figures[f"{who}_error_mm{which}{ending}"] = error_mm
    return figures
