"""The worked example of docs/new_task.md does what the document says."""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from test_agents import TINY

from agents import enjoy
from agents.evaluate import main
from agents.train import train
from tt_gym.tasks import TASKS, Task

DOCS = Path(__file__).parent.parent / "docs"
NAME, ENV_ID = "turn_on_the_spot", "TTTurn-v0"
FILE = DOCS / "examples" / f"{NAME}.py"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, imported anew and forgotten after the test."""
    monkeypatch.syspath_prepend(FILE.parent)
    for known, name in ((sys.modules, NAME), (gymnasium.registry, ENV_ID), (TASKS, "turn")):
        monkeypatch.setitem(known, name, None)  # to be taken out again after the test
        del known[name]
    return importlib.import_module(NAME)


def test_the_document_shows_the_file():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "new_task.md").read_text(), re.DOTALL)
    assert blocks == [FILE.read_text()]
    assert len(FILE.read_text().splitlines()) < 60


def test_both_checkers_accept_the_task(example, bfm):
    env = gymnasium.make(ENV_ID, bfm=bfm)
    gymnasium_check_env(env.unwrapped, skip_render_check=True)
    sb3_check_env(env, skip_render_check=True)


def test_there_is_one_goal_per_episode_unless_the_task_says_otherwise(example, bfm):
    settings = {"bfm": bfm, "max_episode_steps": 70, "early_termination": False}
    env: Any = gymnasium.make_vec(ENV_ID, num_envs=4, **settings)
    env.reset(seed=0)
    facing = env.goal["facing"].clone()
    actions = np.zeros(env.action_space.shape, np.float32)
    for _ in range(69):
        assert not env.step(actions)[-1]["goal_over"].any()
    assert torch.equal(env.goal["facing"], facing)
    assert env.step(actions)[-1]["final_info"]["goals"].tolist() == [1, 1, 1, 1]


def test_an_episode_ends_with_a_fall_unless_the_task_says_otherwise(example, bfm):
    env = gymnasium.make_vec(ENV_ID, num_envs=8, bfm=bfm, max_episode_steps=None)
    env.reset(seed=0)
    env.action_space.seed(0)
    ends = 0
    for _ in range(90):
        _, _, terminated, _, info = env.step(env.action_space.sample())
        fallen = info["final_info"]["fallen"] if terminated.any() else info["fallen"]
        assert (terminated == fallen).all()
        ends += terminated.sum()
    assert ends > 0


def test_a_prompt_is_unknown_unless_the_task_has_one(example, bfm):
    with pytest.raises(ValueError, match="unknown prompt 'hop' for task Turn; known: none"):
        gymnasium.make_vec(ENV_ID, num_envs=1, bfm=bfm, prompt="hop")


def test_a_task_without_an_observation_cannot_be_made():
    class Unfinished(Task):
        observation_size = 1

    with pytest.raises(TypeError, match=r"abstract.*observe"):
        Unfinished()  # type: ignore[abstract]


def test_the_task_is_trained_evaluated_and_filmed_by_its_id(example, tmp_path, bfm):
    named = ("--env", ENV_ID, "--gym-packages", NAME)
    settings = ("--env-kwargs", f"bfm:{bfm!r}", "largest_turn:1.0")
    run_dir = train([*named, *settings, *TINY, "--log-folder", str(tmp_path), "-n", "128"])
    assert train(["--resume", str(run_dir), "-n", "192"]) == run_dir
    token = ("--token", str(run_dir / "token.safetensors"), "--bfm", bfm)
    result = tmp_path / "result.json"
    main([*named, *token, "--episodes", "2", "--json", str(result)])
    numbers = json.loads(result.read_text())
    assert numbers["n"] == numbers["episodes"] == 2
    assert list(numbers["conditions"]) == ["turn_deg"]
    assert numbers["env_kwargs"]["largest_turn"] == 1.0
    short = ("--env-kwargs", "max_episode_steps:4")
    enjoy.main([*named, *token, *short, "--output", str(tmp_path / "film.mp4")])
    assert list(tmp_path.glob("film.*"))
