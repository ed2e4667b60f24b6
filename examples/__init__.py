"""Short programs that run on a laptop; tests/docs runs each of them."""
