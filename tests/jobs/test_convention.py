"""Core's sampling convention around a chunk, with core's own nodes; and what is patched on a MODEL as part of a job."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import uuid
from collections import deque
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asymtalker.tests.helpers import NUM_FRAMES, ROOT, Import, generate

CHUNKS, STEPS = 3, 2


def sampling_of(pack: Import, scene: SimpleNamespace, model: Any, guidance: float = 1.0, steps: int = STEPS) -> Any:
    """Latents of one chunk through the rollout's sampler."""
    module, config = pack("models.rollout"), pack("models.config")
    network = pack("host.network").ChunkNetwork(model)
    windows = scene.features.stream().windows(0, scene.reference.frames_per_chunk)
    denoise = network(windows, scene.reference.latents, guidance)
    sampling, state = config.SamplingConfig(steps=steps), module.initial_state(scene.reference)
    return module.sample(denoise, scene.reference, sampling, state, 1, None, run_sampling=network.run_sampling)


def cached(comfy: Import, model: Any, name: str, threshold: float) -> Any:
    node = getattr(comfy("comfy_extras.nodes_easycache"), f"{name}Node")
    return node.execute(model, threshold, 0.0, 1.0, False).result[0]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("name", ["EasyCache", "LazyCache"])
def test_cores_caches_skip_steps_and_begin_anew_with_each_chunk(
    comfy: Import,
    pack: Import,
    scene: SimpleNamespace,
    caplog: pytest.LogCaptureFixture,
    name: str,
    guidance: float,
) -> None:
    plain = sampling_of(pack, scene, scene.model, guidance, 8)
    unused = cached(comfy, scene.model, name, 0.0)
    torch.testing.assert_close(sampling_of(pack, scene, unused, guidance, 8), plain)
    caplog.set_level("INFO")
    model = cached(comfy, scene.model, name, 3.0)
    first, second = (sampling_of(pack, scene, model, guidance, 8) for _ in range(2))
    told = [record.getMessage() for record in caplog.records if f"{name} - skipped" in record.getMessage()]
    assert len(told) == 2 and told[0] == told[1] and "skipped 0/8" not in told[0]
    assert torch.equal(first, second) and bool(first.isfinite().all()) and not torch.equal(first, plain)


def test_a_wrapper_may_write_into_its_input(pack: Import, scene: SimpleNamespace) -> None:
    """As EasyCache does where it skips a step."""
    model = scene.model.clone()

    def writing(executor: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        out = executor(x, *args, **kwargs)
        x += 1
        return out

    model.add_wrapper("diffusion_model", writing)
    assert torch.equal(sampling_of(pack, scene, model), sampling_of(pack, scene, scene.model))


def test_the_order_of_wrappers_and_callbacks(comfy: Import, pack: Import, scene: SimpleNamespace) -> None:
    extension = comfy("comfy.patcher_extension")
    model, calls, seen = scene.model.clone(), [], []

    def wrapper(name: str) -> Callable[..., Any]:
        def around(executor: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            if name == "diffusion_model":
                seen.append(args[-1])
            return executor(*args, **kwargs)

        return around

    for kind in ("outer_sample", "prepare_sampling", "sampler_sample", "predict_noise", "calc_cond_batch"):
        model.add_wrapper(kind, wrapper(kind))
    for kind in ("apply_model", "diffusion_model"):
        model.add_wrapper(kind, wrapper(kind))
    callbacks = extension.CallbacksMP
    for kind in (callbacks.ON_PRE_RUN, callbacks.ON_PREPARE_STATE, callbacks.ON_CLEANUP):
        model.add_callback(kind, lambda *_, kind=kind: calls.append(kind))
    sampling_of(pack, scene, model, guidance=2.0)
    evaluation = ["apply_model", "diffusion_model"]
    step = ["predict_noise", "calc_cond_batch", "on_prepare_state", *evaluation, *evaluation]
    assert calls == ["outer_sample", "prepare_sampling", "on_pre_run", "sampler_sample", *step, *step, "on_cleanup"]
    assert model.model.current_patcher is None
    assert [options["cond_or_uncond"] for options in seen] == [[0], [1], [0], [1]]
    uuids = [options["uuids"] for options in seen]
    assert uuids[0] == uuids[2] != uuids[1] == uuids[3]
    assert all(len(options["sample_sigmas"]) == STEPS + 1 and len(options["sigmas"]) == 1 for options in seen)


def test_clean_up_follows_an_error_too(comfy: Import, pack: Import, scene: SimpleNamespace) -> None:
    model, cleaned = scene.model.clone(), []
    model.add_callback("on_cleanup", cleaned.append)

    def broken(executor: Any, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("a node's own")

    model.add_wrapper("apply_model", broken)
    options = model.model_options
    with pytest.raises(RuntimeError, match="a node's own"):
        sampling_of(pack, scene, model)
    assert cleaned == [model] and model.model.current_patcher is None and model.model_options is options


def test_guidance_functions_of_nodes_are_used(pack: Import, scene: SimpleNamespace) -> None:
    model, seen = scene.model.clone(), []

    def halved(args: dict[str, Any]) -> torch.Tensor:
        seen.append(sorted(key for key in args if "denoised" in key))
        return args["denoised"] / 2

    model.set_model_sampler_post_cfg_function(halved)
    for guidance in (1.0, 2.0):
        plain = sampling_of(pack, scene, scene.model, guidance, 1)
        changed = sampling_of(pack, scene, model, guidance, 1)
        torch.testing.assert_close(changed[:, :, 1:], plain[:, :, 1:] / 2)
    assert seen == [["cond_denoised", "denoised", "uncond_denoised"]] * 2


def job_of(pack: Import, scene: SimpleNamespace, model: Any) -> str:
    inputs = pack("jobs.inputs").Inputs(model, scene.vae, scene.reference, scene.features, scene.settings)
    return pack("jobs.job").make_job(inputs).job_id


def scaled(factor: float) -> Callable[..., Any]:
    """A function of the kind that nodes make: the same code, another value in its closure."""

    def override(function: Any, *args: Any, **kwargs: Any) -> Any:
        return factor * function(*args, **kwargs)

    return override


def other_code(factor: float) -> Callable[..., Any]:
    def override(function: Any, *args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) + factor

    return override


class Shift(torch.nn.Module):
    """Stands for a patched object with settings and tensors."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift
        self.register_buffer("sigmas", torch.linspace(0, shift, 5))


def changes(pack: Import, comfy: Import, model: Any) -> dict[str, Any]:
    """The MODEL with one thing patched onto it each."""
    made = {}

    def change(name: str, act: Callable[[Any], Any]) -> None:
        made[name] = model.clone()
        act(made[name])

    def override(function: Callable[..., Any]) -> Callable[[Any], None]:
        return lambda clone: clone.model_options["transformer_options"].update(optimized_attention_override=function)

    change("none", lambda clone: clone)
    change("override", override(scaled(1.0)))
    change("override, another value", override(scaled(2.0)))
    change("override, other code", override(other_code(1.0)))
    change("function wrapper", lambda clone: clone.set_model_unet_function_wrapper(scaled(1.0)))
    change("function wrapper, another value", lambda clone: clone.set_model_unet_function_wrapper(scaled(0.5)))
    change("object", lambda clone: clone.add_object_patch("model_sampling", Shift(1.0)))
    change("object, another value", lambda clone: clone.add_object_patch("model_sampling", Shift(2.0)))
    change("wrapper", lambda clone: clone.add_wrapper_with_key("apply_model", "key", scaled(1.0)))
    change("wrapper, another value", lambda clone: clone.add_wrapper_with_key("apply_model", "key", scaled(2.0)))
    change("attention patch", lambda clone: clone.set_model_attn1_patch(scaled(1.0)))
    change("after guidance", lambda clone: clone.set_model_sampler_post_cfg_function(scaled(1.0)))
    for name in ("EasyCache", "LazyCache"):
        for threshold in (0.1, 0.2):
            made[f"{name} {threshold}"] = cached(comfy, model, name, threshold)
    return made


def test_what_is_patched_onto_a_model_is_another_job(comfy: Import, pack: Import, scene: SimpleNamespace) -> None:
    jobs = {name: job_of(pack, scene, model) for name, model in changes(pack, comfy, scene.model).items()}
    assert len(set(jobs.values())) == len(jobs)
    again = {name: job_of(pack, scene, model) for name, model in changes(pack, comfy, scene.model).items()}
    assert again == jobs, "made anew, as after a restart"
    assert job_of(pack, scene, scene.model) == jobs["none"]
    assert pack("jobs.identity").patches_id(scene.model) == "", "a job of an earlier version goes on"
    model = changes(pack, comfy, scene.model)["EasyCache 0.1"]
    before = job_of(pack, scene, model)
    sampling_of(pack, scene, model)
    assert job_of(pack, scene, model) == before, "using a MODEL does not change it"


class Wrapper:
    """A node's object on the MODEL, with whatever else it holds."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __call__(self, executor: Any, *args: Any, **kwargs: Any) -> Any:
        return executor(*args, **kwargs)


def with_wrapper(comfy: Import, model: Any, held: Any) -> Any:
    patched = model.clone()
    kind = comfy("comfy.patcher_extension").WrappersMP.DIFFUSION_MODEL
    patched.add_wrapper_with_key(kind, "test", Wrapper(held))
    return patched


def test_what_belongs_to_the_process_does_not_change_a_job(comfy: Import, pack: Import, scene: SimpleNamespace) -> None:
    def job(run: uuid.UUID) -> str:
        return job_of(pack, scene, with_wrapper(comfy, scene.model, [logging.getLogger("asymtalker.test"), run]))

    before = job(uuid.uuid4())
    logging.getLogger("asymtalker.test.another")
    assert job(uuid.uuid4()) == before
    on_two_gpus = scene.model.clone()
    on_two_gpus.set_additional_models("multigpu", [scene.model.clone()])
    assert pack("jobs.identity").patches_id(on_two_gpus) == ""


def test_copies_for_other_gpus_are_not_loaded(comfy: Import, pack: Import, scene: SimpleNamespace) -> None:
    """Core's node for several GPUs adds them; a chunk is sampled on one."""
    copy = scene.model.clone()
    copy.is_multigpu_base_clone = True
    scene.model = scene.model.clone()
    scene.model.set_additional_models("multigpu", [copy])
    _, report = generate(pack, scene)
    assert any("MultiGPU CFG Split" in note for note in report["notes"])
    loaded = comfy("comfy.model_management").loaded_models()
    assert any(model is scene.model for model in loaded) and not any(model is copy for model in loaded)


class Slotted:
    __slots__ = ("__strength", "name")

    def __init__(self, strength: float) -> None:
        self.__strength = strength


def with_strength(strength: float) -> Callable[[], None]:
    def function() -> None:
        return None

    function.strength = strength  # type: ignore[attr-defined]
    return function


@pytest.mark.parametrize("make", [Slotted, with_strength, lambda strength: deque([strength]), lambda s: bytearray([s])])
def test_what_an_object_holds_is_another_job(
    comfy: Import, pack: Import, scene: SimpleNamespace, make: Callable[[int], Any]
) -> None:
    first, second, again = (job_of(pack, scene, with_wrapper(comfy, scene.model, make(value))) for value in (1, 2, 1))
    assert first == again != second


def test_objects_that_share_parts_are_hashed_in_no_time(comfy: Import, pack: Import, scene: SimpleNamespace) -> None:
    def tangle(innermost: int) -> Any:
        part: Any = SimpleNamespace(value=innermost)
        for _ in range(7):
            # Visited along every path, these would be 20 to the power of 7.
            part = SimpleNamespace(**{f"part{number}": part for number in range(20)})
        return part

    jobs = [job_of(pack, scene, with_wrapper(comfy, scene.model, tangle(number))) for number in (1, 2, 1)]
    assert jobs[0] == jobs[2] != jobs[1]


def test_cores_nodes_on_a_model_give_the_same_job_each_time(
    comfy: Import, pack: Import, scene: SimpleNamespace
) -> None:
    advanced, compiling = comfy("comfy_extras.nodes_model_advanced"), comfy("comfy_extras.nodes_torch_compile")

    def made() -> dict[str, Any]:
        return {
            "compile": compiling.TorchCompileModel.execute(scene.model, "inductor").result[0],
            "compile otherwise": compiling.TorchCompileModel.execute(scene.model, "cudagraphs").result[0],
            "shift 3": advanced.ModelSamplingSD3().patch(scene.model, 3.0)[0],
            "shift 5": advanced.ModelSamplingSD3().patch(scene.model, 5.0)[0],
            "rescaled": advanced.RescaleCFG().patch(scene.model, 0.7)[0],
        }

    models = made()
    jobs = {name: job_of(pack, scene, model) for name, model in models.items()}
    assert {name: job_of(pack, scene, model) for name, model in made().items()} == jobs
    assert len(set(jobs.values())) == len(jobs)
    for name in ("shift 3", "rescaled"):
        sampling_of(pack, scene, models[name], guidance=2.0)
        assert job_of(pack, scene, models[name]) == jobs[name]


_CHILD = """
import sys
sys.argv = ["comfyui", "--cpu"]
import torch
from asymtalker.training.core.host import use_comfyui
use_comfyui()
from asymtalker.jobs import identity
import hashlib

class Holder:
    def __init__(self, value):
        self.value, self.words, self.key = value, {"b", "a", "c", "dd"}, object()

def made(value):
    inner = lambda x, scale=2.0: (x * value * scale, {"x", "y", "zz"} & {"zz", x})
    return lambda *args: (inner(*args), Holder)

digest = hashlib.sha256()
identity.hash_value(digest, [made(3), Holder(torch.arange(4)), made, torch.bfloat16, {("a", 1): made(4)}])
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_the_identity_is_the_same_in_every_process(comfyui: Any) -> None:
    def child(seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", _CHILD]
        result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return result.stdout.split()[-1]

    assert child("1") == child("2")


def test_resuming_after_a_changed_override_begins_anew(pack: Import, scene: SimpleNamespace) -> None:
    _, report = generate(pack, scene, keep="for extending")
    assert report["chunks_resumed"] == 0
    model = scene.model
    scene.model = model.clone()
    scene.model.model_options["transformer_options"]["optimized_attention_override"] = scaled(0.5)
    video, report = generate(pack, scene)
    assert report["chunks_resumed"] == 0 and video.get_frame_count() == NUM_FRAMES
    scene.model = model
    assert generate(pack, scene)[1]["chunks_resumed"] == CHUNKS
