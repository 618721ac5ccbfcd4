"""What ComfyUI hands to a node, checked in one place by the node's own schema.

ComfyUI checks literals of a prompt when it is queued, and older versions not the combos among them; what comes through
a link it does not check at all. ``checked`` does it for every input of a node, so that each wrong value is one error
that names the input.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Concatenate, ParamSpec

from comfy_api.latest import io
from torch import Tensor

from ..faces.crop import Crop
from ..faces.track import FaceTrack
from ..host.audio import NO_SOUND
from ..host.messages import encodable, expected, make_encodable, quoted
from ..models.audio import AudioFeatures
from ..models.chunks import ContinuityOptions
from ..models.reference import Reference
from ..models.streaming import SpeechFeatures

CHOICES_SHOWN = 12

Parameters = ParamSpec("Parameters")
Execute = Callable[Concatenate[Any, Parameters], io.NodeOutput]


@dataclass(frozen=True)
class SocketType:
    """What a value of a socket must be, and what to connect where it is not."""

    fits: Callable[[Any], bool]
    source: str


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: not isinstance(value, type) and all(hasattr(value, name) for name in names)


def _is(*classes: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, classes)


# Other packs wrap core's objects: those are known by what is used of them, the pack's own by their classes.
SOCKETS = {
    "MODEL": SocketType(_has("model", "load_device"), "connect the MODEL output of Load AsymTalker"),
    "VAE": SocketType(
        _has("first_stage_model", "encode", "decode", "latent_channels"), "connect the VAE output of Load AsymTalker"
    ),
    "AUDIO_ENCODER": SocketType(_has("encode_audio"), "connect the AUDIO_ENCODER output of Load AsymTalker"),
    "IMAGE": SocketType(_is(Tensor), "connect a picture, such as the IMAGE output of Load Image"),
    "MASK": SocketType(_is(Tensor), "connect a mask, such as the MASK output of Load Image"),
    "AUDIO": SocketType(_is(Mapping), "connect a sound, such as the AUDIO output of Load Audio"),
    "VIDEO": SocketType(
        _has("get_dimensions", "get_components"), "connect a video, such as the VIDEO output of AsymTalker Sampler"
    ),
    "ASYMTALKER_REFERENCE": SocketType(_is(Reference), "connect AsymTalker Temporal Reference Encode"),
    "ASYMTALKER_AUDIO": SocketType(_is(SpeechFeatures, AudioFeatures), "connect AsymTalker Audio Features"),
    "ASYMTALKER_CONTINUITY": SocketType(_is(ContinuityOptions), "connect AsymTalker Continuity"),
    "ASYMTALKER_CROP": SocketType(
        _is(Crop, FaceTrack), "connect the `crop` output of AsymTalker Face Crop or AsymTalker Face Track"
    ),
}


def checked(execute: Execute[Parameters]) -> Execute[Parameters]:
    """Wrap a node's ``execute``: its inputs are checked and given in the type of their sockets and widgets.

    An optional input that is None is left out. Messages of errors can always be encoded.
    """
    signature = inspect.signature(execute)

    @functools.wraps(execute)
    def run(cls: Any, *positional: Any, **named: Any) -> io.NodeOutput:
        try:
            given = signature.bind(cls, *positional, **named).arguments
            values = _checked_values(cls.define_schema(), given)
            return execute(cls, **values)  # pyright: ignore[reportCallIssue]
        except Exception as error:
            make_encodable(error)
            raise

    return run


def _checked_values(schema: io.Schema, given: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for slot in schema.inputs:
        if slot.id not in given or (given[slot.id] is None and slot.optional):
            continue
        values[slot.id] = checked_value(slot, given[slot.id])
    return values


def checked_value(slot: Any, value: Any) -> Any:
    """``value`` of one input of a schema, as that input's type.

    Raises:
        ValueError: names the input, the value and what is possible.
    """
    kind = slot.get_io_type()
    widget = WIDGETS.get(kind)
    if widget is not None:
        return widget(slot, value)
    return checked_socket(slot.id, kind, value)


def checked_socket(name: str, kind: str, value: Any) -> Any:
    """``value``, which must be of the socket type ``kind``. Raises ValueError that says what to connect."""
    kinds = kind.split(",")
    if len(kinds) > 1 and value is not None:
        # A socket of several types: that of the value, or else the first one's error.
        kind = next((one for one in kinds if SOCKETS[one].fits(value)), kinds[0])
    socket = SOCKETS[kind.split(",")[0]]
    if value is None and kind == "AUDIO":
        raise ValueError(NO_SOUND)
    if value is None:
        raise ValueError(f"{name}: the connected node gives None; {socket.source}")
    if not socket.fits(value):
        raise ValueError(f"{expected(name, kind, value)}; {socket.source}")
    return value


def _combo(slot: Any, value: Any) -> Any:
    options = list(slot.options or [])
    if isinstance(value, (str, int)) and value in options:
        return value
    shown = ", ".join(str(option) for option in options[:CHOICES_SHOWN])
    more = f" and {len(options) - CHOICES_SHOWN} more" if len(options) > CHOICES_SHOWN else ""
    raise ValueError(f"{slot.id}: {quoted(value)} is not one of {shown}{more}")


def _number(slot: Any, value: Any) -> float | int:
    # An integer may be too large for a float, which isfinite makes of it.
    if not isinstance(value, Real) or not (isinstance(value, Integral) or math.isfinite(value)):
        raise ValueError(f"{slot.id}: {quoted(value)} is not a finite number; {_range(slot)}")
    if (slot.min is not None and value < slot.min) or (slot.max is not None and value > slot.max):
        raise ValueError(f"{slot.id}: {quoted(value)} is out of range; {_range(slot)}")
    return value  # pyright: ignore[reportReturnType]


def _int(slot: Any, value: Any) -> int:
    number = _number(slot, value)
    if number != int(number):
        raise ValueError(f"{slot.id}: {quoted(value)} is not a whole number; {_range(slot)}")
    return int(number)


def _float(slot: Any, value: Any) -> float:
    return float(_number(slot, value))


def _range(slot: Any) -> str:
    return f"it must be between {slot.min} and {slot.max}"


def _string(slot: Any, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(expected(slot.id, "text", value))
    if encodable(value) != value:
        raise ValueError(f"{slot.id}: {quoted(value)} has characters that cannot be encoded; type it again")
    return value


def _boolean(slot: Any, value: Any) -> bool:
    if not isinstance(value, Real):
        raise ValueError(expected(slot.id, "true or false", value))
    return bool(value)


WIDGETS: dict[str, Callable[[Any, Any], Any]] = {
    "COMBO": _combo,
    "INT": _int,
    "FLOAT": _float,
    "STRING": _string,
    "BOOLEAN": _boolean,
}
