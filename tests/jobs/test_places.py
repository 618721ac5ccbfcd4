"""The place in which nano's mouth opens furthest."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import av
import pytest
import torch

from asymtalker.scripts._environment import ROOT
from asymtalker.tests.helpers import Import

EXAMPLE = ROOT / "workflows" / "assets" / "asymtalker_person.png"


@pytest.fixture(scope="module")
def nano(pack: Import) -> SimpleNamespace:
    """nano and the reference of the example portrait."""
    model, vae, _ = pack("host.checkpoints.loading").load_all("nano", "default", "default", "default")
    with av.open(str(EXAMPLE)) as container:
        image = torch.from_numpy(next(container.decode(video=0)).to_ndarray(format="rgb24"))[None] / 255
    encoded = pack("host.portrait").encode_reference(model, vae, image, 0, 0, "temporal", None)
    return SimpleNamespace(model=model, vae=vae, reference=pack("faces.portrait_face").with_face(encoded))


def test_the_widest_of_the_places_is_used(pack: Import, nano: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    places = pack("jobs.places")
    opening, tried = places._Trial.opening, []

    def noted(self: Any, placed: Any) -> float:
        tried.append((opening(self, placed), placed))
        return tried[-1][0]

    monkeypatch.setattr(places._Trial, "opening", noted)
    best = places.best_place(nano.model, nano.vae, nano.reference, 3)
    assert [placed.shift for _, placed in tried] == list(places.PLACES[:3])
    assert len({value for value, _ in tried}) == 3 and all(0.02 < value < 1 for value, _ in tried)
    (in_place, unmoved), (widest, other) = tried[0], max(tried, key=lambda pair: pair[0])
    expected = other if widest >= 1.1 * in_place else unmoved
    assert best.latents is expected.latents and best.shift == expected.shift
    assert best.guidance == places.guidance_for(widest if expected is other else in_place, at_rest=0.0)
    # The first place is the portrait's own.
    torch.testing.assert_close(tried[0][1].latents, nano.reference.latents)
    moved = pack("models.placing").shifted(nano.reference.portrait, places.PLACES[1])
    width, height = nano.reference.size
    image = (moved[:, :, 0].movedim(1, -1) + 1) / 2
    other = pack("host.portrait").encode_reference(nano.model, nano.vae, image, width, height, "temporal", None)
    torch.testing.assert_close(tried[1][1].latents, other.latents)
    again = places.best_place(nano.model, nano.vae, nano.reference, 3)
    assert again.shift == best.shift and torch.equal(again.latents, best.latents)


@pytest.mark.parametrize("tries", [0, 1])
def test_one_try_is_none(pack: Import, nano: SimpleNamespace, tries: int) -> None:
    assert pack("jobs.places").best_place(nano.model, nano.vae, nano.reference, tries) is nano.reference


def test_nothing_is_tried_without_a_face(pack: Import, scene: SimpleNamespace) -> None:
    assert pack("jobs.places").best_place(scene.model, scene.vae, scene.reference, -1) is scene.reference


def test_nano_tries_nine_places_and_others_none(pack: Import) -> None:
    family = pack("models.family")
    assert [spec.tries for spec in family.MODELS.values()] == [9, 1, 1]
    places = pack("jobs.places").PLACES
    assert places[0] == (0, 0) and len(set(places)) == len(places) == 13


@pytest.mark.parametrize(("scores", "chosen"), [((0.2, 0.21, 0.1), 0), ((0.2, 0.21, 0.3), 2), ((0.0, 0.0, 0.0), 0)])
def test_a_place_has_to_be_worth_it(
    pack: Import,
    nano: SimpleNamespace,
    monkeypatch: pytest.MonkeyPatch,
    scores: tuple[float, ...],
    chosen: int,
) -> None:
    places, given = pack("jobs.places"), iter(scores)
    monkeypatch.setattr(places._Trial, "opening", lambda self, placed: next(given))
    best = places.best_place(nano.model, nano.vae, nano.reference, 3)
    assert best.shift == places.PLACES[chosen]


def test_a_place_in_which_the_network_fails_is_not_used(
    pack: Import, nano: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    places = pack("jobs.places")
    trial = places._Trial(nano.model, nano.vae, nano.reference)
    broken = dataclasses.replace(nano.reference, latents=nano.reference.latents * float("nan"))
    assert trial.opening(broken) == 0
    assert "a place of the face is not used" in caplog.text


def test_mouths_that_open_little_get_guidance(pack: Import) -> None:
    guidance_for = pack("jobs.places").guidance_for
    assert [guidance_for(opening, 0.05) for opening in (0.1, 0.3, 0.4, 0.6)] == [2, 2, 1, 1]
    assert guidance_for(0.35, 0.05) == pytest.approx(1.5)
    assert guidance_for(0.2, at_rest=0.17) == 1, "a smile with teeth"
    assert guidance_for(0.0, at_rest=0.05) == 1, "it could not be measured"


def test_the_guidance_of_the_reference_holds_where_the_sampler_leaves_it(
    pack: Import, nano: SimpleNamespace, scene: SimpleNamespace
) -> None:
    """And at the mouth alone; another number on the Sampler takes its place."""
    inputs, settings = pack("jobs.inputs").Inputs, scene.settings
    for needed, asked, used in ((2.0, 0.0, 2.0), (1.0, 0.0, 1.0), (2.0, 1.0, 1.0), (1.0, 1.5, 1.5)):
        reference = dataclasses.replace(nano.reference, guidance=needed)
        chosen = dataclasses.replace(settings, audio_guidance=asked)
        made = inputs(nano.model, nano.vae, reference, scene.features, chosen)
        assert made.sampling.guidance == used
        assert (made.guided is not None) == (used != 1)
    euler = dataclasses.replace(settings, sampler="euler")
    needy = dataclasses.replace(nano.reference, guidance=2.0)
    other = inputs(nano.model, nano.vae, needy, scene.features, euler)
    assert other.sampling.guidance == 1 and other.guided is None, "it was chosen for the last of few steps"
    without = dataclasses.replace(nano.reference, face=None, guidance=2.0)
    assert inputs(nano.model, nano.vae, without, scene.features, settings).guided is None


def test_interrupting_ends_the_search(
    comfy: Import, pack: Import, nano: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    management, places = comfy("comfy.model_management"), pack("jobs.places")
    opening, begun = places._Trial.opening, []

    def interrupted(self: Any, placed: Any) -> float:
        begun.append(placed)
        management.interrupt_current_processing()
        return opening(self, placed)

    monkeypatch.setattr(places._Trial, "opening", interrupted)
    with pytest.raises(management.InterruptProcessingException):
        places.best_place(nano.model, nano.vae, nano.reference, 3)
    assert len(begun) == 1


def test_networks_of_other_features_are_not_tried(
    pack: Import, nano: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack("jobs.places"), "MEL_CHANNELS", 768)
    assert pack("jobs.places").best_place(nano.model, nano.vae, nano.reference, 3) is nano.reference


def test_the_shift_is_part_of_the_job(pack: Import, scene: SimpleNamespace) -> None:
    jobs, inputs = pack("jobs.job"), pack("jobs.inputs").Inputs

    def job_of(reference: Any) -> str:
        return jobs.make_job(inputs(scene.model, scene.vae, reference, scene.features, scene.settings)).job_id

    moved = dataclasses.replace(scene.reference, shift=(6, 0))
    assert job_of(moved) != job_of(scene.reference)
