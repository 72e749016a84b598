"""Comparisons of ways to train: `definition` says what is compared, `figures` what it came to, `page` shows it.

`training.compare` is the command; the runs themselves are `training.finishing`'s.
"""
