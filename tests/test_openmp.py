"""How OpenMP threads wait is settled before torch is imported."""

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


def settled(module: str, **given: str) -> list[str]:
    environment = {key: value for key, value in os.environ.items() if key not in NAMES}
    code = f"import sys, os, {module}; " + (
        f"print(*(os.environ.get(name) for name in {NAMES}), 'torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, **given},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()


@pytest.mark.parametrize("module", ["agents", "tt_gym.pretraining"])
def test_threads_wait_a_little_and_the_users_choice_counts(module):
    assert settled(module) == ["PASSIVE", "10000", "False"]
    assert settled(module, OMP_WAIT_POLICY="ACTIVE") == ["ACTIVE", "10000", "False"]
    assert settled(module, GOMP_SPINCOUNT="0") == ["PASSIVE", "0", "False"]


def test_importing_the_package_alone_changes_nothing():
    assert settled("tt_gym") == ["None", "None", "False"]
