"""Floor 0: files, seeds, logs, registries and processor settings. Nothing here knows what a network is."""
