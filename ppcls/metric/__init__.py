"""Retrieval and continual-learning metrics: numpy in, numpy out, no framework."""
