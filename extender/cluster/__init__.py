"""What the cluster looks like right now: amounts (`requests`), rows (`state`), own choices (`assume`), the watch (`reflector`)."""
