"""Fixtures that every kind of test uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# What an example takes says nothing of the code where a core is shared; in CI hypothesis knows that by itself.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Two workers on two cores: threads beyond that only wait for each other. Before anything loads OpenMP.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The golden fixtures, in PANELHUE_SHARED or ../shared. CI fails without them; elsewhere the test is skipped."""
    folder = Path(os.environ.get("PANELHUE_SHARED", ROOT.parent / "shared"))
    if not (folder / "golden").is_dir():
        message = f"no golden fixtures in {folder}; set PANELHUE_SHARED"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
