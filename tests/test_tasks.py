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
from tt_gym.envs.start_states import sample_start_states
from tt_gym.humanoids import DEEPMIMIC
from tt_gym.simulation import CONTROL_DT, BodyState, MujocoCpu
from tt_gym.tasks import TASKS, Direction, Goal, Strike, Transition, build_task
from tt_gym.tasks.direction import PAPER_SPEED_RANGE, relative_speed_error
from tt_gym.tasks.strike import BOX
from tt_gym.tasks.task import fallen

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


def test_a_direction_goal_lasts_199_steps():
    over = [
        Direction().goal_is_over(asked(start=199), torch.tensor([s])).item() for s in (397, 398)
    ]
    assert over == [False, True]


def test_the_first_goal_starts_with_the_episode_near_the_own_heading():
    angle = torch.linspace(-3.0, 3.0, 500)
    goal = Direction(jump_probability=0.0).sample_goal(facing(angle), None, generator())
    assert rotations.wrap_angle(goal["angle"] - angle).abs().max() <= 1.57
    assert goal["speed"][goal["speed"] > 0].min() >= 0.8
    assert goal["speed"].max() <= 1.3
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
    assert left == len(measured - {0})


def test_the_heading_speed_prompt_asks_for_the_goal():
    goal = asked(angle=0.5, speed=1.1)
    targets = Direction().build_prompt("heading_speed", still(), goal)
    torch.testing.assert_close(targets.heading, torch.full((1, 2), 0.5))
    torch.testing.assert_close(targets.velocity.norm(dim=-1), torch.full((1, 2), 1.1))
    assert not targets.pos_visible.any()
    assert targets.heading_visible.all()


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
    return Strike().terminated(Transition(state, state, torch.tensor([steps])), DEEPMIMIC).item()


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


# ---- rules of both ------------------------------------------------------------------------------


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
        measured, good = task.step_is_good(transition, goal)
        return {
            "observation": task.observe(transition.after, goal),
            **task.reward_terms(transition, goal),
            **task.metrics(transition, goal),
            "measured": measured,
            "good": good,
            "terminated": task.terminated(transition, DEEPMIMIC),
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
    task.terminated(transition, DEEPMIMIC)
    task.sample_goal(transition.after, goal or None, generator())
    assert all(map(torch.equal, before, contents()))


@pytest.mark.parametrize("name", TASKS)
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
        ValueError, match=r"task 'strick'; did you mean 'strike'\? Known: direction, strike"
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


def test_a_list_is_as_good_as_a_tuple():
    assert build_task("direction", speed_range=[1.2, 6.0]) == Direction(speed_range=(1.2, 6.0))
