"""The pages: widgets only; what they show is computed elsewhere."""
