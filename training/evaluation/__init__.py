"""Measuring what was trained: on held-out people, against baselines, and by published metrics."""
