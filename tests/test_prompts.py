import math

import gymnasium
import numpy as np
import pytest
import torch

import tt_gym  # noqa: F401
from tt_gym.bfm.prompts import (
    HeadingSpeed,
    JointGoal,
    Moment,
    Rule,
    Schedule,
    TaskPrompt,
    Text,
    Together,
    after,
    near_object,
)

NUM_ENVS = 6
DIRECTION, STEERING, STRIKE = "TTDirection-v0", "TTSteering-v0", "TTStrike-v0"


def make(bfm, prompt=None, env_id=DIRECTION, num_envs=NUM_ENVS, **settings):
    settings = {"control": "prompt", **settings}
    return gymnasium.make_vec(env_id, num_envs=num_envs, bfm=bfm, prompt=prompt, **settings)


def run(env, steps, seed=0):
    env.reset(seed=seed)
    idle = np.zeros(env.action_space.shape, np.float32)
    for _ in range(steps):
        env.step(idle)
    return env.simulator.state


def moment_of(env):
    return Moment(env.simulator.state, env.steps, env.humanoid, env._task_prompt)


@pytest.fixture
def env(bfm):
    env = make(bfm)
    env.reset(seed=0)
    return env


def test_a_heading_and_speed_equal_the_tasks_own_prompt(bfm):
    # asked to stand, the task's own keeps the heading
    walking = {"stop_probability": 0.0, "prompt_pace": 1.0}
    env = make(bfm, env_id=STEERING, **walking)
    env.reset(seed=0)
    goal = env.goal
    same = HeadingSpeed(heading=goal["facing"], speed=goal["speed"], direction=goal["angle"])
    ours, tasks = (prompt.targets(moment_of(env)) for prompt in (same, TaskPrompt("heading_speed")))
    torch.testing.assert_close(ours.velocity, tasks.velocity)
    torch.testing.assert_close(ours.heading.cos(), tasks.heading.cos())
    torch.testing.assert_close(ours.heading.sin(), tasks.heading.sin())
    a, b = (make(bfm, prompt, env_id=STEERING, **walking) for prompt in ("heading_speed", same))
    torch.testing.assert_close(run(a, 5).pos, run(b, 5).pos, atol=1e-4, rtol=0)


def test_rows_differ_by_environment(bfm):
    speeds = torch.tensor([0.0, 1.5]).repeat(NUM_ENVS // 2)
    state = run(make(bfm, HeadingSpeed(heading=0.0, speed=speeds), early_termination=False), 90)
    travel = state.pos[:, 0, 0]
    assert float(travel[1::2].mean()) > float(travel[::2].mean()) + 0.5


def test_a_direction_other_than_the_heading_turns_the_velocity(env):
    targets = HeadingSpeed(heading=0.0, speed=2.0, direction=math.pi / 2).targets(moment_of(env))
    torch.testing.assert_close(
        targets.velocity, torch.tensor([0.0, 2.0]).expand_as(targets.velocity), atol=1e-6, rtol=0
    )
    assert float(targets.heading.abs().max()) == 0.0


def test_a_joint_goal_shows_that_body_alone(env):
    targets = JointGoal("right_wrist", pos=(0.4, -0.2, 1.1)).targets(moment_of(env))
    body = env.humanoid.body_names.index("right_wrist")
    assert targets.pos_visible[:, :, body].all()
    assert int(targets.pos_visible.sum()) == NUM_ENVS * targets.time_s.shape[1]
    torch.testing.assert_close(targets.pos[2, 0, body], torch.tensor([0.4, -0.2, 1.1]))
    hidden = (targets.rot_visible, targets.heading_visible, targets.velocity_visible)
    assert not any(bool(item.any()) for item in hidden)


def test_a_dated_goal_is_hidden_counted_down_and_held(env):
    prompt = JointGoal("head" if "head" in env.humanoid.body_names else "neck", (0, 0, 1), at_s=2.0)
    seen = {}
    for steps in (0, 29, 30, 45, 59, 60, 90):
        env.steps = torch.full((NUM_ENVS,), steps)
        targets = prompt.targets(moment_of(env))
        shown = targets.pos_visible.any(dim=-1)[0]
        seen[steps] = [round(float(time), 3) for time in targets.time_s[0][shown]]
    assert seen[0] == seen[29] == []
    assert seen[30] == [1.0]
    assert seen[45] == [0.5]
    assert seen[59] == [0.033]
    assert len(seen[60]) == 2
    assert seen[60] == seen[90]


def test_together_shows_the_tokens_of_all(env):
    parts = ("heading_speed", JointGoal("right_wrist", pos=(0.4, -0.2, 1.1)))
    targets = Together(parts).targets(moment_of(env))
    assert targets.time_s.shape[1] == 4
    assert targets.velocity_visible.any(dim=0).tolist() == [True, True, False, False]
    assert targets.pos_visible.any(dim=2).any(dim=0).tolist() == [False, False, True, True]


def test_a_hidden_prompt_changes_nothing(bfm):
    late = Schedule({"wait": None, "go": "heading_speed"}, [Rule("wait", "go", after(1.0))])
    with_prompt, without = make(bfm, late), make(bfm)
    torch.testing.assert_close(run(with_prompt, 20).pos, run(without, 20).pos, atol=1e-4, rtol=0)


def test_a_schedule_moves_on_by_environment_and_begins_again_with_each_episode(bfm):
    plan = Schedule(
        {"approach": "heading_speed", "stop": HeadingSpeed(heading=0.0, speed=0.0)},
        [Rule("approach", "stop", near_object(1.0))],
    )
    env = make(bfm, plan, env_id=STRIKE, num_envs=16, max_episode_steps=40)
    env.reset(seed=1)
    idle = np.zeros(env.action_space.shape, np.float32)
    env.step(idle)
    own = env.own_prompt
    distance = (env.simulator.state.object_pos[:, 0] - env.simulator.state.pos[:, 0])[:, :2]
    assert "approach" in own.state_names()
    env.simulator.state.object_pos[0, 0, :2] = env.simulator.state.pos[0, 0, :2]
    env.step(idle)
    assert own.state_names()[0] == "stop"
    far = (distance.norm(dim=-1) > 2.0).nonzero().flatten()
    assert all(own.state_names()[index] == "approach" for index in far.tolist())
    assert len(plan.current) == 0  # the environment works on a copy
    for _ in range(42):
        env.step(idle)
    assert bool((env.steps < 10).any())
    restarted = (env.steps < 3).nonzero().flatten().tolist()
    near = near_object(1.0)(moment_of(env))
    assert all(own.state_names()[index] == "approach" for index in restarted if not near[index])


def test_a_prompt_can_change_while_running(bfm):
    env = make(bfm, HeadingSpeed(0.0, 0.0))
    run(env, 5)
    env.set_prompt(None)
    assert env.prompt is None
    env.set_prompt(HeadingSpeed(0.0, 1.0))
    env.step(np.zeros(env.action_space.shape, np.float32))
    single = gymnasium.make(DIRECTION, bfm=bfm, prompt=HeadingSpeed(0.0, 1.0))
    single.reset(seed=0)
    single.unwrapped.set_prompt("heading_speed")
    single.step(single.action_space.sample())


def test_joint_control_has_room_for_the_prompt_it_was_made_with(bfm):
    env = make(bfm, HeadingSpeed(0.0, 1.0), control="joint")
    seen, _ = env.reset(seed=0)
    assert seen["model_targets"][:, :, -1].sum() == 2 * NUM_ENVS
    with pytest.raises(ValueError, match="room for 5 targets tokens, the prompt shows 6"):
        make(bfm, Together((HeadingSpeed(0.0, 1.0),) * 3), control="joint").reset(seed=0)
    without = make(bfm, control="joint")
    with pytest.raises(ValueError, match="made without a prompt"):
        without.set_prompt("heading_speed")


def test_joint_control_takes_back_a_prompt_that_was_taken_away(bfm):
    env = make(bfm, "heading_speed", control="joint")
    shown = env.reset(seed=0)[0]["model_targets"]
    env.set_prompt(None)
    assert not env.reset(seed=0)[0]["model_targets"].any()
    env.set_prompt("heading_speed")
    assert np.array_equal(env.reset(seed=0)[0]["model_targets"], shown)


def test_joint_control_has_room_for_what_a_schedule_shows_at_a_time(bfm):
    states = {str(angle): HeadingSpeed(float(angle), 1.0) for angle in range(3)}
    plan = Schedule(states, [Rule("0", "2", after(0.1))])
    env, alone = make(bfm, plan, control="joint"), make(bfm, states["2"], control="joint")
    seen = [other.reset(seed=0)[0]["model_targets"] for other in (env, alone)]
    assert not np.array_equal(*seen)
    idle = np.zeros(env.action_space.shape, np.float32)
    for _ in range(4):
        seen = [other.step(idle)[0]["model_targets"] for other in (env, alone)]
    assert np.array_equal(*([row[row[..., -1] > 0.5] for row in tokens] for tokens in seen))


def test_a_schedule_goes_one_rule_a_step_whoever_else_restarts(bfm):
    chain = {"a": None, "b": "heading_speed", "c": "heading_speed"}
    plan = Schedule(chain, [Rule("a", "b", after(0.1)), Rule("b", "c", after(0.1))])
    env = make(bfm, plan, control="joint", max_episode_steps=4)
    env.reset(seed=0)
    idle = np.zeros(env.action_space.shape, np.float32)
    env.step(idle)
    env.reset(options={"reset_mask": np.arange(NUM_ENVS) < 2})
    for _ in range(2):
        env.step(idle)
    assert env.own_prompt.state_names() == ["a"] * 2 + ["b"] * (NUM_ENVS - 2)
    *_, truncated, _ = env.step(idle)  # the others restart
    assert truncated.tolist() == [False] * 2 + [True] * (NUM_ENVS - 2)
    assert env.own_prompt.state_names() == ["b"] * 2 + ["a"] * (NUM_ENVS - 2)


def test_a_rotation_counts_whatever_its_length(env):
    long, short = (
        JointGoal("neck", rot=(0, 0, size, 0)).targets(moment_of(env)).rot for size in (7.0, 0.1)
    )
    assert torch.equal(long, short)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Together(HeadingSpeed(0.0, 1.0)), "Together needs a tuple of prompts"),
        (lambda: Together(()), "Together needs a tuple of prompts"),
        (lambda: Together((None,)), "prompt must be a name, a prompt or None, got None"),
        (lambda: Schedule({"a": 5}, []), "prompt must be a name, a prompt or None, got 5"),
        (lambda: Schedule({"a": None}, [Rule("a", "a", 1.0)]), "when of a Rule must be a func"),
    ],
)
def test_what_is_no_prompt_is_refused_where_it_is_given(build, message):
    with pytest.raises(TypeError, match=message):
        build()


def test_words_may_be_an_array_of_their_embedding(env):
    rows = np.ones(384)
    assert torch.equal(Text(rows).embedding(), torch.ones(384))
    with pytest.raises(ValueError, match="Text needs words or an array of their embedding, got 5"):
        Text(5)


def test_nothing_is_near_where_there_is_no_object(env):
    with pytest.raises(ValueError, match="near_object needs a task with an object"):
        near_object(1.0)(moment_of(env))


class Misspelt:
    """A prompt of somebody's own that asks the task for one it does not have."""

    def targets(self, moment):
        return moment.of_task("heading_sped", moment.state)


def test_a_prompt_of_one_s_own_cannot_ask_for_one_that_the_task_does_not_have(bfm):
    env = make(bfm, Misspelt())
    env.reset(seed=0)
    with pytest.raises(ValueError, match="unknown prompt 'heading_sped' for task Direction"):
        env.step(np.zeros(env.action_space.shape, np.float32))


def test_a_schedule_survives_a_checkpoint(bfm):
    plan = Schedule({"a": None, "b": "heading_speed"}, [Rule("a", "b", after(0.2))])
    first, second = make(bfm, plan), make(bfm, plan)
    run(first, 10)
    second.reset(seed=5)
    second.set_state(first.get_state())
    assert second.own_prompt.state_names() == ["b"] * NUM_ENVS
    idle = np.zeros(first.action_space.shape, np.float32)
    for _ in range(3):
        ours, theirs = first.step(idle)[0], second.step(idle)[0]
    assert np.array_equal(ours["state"], theirs["state"])


@pytest.mark.parametrize(
    ("prompt", "error", "message"),
    [
        (3.0, TypeError, "prompt must be a name, a prompt or None, got 3.0"),
        (Together(("walk",)), ValueError, "unknown prompt 'walk' for task Direction; known"),
    ],
)
def test_wrong_prompts_are_refused_at_once(bfm, prompt, error, message):
    with pytest.raises(error, match=message):
        make(bfm, prompt)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        (
            HeadingSpeed(heading=torch.zeros(2), speed=1.0),
            r"heading must have shape \(\) or \(6,\)",
        ),
        (HeadingSpeed(heading="north", speed=1.0), "heading must be numbers, got 'north'"),
        (HeadingSpeed(heading=math.nan, speed=1.0), "heading must be finite, got nan"),
        (JointGoal("right_hand", pos=(0, 0, 1)), "unknown body 'right_hand'; known: root, chest"),
        (JointGoal("neck", rot=(0, 0, 0, 0)), r"rot must be quaternions, which are not zero"),
        (JointGoal("neck", pos=(0, 1)), r"pos must have shape \(3,\) or \(6, 3\), got \(2,\)"),
    ],
)
def test_wrong_values_are_named(env, prompt, message):
    with pytest.raises(ValueError, match=message):
        prompt.targets(moment_of(env))


def test_a_joint_goal_and_a_schedule_need_something_to_say():
    with pytest.raises(ValueError, match="give pos, rot or both"):
        JointGoal("neck")
    with pytest.raises(ValueError, match="needs at least one state"):
        Schedule({}, [])
    with pytest.raises(ValueError, match="unknown state 'kick'; known: walk"):
        Schedule({"walk": None}, [Rule("walk", "kick", after(1.0))])
