"""Learning algorithms, one readable file each; all train a `networks.ScoreNetwork` over `vecenv.BatchedVecEnv`."""
