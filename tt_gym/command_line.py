"""What commands share: numbers within bounds, settings as text, errors in one line."""

from __future__ import annotations

import argparse
import ast
import contextlib
import math
from collections.abc import Iterator

from tt_gym.checkpoint import CheckpointError
from tt_gym.motions import ClipError


def positive(text: str) -> float:
    """A finite number above 0, as an argparse type."""
    value = float(text)
    if not 0.0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def natural(text: str) -> int:
    """A whole number from 0 on, as an argparse type."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be at least 0, got {text}")
    return value


def count(text: str) -> int:
    """A whole number from 1 on, also as ``1e5``, as an argparse type."""
    value = float(text)
    if value < 1 or value != int(value):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text}")
    return int(value)


def share(text: str) -> float:
    """A number from 0 to 1, as an argparse type."""
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"must be from 0 to 1, got {text}")
    return value


def quoted(setting: str) -> str:
    """``KEY:VALUE`` as rl-zoo3 reads it: a value that is no Python becomes a text.

    A value that ends in a bracket, such as ``dict(a=1)``, is left as it is.

    Raises:
        ValueError: there is no colon, or no key before it.
    """
    key, colon, value = setting.partition(":")
    if not colon or not key.isidentifier():
        raise ValueError(f"--env-kwargs takes KEY:VALUE, got {setting!r}")
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return setting if value.endswith(")") else f"{key}:{value!r}"
    return setting


@contextlib.contextmanager
def one_line_errors(command: str) -> Iterator[None]:
    """End the command with the text of an error in its files, without a traceback."""
    try:
        yield
    except (CheckpointError, ClipError) as error:
        raise SystemExit(f"{command}: {error}") from error
