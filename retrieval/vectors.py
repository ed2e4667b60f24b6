"""Vectors that callers made themselves."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

from serving.errors import InvalidInput, Violation


def normalised(vectors: Float32[np.ndarray, "q dim"], field: str = "vectors") -> Float32[np.ndarray, "q dim"]:
    """The same directions at unit length.

    Args:
        vectors: any length but zero.
        field: what the caller calls them.

    Raises:
        InvalidInput: VECTOR_NOT_USABLE, a row holds NaN or infinity, or is zero.
    """
    wide = vectors.astype(np.float64)
    lengths = np.sqrt(np.einsum("qd,qd->q", wide, wide))[:, None]
    bad = np.flatnonzero(~np.isfinite(lengths[:, 0]) | (lengths[:, 0] == 0))
    if bad.size:
        says = f"vector {bad[0]} must be finite and not zero, got length {lengths[bad[0], 0]:g}"
        raise InvalidInput(says, reason="VECTOR_NOT_USABLE", violations=[Violation(field, says)])
    unit: Float32[np.ndarray, "q dim"] = (wide / lengths).astype(np.float32)
    return unit
