"""Which CUDA errors stay with a process."""

from __future__ import annotations

import pytest

from colorizer.device_lost import device_lost


@pytest.mark.parametrize(
    "text",
    [
        "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be reported later",
        "CUDA error: device-side assert triggered",
        "RuntimeError: CUDA error: unspecified launch failure",
        "uncorrectable ECC error encountered",
        "Unable to determine the device handle: GPU is lost. Reboot the system",
    ],
)
def test_an_error_that_stays_is_known(text):
    assert device_lost(text)


@pytest.mark.parametrize(
    "text",
    ["CUDA out of memory. Tried to allocate 2.00 GiB", "the page must be grey", "CUDA error: invalid argument", ""],
)
def test_an_error_that_passes_is_none(text):
    assert not device_lost(text)
