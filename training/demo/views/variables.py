"""What the command tells the pages through the environment."""

RUNS_VARIABLE = "STOWAGE_DEMO_RUNS"
