"""Whether the policy that runs is worth having: what became of its pods, and what rules would have made of them."""
