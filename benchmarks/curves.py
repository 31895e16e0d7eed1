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
_MUCH_LONGER = 8.0  # than the shortest run: the axis is logarithmic where the shortest has ended


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
    figure, axes = pyplot.subplots(
        len(TAGS), 2, figsize=(10, 3 * len(TAGS)), sharex="col", sharey="row", layout="constrained"
    )
    ends = []
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
            steps = [point.step / 1e6 for point in points]
            axes[row, 0].plot(steps, values, label=run.name, linewidth=1.0)
            axes[row, 1].plot(minutes, values, label=run.name, linewidth=1.0)
        ends.append((steps[-1], float(minutes[-1])))
    for column, lengths in enumerate(zip(*ends, strict=True)):
        if max(lengths) > _MUCH_LONGER * min(lengths):
            axes[0, column].set_xscale("symlog", linthresh=min(lengths))
            axes[0, column].set_xlim(left=0.0)
            axes[0, column].xaxis.set_major_formatter("{x:g}")
    for row, label in enumerate(TAGS.values()):
        axes[row, 0].set(ylabel=label)
    axes[-1, 0].set(xlabel="environment steps, millions")
    axes[-1, 1].set(xlabel="minutes of training")
    lines, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(lines, names, loc="outside lower center", ncols=3)
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
