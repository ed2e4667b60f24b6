"""Benchmarks that run on a machine with a GPU; each needs torch and the library that it measures, no server."""
