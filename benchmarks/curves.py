"""Learning curves of runs of ``agents.train`` as one picture.

python benchmarks/curves.py runs/ppo/TTDirection-v0_1 runs/ppo/TTStrike-v0_1 --output curves.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TAGS = {
    "rollout/ep_rew_mean": "return of an episode",
    "rollout/success_rate": "episodes with every goal reached",
}


_PAUSE_S = 60.0


def training_minutes(times_s: list[float]) -> np.ndarray:
    """Minutes since the first of some moments, without pauses between a kill and a resume."""
    steps = np.diff(times_s)
    steps[steps > _PAUSE_S] = 0.0
    return np.concatenate(([0.0], np.cumsum(steps))) / 60.0


def plot(runs: list[Path], output: Path) -> None:
    """Draw each of :data:`TAGS` over environment steps and over the time spent in training.

    Raises:
        FileNotFoundError: a folder without TensorBoard events.
    """
    figure, axes = pyplot.subplots(len(TAGS), 2, figsize=(10, 3 * len(TAGS)), sharey="row")
    for run in runs:
        folder = run / "tensorboard"
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder; runs of agents.train have one")
        events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
        events.Reload()
        for row, tag in enumerate(TAGS):
            points = events.Scalars(tag)
            values = [point.value for point in points]
            minutes = training_minutes([point.wall_time for point in points])
            axes[row, 0].plot([point.step / 1e6 for point in points], values, label=run.name)
            axes[row, 1].plot(minutes, values, label=run.name)
    for row, label in enumerate(TAGS.values()):
        axes[row, 0].set(xlabel="environment steps, millions", ylabel=label)
        axes[row, 1].set(xlabel="minutes of training")
        axes[row, 0].legend()
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_DIR")
    parser.add_argument("--output", type=Path, default=Path("curves.png"))
    args = parser.parse_args()
    plot(args.runs, args.output)
    print(args.output)


if __name__ == "__main__":
    main()
