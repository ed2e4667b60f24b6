"""The scoreboard: every back-end on ColorFlow-Bench's layout or on comics, beside the published tables.

One command, `python -m benchmarks.scoreboard --comics DIR`; docs/SCOREBOARD.md says what it measures and how.
"""
