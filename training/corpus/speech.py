"""Speech with timed phonemes from eSpeak NG, offline, through its C interface."""

from __future__ import annotations

import _ctypes
import ctypes
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import espeakng_loader
import numpy as np

from ...models.rates import SAMPLE_RATE

VARIANTS = (
    "f1", "f2", "f3", "f4", "f5", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "Alex", "Andrea", "Andy", "Annie",
    "Gene", "Lee", "Mario", "Michael", "adam", "anika", "belinda", "benjamin", "caleb", "david", "ed", "edward",
    "ian", "iven", "john", "linda", "marcelo", "max", "michel", "miguel", "norbert", "pablo", "paul", "pedro",
    "quincy", "rob", "robert", "sandro", "shelby", "travis", "klatt", "klatt2", "klatt4",
)  # fmt: skip
ENGLISH = ("en-us", "en-us", "en", "en-gb-x-rp", "en-gb-scotland")
OTHER_LANGUAGES = (
    "de", "es", "es-419", "it", "pt", "pt-br", "nl", "pl", "sv", "tr", "fi", "hu", "ro", "cs", "nb", "id", "ca",
    "sk", "hr", "da",
)  # fmt: skip
HELD_OUT_VARIANTS = ("Alicia", "Denis", "steph", "Mike")

_RETRIEVAL, _PHONEME_EVENTS, _IPA = 1, 1, 2
_RATE, _PITCH, _RANGE = 1, 3, 4
_UTF8 = 1
_EVENT_END, _EVENT_PHONEME = 0, 7


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_SYNTH_ARGUMENTS = [
    ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p,
    ctypes.c_void_p,
]  # fmt: skip
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Voice:
    """A language with a speaker variant (`en-us+f3`), words per minute, pitch and its range 0..99."""

    language: str
    variant: str
    rate: int
    pitch: int
    pitch_range: int

    @property
    def name(self) -> str:
        """The name that eSpeak NG knows it by."""
        return f"{self.language}+{self.variant}"


def sample_voice(rng: np.random.Generator, variants: tuple[str, ...] = VARIANTS) -> Voice:
    """A random speaker of one of the ``variants``: English in two of three cases."""
    languages = ENGLISH if rng.random() < 0.65 else OTHER_LANGUAGES
    return Voice(
        language=languages[int(rng.integers(len(languages)))],
        variant=variants[int(rng.integers(len(variants)))],
        rate=int(rng.integers(120, 231)),
        pitch=int(rng.integers(20, 81)),
        pitch_range=int(rng.integers(30, 80)),
    )


@dataclass(frozen=True)
class Phoneme:
    """One IPA symbol ("" is silence) from `start` to `end`, in seconds."""

    symbol: str
    start: float
    end: float


@dataclass(frozen=True)
class Utterance:
    """Mono float32 audio at 16 kHz `[N]` with its phonemes in order."""

    audio: np.ndarray
    phonemes: tuple[Phoneme, ...]

    @property
    def seconds(self) -> float:
        """Length of the audio."""
        return len(self.audio) / SAMPLE_RATE


def resample(audio: np.ndarray, rate: int, factor: float = 1.0) -> np.ndarray:
    """Band-limited resampling to 16 kHz by cutting or padding the spectrum; `factor` > 1 also plays it faster."""
    n = len(audio)
    wanted = max(1, round(n * SAMPLE_RATE / (rate * factor)))
    spectrum = np.fft.rfft(audio.astype(np.float64))
    size = wanted // 2 + 1
    kept = np.zeros(size, dtype=np.complex128)
    kept[: min(size, len(spectrum))] = spectrum[:size]
    return (np.fft.irfft(kept, wanted) * (wanted / n)).astype(np.float32)


class Espeak:
    """A freshly loaded eSpeak NG, as a context manager.

    Its synthesiser carries state from one utterance to the next, so whoever wants the same audio again must start
    from a fresh library: leaving the context unloads it. There can be one at a time in a process.
    """

    def __enter__(self) -> Espeak:
        library = ctypes.CDLL(str(espeakng_loader.get_library_path()))
        library.espeak_SetSynthCallback.argtypes = [_CALLBACK]
        library.espeak_Synth.argtypes = _SYNTH_ARGUMENTS
        folder = str(espeakng_loader.get_data_path())
        self._rate = int(library.espeak_Initialize(_RETRIEVAL, 0, folder.encode(), _PHONEME_EVENTS | _IPA))
        if self._rate <= 0:
            raise RuntimeError(f"eSpeak NG did not start with the data in {folder} (code {self._rate})")
        # It seeds its noise from the clock.
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        self._library = library
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.espeak_Terminate()
        handle = self._library._handle
        del self._library
        if sys.platform == "win32":
            _ctypes.FreeLibrary(handle)
        else:
            _ctypes.dlclose(handle)

    def speak(self, text: str, voice: Voice) -> Utterance:
        """Speaks `text`. Raises ValueError for a voice that does not exist, RuntimeError if nothing comes back."""
        pieces: list[np.ndarray] = []
        marks: list[tuple[float, str]] = []

        @_CALLBACK
        def receive(samples: Any, count: int, events: Any) -> int:
            if samples and count > 0:
                pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
            i = 0
            while events[i].type != _EVENT_END:
                if events[i].type == _EVENT_PHONEME:
                    # Eight bytes, not terminated when all are used.
                    raw = ctypes.string_at(ctypes.addressof(events[i].id), 8).split(b"\0")[0]
                    marks.append((events[i].audio_position / 1000.0, raw.decode("utf-8", "ignore")))
                i += 1
            return 0

        library = self._library
        if library.espeak_SetVoiceByName(voice.name.encode()) != 0:
            raise ValueError(f"eSpeak NG has no voice {voice.name}")
        for parameter, value in ((_RATE, voice.rate), (_PITCH, voice.pitch), (_RANGE, voice.pitch_range)):
            library.espeak_SetParameter(parameter, value, 0)
        library.espeak_SetSynthCallback(receive)
        data = text.encode() + b"\0"
        code = library.espeak_Synth(data, len(data), 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
        if code != 0 or not pieces:
            raise RuntimeError(f"eSpeak NG could not speak {text!r} as {voice.name} (code {code})")
        audio = resample(np.concatenate(pieces).astype(np.float32) / 32768.0, self._rate)
        ends = [t for t, _ in marks[1:]] + [len(audio) / SAMPLE_RATE]
        return Utterance(audio, tuple(Phoneme(s, t, e) for (t, s), e in zip(marks, ends, strict=True) if e > t))
