"""The report's figures as tables, for the terminal and for Markdown."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tt_gym.pretraining.shown import CRITERIA

ASKED_SPEED = 1.0
"""Of the figures of heading and of facing, m/s."""


def show(figures: dict) -> None:
    """Print the figures as tables."""
    console = Console()
    table = Table(
        "kind of clip", "tracker: success", "error mm", "all joints prompted: success", "error mm"
    )
    for name, (success, error) in figures["tracker_clips"].items():
        model_success, model_error = figures["full_prompt_clips"].get(name, (float("nan"),) * 2)
        row = (f"{100 * success:.1f} %", f"{error:.0f}", f"{100 * model_success:.1f} %")
        table.add_row(name, *row, f"{model_error:.0f}")
    console.print(table)
    speeds = Table("asked m/s", "no fall", "and speed held", "mean m/s")
    for asked, (alive, held, mean, _) in figures["speeds"].items():
        speeds.add_row(asked, f"{100 * alive:.1f} %", f"{100 * held:.1f} %", f"{mean:.2f}")
    console.print(speeds)
    facings = Table("facing off the path by", "no fall", "and speed held", "and facing held")
    for off_path, (alive, held, _, faced) in figures["facings"].items():
        shares = (f"{100 * share:.1f} %" for share in (alive, held, faced))
        facings.add_row(f"{off_path} deg", *shares)
    console.print(facings)
    words = Table("told to", "what is tested", "shown", "no fall", "unseen wordings: shown")
    for name, (share, alive) in figures["told"].items():
        other = figures["told_unseen"][name][0]
        shares = (f"{100 * value:.1f} %" for value in (share, alive, other))
        words.add_row(name, CRITERIA[name].says, *shares)
    if figures["told"]:
        console.print(words)
    for key, value in figures.items():
        if isinstance(value, float | int):
            console.print(f"{key}: {value:.4g}")


def markdown(figures: dict) -> str:
    """The figures as Markdown tables."""
    lines = [
        "| kind of clip | tracker: followed | error, mm | every joint prompted: followed "
        "| error, mm |",
        "|---|---|---|---|---|",
    ]
    for name, (success, error) in figures["tracker_clips"].items():
        prompted, prompted_error = figures["full_prompt_clips"].get(name, (float("nan"),) * 2)
        lines.append(
            f"| {name} | {100 * success:.1f} % | {error:.0f} "
            f"| {100 * prompted:.1f} % | {prompted_error:.0f} |"
        )
    lines += ["", "| prompted speed, m/s | no fall in 10 s | and speed held | mean speed, m/s |"]
    lines += ["|---|---|---|---|"]
    for asked, (alive, held, mean, _) in figures["speeds"].items():
        speed = round(mean, 2) + 0.0  # no minus zero
        lines.append(f"| {asked} | {100 * alive:.1f} % | {100 * held:.1f} % | {speed:.2f} |")
    lines += [
        "",
        f"| facing off the path at {ASKED_SPEED:g} m/s by | no fall in 10 s | speed held "
        "| and facing |",
    ]
    lines += ["|---|---|---|---|"]
    for off_path, (alive, held, _, faced) in figures["facings"].items():
        shares = " | ".join(f"{100 * share:.1f} %" for share in (alive, held, faced))
        lines.append(f"| {off_path} degrees | {shares} |")
    if figures["told"]:
        lines += ["", "| told to | what is tested | shown in 4 s | no fall | unseen wordings |"]
        lines += ["|---|---|---|---|---|"]
    for name, (share, alive) in figures["told"].items():
        other = figures["told_unseen"][name][0]
        shares = " | ".join(f"{100 * value:.1f} %" for value in (share, alive, other))
        lines.append(f"| {name} | {CRITERIA[name].says} | {shares} |")
    lines += ["", "| figure | value |", "|---|---|"]
    numbers = {key: value for key, value in figures.items() if isinstance(value, float)}
    lines += [f"| `{key}` | {value:.4g} |" for key, value in numbers.items()]
    return "\n".join(lines)
