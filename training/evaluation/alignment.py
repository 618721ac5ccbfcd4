"""When recorded people say which sound: forced alignment of a recording with its transcript, by PocketSphinx.

With it the mouths of recordings have a truth as those of the corpus do: the motion that a drawn mouth would make.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ...models.rates import SAMPLE_RATE
from ..core.config import TrainingError
from ..corpus.speech import Phoneme

_FRAME_S = 0.01
# PocketSphinx's ARPAbet in the corpus' IPA; its silences and noises ("SIL", "+SPN+") have no entry.
_ARPABET = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW B CH D DH F G HH JH K L M N NG P R S SH T TH V W Y Z ZH"
_ALPHABET = "ɑ æ ʌ ɔ aʊ aɪ ɛ ɜ eɪ ɪ i oʊ ɔɪ ʊ u b tʃ d ð f ɡ h dʒ k l m n ŋ p ɹ s ʃ t θ v w j z ʒ"
_IPA = dict(zip(_ARPABET.split(), _ALPHABET.split(), strict=True))


def read_transcripts(path: Path) -> dict[str, str]:
    """The transcript of each recording, from a text file of lines "name: text"; ``;`` begins a comment; .gz works too.

    Raises:
        TrainingError: the file cannot be read, or has no such line.
    """
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        lines = raw.decode("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TrainingError(f"{path} cannot be read as transcripts: {error}") from error
    pairs = (line.split(":", 1) for line in lines if ":" in line and not line.startswith(";"))
    if not (found := {name.strip(): text.strip() for name, text in pairs}):
        raise TrainingError(f'{path} has no transcripts: lines of the form "name: text" are expected')
    return found


@lru_cache(maxsize=1)
def _decoder() -> Any:
    # Loading the acoustic model takes a second; `set_align_text` resets it for every recording.
    from pocketsphinx import Decoder

    # Beams far wider than the defaults: with the words given, there is little to search.
    return Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", bestpath=False, beam=1e-120, pbeam=1e-120, wbeam=1e-100)


def align(audio: np.ndarray, text: str) -> tuple[Phoneme, ...]:
    """Phonemes of English speech ``audio`` (mono [N] at 16 kHz) that says ``text``; pauses are the phoneme "".

    Raises:
        TrainingError: a word is not in the dictionary, or the recording does not say the text.
    """
    decoder, words = _decoder(), re.findall(r"[a-z']+", text.lower())
    if unknown := [word for word in dict.fromkeys(words) if decoder.lookup_word(word) is None]:
        raise TrainingError(f"the pronunciation of {', '.join(unknown)} is not known")
    pcm = (np.clip(audio, -1, 1) * 32767).astype("<i2").tobytes()
    decoder.set_align_text(" ".join(words))
    _feed(decoder, pcm)
    try:
        # The first pass found the words, the second finds the sounds within them.
        decoder.set_alignment()
        _feed(decoder, pcm)
        return _phonemes([sound for word in decoder.get_alignment() for sound in word])
    except (RuntimeError, TypeError) as error:
        raise TrainingError(f"the recording does not say {text!r}") from error


def _feed(decoder: Any, pcm: bytes) -> None:
    decoder.start_utt()
    decoder.process_raw(pcm, full_utt=True)
    decoder.end_utt()


def _phonemes(sounds: Sequence[Any]) -> tuple[Phoneme, ...]:
    times = ((sound.name, sound.start * _FRAME_S, (sound.start + sound.duration) * _FRAME_S) for sound in sounds)
    return tuple(Phoneme(_IPA.get(name, ""), start, end) for name, start, end in times)
