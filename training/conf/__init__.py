"""Hydra's configuration files; the defaults are in `training.config`."""
