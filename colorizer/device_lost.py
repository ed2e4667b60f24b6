"""A GPU that is lost to a process: how to know it, and what the process does about it.

Some CUDA errors stay: every later call of the process fails with them, and only a new process helps. A process of ours
that meets one ends with `EXIT_STATUS`; a back-end out of process may do the same, or fail the page with `REASON`.
"""

from __future__ import annotations

import re

EXIT_STATUS = 75  # EX_TEMPFAIL of sysexits.h: try again
REASON = "GPU_LOST"

_STICKY = re.compile(
    r"an illegal memory access was encountered|an illegal instruction was encountered|misaligned address"
    r"|device-side assert triggered|unspecified launch failure|the launch timed out and was terminated"
    r"|uncorrectable ECC error|hardware stack error|invalid program counter|device is lost|GPU is lost"
    r"|fallen off the bus|driver shutting down|cudaErrorLaunchFailure|cudaErrorIllegalAddress|cudaErrorAssert"
    r"|cudaErrorECCUncorrectable"
    r"|(CUDA|HIP) error: (unknown error|context is destroyed)",
    re.IGNORECASE,
)


def device_lost(text: str) -> bool:
    """Whether an error's text says that its process can use the GPU no more."""
    return _STICKY.search(text) is not None
