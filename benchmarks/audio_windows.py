"""Compare wav2vec2 features encoded in windows, and with "rolling", with those of a single pass.

Without --weights, wav2vec2-base has random weights (Hugging Face's initialisation). Its attention is then nearly
uniform and reaches further than that of a trained model. Needs COMFYUI_PATH and uses its wav2vec2.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ..models.audio import (
    FPS,
    SAMPLE_RATE,
    WAV2VEC2_CONTEXT_FRAMES,
    WAV2VEC2_WINDOW_FRAMES,
    encode_wav2vec2,
    log_mel_features,
    num_video_frames,
    wav2vec2_features,
)
from ..models.streaming import LOG_MEL, ROLLING_FRAMES, FeatureEncoder, stream_features
from . import comfyui
from .command import command_parser
from .speech import SPEECH, repeated_speech

CHUNK_FRAMES, NEW_FRAMES = 33, 28
DEFAULT = (WAV2VEC2_WINDOW_FRAMES // FPS, WAV2VEC2_CONTEXT_FRAMES // FPS)


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    parser = command_parser(".audio_windows", __doc__)
    parser.add_argument("--audio", type=Path, default=SPEECH, help="speech, repeated to fill the length")
    parser.add_argument(
        "--seconds", type=float, default=150.0, help="seconds of audio to measure (default: %(default)s)"
    )
    parser.add_argument("--swell", action="store_true", help="vary the loudness sixfold over the length")
    parser.add_argument("--weights", type=Path, help="model.safetensors of wav2vec2-base-960h")
    parser.add_argument(
        "--window",
        type=_pair,
        action="append",
        help=f"seconds per window and of its context (default: {DEFAULT[0]}:{DEFAULT[1]}); repeatable",
    )
    options = parser.parse_args(arguments)
    device = torch.device("cpu")
    if not comfyui.importable(device):
        parser.error("COMFYUI_PATH names no ComfyUI, whose wav2vec2 is measured")
    encoder = comfyui.speech_encoder(device)
    _fill(encoder, options.weights)
    speech = repeated_speech(options.seconds, options.audio)
    if options.swell:
        speech = speech * torch.linspace(-1, 1, len(speech)).abs().add(0.2)
    num_frames = num_video_frames(len(speech), SAMPLE_RATE)
    with torch.inference_mode():
        whole = _timed("one pass", encoder, speech, num_frames, num_frames, 0)
        for window, context in options.window or [DEFAULT]:
            name = f"{window:g} s windows, {context:g} s context"
            found = _timed(name, encoder, speech, num_frames, round(window * FPS), round(context * FPS))
            _compare(found, whole, round((window - context) * FPS))
        encode = partial(encode_wav2vec2, encoder)
        _compare_rolling(replace(LOG_MEL, name="wav2vec2", encode=encode, shape=(12, 768)), speech, whole)
        _compare_rolling(LOG_MEL, speech, log_mel_features(speech, num_frames))
    return 0


def _compare_rolling(feature_encoder: FeatureEncoder, speech: Tensor, whole: Tensor) -> None:
    """Features of chunks with "rolling" against the same frames of one pass, relative to the features' spread."""
    stream = stream_features(feature_encoder, speech, Fraction(len(speech), SAMPLE_RATE), listening="rolling").stream()
    # Chunks that have 8 s before their end; the middle of each five frames is the frame itself.
    starts = range(ROLLING_FRAMES, len(whole) - CHUNK_FRAMES, NEW_FRAMES)
    found = [stream.windows(start, CHUNK_FRAMES)[0, :, 2] - whole[start : start + CHUNK_FRAMES] for start in starts]
    if not found:
        print(f"rolling {feature_encoder.name}: at least {(ROLLING_FRAMES + CHUNK_FRAMES) / FPS:g} s are needed")
        return
    by_frame = torch.stack(found).square().mean(dim=(0, 2, 3)).sqrt() / whole.std()
    print(
        f"rolling {feature_encoder.name}, {len(found)} chunks: difference {by_frame.mean():.4f}, of the first frame "
        f"{by_frame[0]:.4f}, of the last {by_frame[-1]:.4f}"
    )


def _pair(text: str) -> tuple[float, float]:
    window, context = text.split(":")
    return float(window), float(context)


def _fill(encoder: nn.Module, weights: Path | None) -> None:
    if weights is not None:
        found = {key.removeprefix("wav2vec2."): tensor for key, tensor in load_file(weights).items()}
        missing, _ = encoder.load_state_dict(found, strict=False)
        if missing:
            raise ValueError(f"{weights} is not a wav2vec2-base: it lacks {missing[:3]}")
        return
    torch.manual_seed(0)
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)


def _timed(name: str, encoder: nn.Module, speech: Tensor, num_frames: int, window: int, context: int) -> Tensor:
    started = time.perf_counter()
    features = wav2vec2_features(encoder, speech, num_frames, window_frames=window, context_frames=context)
    seconds = time.perf_counter() - started
    print(f"{name}: {seconds:.1f} s for {num_frames / FPS:g} s of audio")
    return features


def _compare(found: Tensor, whole: Tensor, seam: int) -> None:
    """Differences relative to the features' spread, each layer in one number, and steps across the first seam."""
    difference = (found - whole).square().mean(dim=(0, 2)).sqrt() / whole.std(dim=(0, 2))
    layers = " ".join(f"{value:.4f}" for value in difference)
    print(f"  difference, layers 1 to 12: {layers}; mean {difference.mean():.4f}")
    steps = (found[1:] - found[:-1]).square().mean(dim=(1, 2)).sqrt()
    usual = (whole[1:] - whole[:-1]).square().mean(dim=(1, 2)).sqrt()
    if seam < len(found):
        print(f"  step across the first seam {steps[seam - 1] / usual[seam - 1]:.3f} of the one pass' own there")


if __name__ == "__main__":
    sys.exit(main())
