"""Colours a page by attending to its references with a small trained network; CPU, no torch."""
