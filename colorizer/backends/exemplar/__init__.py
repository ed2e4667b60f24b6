"""The back-end `exemplar`: colours a page from its context, without weights, on the CPU."""

from __future__ import annotations

from colorizer.backends.exemplar.backend import Exemplar

__all__ = ["Exemplar"]
