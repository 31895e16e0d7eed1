"""What a batch of environments remembers, to be continued bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from tt_gym.bfm.pretrained_model import fingerprint
from tt_gym.bfm.prompts import schedules_in

if TYPE_CHECKING:
    from tt_gym.envs.vector_env import TaskTokenVectorEnv


def save(env: TaskTokenVectorEnv) -> dict[str, Any]:
    """Everything ``env`` remembers, as checkpoint content."""
    saved = {} if env.perturber is None else {"perturber": env.perturber.get_state()}
    return {
        **saved,
        "bfm": fingerprint(env.bfm),
        "physics": torch.from_numpy(env.simulator.get_state()),
        "inputs": env.inputs.get_state(),
        "start_generator": env.start_generator.get_state(),
        "goal_generator": env.goal_generator.get_state(),
        "steps": env.steps.clone(),
        "goal": {key: value.clone() for key, value in env.goal.items()},
        "conditions": {key: value.clone() for key, value in env.conditions.items()},
        "outcomes": env.outcomes.get_state(),
        "prompt": [schedule.current.clone() for schedule in schedules_in(env.own_prompt)],
    }


def restore(env: TaskTokenVectorEnv, saved: dict[str, Any]) -> None:
    """Inverse of :func:`save`.

    Raises:
        ValueError: it was saved with another ``num_envs``, task, frozen model or perturbations;
            nothing has changed then.
    """
    _check_fits(env, saved)
    if env.perturber is not None:
        env.perturber.set_state(saved["perturber"])
    env.simulator.set_state(saved["physics"].numpy())
    env.inputs.set_state(saved["inputs"])
    env.start_generator.set_state(saved["start_generator"])
    env.goal_generator.set_state(saved["goal_generator"])
    env.seeded = True
    env.steps = saved["steps"].clone()
    env.goal = {key: value.clone() for key, value in saved["goal"].items()}
    # states saved before there were conditions have none until the next goal
    env.conditions = {key: value.clone() for key, value in saved.get("conditions", {}).items()}
    env.outcomes.set_state(saved["outcomes"])
    # older files know of no schedules
    remembered = saved.get("prompt", ())
    for schedule, current in zip(schedules_in(env.own_prompt), remembered, strict=False):
        schedule.current = current.clone()


def _check_fits(env: TaskTokenVectorEnv, saved: dict[str, Any]) -> None:
    own, rows = set(env.goal), len(saved["steps"])
    bfm = fingerprint(env.bfm)
    if rows != env.num_envs:
        what = f"num_envs={rows}, this environment has {env.num_envs}"
    elif own and saved["goal"] and own != set(saved["goal"]):
        what = f"another task: its goals have {', '.join(sorted(saved['goal']))}"
    elif ("perturber" in saved) != (env.perturber is not None):
        what = f"perturbations {'on' if 'perturber' in saved else 'off'}"
    elif saved.get("bfm", bfm) != bfm:  # older files do not say
        what = f"the frozen model {saved['bfm']}, this environment has {bfm}"
    else:
        return
    raise ValueError(f"state does not fit: it was saved with {what}")
