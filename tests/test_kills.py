"""A training that is killed again and again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tt_gym.checkpoint import load_checkpoint

ROLLOUT = 8 * 16  # environments times steps
INTERVAL = 2  # rollouts between checkpoints
STEPS = 160 * ROLLOUT
KILLS = 10
LONGEST_WAIT_S = 0.2  # after the first checkpoint of a process: some rollouts


def start(*options: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "agents.train", *options], env=environment)


def version(path: Path) -> int:
    """Changes when the file is replaced."""
    return path.stat().st_ino if path.exists() else 0


def wait_for_another(path: Path, before: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while version(path) == before:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.005)


def steps_saved(path: Path) -> int:
    return load_checkpoint(path, kind="ppo")["ppo"]["num_timesteps"]


def steps_made(run_dir: Path, since: float) -> int:
    """Last step that a process which began at ``since`` has reported."""
    events = EventAccumulator(str(run_dir / "tensorboard"), purge_orphaned_data=False)
    events.Reload()
    return max(item.step for item in events.Scalars("time/fps") if item.wall_time >= since)


@pytest.mark.slow
def test_ten_kills_lose_at_most_an_interval_each_and_no_step_in_the_end(tmp_path, bfm):
    draw = random.Random(0)
    run_dir = tmp_path / "ppo" / "TTDirection-v0_1"
    checkpoint = run_dir / "checkpoint.safetensors"
    options = [
        *("--env", "TTDirection-v0", "--env-kwargs", f"bfm:{bfm!r}", "-n", str(STEPS)),
        *("--log-folder", str(tmp_path), "--checkpoint-every", str(INTERVAL)),
        *("-params", "n_envs:8", "n_steps:16", "batch_size:128", "n_epochs:1"),
    ]
    saved = [0]
    for _ in range(KILLS):
        began, before = time.time(), version(checkpoint)
        process = start(*options)
        wait_for_another(checkpoint, before, process)
        time.sleep(draw.uniform(0.0, LONGEST_WAIT_S))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL  # it had not finished by itself
        saved.append(steps_saved(checkpoint))
        assert saved[-1] >= saved[-2] + INTERVAL * ROLLOUT
        assert steps_made(run_dir, began) - saved[-1] <= INTERVAL * ROLLOUT
        options = ["--resume", str(run_dir)]
    assert start(*options).wait() == 0
    assert steps_saved(checkpoint) == STEPS
    assert load_checkpoint(checkpoint, kind="ppo")["ppo"]["n_updates"] == STEPS // ROLLOUT
    assert (run_dir / "TTDirection-v0.zip").exists()
    assert not list(run_dir.glob("*.tmp*"))
