"""The published method: retrieval-augmented colour diffusion on a canvas of references, and guided refinement."""
