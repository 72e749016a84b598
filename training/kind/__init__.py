"""Stowage tried on a kind cluster that is made for it and deleted afterwards."""
