"""Success broken down by condition, and measured under perturbations."""

from __future__ import annotations

import argparse
import json
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

import tt_gym  # noqa: F401  registers the environments
from agents import perturb_option
from agents.actors import Choice, add_arguments, choose
from agents.evaluate import evaluate, main
from agents.statistics import Judged, breakdown, round_width, wilson_interval
from tt_gym.bfm.prompts import Text, Together
from tt_gym.checkpoint import CheckpointError
from tt_gym.command_line import quoted
from tt_gym.tasks import TASKS, build_task
from tt_gym.tokens import load, shipped_tokens

IDS = tuple(sorted(name for name in gymnasium.registry if name.startswith("TT")))
PROMPT: dict[str, Any] = {"control": "prompt"}
CONDITIONS = {
    "TTDirection-v0": {"asked_speed", "turn_deg"},
    "TTSteering-v0": {"asked_speed", "turn_deg", "facing_offset_deg"},
    "TTReach-v0": {"goal_height", "goal_bearing_deg"},
    "TTStrike-v0": {"box_distance"},
    "TTLongJump-v0": {"start_speed"},
    "TTPathFollowing-v0": {"path_speed"},
}


def make(env_id: str, **settings: Any) -> Any:
    return gymnasium.make_vec(env_id, **{"num_envs": 3, "early_termination": False, **settings})


# ---- conditions of goals ------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", IDS)
def test_every_task_says_how_hard_its_goals_are(env_id):
    env = make(env_id, num_envs=16)
    env.reset(seed=0)
    *_, info = env.step(np.zeros(env.action_space.shape, np.float32))
    names = {key.removeprefix("condition/") for key in info if key.startswith("condition/")}
    assert names == CONDITIONS[env_id]
    for name in names:
        value = info[f"condition/{name}"]
        assert value.shape == (16,)
        assert value.std() > 0.0


def test_conditions_are_those_of_the_beginning_of_the_goal():
    env = make("TTStrike-v0")
    env.reset(seed=0)
    state = env.simulator.state
    distance = (state.object_pos[:, 0, :2] - state.pos[:, 0, :2]).norm(dim=-1).numpy()
    assert distance.min() >= build_task("strike").min_distance - 1e-5
    for _ in range(5):
        *_, info = env.step(np.zeros(env.action_space.shape, np.float32))
        assert np.array_equal(info["condition/box_distance"], distance)


def test_the_step_that_ends_a_goal_tells_of_that_goal():
    env = make("TTDirection-v0", interval_steps=3, grace_steps=1)
    env.reset(seed=0)
    first = env.goal["speed"].numpy().copy()
    over = []
    for _ in range(4):
        *_, info = env.step(np.zeros(env.action_space.shape, np.float32))
        over.append(info["goal_over"].all())
        if len(over) <= 3:
            assert np.array_equal(info["condition/asked_speed"], first)
    assert over == [False, False, True, False]
    assert np.array_equal(info["condition/asked_speed"], env.goal["speed"].numpy())


def test_the_turn_is_the_angle_from_where_the_root_faces():
    env = make("TTDirection-v0")
    env.reset(seed=0)
    state = env.simulator.state
    ahead = {"angle": torch.zeros(3), "speed": torch.ones(3)}
    facing = env.task.condition(state, ahead)["turn_deg"]
    assert (facing < 30.0).all()  # starts face about +x
    behind = {**ahead, "angle": torch.full((3,), torch.pi)}
    torch.testing.assert_close(env.task.condition(state, behind)["turn_deg"], 180.0 - facing)


def test_perturbations_drawn_from_a_range_are_conditions_too():
    env = make("TTDirection-v0", perturbations={"friction": (0.4, 1.0), "gravity": 1.2})
    env.reset(seed=0)
    *_, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert np.array_equal(info["condition/friction"], env.perturber.values["friction"].numpy())
    assert "condition/gravity" not in info


def test_states_saved_without_conditions_can_be_continued():
    env = make("TTDirection-v0")
    env.reset(seed=0)
    saved = env.get_state()
    del saved["conditions"]
    env.set_state(saved)
    *_, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert not any(key.startswith("condition/") for key in info)


def test_all_tasks_are_covered():
    assert len(CONDITIONS) == len(IDS) == len(TASKS)


# ---- numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "width"), [(1.5, 0.2), (180.0, 25.0), (9.5, 2.0), (8.0, 1.0), (0.3, 0.05), (0.0, 1.0)]
)
def test_bins_have_round_widths(span, width):
    assert round_width(span) == pytest.approx(width)


def test_a_breakdown_counts_every_goal_in_one_bin():
    values = (0.0, 0.3, 1.0, 1.9, 8.0, 8.0)
    goals = [Judged({"x": value}, value > 1.5) for value in values]
    rows = breakdown(goals)["x"]
    edges = [(row["low"], row["high"], row["n"], row["success_rate"]) for row in rows]
    assert edges == [(0.0, 1.0, 2, 0.0), (1.0, 2.0, 2, 0.5), (7.0, 8.0, 2, 1.0)]
    assert rows[1]["ci95"] == list(wilson_interval(1, 2))


def test_a_condition_that_never_differs_has_one_bin():
    rows = breakdown([Judged({"x": 0.0}, True), Judged({"x": 0.0}, False)])["x"]
    assert [(row["low"], row["high"], row["n"]) for row in rows] == [(0.0, 1.0, 2)]
    assert breakdown([]) == {}


def test_every_goal_of_an_evaluation_is_judged_once():
    result = evaluate(
        "TTDirection-v0",
        None,
        episodes=5,
        num_envs=2,
        seed=0,
        max_episode_steps=12,
        interval_steps=4,
        grace_steps=1,
        early_termination=False,
        tolerance=0.5,
        **PROMPT,
    )
    assert result["n"] == 5 * 3
    for rows in result["conditions"].values():
        assert sum(row["n"] for row in rows) == result["n"]
        reached = sum(row["n"] * row["success_rate"] for row in rows)
        assert reached == pytest.approx(result["success_rate"] * result["n"])


# ---- options ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "settings"),
    [
        ([], [{}]),
        (["friction=0.4,gravity=1.5"], [{"friction": 0.4, "gravity": 1.5}]),
        (["friction=0.4", "friction=1"], [{"friction": 0.4}, {"friction": 1}]),
        (["latency_steps=0:2:3"], [{"latency_steps": value} for value in (0, 1, 2)]),
        (
            ["gravity=2,friction=0.2:1.0:3"],
            [{"friction": value, "gravity": 2} for value in (0.2, 0.6, 1)],
        ),
    ],
)
def test_perturb_options_are_settings(texts, settings):
    assert perturb_option.parse(texts) == settings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("friction", "takes NAME=VALUE or NAME=LOW:HIGH:COUNT, each name once, got 'friction'"),
        ("friction=0.4,friction=0.5", "each name once"),
        ("friction=low", "with COUNT from 2 to 1000, got 'friction=low'"),
        ("friction=0.1:0.5", "with COUNT from 2"),
        ("friction=0.1:0.5:1", "with COUNT from 2"),
        ("friction=0.1:1:inf", "with COUNT from 2"),
        ("friction=0.1:1:1e12", "with COUNT from 2"),
        ("friction=0:1:3,gravity=1:2:3", "one span at a time"),
        ("fricton=0.4", "unknown perturbation 'fricton'; did you mean 'friction'"),
        ("friction=-1", "friction must be a number from 0 to 10"),
        ("latency_steps=0:3:3", "latency_steps must be a whole number"),
    ],
)
def test_wrong_perturb_options_say_what_is_right(text, message):
    with pytest.raises(SystemExit, match=message):
        main(["--env", IDS[0], "--perturb", text])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "curve.gif"], r"--plot must end in \.png, \.pdf, \.svg, got 'curve.gif'"),
        (
            ["--plot", "c.png", "--perturb", "friction=1", "--perturb", "gravity=2"],
            "here differ: friction, gravity",
        ),
    ],
)
def test_plots_that_cannot_be_drawn_are_refused_first(options, message):
    with pytest.raises(SystemExit, match=message):
        main(["--env", IDS[0], *options])


# ---- the command --------------------------------------------------------------------------------

COMMON = ["--env", "TTDirection-v0", "--token", "none", "--prompt", "heading_speed"]
SHORT = [*COMMON, "--episodes", "4", "--env-kwargs", "max_episode_steps:70"]


def test_one_evaluation_gives_conditions_in_table_file_and_picture(tmp_path, capsys):
    files = {kind: tmp_path / "new" / f"result.{kind}" for kind in ("json", "png")}
    perturb = ["--perturb", "friction=0.4,gravity=1.5"]
    main([*SHORT, *perturb, "--json", str(files["json"]), "--plot", str(files["png"])])
    result = json.loads(files["json"].read_text())
    assert result["env_kwargs"]["perturbations"] == {"friction": 0.4, "gravity": 1.5}
    assert result["conditions"].keys() == CONDITIONS["TTDirection-v0"]
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    printed = capsys.readouterr().out
    assert "asked_speed" in printed
    assert "friction=0.4, gravity=1.5" in " ".join(printed.split())


def test_words_go_beside_the_prompt_and_into_the_file(tmp_path, capsys, other_bfm):
    short = [*SHORT, "--bfm", other_bfm]
    path = tmp_path / "told.json"
    main([*short, "--text", "a person sneaks", "--json", str(path)])
    told = json.loads(path.read_text())
    both = Together(("heading_speed", Text("a person sneaks")))
    assert told["env_kwargs"]["prompt"] == repr(both)
    assert "--text 'a person sneaks'" in told["command"]
    assert "told 'a person sneaks'" in " ".join(capsys.readouterr().out.split())
    main([*short, "--json", str(path)])
    assert told["reward_per_step"] != json.loads(path.read_text())["reward_per_step"]


def choice_of(*options: str) -> Choice:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return choose(parser.parse_args(["--env", "TTDirection-v0", *options]))


LEAST = {
    "direction": 0.9,
    "long_jump": 0.85,
    "path_following": 0.85,
    "reach": 0.88,
    "steering": 0.9,
    "strike": 0.9,
    "strike_alone": 0.8,
}


@pytest.mark.parametrize("name", shipped_tokens())
def test_a_shipped_token_does_its_task(name):
    env_id = load(name).metadata.env_id
    choice = choice_of("--env", env_id, "--token", name)
    found = evaluate(env_id, choice.actor, episodes=64, num_envs=64, seed=1, **choice.env_kwargs)
    assert found["success_rate"] > LEAST[name]


def test_single_settings_win_over_what_a_token_was_trained_with(other_bfm):
    alone = ["--token", "none", "--env-kwargs", "prompt:'joint_conditioning'"]
    assert choice_of(*alone).label == "no token, prompt joint_conditioning"
    shipped = ["--token", "direction"]
    told = choice_of(*shipped, "--env-kwargs", "prompt:'joint_conditioning'", "tolerance:0.3")
    assert told.env_kwargs["prompt"] == "joint_conditioning"
    assert told.env_kwargs["tolerance"] == 0.3
    assert "prompt" not in choice_of(*shipped, "--env-kwargs", "prompt:None").env_kwargs
    assert choice_of(*shipped).env_kwargs["prompt"] == "heading_speed"
    with pytest.raises(CheckpointError, match="made for the frozen model"):
        choice_of(*shipped, "--env-kwargs", f"bfm:'{other_bfm}'")
    with pytest.raises(ValueError, match="--token goes with neither"):
        choice_of(*shipped, "--env-kwargs", "control:'prompt'")


def test_a_task_without_a_shipped_token_asks_for_one():
    spec = gymnasium.spec("TTStrike-v0")
    gymnasium.register("TTMine-v0", entry_point=spec.entry_point, kwargs={"task": "mine"})
    try:
        with pytest.raises(ValueError, match="no token is shipped for TTMine-v0: give --token"):
            choice_of("--env", "TTMine-v0")
    finally:
        del gymnasium.registry["TTMine-v0"]


@pytest.mark.parametrize(
    ("setting", "read"),
    [
        ("prompt:heading_speed", "prompt:'heading_speed'"),
        ("prompt:'heading_speed'", "prompt:'heading_speed'"),
        ("bfm:runs/last.ckpt", "bfm:'runs/last.ckpt'"),
        ("prompt:None", "prompt:None"),
        ("speed_range:(1.0, 2.0)", "speed_range:(1.0, 2.0)"),
        ("perturbations:dict(gravity=1.5)", "perturbations:dict(gravity=1.5)"),
    ],
)
def test_plain_words_in_settings_need_no_quotes(setting, read):
    assert quoted(setting) == read


def test_a_setting_without_a_value_ends_in_one_line(capsys):
    with pytest.raises(SystemExit):
        main([*SHORT[:-1], "max_episode_steps"])
    assert "--env-kwargs takes KEY:VALUE, got 'max_episode_steps'" in capsys.readouterr().err


def test_a_folder_is_no_file_for_results(tmp_path):
    with pytest.raises(SystemExit, match="--json must name a file, got the folder"):
        main([*SHORT, "--json", str(tmp_path)])


def test_several_values_give_a_row_each_and_a_curve(tmp_path, capsys):
    files = {kind: tmp_path / f"curve.{kind}" for kind in ("json", "png")}
    sweep = ["--perturb", "gravity=1:3:3"]
    main([*SHORT, *sweep, "--json", str(files["json"]), "--plot", str(files["png"])])
    content = json.loads(files["json"].read_text())
    assert [row["perturbations"] for row in content["sweep"]] == [
        {"gravity": value} for value in (1, 2, 3)
    ]
    assert content["seed"] == 0
    assert all(row["n"] == 4 for row in content["sweep"])
    usual = evaluate(
        "TTDirection-v0",
        None,
        episodes=4,
        seed=0,
        max_episode_steps=70,
        early_termination=False,
        prompt="heading_speed",
        **PROMPT,
    )
    for key in ("success_rate", "reward_per_step", "metrics", "conditions"):
        assert content["sweep"][0][key] == usual[key]
    rewards = [row["reward_per_step"] for row in content["sweep"]]
    assert rewards[2] < 0.8 * rewards[0]  # three times the weight
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert "gravity=3" in capsys.readouterr().out
