"""Generations that can be watched while they run."""
