"""Pruning: which weights and which units go, when they go, and what keeps them gone."""
