"""Data: files on disk → lists of samples → P×K batches of augmented views (numpy arrays)."""
