"""Makes synthetic speech sound like recordings: room, microphone, line, noise, level."""

from __future__ import annotations

import numpy as np

from ...models.rates import SAMPLE_RATE


def augment(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A varied copy of 16 kHz speech `[N]`, float32 in -1..1; timing is kept."""
    out = audio.astype(np.float64)
    if rng.random() < 0.5:
        out = _reverberate(out, rng)
    if rng.random() < 0.75:
        out = _equalize(out, rng)
    if rng.random() < 0.7:
        out = _add_noise(out, rng)
    peak = float(np.abs(out).max())
    level = 10.0 ** (rng.uniform(-22.0, -0.5) / 20.0)
    if peak > 0:
        out *= level / peak
    if rng.random() < 0.1:
        out = np.tanh(out * rng.uniform(1.5, 4.0)) * level
    return np.clip(out, -1.0, 1.0).astype(np.float32)


def _convolve(audio: np.ndarray, impulse: np.ndarray) -> np.ndarray:
    n = 1 << (len(audio) + len(impulse) - 2).bit_length()
    return np.fft.irfft(np.fft.rfft(audio, n) * np.fft.rfft(impulse, n), n)[: len(audio)]


def _reverberate(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Direct sound and an exponentially decaying noise tail (T60 of 0.1 to 0.5 s)."""
    t60, wet = rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.4)
    n = int(t60 * SAMPLE_RATE)
    tail = rng.standard_normal(n) * 10.0 ** (-3.0 * np.arange(n) / n)
    tail *= wet / np.sqrt(np.sum(tail**2))
    delay = int(rng.uniform(0.001, 0.012) * SAMPLE_RATE)
    impulse = np.zeros(delay + n)
    impulse[0] = 1.0
    impulse[delay:] += tail
    return _convolve(audio, impulse)


def _equalize(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth random response of +-9 dB, and in a third of the cases a band limit as of telephones and codecs."""
    n = 1 << (len(audio) - 1).bit_length()
    frequency = np.fft.rfftfreq(n, 1.0 / SAMPLE_RATE)
    octave = np.log2(np.maximum(frequency, 40.0) / 40.0)
    knots = np.linspace(0.0, octave[-1], 7)
    gain = 10.0 ** (np.interp(octave, knots, rng.uniform(-9.0, 9.0, 7)) / 20.0)
    if rng.random() < 0.35:
        low, high = rng.uniform(40.0, 300.0), rng.uniform(3000.0, 7500.0)
        gain /= np.sqrt(1.0 + (low / np.maximum(frequency, 1.0)) ** 6) * np.sqrt(1.0 + (frequency / high) ** 12)
    return np.fft.irfft(np.fft.rfft(audio, n) * gain, n)[: len(audio)]


def _add_noise(audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Coloured noise (white to brown) at 8 to 40 dB below the speech, sometimes with mains hum."""
    n = 1 << (len(audio) - 1).bit_length()
    frequency = np.maximum(np.fft.rfftfreq(n, 1.0 / SAMPLE_RATE), 20.0)
    spectrum = np.fft.rfft(rng.standard_normal(n)) * frequency ** -rng.uniform(0.0, 1.0)
    noise = np.fft.irfft(spectrum, n)[: len(audio)]
    if rng.random() < 0.2:
        hum = float(rng.choice([50.0, 60.0]))
        noise += noise.std() * np.sin(2 * np.pi * hum * np.arange(len(audio)) / SAMPLE_RATE)
    speech = float(np.sqrt(np.mean(audio**2)))
    return audio + noise * (speech * 10.0 ** (-rng.uniform(8.0, 40.0) / 20.0) / max(float(noise.std()), 1e-9))
