"""The retrieval server: one growing pool of colour references per series."""
