"""A real kind cluster on a machine that can pull no image: what it is made of, and the tests that run in it."""
