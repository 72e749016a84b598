"""The cycle of production: what a policy decided becomes what the next one is trained on (docs/cycle.md)."""
