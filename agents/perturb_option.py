"""``--perturb``: what an evaluation makes harder, value by value."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import numpy as np

from tt_gym.envs.perturbations import Perturbations, build_perturbations

_MOST = 1000  # values of a span
_FORM = "NAME=VALUE or NAME=LOW:HIGH:COUNT"

Setting = dict[str, float]
"""Perturbations by name; empty for none."""


def add_argument(parser: argparse.ArgumentParser) -> None:
    """The option, for :func:`parse`; may be repeated."""
    parser.add_argument(
        "--perturb",
        action="append",
        default=[],
        metavar="NAME=VALUE[,...]",
        help="make it harder, as friction=0.4,gravity=1.5; NAME=LOW:HIGH:COUNT and repetition "
        "measure several settings (see docs/perturbations.md)",
    )


def parse(texts: list[str]) -> list[Setting]:
    """All settings that some options ask for, in order; one without perturbations for none.

    Raises:
        ValueError: no such form, unknown perturbation, value that is not allowed, or two spans in
            one option.
    """
    settings = [setting for text in texts for setting in _settings(text)] or [{}]
    for setting in settings:
        build_perturbations(setting)
    return settings


def _settings(text: str) -> list[Setting]:
    fixed: Setting = {}
    span: tuple[str, list[float]] | None = None
    for part in text.split(","):
        name, equals, value = part.partition("=")
        name = name.strip()
        if not equals or name in fixed or (span is not None and name == span[0]):
            raise ValueError(f"--perturb takes {_FORM}, each name once, got {text!r}")
        values = _numbers(value, text)
        if len(values) == 1:
            fixed[name] = values[0]
        elif span is None:
            span = name, values
        else:
            raise ValueError(f"--perturb takes one span at a time, got {text!r}")
    if span is None:
        return [fixed]
    return [{span[0]: value, **fixed} for value in span[1]]


def _numbers(value: str, text: str) -> list[float]:
    try:
        low, *others = (float(number) for number in value.split(":"))
        if not others:
            return [_plain(low)]
        high, count = others
        if not (2 <= count <= _MOST and count == int(count) and np.isfinite([low, high]).all()):
            raise ValueError
    except ValueError:
        what = f"{_FORM} with COUNT from 2 to {_MOST}"
        raise ValueError(f"--perturb takes {what}, got {text!r}") from None
    return [_plain(number) for number in np.linspace(low, high, int(count)).tolist()]


def _plain(number: float) -> float:
    """Without rounding errors; whole where it is, for what counts steps."""
    number = round(number, 9)
    return int(number) if number.is_integer() else number


def label(setting: Setting) -> str:
    """For people: ``friction=0.4, gravity=1.5``."""
    return ", ".join(f"{name}={value:g}" for name, value in setting.items()) or "no perturbation"


def varied(settings: list[Setting]) -> str:
    """The one name whose value differs between settings.

    Raises:
        ValueError: none or several do.
    """
    names = {name: None for setting in settings for name in setting}
    different = [name for name in names if len({s.get(name) for s in settings}) > 1]
    if len(different) != 1 or any(different[0] not in setting for setting in settings):
        raise ValueError(
            "--plot draws a curve over one perturbation that every --perturb gives; "
            f"here differ: {', '.join(different) or 'none'}"
        )
    return different[0]


def perturbed(env_kwargs: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """Settings of an environment with further perturbations.

    Raises:
        ValueError: those that it has are none.
    """
    if not setting:
        return env_kwargs
    given = env_kwargs.get("perturbations") or {}
    build_perturbations(given)
    if isinstance(given, Perturbations):
        given = dataclasses.asdict(given)
    return {**env_kwargs, "perturbations": {**given, **setting}}
