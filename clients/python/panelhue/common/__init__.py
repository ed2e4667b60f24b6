"""Generated stubs of panelhue.common."""
