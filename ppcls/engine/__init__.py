"""Floor 3: whole jobs. The one training loop with its hooks, checkpoints, evaluation, streams and comparisons."""
