"""A cluster under kube-scheduler, event by event, compiled with numba: see `event_loop` for the story."""
