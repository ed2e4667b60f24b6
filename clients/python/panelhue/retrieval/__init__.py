"""Generated stubs of panelhue.retrieval."""
