"""What a person asks of the colours, for all back-ends: hints at places, and the palette of a series."""

from colorizer.guidance.hints import apply_hints
from colorizer.guidance.palette import apply_palette

__all__ = ["apply_hints", "apply_palette"]
