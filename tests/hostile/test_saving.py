"""Mux & Save under hostile prefixes, metadata, sounds and sizes: the file is right, or one message and nothing."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
import torch

from asymtalker.tests.helpers import Import

SEED = 19
Save = Callable[..., Path]


@pytest.fixture
def make_video(comfy: Import) -> Callable[..., Any]:
    """Make a VIDEO of the host's own, of noise that moves."""
    api: Any = comfy("comfy_api.latest")

    def make(count: int = 2, width: int = 16, height: int = 16) -> Any:
        images = torch.rand((count, height, width, 3), generator=torch.Generator().manual_seed(SEED))
        return api.InputImpl.VideoFromComponents(
            api.Types.VideoComponents(images=images, audio=None, frame_rate=Fraction(25))
        )

    return make


@pytest.fixture
def texts(pack: Import, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the node shows when it has saved."""
    seen: list[str] = []
    monkeypatch.setattr(pack("video.saving"), "notify", lambda node_id, *said: seen.append("\n".join(said)))
    return seen


@pytest.fixture
def save(pack: Import, folders: Path, make_video: Callable[..., Any], texts: list[str]) -> Save:
    """Save a video and return its file."""

    def run(prefix: str = "video/x", audio: Any = None, prompt: Any = None, info: Any = None, **changes: Any) -> Path:
        video = changes.get("video") or make_video()
        mark = changes.get("mark_generated", True)
        saved, result = pack("video.saving").save_with_audio(video, audio, prefix, 18, mark, prompt, info, "1")
        path = Path(saved.get_stream_source())
        assert path == folders / "output" / result.subfolder / result.filename
        return path

    return run


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.suffix}


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return dict(container.metadata)


REFUSED = {
    "../x": "leads out of the output folder",
    "a/../../x": "leads out of the output folder",
    "../../../../../../etc/x": "leads out of the output folder",
    "/etc/x": "leads out of the output folder",
    "/": "leads out of the output folder",
    "//x/y": "leads out of the output folder",
    "%year%/../../x": "leads out of the output folder",
    "a\0b": "NUL character",
    "\0": "NUL character",
    "a/\0/b": "NUL character",
    "a\ud800b": "no file name can hold",
    "\udc80/x": "no file name can hold",
    "n" * 245: "too long",
    "ä" * 123: "too long",
    f"{'n' * 256}/x": "too long",
    f"a/b/{'n' * 300}/c": "too long",
    "a/" * 2100 + "x": "too long",
    "file.mp4/x": r"needs the folder .*file\.mp4, which is not a folder",
    "file.mp4/a/b/x": r"needs the folder .*file\.mp4, which is not a folder",
}
TAKEN = {
    "": "._00001_.mp4",
    "x": "x_00001_.mp4",
    "a/b/c/x": "a/b/c/x_00001_.mp4",
    "a/../b/x": "b/x_00001_.mp4",
    "./x": "x_00001_.mp4",
    "x/": "x_00001_.mp4",
    "a//x": "a/x_00001_.mp4",
    "..x": "..x_00001_.mp4",
    "...": "..._00001_.mp4",
    "x.": "x._00001_.mp4",
    "x ": "x _00001_.mp4",
    "x.mp4": "x.mp4_00001_.mp4",
    "~/x": "~/x_00001_.mp4",
    "$HOME": "$HOME_00001_.mp4",
    "%width%x%height%": "16x16_00001_.mp4",
    "%": "%_00001_.mp4",
    "%s%d%n": "%s%d%n_00001_.mp4",
    "%date:yyyy%": "%date:yyyy%_00001_.mp4",
    "{0}{name!r}": "{0}{name!r}_00001_.mp4",
    "-y": "-y_00001_.mp4",
    "a b'c\"d;e&f|g": "a b'c\"d;e&f|g_00001_.mp4",
    "日本語/動画": "日本語/動画_00001_.mp4",
    "e\u0301": "e\u0301_00001_.mp4",
    "🙂": "🙂_00001_.mp4",
    "line\nbreak": "line\nbreak_00001_.mp4",
    "[a]*?": "[a]*?_00001_.mp4",
    "a%03d:b'c -y/x": "a%03d:b'c -y/x_00001_.mp4",
    "n" * 244: f"{'n' * 244}_00001_.mp4",
    f"{'n' * 236}": f"{'n' * 236}_00001_.mp4",
    "%width%" + "n" * 239: f"16{'n' * 239}_00001_.mp4",
}


def name_of(case: object) -> str | None:
    return ascii(case)[1:25] if isinstance(case, str) else None


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not take are refused there")
@pytest.mark.parametrize(("prefix", "reason"), REFUSED.items(), ids=name_of)
def test_a_prefix_that_cannot_be_is_refused_when_queued_and_again_when_saved(
    pack: Import, folders: Path, save: Save, prefix: str, reason: str
) -> None:
    (folders / "output").mkdir()
    (folders / "output" / "file.mp4").touch()
    before = files(folders)
    with pytest.raises(ValueError, match=f"^filename_prefix: .*{reason}.*Give a name such as") as caught:
        save(prefix)
    assert pack("nodes.mux").AsymTalkerMux.validate_inputs(prefix) == str(caught.value)
    str(caught.value).encode()
    assert files(folders) == before and len(str(caught.value)) < 1000


@pytest.mark.skipif(os.name == "nt", reason="names that Windows does not take are refused there")
@pytest.mark.parametrize(("prefix", "file"), TAKEN.items(), ids=name_of)
def test_a_prefix_that_can_be_names_the_file(pack: Import, folders: Path, save: Save, prefix: str, file: str) -> None:
    assert pack("nodes.mux").AsymTalkerMux.validate_inputs(prefix) is True
    assert save(prefix) == folders / "output" / file
    assert len(list((folders / "output" / file).parent.iterdir())) == 1


def random_prefixes(count: int) -> list[str]:
    pieces = ["..", "/", ".", "a", "%width%", "\0", " ", "\\", "ä", "n" * 120, "\ud83d", ":", "~", "%", "\n", "CON"]
    rng = random.Random(SEED)
    return ["".join(rng.choices(pieces, k=rng.randint(1, 6))) for _ in range(count)]


@pytest.mark.parametrize("prefix", random_prefixes(40), ids=name_of)
def test_what_is_accepted_when_queued_is_saved(pack: Import, folders: Path, save: Save, prefix: str) -> None:
    problem = pack("nodes.mux").AsymTalkerMux.validate_inputs(prefix)
    if problem is True:
        assert save(prefix).is_relative_to(folders / "output")
    else:
        assert problem.startswith("filename_prefix: ")
        with pytest.raises(ValueError, match=r"^filename_prefix: "):
            save(prefix)


@pytest.mark.parametrize(
    "prefix", ["CON/x", "a/nul.txt/x", "a./x", "a /x", "C:x", "x?", "a\\<b", "com1/x", "a\tb", "LPT¹/x"]
)
def test_names_that_windows_does_not_take(pack: Import, tmp_path: Path, prefix: str) -> None:
    problem = pack("video.destination").prefix_problem
    assert "which Windows does not take as a name" in problem(prefix, tmp_path, windows=True)


@pytest.mark.parametrize("prefix", ["video/x", "CON", "a\\b", "console/x", "x.", "x ", "a.b/c"])
def test_names_that_windows_takes(pack: Import, tmp_path: Path, prefix: str) -> None:
    assert pack("video.destination").prefix_problem(prefix, tmp_path, windows=True) is None


def test_a_prefix_that_is_not_known_yet(pack: Import, folders: Path) -> None:
    assert pack("nodes.mux").AsymTalkerMux.validate_inputs() is True
    assert pack("nodes.mux").AsymTalkerMux.validate_inputs(None) is True


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def endless() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


WORKFLOW = {"nodes": [{"id": 1, "title": 'quotes " \\ = ; # \n ä 漢字 \ud800 \0'}]}
METADATA: list[tuple[Any, dict[str, Any], str | None]] = [
    (None, {}, None),
    ({}, {}, None),
    ("a string", {}, "extra_pnginfo is a str"),
    ([1, 2], {}, "extra_pnginfo is a list"),
    (7, {}, "extra_pnginfo is a int"),
    ({"workflow": WORKFLOW}, {"workflow": json.dumps(WORKFLOW)}, None),
    ({"workflow": "text"}, {"workflow": "text"}, None),
    ({"workflow": [1, "a"]}, {"workflow": '[1, "a"]'}, None),
    ({"workflow": None}, {"workflow": "null"}, None),
    ({"workflow": float("nan")}, {"workflow": "NaN"}, None),
    ({"workflow": ""}, {"workflow": ""}, None),
    ({"workflow": "a\0b"}, {"workflow": "ab"}, None),
    ({"workflow": "a\ud800b"}, {"workflow": "a\\ud800b"}, None),
    ({"a\0\ud800": 1}, {"a\\ud800": "1"}, None),
    ({"workflow": {1, 2}}, {"workflow": None}, "`workflow` .* cannot be written as JSON"),
    ({"workflow": {"a": object()}, "b": 1}, {"workflow": None, "b": "1"}, "`workflow` .* cannot be written as JSON"),
    ({"workflow": {(1, 2): 3}}, {"workflow": None}, "`workflow` .* cannot be written as JSON"),
    ({"workflow": b"bytes"}, {"workflow": None}, "`workflow` .* cannot be written as JSON"),
    ({"workflow": endless()}, {"workflow": None}, "`workflow` .* cannot be written as JSON"),
    ({"workflow": nested(100_000)}, {"workflow": None}, "`workflow` .* cannot be written as JSON"),
    ({"big": "x" * 70_000_000, "b": 1}, {"big": None, "b": "1"}, r"`big` .*70\.0 MB\) is too long"),
    ({"w": "x" * 3_000_000}, {"w": "x" * 3_000_000}, None),
    ({f"key{i}": i for i in range(3000)}, {"key2999": "2999"}, None),
    ({"k" * 70_000: "v"}, {"k" * 70_000: "v"}, None),
    ({1: "one", None: 2}, {"1": "one", "None": "2"}, None),
    ({"": "empty"}, {"": "empty"}, None),
    ({"a=b": "c", "ä 漢": "d", "new\nline": "e"}, {"a=b": "c", "ä 漢": "d", "new\nline": "e"}, None),
    ({"timecode": "00:00:00:00", "rotate": "90", "creation_time": "x"}, {"rotate": "90"}, None),
    ({"encoder": "mine", "major_brand": "mine"}, {}, None),
]


@pytest.mark.parametrize(("info", "expected", "note"), METADATA, ids=range(len(METADATA)))
def test_no_metadata_stops_a_save(
    save: Save, texts: list[str], info: Any, expected: dict[str, Any], note: str | None
) -> None:
    tags = tags_of(save(prompt={"1": {"class_type": "x"}}, info=info))
    assert {key: tags.get(key) for key in expected} == expected
    assert json.loads(tags["prompt"]) == {"1": {"class_type": "x"}}
    assert "AI-generated" in tags["comment"]
    (text,) = texts
    assert note is None or re.search(note, text)
    assert ("metadata" in text or "extra_pnginfo" in text) == (note is not None)


@pytest.mark.parametrize(
    "name", ["comment", "Comment", "SOFTWARE", "software", "digital_source_type", "Digital_Source_Type"]
)
@pytest.mark.parametrize("own_save", [True, False])
def test_the_mark_wins(
    pack: Import, save: Save, make_video: Callable[..., Any], tmp_path: Path, name: str, own_save: bool
) -> None:
    if own_save:
        path = save(info={name: "mine"})
    else:
        path = tmp_path / "v.mp4"
        source = pack("video.incoming").frames_of(make_video())
        pack("video.writing").write_mp4(source, path, None, crf=18, metadata={name: "mine"})
    tags = tags_of(path)
    mark = pack("video.tags").GENERATED_MARK
    assert {key: tags.get(key) for key in mark} == mark and "mine" not in tags.values()


def test_without_the_mark_the_users_tags_stay(save: Save) -> None:
    tags = tags_of(save(info={"comment": "mine"}, mark_generated=False))
    assert tags["comment"] == "mine" and "digital_source_type" not in tags


def test_metadata_is_left_out_where_the_server_was_told_so(
    comfy: Import, save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comfy("comfy.cli_args").args, "disable_metadata", True)
    tags = tags_of(save(prompt={"1": {}}, info={"workflow": {}}))
    assert "prompt" not in tags and "workflow" not in tags and "AI-generated" in tags["comment"]


def sounds(count: int) -> list[tuple[int, int, int]]:
    """Channels, sample rate and samples of each."""
    rng = random.Random(SEED)
    rates = [8000, 11025, 16000, 22254, 44099, 44100, 48000, 65535, 88200, 96000, 96001, 100003, 191999, 192000]
    lengths = [1, 2, 15, 16, 17, 100, 1023, 1024, 1025, 4608, 4609, 9001]
    drawn = [(rng.randint(1, 8), rng.choice(rates), rng.choice(lengths)) for _ in range(count)]
    return [*drawn, (8, 48000, 48000), (7, 192000, 15), (6, 44100, 1)]


@pytest.mark.parametrize(("channels", "rate", "samples"), sounds(30))
def test_any_sound_is_saved(save: Save, channels: int, rate: int, samples: int) -> None:
    waveform = torch.rand((1, channels, samples), generator=torch.Generator().manual_seed(SEED)) - 0.5
    path = save(audio={"waveform": waveform.requires_grad_(), "sample_rate": rate})
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        decoded = sum(frame.samples for frame in container.decode(stream))
        assert abs(stream.rate - rate) < 10 and stream.codec_context.channels == channels
    assert samples - 1 <= decoded * rate / stream.rate <= max(samples, 64) + 1024


@pytest.mark.parametrize(
    ("audio", "message"),
    [
        ({"waveform": torch.zeros(1, 9, 100), "sample_rate": 16000}, "9 channels"),
        ({"waveform": torch.zeros(1, 1, 0), "sample_rate": 16000}, "empty"),
        ({"waveform": torch.zeros(1, 0, 100), "sample_rate": 16000}, "0 channels"),
        ({"waveform": torch.zeros(2, 1, 100), "sample_rate": 16000}, "one clip"),
        ({"waveform": torch.zeros(1, 1, 100), "sample_rate": 0}, "0 Hz"),
        ({"waveform": torch.full((1, 1, 9), float("inf")), "sample_rate": 16000}, "NaN or infinite"),
    ],
)
def test_a_sound_that_is_none_is_refused(folders: Path, save: Save, audio: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^audio: .*{message}"):
        save(audio=audio)
    assert files(folders / "output") == set()


def test_no_sound_is_saved_silent_and_said(save: Save, texts: list[str]) -> None:
    with av.open(str(save(audio=None))) as container:
        assert not container.streams.audio
    assert "audio: there is no sound, the video is saved silent." in texts[0]


@pytest.mark.parametrize(("peak", "is_told"), [(0.5, False), (1.4, False), (32.0, True), (32_767.0, True)])
def test_sound_beyond_full_scale_is_told(save: Save, texts: list[str], peak: float, is_told: bool) -> None:
    save(audio={"waveform": torch.full((1, 1, 1600), -peak), "sample_rate": 16_000})
    assert ("players clip samples beyond 1" in texts[0]) == is_told


@pytest.mark.parametrize(
    ("samples", "is_told"), [(640, False), (1280, False), (2500, False), (3200, True), (80, False)]
)
@pytest.mark.parametrize("count", [2, 10])
def test_another_length_of_the_sound_is_told(
    save: Save, make_video: Callable[..., Any], texts: list[str], count: int, samples: int, is_told: bool
) -> None:
    waveform = torch.zeros(1, 1, samples + (count - 2) * 640)
    save(video=make_video(count), audio={"waveform": waveform, "sample_rate": 16_000})
    assert ("made from, or trim the longer one" in texts[0]) == is_told
    save(video=make_video(count + 10), audio={"waveform": waveform, "sample_rate": 16_000})
    assert "s, the video 0." in texts[1]


def test_one_frame_is_no_plural(save: Save, make_video: Callable[..., Any], texts: list[str]) -> None:
    save(video=make_video(1))
    save(video=make_video(2))
    assert ": 1 frame, " in texts[0] and ": 2 frames, " in texts[1]


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 2), (2, 1), (3, 3), (15, 16), (16, 15), (17, 1), (1, 333), (511, 333), (64, 64)]
)
def test_any_size_is_saved(
    save: Save, make_video: Callable[..., Any], texts: list[str], width: int, height: int
) -> None:
    path = save("%width%", video=make_video(2, width, height))
    assert path.name == f"{width}_00001_.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (width + width % 2, height + height % 2)
    assert ("as H.264 needs even sizes" in texts[0]) == bool(width % 2 or height % 2)


def test_a_video_without_frames_leaves_nothing(
    pack: Import, folders: Path, save: Save, make_video: Callable[..., Any]
) -> None:
    with pytest.raises((pack("media").MediaError, ValueError), match=r"no frames?\b"):
        save(video=make_video(0))
    assert files(folders / "output") == set()


@pytest.mark.parametrize("at", [0, 1, 5, 12])
@pytest.mark.parametrize("by_core", [False, True])
def test_cancelled_at_any_frame_nothing_is_left(
    comfy: Import,
    pack: Import,
    folders: Path,
    save: Save,
    make_video: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    by_core: bool,
) -> None:
    management, progress = comfy("comfy.model_management"), pack("host.progress").SavingProgress
    original, reported = progress.__call__, []

    def watch(self: Any, written: int) -> None:
        reported.append(written)
        if written == at:
            management.interrupt_current_processing()
        original(self, written)

    monkeypatch.setattr(progress, "__call__", watch)
    video = make_video(12)
    (folders / "output").mkdir()
    with pytest.raises(management.InterruptProcessingException):
        if by_core:
            # As Save Video of core saves the pack's own videos.
            source = pack("video.incoming").frames_of(video)
            path = folders / "output" / "x.mp4"
            pack("video.writing").write_mp4(source, path, None, crf=18, metadata=None)
        else:
            save(video=video)
    # The frame under way when it is cancelled, and no other.
    assert max(reported) == at
    assert files(folders / "output") == set()
    assert not management.processing_interrupted()


def test_the_bar_reaches_its_end(
    comfy: Import, pack: Import, save: Save, make_video: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    values: list[tuple[int, int, str | None]] = []
    monkeypatch.setattr(
        comfy("comfy.utils"),
        "PROGRESS_BAR_HOOK",
        lambda value, total, preview, node_id=None: values.append((value, total, node_id)),
    )
    save(video=make_video(7))
    assert values[0] == (0, 7, "1") and values[-1] == (7, 7, "1")
    assert values == sorted(values)


def test_the_output_folder_is_gone_and_cannot_be_made(comfy: Import, pack: Import, save: Save, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    comfy("folder_paths").set_output_directory(str(tmp_path / "a file" / "output"))
    problem = pack("nodes.mux").AsymTalkerMux.validate_inputs("x")
    assert isinstance(problem, str) and "a file" in problem
    with pytest.raises((pack("media").MediaError, ValueError), match="a file"):
        save()


def test_no_ffmpeg_is_said_when_queued(pack: Import, folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(folders / "absent"))
    assert "absent cannot be run" in pack("nodes.mux").AsymTalkerMux.validate_inputs("x")
