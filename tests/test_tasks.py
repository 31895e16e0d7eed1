"""Formulas of the tasks, by hand-worked numbers and edges."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tt_gym import rotations
from tt_gym.bfm.targets import Targets, observe_targets
from tt_gym.envs.start_states import sample_start_states
from tt_gym.humanoids import DEEPMIMIC, SMPL
from tt_gym.simulation import CONTROL_DT, BodyState, MujocoCpu
from tt_gym.tasks import (
    PAPER,
    TASKS,
    Direction,
    Goal,
    LongJump,
    PathFollowing,
    Reach,
    Steering,
    Strike,
    Transition,
    build_task,
    parameters_of,
)
from tt_gym.tasks.direction import PAPER_SPEED_RANGE, relative_speed_error
from tt_gym.tasks.path_following import bounded_walk, position_at, top_speed
from tt_gym.tasks.strike import BOX
from tt_gym.tasks.task import fallen
from tt_gym.text import BEHAVIOURS
from tt_gym.text.embeddings import embed

BODIES = DEEPMIMIC.num_bodies
LEFT_WRIST = DEEPMIMIC.body_index("left_wrist")
RIGHT_WRIST = DEEPMIMIC.body_index("right_wrist")


def still(count: int = 1, *, boxes: int = 0) -> BodyState:
    """All bodies at a height of 1 m, unturned, at rest, touching nothing."""
    pos = torch.zeros(count, BODIES, 3)
    pos[..., 2] = 1.0
    rot = torch.zeros(count, BODIES, 4)
    rot[..., 0] = 1.0
    object_pos, object_rot = torch.zeros(count, boxes, 3), torch.zeros(count, boxes, 4)
    object_pos[..., 0], object_rot[..., 0] = 2.0, 1.0
    zero = torch.zeros_like(pos)
    object_zero = torch.zeros_like(object_pos)
    touch = torch.zeros(count, boxes, BODIES, 3)
    return BodyState(
        pos, rot, zero, zero, zero, object_pos, object_rot, object_zero, object_zero, touch
    )


def moved(velocity: tuple[float, float], *, steps: int = 100, boxes: int = 0) -> Transition:
    """A step in which the root moved at ``velocity``, m/s."""
    before = still(boxes=boxes)
    pos = before.pos.clone()
    pos[:, 0, :2] += CONTROL_DT * torch.tensor(velocity)
    return Transition(before, dataclasses.replace(before, pos=pos), torch.tensor([steps]))


def asked(angle: float = 0.0, speed: float = 1.0, start: int = 0) -> Goal:
    return {
        "angle": torch.tensor([angle]),
        "speed": torch.tensor([speed]),
        "last_speed": torch.tensor([speed]),
        "start": torch.tensor([start]),
        "end": torch.tensor([start + 199]),
    }


def direction_reward(velocity: tuple[float, float], goal: Goal) -> float:
    return Direction().reward_terms(moved(velocity), goal)["direction"].item()


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def facing(angle: Tensor) -> BodyState:
    """Humanoids whose roots face ``angle`` (N,), rad."""
    state = still(len(angle))
    rot = state.rot.clone()
    rot[:, 0] = rotations.yaw_quat(angle)
    return dataclasses.replace(state, rot=rot)


def going(speed: float, *, angle: float, facing_angle: float | None = None) -> BodyState:
    """One humanoid that moves along ``angle``, rad, and faces that way or another."""
    state = facing(torch.tensor([angle if facing_angle is None else facing_angle]))
    vel = state.vel.clone()
    vel[:, 0, :2] = speed * rotations.direction_xy(torch.tensor([angle]))
    return dataclasses.replace(state, vel=vel)


def shown(targets: Targets) -> set[tuple[Any, ...]]:
    """What the first environment is shown: kind, number of the token, body."""
    seen: set[tuple[Any, ...]] = set()
    for kind in ("pos", "rot"):
        for token, body in getattr(targets, f"{kind}_visible")[0].nonzero().tolist():
            seen.add((kind, token, DEEPMIMIC.body_names[body]))
    for kind in ("heading", "velocity"):
        tokens = getattr(targets, f"{kind}_visible")[0].nonzero().flatten().tolist()
        seen |= {(kind, token) for token in tokens}
    return seen


# ---- Direction ----------------------------------------------------------------------------------


def test_direction_sees_the_goal_from_its_own_heading():
    state = facing(torch.tensor([math.pi / 2]))
    observation = Direction().observe(state, asked(angle=math.pi, speed=1.2))
    torch.testing.assert_close(observation, torch.tensor([[0.0, 1.0, 1.2]]))


@pytest.mark.parametrize(
    ("velocity", "goal", "reward"),
    [
        ((1.0, 0.0), asked(), 1.0),
        ((0.8, 0.0), asked(), math.exp(-10 * 0.2**2)),
        ((1.0, 0.5), asked(), math.exp(-0.1 * 0.5**2)),
        ((1.0, 0.0), asked(speed=0.5), math.exp(-10 * 1.0**2)),  # relative: twice the speed
        ((0.3, 0.0), asked(speed=0.0), math.exp(-10 * 0.3**2)),  # absolute at a stop
        ((-0.4, 0.0), asked(), math.exp(-10 * 1.4**2)),
        ((-0.6, 0.0), asked(), 0.0),  # backwards
    ],
)
def test_direction_reward_by_hand(velocity, goal, reward):
    assert direction_reward(velocity, goal) == pytest.approx(reward, rel=1e-4)


def test_direction_sums_the_components_of_sideways_motion():
    along = math.sqrt(0.5)
    diagonal = asked(angle=math.pi / 4)
    # sideways is (0.5, -0.5): a norm of 0.71, a sum of zero
    assert direction_reward((along + 0.5, along - 0.5), diagonal) == pytest.approx(1.0, abs=1e-4)


def test_relative_speed_error_is_the_difference_at_a_stop():
    error = relative_speed_error(torch.tensor([2.0, 0.0, 1e-5]), torch.tensor([1.5, 0.1, 0.1]))
    torch.testing.assert_close(error, torch.tensor([0.25, -0.1, -0.1 + 1e-5]))


def test_direction_is_measured_after_the_grace_period():
    def measured(steps: int, start: int) -> bool:
        return (
            Direction().step_is_good(moved((1.0, 0.0), steps=steps), asked(start=start))[0].item()
        )

    assert [measured(steps, 0) for steps in (1, 59, 60, 199)] == [False, False, True, True]
    assert [measured(steps, 199) for steps in (258, 259)] == [False, True]


def test_direction_tolerates_a_fifth_of_the_speed():
    def good(speed: float) -> bool:
        return Direction().step_is_good(moved((speed, 0.0)), asked())[1].item()

    assert [good(speed) for speed in (0.79, 0.81, 1.19, 1.21)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("speed", "steps", "cost"), [(1.0, 60, 0.0), (1.21, 59, 0.0), (1.21, 60, 3.0), (0.79, 60, 3.0)]
)
def test_a_step_that_fails_the_goal_can_cost_something(speed, steps, cost):
    step = moved((speed, 0.0), steps=steps)
    terms = Direction(miss_penalty=3.0).reward_terms(step, asked())
    assert terms["miss"].item() == -cost
    assert "miss" not in Direction().reward_terms(step, asked())  # as in the paper


def test_in_steering_a_wrong_facing_costs_too():
    task = Steering(miss_penalty=2.0)
    for deg, cost in ((44, 0.0), (46, 2.0)):
        transition, goal = steered(facing=math.radians(deg))
        late = dataclasses.replace(transition, steps=torch.tensor([80]))
        assert task.reward_terms(late, goal)["miss"].item() == -cost


def test_a_direction_goal_lasts_199_steps():
    over = [
        Direction().goal_is_over(asked(start=199), torch.tensor([s])).item() for s in (397, 398)
    ]
    assert over == [False, True]


def test_the_first_goal_starts_with_the_episode_near_the_own_heading():
    angle = torch.linspace(-3.0, 3.0, 500)
    goal = Direction(jump_probability=0.0).sample_goal(facing(angle), None, generator())
    assert rotations.wrap_angle(goal["angle"] - angle).abs().max() <= 1.57
    assert goal["speed"][goal["speed"] > 0].min() >= 1.0
    assert goal["speed"].max() <= Direction().speed_range[1]
    assert (goal["start"] == 0).all()
    assert (goal["end"] == 199).all()


def test_the_next_goal_starts_where_the_last_ended_and_stays_near_it():
    task = Direction(jump_probability=0.0, speed_range=PAPER_SPEED_RANGE)
    state = facing(torch.zeros(500))
    first = task.sample_goal(state, None, generator())
    second = task.sample_goal(state, first, generator(1))
    assert torch.equal(second["start"], first["end"])
    turn = rotations.wrap_angle(second["angle"] - first["angle"]).abs()
    assert 1.5 < turn.max() <= 1.57
    change = (second["last_speed"] - first["last_speed"]).abs()
    assert 0.29 < change.max() <= 0.3001


def test_a_jump_draws_direction_and_speed_from_everything():
    task = Direction(jump_probability=1.0, stop_probability=0.0, speed_range=(1.0, 3.0))
    goal = task.sample_goal(facing(torch.zeros(2000)), None, generator())
    assert goal["angle"].min() < -3.1
    assert goal["angle"].max() > 3.1
    assert 1.0 <= goal["speed"].min() < 1.02
    assert 2.98 < goal["speed"].max() <= 3.0


def test_every_environment_throws_its_own_coin():
    task = Direction(jump_probability=0.2)
    goal = task.sample_goal(facing(torch.zeros(2000)), None, generator())
    # half of the jumps turn further than any other goal may
    assert (goal["angle"].abs() > 1.57).float().mean() == pytest.approx(0.1, abs=0.03)
    assert (goal["speed"] == 0).float().mean() == pytest.approx(0.05, abs=0.02)


def test_the_speed_before_a_stop_is_remembered():
    task = Direction(stop_probability=1.0, jump_probability=0.0)
    goal = task.sample_goal(facing(torch.zeros(50)), None, generator())
    assert (goal["speed"] == 0).all()
    assert (goal["last_speed"] >= 0.8).all()


@pytest.mark.parametrize("grace", [0, 1, 60])
@pytest.mark.parametrize("interval", [61, 80, 120, 199])
@pytest.mark.parametrize("length", [60, 120, 240, 300])
def test_goals_left_are_those_that_would_be_measured(grace, interval, length):
    task = Direction(interval_steps=interval, grace_steps=grace)
    state = facing(torch.zeros(1))
    goal = task.sample_goal(state, None, generator())
    left, measured = task.goals_left(goal, length).item(), set()
    for step in range(1, length + 1):
        if task.step_is_good(moved((1.0, 0.0), steps=step), goal)[0]:
            measured.add(goal["start"].item())
        if task.goal_is_over(goal, torch.tensor([step])) and step < length:
            goal = task.sample_goal(state, goal, generator())
    assert left == len(measured)


@pytest.mark.parametrize("pace", [1.0, 0.9])
def test_the_heading_speed_prompt_asks_for_the_goal_at_its_pace(pace):
    goal = asked(angle=0.5, speed=1.1)
    walking = going(1.1, angle=0.5)
    targets = Direction(prompt_pace=pace).build_prompt("heading_speed", walking, goal)
    torch.testing.assert_close(targets.heading, torch.full((1, 2), 0.5))
    torch.testing.assert_close(targets.velocity.norm(dim=-1), torch.full((1, 2), pace * 1.1))
    assert not targets.pos_visible.any()
    assert targets.heading_visible.all()


@pytest.mark.parametrize(
    ("speed", "angle", "expected"),
    [
        (1.7, 0.5, 1.8),  # fast enough
        (1.2, 0.5, 1.8 + 0.5),  # 0.5 short of 0.85 of the 2 m/s asked for
        (0.0, 0.5, 1.8 + 1.7),
        (-2.0, 0.5, 1.8 + 2.0),  # no more than that
        (1.2, 0.5 + math.radians(45), 1.8),  # still turning
    ],
)
def test_who_faces_the_direction_and_is_too_slow_is_asked_for_more(speed, angle, expected):
    state, goal = going(speed, angle=0.5, facing_angle=angle), asked(angle=0.5, speed=2.0)
    targets = Direction().build_prompt("heading_speed", state, goal)
    torch.testing.assert_close(targets.velocity.norm(dim=-1), torch.full((1, 2), expected))


def test_direction_s_joint_conditioning_is_a_straight_walk_of_the_root():
    goal = asked(angle=math.pi / 2, speed=3.0)
    targets = Direction().build_prompt("joint_conditioning", still(), goal)
    torch.testing.assert_close(targets.time_s, torch.tensor([[1 / 3, 1.0]]))
    expected = torch.tensor([[0.0, 1.0, 0.88], [0.0, 3.0, 0.88]])
    torch.testing.assert_close(targets.pos[0, :, 0], expected, atol=1e-6, rtol=0)
    assert rotations.heading(targets.rot[0, 0, 0]).item() == pytest.approx(math.pi / 2)
    assert shown(targets) == {("pos", 0, "root"), ("rot", 0, "root"), ("velocity", 0),
                              ("pos", 1, "root")}  # fmt: skip


# ---- Steering -----------------------------------------------------------------------------------


def steered(
    *, angle: float = 0.0, facing: float = 0.0, heading: float = 0.0, speed: float = 1.0
) -> tuple[Transition, Goal]:
    """A step along ``angle`` as fast as asked, the root turned to ``heading``."""
    transition = moved((speed * math.cos(angle), speed * math.sin(angle)))
    rot = transition.after.rot.clone()
    rot[:, 0] = rotations.yaw_quat(torch.tensor([heading]))
    after = dataclasses.replace(transition.after, rot=rot)
    goal = {**asked(angle=angle), "facing": torch.tensor([facing])}
    return dataclasses.replace(transition, after=after), goal


def test_steering_sees_both_directions_from_its_own_heading():
    state = facing(torch.tensor([math.pi / 2]))
    goal = {**asked(angle=math.pi, speed=1.2), "facing": torch.tensor([-math.pi / 2])}
    observation = Steering().observe(state, goal)
    torch.testing.assert_close(
        observation, torch.tensor([[0.0, 1.0, 1.2, -1.0, 0.0]]), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    ("facing", "heading", "reward"),
    [
        (0.0, 0.0, 0.3),
        (math.pi / 3, 0.0, 0.3 * 0.5),
        (math.pi / 2, 0.0, 0.0),
        (math.pi, 0.0, 0.0),  # not negative
        (3.1, -3.1, 0.3 * math.cos(2 * math.pi - 6.2)),  # across the seam
    ],
)
def test_steering_rewards_facing_by_hand(facing, heading, reward):
    terms = Steering().reward_terms(*steered(angle=1.0, facing=facing, heading=heading))
    assert terms["facing"].item() == pytest.approx(reward, abs=1e-6)
    assert terms["direction"].item() == pytest.approx(0.7, abs=1e-4)  # walks as asked


def test_steering_rewards_speed_as_direction_does():
    terms = Steering().reward_terms(*steered(speed=0.8))
    assert terms["direction"].item() == pytest.approx(0.7 * math.exp(-10 * 0.2**2), rel=1e-4)


def test_steering_needs_the_speed_and_a_facing_within_45_degrees():
    def good(facing_deg: float, speed: float = 1.0) -> bool:
        return Steering().step_is_good(*steered(facing=math.radians(facing_deg), speed=speed))[1]

    assert [bool(good(deg)) for deg in (0, 44, -44, 46, -46, 180)] == [True] * 3 + [False] * 3
    assert [bool(good(0, speed)) for speed in (0.79, 0.81)] == [False, True]


def test_steering_is_measured_from_80_steps_on():
    transition, goal = steered()

    def measured(steps: int) -> bool:
        late = dataclasses.replace(transition, steps=torch.tensor([steps]))
        return Steering().step_is_good(late, goal)[0].item()

    assert [measured(steps) for steps in (79, 80, 199)] == [False, True, True]


def test_steering_in_the_paper_faces_anywhere_near_the_last_facing():
    task = Steering(jump_probability=0.0, facing_offset=math.pi)
    heading = torch.linspace(-3.0, 3.0, 2000)
    first = task.sample_goal(facing(heading), None, generator())
    second = task.sample_goal(facing(heading), first, generator(1))
    for before, after in ((heading, first["facing"]), (first["facing"], second["facing"])):
        turn = rotations.wrap_angle(after - before).abs()
        assert 1.5 < turn.max() <= 1.5701
    offset = rotations.wrap_angle(second["facing"] - second["angle"]).abs()
    assert offset.max() > 3.0


def test_steering_by_default_faces_about_where_it_walks():
    goal = Steering().sample_goal(facing(torch.zeros(2000)), None, generator())
    offset = rotations.wrap_angle(goal["facing"] - goal["angle"]).abs()
    assert 0.95 < offset.max() <= 1.0001
    assert 0.3 < offset.mean() < 0.5  # a third without jumps


def test_who_is_prompted_to_stand_keeps_its_heading():
    state = facing(torch.tensor([0.4, 0.4]))
    goal = {"angle": torch.tensor([1.0, 1.0]), "speed": torch.tensor([0.0, 1.5])}
    targets = Direction().build_prompt("heading_speed", state, goal)
    torch.testing.assert_close(targets.heading[:, 0], torch.tensor([0.4, 1.0]))
    assert not targets.velocity[0].any()


def test_steering_throws_its_coins_for_walking_and_facing_apart():
    task = Steering(facing_offset=math.pi)
    goal = task.sample_goal(facing(torch.zeros(4000)), None, generator())
    walks, faces = goal["angle"].abs() > 1.58, goal["facing"].abs() > 1.58
    assert walks.float().mean() == pytest.approx(0.1, abs=0.03)
    assert faces.float().mean() == pytest.approx(0.1, abs=0.03)
    assert (walks & faces).float().mean() == pytest.approx(0.01, abs=0.01)


def test_the_steering_prompt_faces_one_way_and_walks_another():
    _, goal = steered(angle=0.5, facing=-0.5)
    targets = Steering(prompt_pace=0.9).build_prompt("heading_speed", still(), goal)
    torch.testing.assert_close(targets.heading, torch.full((1, 2), -0.5))
    expected = 0.9 * torch.tensor([math.cos(0.5), math.sin(0.5)]).expand(1, 2, 2)
    torch.testing.assert_close(targets.velocity, expected)


def test_the_nearly_prompt_of_steering_asks_for_no_sideways_steps():
    offset = torch.tensor([0.0, 0.5, -0.5, 0.9, -0.9, 2 * torch.pi - 0.9])
    goal = {
        "angle": torch.full((6,), 0.5),
        "speed": torch.full((6,), 1.5),
        "facing": 0.5 + offset,
    }
    nearly = Steering(prompt_pace=0.9).build_prompt("nearly", still(6), goal)
    turned = nearly.heading[:, 0] - 0.5
    expected = 0.9 - math.radians(32.0)
    torch.testing.assert_close(
        turned, torch.tensor([0.0, 0.0, 0.0, expected, -expected, -expected]), atol=1e-5, rtol=0
    )
    way = rotations.direction_xy(nearly.heading)
    speed = nearly.velocity.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(nearly.velocity, way * speed)
    along = (nearly.velocity * rotations.direction_xy(torch.tensor(0.5))).sum(dim=-1)
    torch.testing.assert_close(along, torch.full_like(along, 0.9 * 1.5))


def test_the_ahead_prompt_of_steering_faces_where_it_walks():
    _, goal = steered(angle=0.5, facing=-0.5)
    ahead = Steering().build_prompt("ahead", still(), goal)
    torch.testing.assert_close(ahead.heading, torch.full((1, 2), 0.5))
    walk = Steering().build_prompt("heading_speed", still(), goal)
    assert torch.equal(ahead.velocity, walk.velocity)


def test_steering_s_joint_conditioning_adds_the_head_and_many_headings():
    _, goal = steered(angle=0.0, facing=-0.5, speed=1.0)
    state = still()
    state.pos[0, HEAD, :2] = torch.tensor([0.1, 0.2])
    targets = Steering().build_prompt("joint_conditioning", state, goal)
    steps = torch.tensor([[5.0, 6, 7, 8, 9, 10, 30]])
    torch.testing.assert_close(targets.time_s, steps / 30)
    many = {(kind, token) for kind in ("heading", "velocity") for token in range(6)}
    last = {(kind, *at) for kind in ("pos", "rot") for at in ((5, "root"), (6, "neck"))}
    assert shown(targets) == many | last
    expected = torch.tensor([1.1, 0.2, 1.34])  # from where the head is; high as our head is
    torch.testing.assert_close(targets.pos[0, 6, HEAD], expected)
    torch.testing.assert_close(rotations.heading(targets.rot[0, 6, HEAD]), torch.tensor(-0.5))
    torch.testing.assert_close(targets.heading, torch.full((1, 7), -0.5))


# ---- Reach --------------------------------------------------------------------------------------


def reaching(offset: tuple[float, float, float], *, steps: int = 100) -> tuple[Transition, Goal]:
    """The right hand at (0.3, -0.2, 1.1), the goal so far from it."""
    state = still()
    pos = state.pos.clone()
    pos[0, RIGHT_WRIST] = torch.tensor([0.3, -0.2, 1.1])
    state = dataclasses.replace(state, pos=pos)
    goal = {
        "target": pos[:, RIGHT_WRIST] + torch.tensor([offset]),
        "start": torch.tensor([0]),
        "end": torch.tensor([110]),
    }
    return Transition(state, state, torch.tensor([steps])), goal


def test_reach_sees_the_point_from_its_own_heading():
    state = facing(torch.tensor([math.pi / 2]))
    state.pos[0, 0] = torch.tensor([1.0, 2.0, 0.9])
    goal = {"target": torch.tensor([[1.0, 3.0, 1.4]])}
    torch.testing.assert_close(Reach().observe(state, goal), torch.tensor([[1.0, 0.0, 0.5]]))


@pytest.mark.parametrize(
    ("point", "bearing"), [((1.0, 3.0), 0.0), ((0.0, 2.0), 90.0), ((2.0, 1.0), -135.0)]
)
def test_the_bearing_of_a_reach_is_from_ahead_to_the_left(point, bearing):
    state = facing(torch.tensor([math.pi / 2]))
    state.pos[0, 0] = torch.tensor([1.0, 2.0, 0.9])
    goal = {"target": torch.tensor([[*point, 1.4]])}
    found = Reach().condition(state, goal)
    assert found["goal_bearing_deg"].item() == pytest.approx(bearing, abs=1e-3)
    assert found["goal_height"].item() == pytest.approx(1.4)


@pytest.mark.parametrize(
    ("offset", "reward"),
    [
        ((0.0, 0.0, 0.0), 1.0),
        ((0.5, 0.0, 0.0), math.exp(-1.0)),
        ((0.3, -0.4, 0.0), math.exp(-1.0)),
        ((0.2, 0.2, 0.1), math.exp(-0.36)),
    ],
)
def test_reach_reward_by_hand(offset, reward):
    terms = Reach().reward_terms(*reaching(offset))
    assert terms["reach"].item() == pytest.approx(reward, rel=1e-4)


def test_reach_needs_the_hand_within_20_centimetres_after_the_grace_period():
    def judged(distance: float, steps: int = 100) -> tuple[bool, bool]:
        measured, good = Reach().step_is_good(*reaching((0.0, distance, 0.0), steps=steps))
        return measured.item(), good.item()

    assert [judged(d)[1] for d in (0.0, 0.19, 0.21)] == [True, True, False]
    assert [judged(0.0, steps)[0] for steps in (60, 61, 110)] == [False, True, True]


def test_reach_goals_lie_around_the_root():
    state = still(5000)
    state.pos[:, 0] = torch.tensor([30.0, -40.0, 0.9])
    goal = build_task("reach", preset="paper").sample_goal(state, None, generator())
    offset = goal["target"] - torch.tensor([30.0, -40.0, 0.0])
    for axis, (low, high) in enumerate(((-0.75, 0.75), (-0.75, 0.75), (0.05, 1.6))):
        assert low <= offset[:, axis].min() < low + 0.01
        assert high - 0.01 < offset[:, axis].max() <= high
    assert (goal["end"].min().item(), goal["end"].max().item()) == (90, 119)


def test_the_next_point_lies_around_where_the_root_is_then():
    task, state = Reach(), still(100)
    first = task.sample_goal(state, None, generator())
    state.pos[:, 0, 0] += 50.0
    second = task.sample_goal(state, first, generator(1))
    assert (second["target"][:, 0] > 49.0).all()
    assert torch.equal(second["start"], first["end"])
    lasts = second["end"] - second["start"]
    assert (lasts >= 90).all()
    assert (lasts < 120).all()
    assert not torch.equal(lasts, first["end"])


def test_a_point_stays_where_it_is():
    transition, goal = reaching((1.0, 0.0, 0.0))
    assert torch.equal(Reach().advance_goal(transition, goal)["target"], goal["target"])
    over = [Reach().goal_is_over(goal, torch.tensor([steps])).item() for steps in (109, 110)]
    assert over == [False, True]


@pytest.mark.parametrize(("steps", "due_steps"), [(0, 50), (30, 20), (47, 3), (60, 3), (90, 3)])
def test_reach_joint_conditioning_counts_down_and_holds(steps, due_steps):
    transition, goal = reaching((0.1, 0.2, 0.3), steps=steps)
    goal = Reach().advance_goal(transition, goal)
    targets = Reach().build_prompt("joint_conditioning", transition.after, goal)
    torch.testing.assert_close(targets.time_s, torch.tensor([[due_steps / 30]]))
    assert shown(targets) == {("pos", 0, "right_wrist")}
    torch.testing.assert_close(targets.pos[0, 0, RIGHT_WRIST], goal["target"][0])


@pytest.mark.parametrize("interval", [(61, 61), (90, 90), (119, 119), (90, 119)])
@pytest.mark.parametrize("length", [60, 150, 300])
def test_reach_goals_left_are_those_that_would_be_measured(interval, length):
    task, state = Reach(interval_steps=interval), still(50)
    goal = task.sample_goal(state, None, generator())
    left = task.goals_left(goal, length)
    source = generator(1)
    measured = (goal["start"] + task.grace_steps + 1 <= length).long()
    while (goal["end"] < length).any():
        goal = task.sample_goal(state, goal, source)
        measured += goal["start"] + task.grace_steps + 1 <= length
    assert torch.equal(left, measured)


def test_the_reach_prompt_shows_the_right_hand_only():
    transition, goal = reaching((0.1, 0.2, 0.3))
    targets = Reach().build_prompt("hand_position", transition.after, goal)
    shown = torch.zeros(1, 2, BODIES, dtype=torch.bool)
    shown[:, :, RIGHT_WRIST] = True
    assert torch.equal(targets.pos_visible, shown)
    assert not targets.rot_visible.any()
    assert not targets.heading_visible.any()
    assert not targets.velocity_visible.any()
    torch.testing.assert_close(targets.pos[0, :, RIGHT_WRIST], goal["target"].expand(2, 3))
    torch.testing.assert_close(targets.time_s, torch.tensor([[16 / 30, 1.0]]))
    values, visible = observe_targets(transition.after, targets)
    assert visible.all()
    first = values[0, 0, 7 * RIGHT_WRIST : 7 * RIGHT_WRIST + 7].tolist()
    # from the root at (0, 0, 1), from the hand itself, and the mark of what is shown
    assert first == pytest.approx([0.4, 0.0, 0.4, 0.1, 0.2, 0.3, 1.0], abs=1e-6)


# ---- Long Jump ----------------------------------------------------------------------------------

FEET = list(DEEPMIMIC.feet)


def jumper(
    *,
    root: tuple[float, float, float] = (0.0, 0.0, 0.9),
    others: float = 0.0,
    foot: float = 0.0,
    push: float = 0.0,
) -> BodyState:
    """On a track along +x: the root, one foot, the other bodies, and the ground's push on it."""
    state = still()
    pos, force = state.pos.clone(), state.contact_force.clone()
    pos[..., 0] = others
    pos[0, 0] = torch.tensor(root)
    pos[0, FEET[1], 0] = foot
    force[0, FEET[1], 2] = push
    return dataclasses.replace(state, pos=pos, contact_force=force)


def jump(*states: BodyState, task: LongJump | None = None) -> list[tuple[Transition, Goal]]:
    """What the task sees step by step, from a start at the origin."""
    task = task or LongJump()
    before, seen = jumper(), []
    goal = task.sample_goal(before, None, generator())
    for number, after in enumerate(states, start=2):
        transition = Transition(before, after, torch.tensor([number]))
        goal = task.advance_goal(transition, goal)
        seen.append((transition, goal))
        before = after
    return seen


def test_long_jump_sees_the_point_and_the_way_to_the_line():
    state = facing(torch.tensor([2.0]))
    state.pos[0, :, :2] = torch.tensor([5.0, -3.0])
    goal = LongJump().sample_goal(state, None, generator())
    expected = torch.tensor([[16.0, 0.0, 0.0, 6.0]])
    torch.testing.assert_close(LongJump().observe(state, goal), expected, atol=1e-5, rtol=0)
    # 2 m along the track, 0.3 m to its left, and turned to the left by a right angle
    root = rotations.rotate_xy(torch.tensor(2.0), torch.tensor([2.0, 0.3]))
    state.pos[0, 0] = torch.tensor([5.0 + root[0], -3.0 + root[1], 0.8])
    state.rot[0, 0] = rotations.yaw_quat(torch.tensor(2.0 + math.pi / 2))
    expected = torch.tensor([[-0.3, -14.0, 0.2, 4.0]])
    torch.testing.assert_close(LongJump().observe(state, goal), expected, atol=1e-5, rtol=0)


def test_run_and_jump_shows_the_run_and_then_words_alone():
    task = LongJump(told_before=1.0)
    start, near = jumper(root=(4.9, 0.0, 0.9)), jumper(root=(5.1, 0.0, 0.9))
    goal = task.sample_goal(jumper(), None, generator())
    run, told = (task.build_prompt("run_and_jump", state, goal) for state in (start, near))
    for targets, jumps in ((run, False), (told, True)):
        assert targets.text_visible.tolist() == [[jumps]]
        assert bool(targets.heading_visible.any()) is bool(targets.velocity_visible.any())
        assert bool(targets.heading_visible.any()) is not jumps
    torch.testing.assert_close(told.text[0, 0], embed(BEHAVIOURS["jump"].captions[0]))
    with pytest.raises(ValueError, match=r"told_before=0\.0 must be above 0"):
        LongJump(told_before=0.0)
    published = LongJump(humanoid=SMPL)
    with pytest.raises(ValueError, match="'run_and_jump' needs a model of our own humanoid"):
        published.build_prompt("run_and_jump", start, goal)


def test_the_line_lies_across_the_track():
    state = facing(torch.tensor([math.pi / 2]))
    line = LongJump(run_up=3.0).sample_goal(state, None, generator())["line"]
    expected = torch.tensor([[[0.5, 3.0], [-0.5, 3.0]]])
    torch.testing.assert_close(line, expected, atol=1e-6, rtol=0)


def test_long_jump_reward_on_the_way():
    # from the start to 0.4 m along the track at 3 m/s: G is (16, 0, 1)
    after = jumper(root=(0.4, 0.3, 0.9))
    velocity = after.vel.clone()
    velocity[0, 0] = torch.tensor([3.0, 5.0, 0.0])
    (seen,) = jump(dataclasses.replace(after, vel=velocity))
    terms = {name: value.item() for name, value in LongJump().reward_terms(*seen).items()}
    gained = math.dist((16, 0, 1), (0, 0, 0.9)) - math.dist((16, 0, 1), (0.4, 0.3, 0.9))
    expected = {"progress": gained, "speed": 0.03, "height": 0.0, "landing": 0.0}
    assert terms == pytest.approx(expected, abs=1e-5)


def test_long_jump_progress_is_clipped():
    task = LongJump()
    ahead, back = jump(jumper(root=(1.5, 0.0, 0.9)), jumper(root=(1.0, 0.0, 0.9)))
    assert task.reward_terms(*ahead)["progress"].item() == 1.0
    assert task.reward_terms(*back)["progress"].item() == 0.0


def test_long_jump_rewards_height_beyond_the_line_and_the_landing_once():
    # 13 of 15 bodies land at 8 m, the root at 7.5 and a foot at 8.5: 2 m beyond the line on average
    flight = jumper(root=(6.5, 0.0, 1.3), others=6.5, foot=6.1)
    landing = jumper(root=(7.5, 0.0, 0.8), others=8.0, foot=8.5, push=400.0)
    on = jumper(root=(8.5, 0.0, 0.8), others=9.0, foot=9.0, push=400.0)
    seen = [LongJump().reward_terms(*step) for step in jump(flight, landing, on)]
    assert [terms["height"].item() for terms in seen] == pytest.approx([0.13, 0.08, 0.08])
    assert [terms["landing"].item() for terms in seen] == pytest.approx([0.0, 60.0, 0.0], abs=1e-4)


@pytest.mark.parametrize(("others", "expected"), [(7.6, [0.0, 20.0, 0.0]), (7.4, [0.0] * 3)])
def test_a_long_jump_s_success_may_be_rewarded_once(others, expected):
    landing = jumper(root=(7.5, 0.0, 0.8), others=others, foot=7.5, push=400.0)
    steps = jump(jumper(root=(6.5, 0.0, 1.3), others=6.5), landing, landing)
    seen = [LongJump(far_bonus=20.0).reward_terms(*step) for step in steps]
    assert [terms["far"].item() for terms in seen] == expected
    assert "far" not in LongJump().reward_terms(*steps[1])


@pytest.mark.parametrize(
    ("others", "push", "success"), [(7.6, 400.0, True), (7.4, 400.0, False), (7.6, 49.0, False)]
)
def test_a_jump_succeeds_by_its_length(others, push, success):
    task = LongJump()
    ((transition, goal),) = jump(
        jumper(root=(others, 0.0, 0.8), others=others, foot=others, push=push)
    )
    measured, good = task.step_is_good(transition, goal)
    assert measured.item()
    assert good.item() is success
    assert task.terminated(transition, goal, DEEPMIMIC).item() is (push > 50.0)


def test_running_through_the_line_is_no_jump_even_if_the_episode_goes_on():
    task = LongJump()
    strides = [
        jumper(root=(x, 0.0, 0.9), others=x, foot=x + 0.3, push=400.0)
        for x in (5.5, 5.9, 8.0, 12.0)
    ]
    seen = jump(*strides, task=task)
    ends = [task.terminated(*step, DEEPMIMIC).item() for step in seen]
    assert ends == [False, True, True, True]
    assert not any(task.step_is_good(*step)[1].item() for step in seen)
    # 13 bodies and the root 0.1 m before the line, a foot 0.2 m beyond it
    assert seen[-1][1]["length"].item() == pytest.approx((14 * -0.1 + 0.2) / 15, abs=1e-5)
    assert seen[-1][1]["landing_step"].item() == 3


def test_the_landing_judges_the_jump_whatever_follows():
    task = LongJump()
    landing = jumper(root=(8.0, 0.0, 0.8), others=8.0, foot=8.0, push=400.0)
    seen = jump(landing, jumper(), jumper(root=(3.0, 0.0, 0.9), foot=3.0, push=400.0))
    assert all(task.step_is_good(*step)[1].item() for step in seen)


def test_the_mean_of_jump_length_is_the_length():
    landing = jumper(root=(8.0, 0.0, 0.8), others=8.0, foot=8.0, push=400.0)
    flight = jumper(root=(6.5, 0.0, 1.3), others=6.5, foot=6.1)
    steps = jump(flight, flight, landing, flight, landing)
    values = [LongJump().metrics(*step)["jump_length"].item() for step in steps]
    values = [0.0, *values]  # the first step of the episode, before those here
    assert np.mean(values[:3]) == 0.0
    assert [np.mean(values[: n + 1]) for n in (3, 4, 5)] == pytest.approx([2.0] * 3, abs=1e-5)


def off_track(*, beside: float = 0.0, low: float = 1.0, push: float = 0.0, steps: int = 2) -> bool:
    state = jumper(root=(2.0, beside, 0.9))
    pos, force = state.pos.clone(), state.contact_force.clone()
    pos[0, LEFT_WRIST, 2] = low
    force[0, LEFT_WRIST], force[0, RIGHT_WRIST] = torch.tensor([[push, 0, 0], [push, 0, 0]])
    state = dataclasses.replace(state, pos=pos, contact_force=force)
    goal = LongJump().sample_goal(jumper(), None, generator())
    transition = Transition(state, state, torch.tensor([steps]))
    return LongJump().terminated(transition, goal, DEEPMIMIC).item()


def test_long_jump_ends_beside_the_track_or_in_any_kind_of_fall():
    assert not off_track()
    assert not off_track(beside=0.49)
    assert off_track(beside=0.51)
    assert off_track(beside=-0.51)
    assert not off_track(low=0.16)
    assert off_track(low=0.14)  # a low body alone is a fall here
    assert not off_track(push=24.0)
    assert off_track(push=26.0)  # and so are 52 N on two hands
    assert not off_track(beside=0.51, low=0.14, push=26.0, steps=1)


def test_long_jump_prompt_runs_back_to_the_middle_of_the_track():
    start = jumper()
    goal = LongJump().sample_goal(start, None, generator())
    beside = dataclasses.replace(start, pos=start.pos + torch.tensor([0.0, 0.5, 0.0]))
    for state, angle in ((start, 0.0), (beside, -math.atan2(0.5, 2.0))):
        targets = LongJump(prompt_speed=3.0).build_prompt("heading_speed", state, goal)
        assert targets.velocity_visible.all() and targets.heading_visible.all()
        torch.testing.assert_close(targets.heading, torch.full((1, 2), angle), atol=1e-5, rtol=0)
        expected = 3.0 * torch.tensor([math.cos(angle), math.sin(angle)]).expand(1, 2, 2)
        torch.testing.assert_close(targets.velocity, expected, atol=1e-5, rtol=0)


# ---- Path Following -----------------------------------------------------------------------------

HEAD = DEEPMIMIC.head


def straight_path(speed: float = 1.0, *, height: float = 1.0, steps: int = 0) -> Goal:
    """Along +x from the origin."""
    path = torch.zeros(1, 101, 3)
    path[0, :, 0] = speed * 0.1 * torch.arange(101)
    path[..., 2] = height
    number = torch.tensor([steps])
    return {"path": path, "target": path[:, 0], "steps": number}


def following(
    offset: tuple[float, float, float], *, steps: int = 60, speed: float = 1.0
) -> tuple[Transition, Goal]:
    """The head so far from the point of a straight path."""
    state = still()
    state.pos[0, HEAD] = torch.tensor([speed * steps / 30, 0.0, 1.0]) - torch.tensor(offset)
    transition = Transition(state, state, torch.tensor([steps]))
    return transition, PathFollowing().advance_goal(transition, straight_path(speed))


def test_a_path_is_linear_between_vertices_and_ends_in_a_rest():
    path = torch.zeros(1, 101, 3)
    path[0, :, 0] = torch.arange(101.0)
    path[0, 1:, 1] = 4.0
    times = torch.tensor([[0.0, 0.025, 0.1, 0.25, 9.95, 10.0, 15.0]])
    expected = [[0, 0], [0.25, 1], [1, 4], [2.5, 4], [99.5, 4], [100, 4], [100, 4]]
    torch.testing.assert_close(
        position_at(path, times)[0, :, :2], torch.tensor(expected).float(), atol=1e-4, rtol=0
    )


def test_the_point_reaches_the_end_of_its_path_with_the_episode():
    state = still()
    transition = Transition(state, state, torch.tensor([300]))
    goal = PathFollowing().advance_goal(transition, straight_path())
    assert goal["target"][0].tolist() == pytest.approx([10.0, 0.0, 1.0], abs=1e-4)


def test_path_following_sees_five_seconds_of_the_path():
    state = facing(torch.tensor([math.pi / 2]))
    state.pos[0, HEAD] = torch.tensor([1.0, 0.5, 1.3])
    observation = PathFollowing().observe(state, straight_path(steps=60))
    # the point is at x = 2 m now and 0.5 m further with every sample; +x is to the right
    expected = [[-0.5, -(1.0 + 0.5 * k), -0.3] for k in range(11)]
    torch.testing.assert_close(observation.view(11, 3), torch.tensor(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "offset",
    [(0.0, 0.0, 0.0), (0.5, 0.0, 0.0), (0.3, -0.4, 0.0), (0.0, 0.0, 0.2), (1.0, 1.0, -0.3)],
)
def test_path_reward_by_hand(offset):
    a = np.exp(-2.0 * (offset[0] ** 2 + offset[1] ** 2))
    b = np.exp(-10.0 * offset[2] ** 2)
    terms = PathFollowing().reward_terms(*following(offset))
    assert terms["path"].item() == pytest.approx(2 * a * b / (a + b), rel=1e-4, abs=1e-5)


def test_path_following_tolerates_two_metres_after_ten_steps():
    def judged(distance: float, steps: int = 60) -> tuple[bool, bool]:
        measured, good = PathFollowing().step_is_good(*following((0, distance, 0), steps=steps))
        return measured.item(), good.item()

    assert [judged(d)[1] for d in (0.0, 1.99, 2.01)] == [True, True, False]
    assert [judged(0.0, steps)[0] for steps in (10, 11, 300)] == [False, True, True]


def test_path_following_ends_far_from_the_point_or_at_another_height():
    def ends(offset: tuple[float, float, float], steps: int = 60) -> bool:
        return PathFollowing().terminated(*following(offset, steps=steps), DEEPMIMIC).item()

    assert not ends((0.0, 3.9, 0.0))
    assert ends((0.0, 4.1, 0.0))
    assert not ends((0.0, 0.0, 0.45))
    assert ends((0.0, 0.0, 0.55))
    assert ends((0.0, 0.0, -0.55))
    assert not ends((0.0, 0.0, 0.55), steps=20)


def test_a_path_begins_at_the_head_and_lasts():
    task, state = PathFollowing(), still(4)
    state.pos[:, HEAD] = torch.tensor([3.0, 4.0, 1.3])
    goal = task.sample_goal(state, None, generator())
    assert (goal["path"][:, 0] == torch.tensor([3.0, 4.0, 1.3])).all()
    again = task.sample_goal(still(4), goal, generator(1))
    assert torch.equal(again["path"], goal["path"])
    assert not task.goal_is_over(goal, torch.tensor([300] * 4)).any()


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_paths_keep_their_limits_of_speed_and_height(preset):
    task = build_task("path_following", preset=preset)
    state = still(500)
    state.pos[:, HEAD, 2] = 1.3
    path = task.sample_goal(state, None, generator())["path"].double()
    moves = path.diff(dim=1)
    speed, height = 10 * moves[..., :2].norm(dim=-1), path[:, 1:, 2]
    fastest = (1 + 8 * (height - 0.7)).clamp(0.0, {"default": 1.3, "paper": 5.0}[preset])
    assert (speed <= fastest + 1e-3).all()
    low, high = {"default": (1.2, 1.35), "paper": (0.7, 1.5)}[preset]
    assert low - 1e-5 <= height.min()
    assert height.max() <= high + 1e-5
    assert height.std() > 0.01
    assert (speed.diff(dim=1).abs().max()) <= 0.1 + 8 * 0.05 + 1e-3
    assert (10 * moves[..., 2]).abs().max() <= 0.5001
    assert speed[:, 0].min() < 0.1
    assert speed[:, 0].max() > 1.2
    angle = torch.atan2(moves[..., 1], moves[..., 0])
    moving = (speed[:, 1:] > 0.05) & (speed[:, :-1] > 0.05)
    turn = rotations.wrap_angle(angle.diff(dim=1)).abs()[moving]
    # sharp turns by more than other turns may be: 2 % of any angle
    assert (turn > 0.21).float().mean() == pytest.approx(0.02 * (1 - 0.2 / math.pi), abs=0.005)
    assert angle[:, 0].min() < -3.0
    assert angle[:, 0].max() > 3.0


def test_a_bounded_walk_is_clipped_at_every_step():
    source = np.random.default_rng(0)
    start = source.uniform(-1.0, 2.0, 40)
    changes = source.normal(0.0, 0.5, (40, 100))
    low = source.uniform(-1.0, 0.0, (40, 100))
    high = low + source.uniform(0.0, 2.0, (40, 100))
    value, expected = start, np.zeros((40, 100))
    for step in range(100):
        value = np.clip(value + changes[:, step], low[:, step], high[:, step])
        expected[:, step] = value
    walked = bounded_walk(*(torch.from_numpy(array) for array in (start, changes, low, high)))
    np.testing.assert_allclose(walked.numpy(), expected, atol=1e-12)


def test_low_points_are_slow():
    height = torch.tensor([0.5, 0.575, 0.7, 0.95, 1.2, 1.5])
    expected = torch.tensor([0.0, 0.0, 1.0, 3.0, 5.0, 5.0])
    torch.testing.assert_close(top_speed(height, 5.0), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(top_speed(height, 1.3), expected.clamp(max=1.3), atol=1e-5, rtol=0)


def test_path_prompts_lead_to_where_the_point_will_be():
    state, goal = still(), straight_path(steps=30)
    state.pos[0, HEAD] = torch.tensor([1.0, 1.0, 1.0])
    targets = PathFollowing().build_prompt("head_position", state, goal)
    assert targets.pos_visible.sum() == 2
    expected = torch.tensor([[1.0 + 16 / 30, 0.0, 1.0], [2.0, 0.0, 1.0]])
    torch.testing.assert_close(targets.pos[0, :, HEAD], expected, atol=1e-5, rtol=0)
    assert targets.pos_visible[0, :, HEAD].all()
    # the point is at (1, 0), moving at 1 m/s along x; the head is at (1, 1)
    targets = PathFollowing().build_prompt("heading_speed", state, goal)
    expected = torch.tensor([1.0, -1.0 / 1.5]).expand(1, 2, 2)
    torch.testing.assert_close(targets.velocity, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(rotations.direction_xy(targets.heading) * (13**0.5 / 3), expected)


@pytest.mark.parametrize(
    ("away", "speed", "expected"),
    [(1.2, 0.0, 0.0), (1.5, 0.0, 1.0), (1.2, 1.0, 0.8), (0.6, 1.0, 0.7), (0.3, 1.0, 0.0)],
)
def test_a_prompted_walk_along_a_path_is_not_slow_and_not_broken_off(away, speed, expected):
    state, goal = still(), straight_path(speed=0.0)
    target = PathFollowing()._ahead(goal, torch.zeros(1))[:, 0]
    state.pos[:, HEAD] = target - torch.tensor([away, 0.0, 0.0])
    state.vel[:, 0, 0] = speed
    targets = PathFollowing().build_prompt("heading_speed", state, goal)
    asked = torch.tensor([expected, 0.0]).expand(1, 2, 2)
    torch.testing.assert_close(targets.velocity, asked, atol=1e-5, rtol=0)


def test_path_joint_conditioning_turns_the_head_along_the_path():
    state, goal = still(), straight_path(steps=30)
    state.pos[0, 0] = torch.tensor([0.7, 0.0, 0.9])
    targets = PathFollowing().build_prompt("joint_conditioning", state, goal)
    torch.testing.assert_close(targets.time_s, torch.tensor([[0.2, 0.5]]))
    expected = torch.tensor([[1.2, 0.0, 1.0], [1.5, 0.0, 1.0]])
    torch.testing.assert_close(targets.pos[0, :, HEAD], expected, atol=1e-5, rtol=0)
    assert shown(targets) == {("pos", 0, "neck"), ("pos", 1, "neck"), ("rot", 1, "neck")}
    assert rotations.heading(targets.rot[0, 1, HEAD]).item() == pytest.approx(0.0, abs=1e-5)
    state.pos[0, 0, 1] = 0.5  # beside the path
    targets = PathFollowing().build_prompt("joint_conditioning", state, goal)
    assert shown(targets) == {("pos", 1, "neck"), ("rot", 1, "neck")}
    rest = straight_path(speed=0.0)
    targets = PathFollowing().build_prompt("joint_conditioning", still(), rest)
    assert shown(targets) == {("pos", 0, "neck"), ("pos", 1, "neck")}


# ---- Strike -------------------------------------------------------------------------------------


def with_box(
    tilt: float = 0.0, *, pos: tuple[float, float, float] = (2.0, 0.0, 0.9), yaw: float = 0.0
) -> BodyState:
    """A box that leans over by ``tilt`` rad about its own x axis."""
    state = still(boxes=1)
    x_axis, z_axis = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    lean = rotations.quat_from_axis_angle(x_axis, torch.tensor([tilt]))
    turn = rotations.quat_from_axis_angle(z_axis, torch.tensor([yaw]))
    return dataclasses.replace(
        state,
        object_pos=torch.tensor([[pos]]),
        object_rot=rotations.quat_multiply(turn, lean).unsqueeze(1),
    )


def strike_terms(tilt: float, speed: float) -> dict[str, float]:
    after = with_box(tilt)
    pos = after.pos.clone()
    pos[:, 0, 0] += CONTROL_DT * speed
    transition = Transition(after, dataclasses.replace(after, pos=pos), torch.tensor([10]))
    terms = Strike().reward_terms(transition, {})
    return {name: value.item() for name, value in terms.items()}


def test_strike_s_joint_conditioning_leads_to_the_box_and_ends_before_it():
    state = with_box(pos=(0.0, 4.0, 0.9))
    state.pos[0, HEAD, :2] = torch.tensor([0.0, 0.1])
    targets = Strike().build_prompt("joint_conditioning", state, {})
    near = {(kind, 0, body) for kind in ("pos", "rot") for body in ("root", "neck")}
    far = {("rot", 1, "root"), ("rot", 1, "neck")}
    assert shown(targets) == near | far | {("heading", 0), ("velocity", 0)}
    expected = torch.tensor([[0.0, 1 / 3, 0.88], [0.0, 1 / 3, 1.34]])
    torch.testing.assert_close(targets.pos[0, 0, [0, HEAD]], expected)
    turned = rotations.heading(targets.rot[0, :, [0, HEAD]])
    torch.testing.assert_close(turned, torch.full((2, 2), math.pi / 2))
    for hidden in (with_box(pos=(0.0, 1.99, 0.9)), with_box(tilt=1.5, pos=(0.0, 4.0, 0.2))):
        assert not shown(Strike().build_prompt("joint_conditioning", hidden, {}))


def test_the_push_prompt_passes_the_box_on_its_left_with_the_right_hand_at_it():
    hand = {("pos", token, "right_wrist") for token in (0, 1)}
    way = {(kind, token) for kind in ("heading", "velocity") for token in (0, 1)}
    far = Strike().build_prompt("push", with_box(pos=(5.0, 0.0, 0.9)), {})
    assert shown(far) == way
    torch.testing.assert_close(far.heading[0], torch.full((2,), math.atan2(0.65, 5.0)))
    torch.testing.assert_close(far.velocity.norm(dim=-1), torch.full((1, 2), 1.2))
    near = Strike().build_prompt("push", with_box(pos=(0.8, 0.0, 0.9)), {})
    assert shown(near) == way | hand
    at = torch.tensor([0.9, 0.0, 1.4]).expand(2, 3)
    torch.testing.assert_close(near.pos[0, :, DEEPMIMIC.right_hand], at)
    assert near.velocity.norm(dim=-1).max() < far.velocity.norm(dim=-1).min()
    behind = Strike().build_prompt("push", with_box(pos=(-0.8, 0.0, 0.9)), {})
    assert shown(behind) == way
    tilted = Strike().build_prompt("push", with_box(tilt=0.4, pos=(0.8, 0.0, 0.9)), {})
    assert shown(tilted) == way
    assert not tilted.velocity.any()
    assert not tilted.heading.any()  # the heading of now


def test_strike_sees_the_box_from_its_own_heading():
    # the root stands at (1, 2), faces +y and leans forward; the box is 2 m ahead, turned as well
    state = with_box(pos=(1.0, 4.0, 0.5), yaw=math.pi / 2)
    pos, rot = state.pos.clone(), state.rot.clone()
    pos[:, 0] = torch.tensor([1.0, 2.0, 0.9])
    lean = rotations.quat_from_axis_angle(torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.3]))
    rot[:, 0] = rotations.quat_multiply(rotations.yaw_quat(torch.tensor([math.pi / 2])), lean)
    state = dataclasses.replace(
        state,
        pos=pos,
        rot=rot,
        object_vel=torch.tensor([[[0.0, 1.0, 0.3]]]),
        object_ang_vel=torch.tensor([[[-0.5, 0.0, 2.0]]]),
    )
    expected = [2.0, 0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.3, 0.0, 0.5, 2.0]
    observation = Strike().observe(state, {})
    torch.testing.assert_close(observation, torch.tensor([expected]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("tilt_deg", [0, 30, 60, 90, 120, 180])
def test_tilt_is_the_cosine_between_axis_and_vertical(tilt_deg):
    state = with_box(math.radians(tilt_deg), yaw=1.0)
    cosine = Strike().metrics(Transition(state, state, torch.tensor([1])), {})["tilt_cosine"]
    assert cosine.item() == pytest.approx(math.cos(math.radians(tilt_deg)), abs=1e-6)


@pytest.mark.parametrize(
    ("tilt_deg", "speed", "tilt", "approach"),
    [
        (0, 1.0, 0.0, 0.4),
        (0, 1.5, 0.0, 0.4),  # faster than asked is as good
        (0, 0.5, 0.0, 0.4 * math.exp(-1)),
        (0, 0.0, 0.0, 0.0),
        (0, -1.0, 0.0, 0.0),
        (60, 0.5, 0.3, 0.4 * math.exp(-1)),
        (78, 0.0, 0.6 * (1 - math.cos(math.radians(78))), 0.0),  # cosine 0.208: not yet down
        (79, 0.0, 1.0, 0.0),  # cosine 0.191: down
        (79, 1.0, 1.0, 0.0),
        (180, -1.0, 1.0, 0.0),
    ],
)
def test_strike_reward_by_hand(tilt_deg, speed, tilt, approach):
    terms = strike_terms(math.radians(tilt_deg), speed)
    assert terms == pytest.approx({"tilt": tilt, "approach": approach}, abs=1e-4)


def test_strike_succeeds_while_the_box_is_down():
    def good(tilt_deg: float) -> bool:
        state = with_box(math.radians(tilt_deg))
        return Strike().step_is_good(Transition(state, state, torch.tensor([1])), {})[1].item()

    assert [good(tilt) for tilt in (0, 78, 79, 180)] == [False, False, True, True]


def hit(body: int, force: tuple[float, float, float], *, steps: int = 2) -> bool:
    state = still(boxes=1)
    touch = state.object_contact_force.clone()
    touch[0, 0, body] = torch.tensor(force)
    state = dataclasses.replace(state, object_contact_force=touch)
    return (
        Strike().terminated(Transition(state, state, torch.tensor([steps])), {}, DEEPMIMIC).item()
    )


def test_hands_and_feet_may_hit_the_box():
    legal = [DEEPMIMIC.body_names[i] for i in range(BODIES) if not hit(i, (50.0, 0.0, 0.0))]
    assert legal == ["right_elbow", "right_wrist", "right_ankle", "left_ankle"]


def test_a_light_touch_is_no_hit():
    assert not hit(LEFT_WRIST, (0.9, -0.9, 0.9))
    assert hit(LEFT_WRIST, (0.0, 0.0, -1.1))
    assert not hit(LEFT_WRIST, (0.0, 0.0, -1.1), steps=1)


def test_boxes_stand_around_the_root():
    state = still(5000)
    state.pos[:, 0, :2] = torch.tensor([3.0, -4.0])
    pose = Strike().sample_objects(state, generator())[:, 0]
    offset = pose[:, :2] - state.pos[:, 0, :2]
    distance = offset.norm(dim=-1)
    assert 0.5 <= distance.min() < 0.51
    assert 9.9 < distance.max() <= 10.0
    # half of the boxes are near, and one in nine and a half of the others too
    assert (distance < 1.5).float().mean() == pytest.approx(0.5 + 0.5 / 9.5, abs=0.02)
    assert offset.mean(dim=0).abs().max() < 0.2  # all around
    torch.testing.assert_close(pose[:, 2], torch.full((5000,), 0.9))
    torch.testing.assert_close(pose[:, 4:6], torch.zeros(5000, 2))  # upright
    assert rotations.heading(pose[:, 3:]).min() < -3.1
    assert rotations.heading(pose[:, 3:]).max() > 3.1


def test_the_box_weighs_what_the_paper_says():
    simulator = MujocoCpu(DEEPMIMIC, 1, objects=(BOX,))
    assert simulator.model.body("box").mass.item() == pytest.approx(8.64)


# ---- rules of all -------------------------------------------------------------------------------


def falling(body: str, *, height: float, touched: str, force: float = 0.2) -> bool:
    state = still()
    pos, push = state.pos.clone(), state.contact_force.clone()
    pos[0, DEEPMIMIC.body_index(body), 2] = height
    push[0, DEEPMIMIC.body_index(touched), 1] = -force
    state = dataclasses.replace(state, pos=pos, contact_force=push)
    return fallen(Transition(state, state, torch.tensor([2])), DEEPMIMIC).item()


def test_a_fall_is_a_low_body_and_a_touched_one():
    assert falling("left_knee", height=0.14, touched="left_wrist")
    assert not falling("left_knee", height=0.16, touched="left_wrist")
    assert not falling("left_knee", height=0.14, touched="left_wrist", force=0.09)
    assert not falling("left_knee", height=0.14, touched="left_ankle")
    assert not falling("left_ankle", height=0.02, touched="left_wrist")


def test_the_head_is_low_at_twice_the_height():
    assert falling("neck", height=0.29, touched="neck")
    assert not falling("neck", height=0.31, touched="neck")


def test_nobody_falls_in_the_first_step():
    state = still()
    state.pos[..., 2] = 0.0
    state.contact_force[:] = 10.0
    steps = torch.tensor([1])
    assert not fallen(Transition(state, state, steps), DEEPMIMIC).any()
    assert fallen(Transition(state, state, steps + 1), DEEPMIMIC).all()


def simulated(task: Any, count: int = 6) -> Transition:
    """A step of real physics with random PD targets."""
    simulator = MujocoCpu(DEEPMIMIC, count, objects=task.objects)
    qpos, qvel = sample_start_states(count, generator(3))
    boxes = torch.zeros(count, 7 * len(task.objects))
    if task.objects:
        boxes = task.sample_objects(still(count), generator(4)).flatten(1)
    qpos = torch.cat((qpos, boxes), dim=1)
    qvel = torch.cat((qvel, torch.zeros(count, 6 * len(task.objects))), dim=1)
    simulator.reset(torch.arange(count), qpos, qvel)
    target = 0.5 * torch.randn(count, DEEPMIMIC.num_dofs, generator=generator(5))
    for _ in range(10):
        before = simulator.state
        after = simulator.step(target)
    return Transition(before, after, 60 * torch.arange(count) + 2)


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_equals_its_rows(name):
    task = build_task(name)
    transition = simulated(task)
    goal = task.sample_goal(transition.before, None, generator())

    def everything(transition: Transition, goal: Goal) -> dict[str, Tensor]:
        goal = task.advance_goal(transition, goal)
        measured, good = task.step_is_good(transition, goal)
        return {
            "observation": task.observe(transition.after, goal),
            **task.reward_terms(transition, goal),
            **task.metrics(transition, goal),
            **goal,
            "measured": measured,
            "good": good,
            "terminated": task.terminated(transition, goal, DEEPMIMIC),
            "over": task.goal_is_over(goal, transition.steps),
        }

    together = everything(transition, goal)
    for row in range(len(transition.steps)):
        ids = torch.tensor([row])
        alone = everything(
            Transition(transition.before[ids], transition.after[ids], transition.steps[ids]),
            {key: value[ids] for key, value in goal.items()},
        )
        for key, value in alone.items():
            torch.testing.assert_close(value[0], together[key][row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_tasks_change_nothing_they_are_given(name):
    task = build_task(name)
    transition = simulated(task)
    goal = task.sample_goal(transition.before, None, generator())

    def contents() -> list[Tensor]:
        states = (transition.before, transition.after)
        tensors = [getattr(s, f.name) for s in states for f in dataclasses.fields(s)]
        return [tensor.clone() for tensor in (*tensors, *goal.values(), transition.steps)]

    before = contents()
    task.observe(transition.after, goal)
    task.reward_terms(transition, goal)
    task.step_is_good(transition, goal)
    task.advance_goal(transition, goal)
    task.terminated(transition, goal, DEEPMIMIC)
    task.sample_goal(transition.after, goal or None, generator())
    assert all(map(torch.equal, before, contents()))


@pytest.mark.parametrize("name", [name for name in TASKS if name != "long_jump"])
def test_the_generator_alone_decides_what_is_drawn(name):
    task, state = build_task(name), still(20, boxes=1)

    def draw(seed: int) -> list[np.ndarray]:
        source = generator(seed)
        goal = task.sample_goal(state, None, source)
        return [v.numpy() for v in (*goal.values(), task.sample_objects(state, source))]

    assert all(map(np.array_equal, draw(0), draw(0)))
    assert not all(map(np.array_equal, draw(0), draw(1)))


# ---- errors -------------------------------------------------------------------------------------


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(
        ValueError,
        match=r"task 'strick'; did you mean 'strike'\? Known: direction, steering, reach",
    ):
        build_task("strick")


def test_an_unknown_parameter_names_the_nearest():
    with pytest.raises(
        ValueError, match=r"parameter of task 'strike' 'target_sped'; did you mean 'target_speed'\?"
    ):
        build_task("strike", target_sped=2.0)


def test_an_unknown_parameter_without_neighbours_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"'xyz'\. Known: speed_range, speed_change, turn"):
        build_task("direction", xyz=1)


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("direction", "speed_range", (2.0, 1.0)),
        ("direction", "speed_range", (-1.0, 1.0)),
        ("direction", "jump_probability", 1.1),
        ("direction", "stop_probability", -0.1),
        ("direction", "interval_steps", 60),
        ("direction", "tolerance", 0.0),
        ("steering", "interval_steps", 80),
        ("steering", "facing_offset", 3.2),
        ("steering", "facing_tolerance", 0.0),
        ("steering", "facing_weight", 1.1),
        ("reach", "side", -0.1),
        ("reach", "height_range", (1.0, 0.5)),
        ("reach", "interval_steps", (60, 119)),
        ("reach", "interval_steps", (100, 90)),
        ("reach", "tolerance", 0.0),
        ("long_jump", "run_up", 0.0),
        ("long_jump", "corridor", 0.0),
        ("path_following", "max_speed", -1.0),
        ("path_following", "height_range", (1.5, 0.7)),
        ("path_following", "sharp_turn_probability", 1.5),
        ("path_following", "tolerance", 0.0),
        ("strike", "near_distance", 0.4),
        ("strike", "far_distance", 0.4),
        ("strike", "near_probability", 2.0),
        ("strike", "target_speed", 0.0),
    ],
)
def test_a_parameter_out_of_range_is_named_with_its_value(name, parameter, value):
    with pytest.raises(ValueError, match=re.escape(f"parameter {parameter}={value!r}")):
        build_task(name, **{parameter: value})


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("direction", "speed_range", 1.0),
        ("direction", "speed_range", (1.0, 2.0, 3.0)),
        ("direction", "interval_steps", 150.5),
        ("direction", "tolerance", math.nan),
        ("strike", "target_speed", "fast"),
    ],
)
def test_a_parameter_of_another_kind_shows_the_default(name, parameter, value):
    default = getattr(TASKS[name], parameter)
    message = f"parameter {parameter} of task '{name}' must be of the kind of its default"
    with pytest.raises(ValueError, match=message) as error:
        build_task(name, **{parameter: value})
    assert repr(default) in str(error.value)
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("name", TASKS)
def test_the_paper_preset_is_an_allowed_set_of_parameters(name):
    paper = parameters_of(build_task(name, preset="paper"))
    default = parameters_of(build_task(name))
    changed = {key: value for key, value in paper.items() if value != default[key]}
    assert changed == PAPER.get(name, {})


def test_the_paper_preset_has_the_paper_s_numbers():
    assert build_task("direction", preset="paper") == Direction(speed_range=(1.2, 6.0))
    assert build_task("steering", preset="paper") == Steering(
        speed_range=(1.2, 6.0), facing_offset=math.pi
    )
    assert build_task("reach", preset="paper") == Reach(side=0.75, height_range=(0.05, 1.6))
    assert build_task("strike", preset="paper") == Strike()
    assert build_task("long_jump", preset="paper") == LongJump(run_up=20.0)
    assert build_task("path_following", preset="paper") == PathFollowing(
        max_speed=5.0, height_range=(0.7, 1.5)
    )


def test_parameters_go_before_the_preset():
    task = build_task("long_jump", preset="paper", run_up=3.0)
    assert task == LongJump(run_up=3.0)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ValueError, match=r"unknown preset 'papre'; did you mean 'paper'\? Known"):
        build_task("reach", preset="papre")


def test_a_list_is_as_good_as_a_tuple():
    assert build_task("direction", speed_range=[1.2, 6.0]) == Direction(speed_range=(1.2, 6.0))
