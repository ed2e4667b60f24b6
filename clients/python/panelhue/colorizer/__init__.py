"""Generated stubs of panelhue.colorizer."""
