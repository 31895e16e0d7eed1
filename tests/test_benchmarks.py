"""The benchmarks run and their figures make sense; how fast anything is nobody asserts."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


def run(script: str, output: Path, *options: str) -> dict[str, object]:
    """Figures that a benchmark writes."""
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(FOLDER / script), "--json", str(output), *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text())


def test_the_parts_of_an_iteration_sum_up_to_it(tmp_path, bfm):
    options = ("--num-envs", "4", "--iterations", "1", "--bfm", bfm)
    figures = run("ppo_iteration.py", tmp_path / "figures.json", *options)
    assert all(value > 0.0 for value in figures["ms"].values())
    assert sum(figures["ms"].values()) == pytest.approx(figures["iteration_ms"])
    assert sum(figures["share"].values()) == pytest.approx(1.0)
    assert figures["steps_per_iteration"] == 4 * 32


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_the_batch_is_compared_with_single_environments(tmp_path, bfm):
    few = ("--num-envs", "8", "--subproc-envs", "2", "--dummy-envs", "2")
    short = ("--rounds", "1", "--steps", "3", "--bfm", bfm)
    figures = run("throughput.py", tmp_path / "figures.json", *few, *short)
    for name in ("raw_physics", "subproc", "dummy"):
        ours, theirs = figures["token_env_steps_per_s"], figures[f"{name}_steps_per_s"]
        assert figures[f"token_env_over_{name}"] == pytest.approx(ours / theirs)


def test_leaving_hidden_tokens_out_is_timed_against_all_of_them(tmp_path):
    options = ("--batch", "2", "--rounds", "1", "--calls", "1")
    figures = run("hidden_tokens.py", tmp_path / "figures.json", *options)
    assert figures["whole_over_prompts_hidden"] == pytest.approx(
        figures["ms"]["whole, prompts hidden"] / figures["ms"]["prompts hidden"]
    )
    assert all(value > 0.0 for value in figures["ms"].values())


def test_pauses_between_a_kill_and_a_resume_are_no_training():
    curves = runpy.run_path(str(FOLDER / "curves.py"))
    minutes = curves["training_minutes"]([0.0, 30.0, 60.0, 7260.0, 7290.0])
    assert minutes.tolist() == [0.0, 0.5, 1.0, 1.0, 1.5]
