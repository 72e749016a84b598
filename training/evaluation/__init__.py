"""How good a policy is: episodes on held-back seeds, paired statistics, and a report that people can read."""
