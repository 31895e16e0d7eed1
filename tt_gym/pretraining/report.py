"""What tracker and model can do, in numbers.

python -m tt_gym.pretraining.report --json report.json
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.inputs import Goals
from tt_gym.bfm.maskedmimic import MaskedMimic
from tt_gym.bfm.pretrained_model import load_bfm
from tt_gym.bfm.prompts import JointGoal, Moment
from tt_gym.bfm.targets import TARGET_STEPS, TARGETS, TEXT, heading_speed_targets, observe_targets
from tt_gym.bfm.tokens import observe_state
from tt_gym.command_line import one_line_errors
from tt_gym.documents import write_table
from tt_gym.envs.start_states import sample_start_states
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.motions.library import MotionLibrary
from tt_gym.motions.playback import RenderError
from tt_gym.motions.reaching import random_points
from tt_gym.pretraining.clips import load_clips
from tt_gym.pretraining.following import (
    WINDOW_STEPS,
    over_clips,
    report_full_prompt,
    report_tracker,
)
from tt_gym.pretraining.report_tables import ASKED_SPEED, markdown, show
from tt_gym.pretraining.sheet import draw_sheet
from tt_gym.pretraining.shown import CRITERIA, Motion
from tt_gym.pretraining.teachers import add_expert_option, experts_of, share_out
from tt_gym.simulation import CONTROL_DT, BodyState, MujocoCpu
from tt_gym.tasks.task import Transition, fallen
from tt_gym.text import BEHAVIOURS
from tt_gym.text.embeddings import embed

TABLE = "report"
"""Name of the marker lines around the tables, see :mod:`tt_gym.documents`."""
DEFAULT_TRACKER = Path("checkpoints/tracker.safetensors")
_STANDING_STEPS = 150  # 5 s
_SPEEDS = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5)
_TOLD_STEPS = 120  # 4 s
_REACH_STEPS, _REACH_TOLERANCE = 60, 0.2  # the hand is asked for after 2 s
_STOP_S = 0.6  # way to a stand, in seconds at the speed of now
_OFF_PATH_DEG, _FACING_TOLERANCE = (0.0, 45.0, 90.0), math.radians(30.0)
_SPEED_TOLERANCE, _STANDING_SPEED = 0.2, 0.1


def survive(
    model: MaskedMimic,
    prompt: Callable[[BodyState, int], dict[str, tuple[Tensor, Tensor]] | None],
    *,
    episodes: int,
    steps: int,
    seed: int,
    same: bool = False,
) -> tuple[Tensor, list[BodyState]]:
    """Which episodes stayed without a fall, (N,) bool, and the ``steps + 1`` states.

    Episodes begin as the environments' do, with ``same`` all in one state; ``prompt`` is given the
    state and the step.
    """
    generator = torch.Generator().manual_seed(seed)
    simulator = MujocoCpu(DEEPMIMIC, episodes)
    qpos, qvel = sample_start_states(episodes, generator)
    if same:
        qpos, qvel = qpos[:1].expand_as(qpos), qvel[:1].expand_as(qvel)
    simulator.reset(torch.arange(episodes), qpos, qvel)
    alive = torch.ones(episodes, dtype=torch.bool)
    states = [simulator.state]
    for step in range(steps):
        before = simulator.state
        normal = model.normalize("state", observe_state(before))
        after = simulator.step(model(normal, prompt(before, step)))
        count = torch.full((episodes,), step + 1)
        alive &= ~fallen(Transition(before, after, count), DEEPMIMIC) & ~simulator.diverged
        states.append(after)
    return alive, states


def report_heading_speed(
    model: MaskedMimic, episodes: int, seed: int, *, asked: float, off_path_deg: float = 0.0
) -> tuple[float, float, float, float]:
    """Walking straight on when prompted with heading and speed alone, for 10 s.

    Args:
        model: frozen model.
        episodes: how many.
        seed: of the start states.
        asked: m/s.
        off_path_deg: angle from the path to where it is asked to face.

    Returns:
        Share of episodes without a fall; share in which also the mean speed of the last 5 s is
        within 20 % of ``asked`` (0.1 m/s when asked to stand); mean of that speed, m/s; share of
        the latter in which the root also faces within 30 degrees of what is asked throughout.
    """
    facing = math.radians(off_path_deg)

    def prompt(state: BodyState, _: int) -> dict[str, tuple[Tensor, Tensor]]:
        ahead = torch.zeros(episodes)
        direction = rotations.direction_xy(ahead)
        speed = torch.full((episodes,), asked)
        heading = torch.full((episodes,), facing)
        targets = heading_speed_targets(state, heading=heading, direction=direction, speed=speed)
        return {TARGETS: observe_targets(state, targets)}

    alive, states = survive(model, prompt, episodes=episodes, steps=WINDOW_STEPS, seed=seed)
    half = WINDOW_STEPS // 2
    travel = states[-1].pos[:, 0, 0] - states[-1 - half].pos[:, 0, 0]
    speed = travel / (half * CONTROL_DT)
    held = alive & ((speed - asked).abs() <= max(_SPEED_TOLERANCE * asked, _STANDING_SPEED))
    faced = torch.stack([rotations.heading(state.rot[:, 0]) for state in states[-half:]])
    away = rotations.wrap_angle(faced - facing).abs().amax(dim=0)
    well = held & (away <= _FACING_TOLERANCE)
    shares = (float(item.float().mean()) for item in (alive, held, well))
    without_fall, kept, facing_kept = shares
    return without_fall, kept, float(speed.mean()), facing_kept


def _no_task(name: str, state: BodyState) -> NoReturn:
    raise ValueError(f"there is no task here to ask for its prompt {name!r}")


def _around_root(state: BodyState, points: Tensor) -> Tensor:
    """Points (N, 3), m, in the world, that are given around where the root can come to a stand."""
    yaw = rotations.yaw_quat(rotations.heading(state.rot[:, 0]))
    world = rotations.rotate(yaw, points)
    world[:, :2] += state.pos[:, 0, :2] + _STOP_S * state.vel[:, 0, :2]
    return world


def report_reach(model: MaskedMimic, episodes: int, seed: int) -> float:
    """Share of episodes in which the right hand is within 0.2 m of a point at the time asked.

    The point (:func:`~tt_gym.motions.reaching.random_points`) is asked for 2 s after the start by a
    :class:`~tt_gym.bfm.prompts.JointGoal` alone; a fall before is a failure. It is drawn a second
    before its time, when the model first sees it, around where the root can be by then.
    """
    generator = torch.Generator().manual_seed(seed)
    points = random_points(episodes, standing=True, generator=generator).float()
    hand, at_s = DEEPMIMIC.body_names[DEEPMIMIC.right_hand], CONTROL_DT * _REACH_STEPS
    goal = torch.zeros_like(points)

    def prompt(state: BodyState, step: int) -> dict[str, tuple[Tensor, Tensor]]:
        if step == _REACH_STEPS - TARGET_STEPS[-1]:
            goal[:] = _around_root(state, points)
        moment = Moment(state, torch.full((episodes,), step), DEEPMIMIC, _no_task)
        return {TARGETS: observe_targets(state, JointGoal(hand, goal, at_s=at_s).targets(moment))}

    alive, states = survive(model, prompt, episodes=episodes, steps=_REACH_STEPS, seed=seed)
    distance = (states[-1].pos[:, DEEPMIMIC.right_hand] - goal).norm(dim=-1)
    return float((alive & (distance <= _REACH_TOLERANCE)).float().mean())


def report_text(
    model: MaskedMimic, episodes: int, seed: int, *, unseen: bool
) -> dict[str, tuple[float, float]]:
    """What the model does when told in words alone, from where the environments' episodes begin.

    Args:
        model: frozen model.
        episodes: per behaviour, its wordings in turn.
        seed: of the start states.
        unseen: take the wordings that the model was not trained with.

    Returns:
        By behaviour: share of episodes that show it within 4 s (:data:`tt_gym.pretraining.shown`)
        and fall in none of them; share without a fall.
    """
    result = {}
    for name, behaviour in BEHAVIOURS.items():
        texts = behaviour.unseen if unseen else behaviour.captions
        rows = torch.stack([embed(text) for text in texts])
        words = rows[torch.arange(episodes) % len(rows)].unsqueeze(1)
        goals = {TEXT: (words, torch.ones(episodes, 1, dtype=torch.bool))}

        def prompt(_: BodyState, __: int, shown: Goals = goals) -> Goals:
            return shown

        alive, states = survive(model, prompt, episodes=episodes, steps=_TOLD_STEPS, seed=seed)
        done = CRITERIA[name].shown(Motion.of(states, DEEPMIMIC)) & alive
        result[name] = (float(done.float().mean()), float(alive.float().mean()))
    return result


def film_words(model: MaskedMimic, seed: int) -> list[BodyState]:
    """States of 4 s, one row a behaviour, each told in its first caption from the same start."""
    rows = torch.stack([embed(item.captions[0]) for item in BEHAVIOURS.values()]).unsqueeze(1)
    goals = {TEXT: (rows, torch.ones(len(rows), 1, dtype=torch.bool))}
    with torch.no_grad():
        _, states = survive(
            model, lambda _, __: goals, episodes=len(rows), steps=_TOLD_STEPS, seed=seed, same=True
        )
    return states


def measure(
    tracker: Path,
    bfm: Path | None,
    *,
    clips: list[str],
    experts: list[tuple[Path, list[str]]],
    unseen: list[str],
    windows: int,
    seed: int,
) -> dict:
    """All figures, as written to the JSON file; of ``unseen`` clips only how they are followed."""
    teachers, library = share_out(tracker, load_clips(clips), experts)
    others = MotionLibrary(DEEPMIMIC, load_clips(unseen)) if unseen else None
    model = load_bfm(bfm)
    followed_unseen = {}
    with torch.no_grad():
        if others is not None:
            prompted_unseen = report_full_prompt(model, others, windows, seed)
            followed_unseen = over_clips("full_prompt", prompted_unseen, "_unseen")
        tracked = report_tracker(teachers, library, windows, seed)
        prompted = report_full_prompt(model, library, windows, seed)
        speeds = {
            f"{asked:g}": report_heading_speed(model, windows // 2, seed, asked=asked)
            for asked in _SPEEDS
        }
        facings = {
            f"{off_path:g}": report_heading_speed(
                model, windows // 4, seed, asked=ASKED_SPEED, off_path_deg=off_path
            )
            for off_path in _OFF_PATH_DEG
        }
        walking, _, speed, _ = speeds[f"{ASKED_SPEED:g}"]
        standing, _ = survive(
            model, lambda _, __: None, episodes=windows // 2, steps=_STANDING_STEPS, seed=seed
        )
        reached = report_reach(model, windows // 2, seed)
        told, told_unseen = (
            report_text(model, windows // 8, seed, unseen=unseen) if TEXT in model.types else {}
            for unseen in (False, True)
        )
    in_words = {}
    if told:
        in_words = {
            "text_success": _mean_share(told),
            "text_success_unseen": _mean_share(told_unseen),
        }
    return {
        **over_clips("tracker", tracked),
        **over_clips("full_prompt", prompted),
        **followed_unseen,
        "heading_speed_success": walking,
        "heading_speed_mean_speed": speed,
        "no_prompt_standing": float(standing.float().mean()),
        "reach_success": reached,
        "facing_success": min(faced for *_, faced in facings.values()),
        **in_words,
        "windows": windows,
        "seed": seed,
        "tracker_clips": tracked,
        "full_prompt_clips": prompted,
        "speeds": speeds,
        "facings": facings,
        "told": told,
        "told_unseen": told_unseen,
    }


def _mean_share(told: dict[str, tuple[float, float]]) -> float:
    return sum(share for share, _ in told.values()) / len(told)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracker", type=Path, default=DEFAULT_TRACKER)
    add_expert_option(parser)
    parser.add_argument("--bfm", type=Path, help="model file, the shipped one if left out")
    parser.add_argument("--clips", nargs="+", default=["shipped"])
    parser.add_argument("--unseen", nargs="+", default=[], help="clips that nobody trained on")
    parser.add_argument("--windows", type=int, default=512)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="Markdown file that receives the tables")
    parser.add_argument("--sheet", type=Path, help="picture of all behaviours told in words (.png)")
    args = parser.parse_args()
    experts = experts_of(parser, args.expert)
    if args.write:
        try:
            write_table(args.write, TABLE, None)  # before minutes of measuring, not after
        except (OSError, ValueError) as error:
            parser.error(str(error))
    with one_line_errors("report"):
        if args.sheet:
            model = load_bfm(args.bfm)
            if TEXT not in model.types:
                parser.error("--sheet needs a model that was trained with words")
            try:
                draw_sheet(film_words(model, args.seed), args.sheet)
            except RenderError as error:
                parser.error(f"--sheet: {error}")
        figures = measure(
            args.tracker,
            args.bfm,
            clips=args.clips,
            experts=experts,
            unseen=args.unseen,
            windows=args.windows,
            seed=args.seed,
        )
    show(figures)
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if args.write:
        write_table(args.write, TABLE, markdown(figures))


if __name__ == "__main__":
    main()
