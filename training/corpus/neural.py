"""A second speaker with a natural voice: hibari-tts, whose duration predictor times the phonemes."""

from __future__ import annotations

import importlib.util
from functools import lru_cache

import numpy as np

from ...models.rates import SAMPLE_RATE
from .speech import Phoneme, Utterance, resample

_UNIT_S = 0.025
# The predicted durations are this much behind the sound: forced alignment of its speech finds the phonemes 56 ms before
# them, and espeak-ng's 5 ms before.
_LATE_S = 0.05
_DURATIONS = "/Clip_output_0"
# The model's alphabet has single letters for diphthongs and affricates.
_IPA = {
    "A": "eɪ",
    "I": "aɪ",
    "O": "oʊ",
    "Q": "əʊ",
    "W": "aʊ",
    "Y": "ɔɪ",
    "ʤ": "dʒ",
    "ʧ": "tʃ",
    "T": "ɾ",
    "ᵊ": "ə",
    "ᵻ": "ɪ",
}
_STRESS, _LENGTH = frozenset("ˈˌ"), frozenset("ː")
_WORD_GAP_S = 0.1


def available() -> bool:
    """Whether `hibari-tts` and `onnx` (to read the durations) are installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("hibari", "onnx"))


# Loading takes half a second; the session has no state between calls.
@lru_cache(maxsize=1)
def _engine() -> tuple:
    import onnx
    import onnxruntime
    from hibari import Hibari

    engine = Hibari()
    model = onnx.load(engine.model_path)
    model.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return engine, session


def speak_neural(text: str, rng: np.random.Generator, pitch: float, tract: float, speed: float) -> Utterance:
    """Speaks English `text`; `pitch` scales the fundamental, `tract` > 1 shortens the vocal tract (higher formants)."""
    from hibari import dsp

    engine, session = _engine()
    pieces, phonemes, position = [], [], 0.0
    for symbols in engine.phonemize(text):
        ids = [s for s in symbols if s in engine.vocab]
        feed = {"ids": np.asarray([engine.ids(symbols)], np.int64), "speed": np.asarray([speed / tract], np.float32)}
        *voice, durations = session.run(None, feed)
        lh, th, ln, lr, phase, f0 = (v[0] for v in voice)
        wave = dsp.synth(lh, th, ln, lr, phase, f0 * (pitch / tract), rng)
        ends = position + np.cumsum(np.round(durations.reshape(-1))) * _UNIT_S / tract
        starts = np.concatenate([[position], ends[:-1]])
        starts, ends = (np.maximum(times - _LATE_S / tract, position) for times in (starts, ends))
        phonemes += _merge_marks(["", *ids, ""], starts, ends)
        pieces.append(resample(wave, engine.sample_rate, tract))
        position += len(pieces[-1]) / SAMPLE_RATE
    if not pieces:
        raise RuntimeError(f"hibari had nothing to say for {text!r}")
    return Utterance(np.concatenate(pieces), tuple(phonemes))


def _merge_marks(symbols: list[str], starts: np.ndarray, ends: np.ndarray) -> list[Phoneme]:
    """Stress marks, length marks and spaces last, but have no sound: their time goes to the sound they belong to."""
    merged: list[Phoneme] = []
    onset: float | None = None
    for symbol, start, end in zip(symbols, starts.tolist(), ends.tolist(), strict=True):
        if end <= start:
            continue
        begin = start if onset is None else onset
        if symbol in _STRESS:
            onset = begin
        elif merged and (symbol in _LENGTH or (symbol == " " and end - start < _WORD_GAP_S)):
            merged[-1] = Phoneme(merged[-1].symbol, merged[-1].start, end)
        else:
            merged.append(Phoneme(_IPA.get(symbol, symbol), begin, end))
            onset = None
    return merged
