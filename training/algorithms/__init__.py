"""Learning algorithms, one readable file each; all train a network of `networks.score_network`.

`ppo`, `dqn` and `sac` learn from single decisions over a Stable-Baselines3 VecEnv, `es` from whole episodes. What they
share stands below them: `learner` is what a run sees of any of them, `approximators` the networks that fit an
observation, `off_policy` and `replay_buffer` what DQN and SAC remember and how they act.
"""
