"""Measured speed of every stage of a video: ``python -m asymtalker.benchmarks``."""
