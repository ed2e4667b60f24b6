"""Hostile and odd files through the real commands: cases made by seed, a runner that lists every outcome, and a fuzzer."""
