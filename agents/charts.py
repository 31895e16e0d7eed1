"""Tables and plots of evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

_PERCENT = (-3, 103)  # so that marks at the ends are whole

Result = dict[str, Any]
"""What :func:`agents.evaluate.evaluate` returns."""


def results_table(results: dict[str, Result], title: str) -> Table:
    """One row per result, keyed by a label; reward is the mean per step."""
    table = Table(title=title, box=box.SIMPLE, pad_edge=False)
    for column in ("", "success", "95 %", "goals", "ended early", "reward", "steps"):
        table.add_column(column, justify="right" if column else "left", no_wrap=bool(column))
    for label, result in results.items():
        table.add_row(
            label,
            *_rate_cells(result),
            f"{100 * result['terminated_rate']:.1f} %",
            f"{result['reward_per_step']:.3f}",
            f"{result['episode_length']:.0f}",
        )
    return table


def conditions_table(result: Result) -> Table:
    """One row per condition and bin."""
    table = Table(title="by condition of the goal", box=box.SIMPLE, pad_edge=False)
    for column in ("", "from", "to", "success", "95 %", "goals"):
        table.add_column(column, justify="right" if column else "left")
    for name, bins in result["conditions"].items():
        for index, row in enumerate(bins):
            edges = (f"{row['low']:g}", f"{row['high']:g}")
            last = index == len(bins) - 1
            table.add_row("" if index else name, *edges, *_rate_cells(row), end_section=last)
    return table


def _rate_cells(row: dict[str, Any]) -> Iterator[str]:
    rate, (low, high) = row["success_rate"], row["ci95"]
    yield "-" if rate is None else f"{100 * rate:.1f} %"
    yield f"{100 * low:.1f} - {100 * high:.1f}"
    yield str(row["n"])


def plot_conditions(result: Result, path: Path, *, title: str) -> None:
    """Success with its 95 % interval by condition, a picture each, the total as a line."""
    conditions = result["conditions"]
    figure = Figure(figsize=(1.0 + 4.0 * max(len(conditions), 1), 3.5), layout="constrained")
    figure.suptitle(title)
    pictures = figure.subplots(1, max(len(conditions), 1), sharey=True, squeeze=False)[0]
    for axes, (name, bins) in zip(pictures, conditions.items(), strict=False):
        centres = [0.5 * (row["low"] + row["high"]) for row in bins]
        axes.hlines(
            [100 * row["success_rate"] for row in bins],
            [row["low"] for row in bins],
            [row["high"] for row in bins],
        )
        _draw_rates(axes, centres, bins, style="o")
        axes.set_xlabel(name)
    for axes in pictures:
        if result["success_rate"] is not None:
            axes.axhline(100 * result["success_rate"], color="tab:gray", linestyle=":")
        axes.set_ylim(*_PERCENT)
    pictures[0].set_ylabel("success, %")
    _save(figure, path)


def plot_curve(
    name: str, values: Sequence[float], results: Sequence[Result], path: Path, *, title: str
) -> None:
    """Success with its 95 % interval against the value of a perturbation."""
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    order = sorted(range(len(values)), key=lambda index: values[index])
    rows = [results[index] for index in order if results[index]["success_rate"] is not None]
    known = [values[index] for index in order if results[index]["success_rate"] is not None]
    _draw_rates(axes, known, rows, style="o-")
    axes.set(xlabel=name, ylabel="success, %", ylim=_PERCENT, title=title)
    _save(figure, path)


def _draw_rates(axes: Any, x: list[float], rows: Sequence[dict[str, Any]], *, style: str) -> None:
    rates = [100 * row["success_rate"] for row in rows]
    below = [rate - 100 * row["ci95"][0] for rate, row in zip(rates, rows, strict=True)]
    above = [100 * row["ci95"][1] - rate for rate, row in zip(rates, rows, strict=True)]
    # the interval of a rate of 0 or 1 ends there, but for rounding
    errors = [[max(error, 0.0) for error in side] for side in (below, above)]
    axes.errorbar(x, rates, yerr=errors, fmt=style, capsize=3)
    axes.grid(alpha=0.3)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
