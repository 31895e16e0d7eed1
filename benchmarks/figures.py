"""What every benchmark writes beside its own figures."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import tt_gym


def of_machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "version": tt_gym.__version__,
    }


def write(path: Path, figures: dict[str, Any]) -> None:
    """Write the figures and the machine they come from as JSON."""
    path.write_text(json.dumps({**figures, **of_machine()}, indent=2) + "\n")
    print(f"written: {path}")
