"""Rates of the whole family. This module imports nothing, so every room and process can import it cheaply."""

FPS = 25
"""Video frames per second."""

SAMPLE_RATE = 16_000
"""Audio samples per second, as the audio encoders take them."""

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
