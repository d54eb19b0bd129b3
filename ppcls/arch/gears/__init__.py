"""Parts that are put on or into a backbone: norms, gates, pooling, classifiers."""
