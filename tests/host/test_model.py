"""The network as core's MODEL: same numbers, and core's own tools work on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from asymtalker.tests.helpers import Import


@pytest.fixture(params=["dit_pro_open", "dit_lite_open"])
def case(request: pytest.FixtureRequest, golden: Path, pack: Import) -> dict[str, Any]:
    """A golden checkpoint and its first case."""
    tensors, metadata = pack("models.checkpoint").read_checkpoint(golden / f"{request.param}.weights.safetensors")
    with safe_open(golden / f"{request.param}.cases.safetensors", framework="pt") as file:
        inputs = {name: file.get_tensor(f"case0.{name}") for name in ("x", "reference", "audio", "timestep", "flow")}
    return {"tensors": tensors, "metadata": metadata, **inputs}


def load(pack: Import, case: dict[str, Any], weight_dtype: str = "default") -> Any:
    return pack("host.model").load_model(case["tensors"], case["metadata"], name="golden", weight_dtype=weight_dtype)


def denoised(pack: Import, model: Any, case: dict[str, Any], guidance: float = 1.0) -> torch.Tensor:
    """x0 through the whole host path: network, BaseModel.apply_model, core's operations and attention."""
    u = case["timestep"] / 1000
    network = pack("host.network").ChunkNetwork(model)
    return network(case["audio"], case["reference"], guidance)(case["x"], u[0])


def expected(case: dict[str, Any]) -> torch.Tensor:
    return case["x"] - case["timestep"].view(-1, 1, 1, 1, 1) / 1000 * case["flow"]


def test_apply_model_gives_x0_of_the_golden_flow(pack: Import, case: dict[str, Any]) -> None:
    x0 = denoised(pack, load(pack, case), case)
    torch.testing.assert_close(x0, expected(case), atol=2e-5, rtol=0)


def test_forward_equals_the_pure_network(pack: Import, case: dict[str, Any]) -> None:
    model = load(pack, case).model.diffusion_model
    dit = pack("models.dit").TalkingHeadDiT(model.config)
    dit.load_state_dict(case["tensors"])
    with torch.no_grad():
        tokens = dit.encode_audio(case["audio"])
        plain = dit(case["x"], case["timestep"], tokens, case["reference"])
        audio_kv = model.audio_keys_values(tokens)
        hosted = model(case["x"], case["timestep"], reference=case["reference"], audio_kv=audio_kv)
    torch.testing.assert_close(hosted, plain, atol=1e-6, rtol=0)


def test_guidance_extrapolates_from_silence(pack: Import, case: dict[str, Any]) -> None:
    model = load(pack, case)
    speech = denoised(pack, model, case)
    silence = denoised(pack, model, {**case, "audio": torch.zeros_like(case["audio"])})
    guided = denoised(pack, model, case, guidance=3.0)
    torch.testing.assert_close(guided, silence + 3 * (speech - silence), atol=1e-5, rtol=0)


@pytest.mark.parametrize("has_post_function", [False, True])
def test_guidance_may_hold_in_a_part(pack: Import, case: dict[str, Any], has_post_function: bool) -> None:
    model = load(pack, case)
    if has_post_function:
        model.set_model_sampler_post_cfg_function(lambda args: args["denoised"])
    everywhere, nowhere = denoised(pack, model, case, guidance=3.0), denoised(pack, model, case)
    guided = torch.zeros(1, 1, 1, *case["x"].shape[-2:])
    guided[..., 1:, :] = 1
    network = pack("host.network").ChunkNetwork(model, guided=guided)
    partly = network(case["audio"], case["reference"], 3.0)(case["x"], case["timestep"][0] / 1000)
    # Nearly: what guidance does not hold for is seen with speech.
    difference = (partly - everywhere)[..., 1:, :].abs().max()
    assert difference < 0.1 * (everywhere - nowhere)[..., 1:, :].abs().max()
    torch.testing.assert_close(partly[..., :1, :], nowhere[..., :1, :])
    assert not torch.equal(everywhere, nowhere)


def test_guidance_in_a_part_is_exact_where_each_side_is_computed(
    comfy: Import, pack: Import, case: dict[str, Any]
) -> None:
    model = load(pack, case)
    everywhere = denoised(pack, model, case, guidance=3.0)
    wrapper_of_the_network(comfy, model)
    guided = torch.zeros(1, 1, 1, *case["x"].shape[-2:])
    guided[..., 1:, :] = 1
    network = pack("host.network").ChunkNetwork(model, guided=guided)
    partly = network(case["audio"], case["reference"], 3.0)(case["x"], case["timestep"][0] / 1000)
    torch.testing.assert_close(partly[..., 1:, :], everywhere[..., 1:, :])


def test_guidance_in_a_part_holds_in_the_last_step(pack: Import, case: dict[str, Any]) -> None:
    model, everywhere = load(pack, case), torch.ones(1, 1, 1, *case["x"].shape[-2:])
    network = pack("host.network").ChunkNetwork(model, guided=everywhere)
    guider = network(case["audio"], case["reference"], 3.0)
    level = case["timestep"][0] / 1000

    def both(denoise: Any, levels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return torch.stack([denoise(noise, levels[0]), denoise(noise, levels[1])])

    first, last = guider.sample(both, torch.stack((level, level * 0.5, level * 0)), case["x"])
    torch.testing.assert_close(first, denoised(pack, model, case))
    halved = {**case, "timestep": case["timestep"] * 0.5}
    torch.testing.assert_close(last, denoised(pack, model, halved, guidance=3.0))
    assert not torch.equal(last, denoised(pack, model, halved))


def nothing(comfy: Import, model: Any) -> None:
    """Leave the MODEL as it is, but for empty containers, which nodes leave behind."""
    model.model_options["transformer_options"]["patches_replace"] = {"dit": {}}
    model.wrappers[comfy("comfy.patcher_extension").WrappersMP.PREDICT_NOISE] = {"node": []}


def wrapper_of_the_network(comfy: Import, model: Any) -> None:
    kind = comfy("comfy.patcher_extension").WrappersMP.DIFFUSION_MODEL
    model.add_wrapper(kind, lambda executor, *args: executor(*args))


def wrapper_in_the_options(comfy: Import, model: Any) -> None:
    extension = comfy("comfy.patcher_extension")
    kind, options = extension.WrappersMP.APPLY_MODEL, model.model_options
    extension.add_wrapper(kind, lambda executor, *args, **rest: executor(*args, **rest), options, is_model_options=True)


def function_around_the_network(comfy: Import, model: Any) -> None:
    model.set_model_unet_function_wrapper(lambda apply, args: apply(args["input"], args["timestep"], **args["c"]))


def other_attention(comfy: Import, model: Any) -> None:
    model.model_options["transformer_options"]["optimized_attention_override"] = lambda function, *args, **rest: (
        function(*args, **rest)
    )


def patched_object(comfy: Import, model: Any) -> None:
    layer = model.model.diffusion_model.blocks[0].self_attn
    own = layer.forward
    model.add_object_patch("diffusion_model.blocks.0.self_attn.forward", lambda x, tables: own(x, tables))


CHANGES = (
    wrapper_of_the_network,
    wrapper_in_the_options,
    function_around_the_network,
    other_attention,
    patched_object,
)


@pytest.mark.parametrize("change", [nothing, *CHANGES])
def test_guidance_in_a_part_runs_the_network_once_if_nothing_changes_it(
    comfy: Import, pack: Import, case: dict[str, Any], change: Callable[[Import, Any], None]
) -> None:
    everywhere, level = torch.ones(1, 1, 1, *case["x"].shape[-2:]), case["timestep"][0] / 1000
    model, given = load(pack, case), []
    expected = denoised(pack, model, case, guidance=3.0)
    change(comfy, model)
    network = model.model.diffusion_model
    velocity = network.velocity

    def noted(*args: Any) -> torch.Tensor:
        given.append(velocity(*args))
        return given[-1]

    network.velocity = noted
    guider = pack("host.network").ChunkNetwork(model, guided=everywhere)(case["audio"], case["reference"], 3.0)
    torch.testing.assert_close(guider(case["x"], level), expected)
    assert [len(flows) for flows in given] == ([2] if change is nothing else [1, 1])


def test_guidance_in_a_part_gives_both_sides_to_those_who_ask(pack: Import, case: dict[str, Any]) -> None:
    model, seen = load(pack, case), []

    def noted(args: dict[str, Any]) -> torch.Tensor:
        seen.append((args["cond_scale"], float(args["uncond"].abs().max())))
        return args["uncond"] + args["cond_scale"] * (args["cond"] - args["uncond"])

    model.set_model_sampler_cfg_function(noted, disable_cfg1_optimization=True)
    everywhere = torch.ones(1, 1, 1, *case["x"].shape[-2:])
    guider = pack("host.network").ChunkNetwork(model, guided=everywhere)(case["audio"], case["reference"], 3.0)
    level = case["timestep"][0] / 1000
    guider.sample(
        lambda denoise, levels, noise: denoise(noise, levels[0]) + denoise(noise, levels[1]),
        torch.stack((level, level * 0.5, level * 0)),
        case["x"],
    )
    assert [scale for scale, _ in seen] == [1, 3]
    assert all(silent > 0 for _, silent in seen)


@pytest.mark.parametrize(("weight_dtype", "tolerance"), [("bf16", 0.03), ("fp16", 0.01), ("fp8_e4m3fn", 0.3)])
def test_weight_dtypes_load_and_stay_close(
    pack: Import, case: dict[str, Any], weight_dtype: str, tolerance: float
) -> None:
    model = load(pack, case, weight_dtype)
    stored = model.model.diffusion_model.blocks[0].self_attn.q.weight.dtype
    assert stored == pack("host.model").WEIGHT_DTYPES[weight_dtype]
    error = (denoised(pack, model, case) - expected(case)).square().mean().sqrt()
    assert error < tolerance * expected(case).square().mean().sqrt()


@pytest.mark.parametrize(
    ("stored", "weight_dtype", "option", "computed"),
    [
        (torch.float16, "default", "", torch.bfloat16),
        (torch.bfloat16, "default", "", torch.bfloat16),
        (torch.float32, "bf16", "", torch.bfloat16),
        (torch.float32, "default", "", torch.float32),
        (torch.float16, "fp16", "", torch.float32),
        (torch.float16, "fp8_e4m3fn", "", torch.float32),
        (torch.float16, "default", "fp32_unet", torch.float32),
        (torch.float16, "default", "force_fp32", torch.float32),
        (torch.float32, "default", "bf16_unet", torch.bfloat16),
    ],
)
def test_16_bits_are_computed_in_bfloat16_where_the_cpu_can(
    stored: torch.dtype,
    weight_dtype: str,
    option: str,
    computed: torch.dtype,
    comfy: Import,
    pack: Import,
    case: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = {**case, "tensors": {name: tensor.to(stored) for name, tensor in case["tensors"].items()}}
    if option:
        monkeypatch.setattr(comfy("comfy.cli_args").args, option, True)
    monkeypatch.setattr(pack("host.precision"), "multiplies_bf16", lambda: False)
    if weight_dtype != "bf16":
        assert pack("host.network").compute_dtype(load(pack, short, weight_dtype).model) == torch.float32
    monkeypatch.setattr(pack("host.precision"), "multiplies_bf16", lambda: True)
    model = load(pack, short, weight_dtype)
    assert pack("host.network").compute_dtype(model.model) == computed
    error = (denoised(pack, model, short) - expected(case)).square().mean().sqrt()
    assert error < (0.3 if "fp8" in weight_dtype else 0.03) * expected(case).square().mean().sqrt()


LORA_NAMES = {
    "core": ("diffusion_model.{}", "lora_A.weight", "lora_B.weight"),
    "bare": ("{}", "lora_A.weight", "lora_B.weight"),
    "diffusers": ("transformer.{}", "lora_A.weight", "lora_B.weight"),
    "peft": ("base_model.model.{}", "lora_A.weight", "lora_B.weight"),
    "peft with an adapter's name": ("base_model.model.{}", "lora_A.default.weight", "lora_B.default.weight"),
    "up and down": ("{}", "lora_down.weight", "lora_up.weight"),
    "kohya": ("lora_unet_{}", "lora_down.weight", "lora_up.weight"),
}


def lora_and_merged(
    case: dict[str, Any], naming: str, strength: float, alpha: float
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A LoRA of four layers, and the checkpoint with it merged in by hand."""
    pattern, down_name, up_name = LORA_NAMES[naming]
    generator = torch.Generator().manual_seed(1)
    dim = case["tensors"]["blocks.0.self_attn.q.weight"].shape[0]
    lora: dict[str, torch.Tensor] = {}
    merged = dict(case["tensors"])
    for layer in ("self_attn.q", "self_attn.o", "cross_attn.k", "cross_attn.v"):
        down = torch.randn(4, dim, generator=generator) * dim**-0.5
        up = torch.randn(dim, 4, generator=generator) * 0.2
        name = f"blocks.0.{layer}"
        theirs = pattern.format(name.replace(".", "_") if naming == "kohya" else name)
        lora |= {f"{theirs}.{down_name}": down, f"{theirs}.{up_name}": up, f"{theirs}.alpha": torch.tensor(alpha)}
        merged[f"{name}.weight"] = merged[f"{name}.weight"] + strength * alpha / 4 * up @ down
    return lora, merged


def apply_lora(comfy: Import, folders: Path, model: Any, lora: dict[str, torch.Tensor]) -> Any:
    """The MODEL behind core's own LoRA loader."""
    save_file(lora, folders / "models" / "loras" / "style.safetensors")
    return comfy("nodes").LoraLoaderModelOnly().load_lora_model_only(model, "style.safetensors", 0.8)[0]


@pytest.mark.parametrize("naming", LORA_NAMES)
def test_core_lora_loader_equals_merged_weights(
    comfy: Import, pack: Import, case: dict[str, Any], folders: Path, naming: str
) -> None:
    lora, merged = lora_and_merged(case, naming, strength=0.8, alpha=2.0)
    plain = load(pack, case)
    with_lora = denoised(pack, apply_lora(comfy, folders, plain, lora), case)
    by_hand = denoised(pack, load(pack, {**case, "tensors": merged}), case)

    torch.testing.assert_close(with_lora, by_hand, atol=1e-5, rtol=0)
    assert (with_lora - expected(case)).abs().max() > 1e-3
    torch.testing.assert_close(denoised(pack, plain, case), expected(case), atol=2e-5, rtol=0)


def test_a_lora_that_fits_nothing_is_an_error_in_the_graph(
    comfy: Import, pack: Import, case: dict[str, Any], folders: Path
) -> None:
    model = load(pack, case)
    foreign = {f"unet.down.0.attn.{part}.weight": torch.zeros(4, 4) for part in ("lora_A", "lora_B")}
    with pytest.raises(ValueError, match=r"LoRA: no tensor name matches golden.*base_model\.model"):
        apply_lora(comfy, folders, model, foreign)
    larger = {f"blocks.0.self_attn.q.{part}.weight": torch.zeros(96, 96) for part in ("lora_A", "lora_B")}
    with pytest.raises(ValueError, match=r"LoRA: 1 of its 1 weights have another size.*blocks\.0\.self_attn\.q"):
        apply_lora(comfy, folders, model, larger)
    assert not model.patches


def test_cores_model_merging_still_works(comfy: Import, pack: Import, case: dict[str, Any]) -> None:
    # Core patches no parameters of modules that hold others, as `modulation` is.
    scaled = [name for name in case["tensors"] if not name.endswith("modulation")]
    other = {**case["tensors"], **{name: case["tensors"][name] * 1.1 for name in scaled}}
    half = {**case["tensors"], **{name: case["tensors"][name] * 1.05 for name in scaled}}
    models = load(pack, case), load(pack, {**case, "tensors": other})
    (merged,) = comfy("comfy_extras.nodes_model_merging").ModelMergeSimple().merge(*models, 0.5)
    by_hand = denoised(pack, load(pack, {**case, "tensors": half}), case)
    torch.testing.assert_close(denoised(pack, merged, case), by_hand, atol=1e-4, rtol=0)


def test_models_class_is_cores_in_all_but_lora_names(comfy: Import, pack: Import) -> None:
    base = comfy("comfy.model_base").BaseModel
    given = pack("host.lora").LoraNamedModel
    for name in {name for part in given.__mro__ for name in vars(part) if not name.startswith("__")}:
        if hasattr(base, name):
            assert getattr(given, name) is getattr(base, name), name


def test_wrappers_of_core_see_every_call(comfy: Import, pack: Import, case: dict[str, Any]) -> None:
    kinds = comfy("comfy.patcher_extension").WrappersMP
    model = load(pack, case).clone()
    seen: list[str] = []

    def watch(kind: str) -> Any:
        def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append(kind)
            return executor(*args, **kwargs)

        return wrapper

    for kind in (kinds.APPLY_MODEL, kinds.DIFFUSION_MODEL):
        model.add_wrapper_with_key(kind, "test", watch(kind))
    torch.testing.assert_close(denoised(pack, model, case), expected(case), atol=2e-5, rtol=0)
    assert seen == [kinds.APPLY_MODEL, kinds.DIFFUSION_MODEL]


def test_attention_override_is_honoured(pack: Import, case: dict[str, Any]) -> None:
    model = load(pack, case).clone()
    calls: list[int] = []

    def override(function: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return function(*args, **kwargs)

    model.model_options["transformer_options"]["optimized_attention_override"] = override
    torch.testing.assert_close(denoised(pack, model, case), expected(case), atol=2e-5, rtol=0)
    assert len(calls) == 2 * model.model.checkpoint.config.num_layers


@pytest.mark.slow
@pytest.mark.filterwarnings("error:Dynamo")
def test_cores_compile_node_reaches_the_network(comfy: Import, pack: Import, case: dict[str, Any]) -> None:
    model = load(pack, case)
    torch.compiler.reset()
    counters = comfy("torch._dynamo.utils").counters
    counters.clear()
    # The node offers inductor, which takes minutes on a CPU; tracing is the same with any backend.
    compiled = comfy("comfy_extras.nodes_torch_compile").TorchCompileModel.execute(model, "eager").result[0]
    torch.testing.assert_close(denoised(pack, compiled, case), denoised(pack, model, case), atol=1e-5, rtol=0)
    # Other steps and chunks, whose options and tensors are new, take the same graph.
    another_chunk = pack("host.network").ChunkNetwork(compiled)(case["audio"] + 1, case["reference"], 1.0)
    for u in (1.0, 0.5):
        another_chunk(case["x"] + 1, torch.tensor(u))
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_scaled_fp8_checkpoints_are_right(pack: Import, case: dict[str, Any], prefix: str) -> None:
    stored: dict[str, torch.Tensor] = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
    for name, weight in case["tensors"].items():
        stored[name] = weight
        if name.startswith("blocks.") and name.endswith(".weight") and weight.ndim == 2:
            scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[name.removesuffix("weight") + "scale_weight"] = scale
    model = load(pack, {**case, "tensors": {prefix + name: tensor for name, tensor in stored.items()}})
    assert "fp8 weights with scales" in model.model.checkpoint.notes[0]
    error = (denoised(pack, model, case) - expected(case)).square().mean().sqrt()
    assert error < 0.1 * expected(case).square().mean().sqrt()


def test_pruned_checkpoints_give_the_same(pack: Import, case: dict[str, Any]) -> None:
    pruned = {name: tensor for name, tensor in case["tensors"].items() if not name.startswith("text_embedding.")}
    assert len(pruned) < len(case["tensors"])
    model = load(pack, {**case, "tensors": pruned})
    torch.testing.assert_close(denoised(pack, model, case), expected(case), atol=2e-5, rtol=0)
    assert not hasattr(model.model.diffusion_model, "text_embedding")


@pytest.mark.parametrize(
    ("name", "sampled"),
    [
        ("asymtalker/mine/teacher", ("euler", 20, 3.0)),
        ("Model_Pretrained/diffusion_pytorch_model.safetensors", ("euler", 20, 3.0)),
        ("asymtalker/mine/student", ("few_step", 4, 1.0)),
    ],
)
def test_undistilled_checkpoints_have_their_own_defaults(
    pack: Import, case: dict[str, Any], name: str, sampled: tuple[str, int, float]
) -> None:
    load_model = pack("host.model").load_model
    own = load_model(case["tensors"], case["metadata"], name=name).model.checkpoint.sampling
    assert (own.sampler, own.steps, own.guidance) == sampled
    wish = pack("models.config").SamplingConfig(steps=7).to_metadata()
    stated = load_model(case["tensors"], {**case["metadata"], **wish}, name=name).model.checkpoint.sampling
    assert (stated.sampler, stated.steps) == ("few_step", 7)


@pytest.mark.parametrize("added", ["metadata", "tensors"])
def test_what_is_wrong_with_a_checkpoint_names_it(pack: Import, case: dict[str, Any], added: str) -> None:
    config = json.dumps({**json.loads(case["metadata"]["config"]), "audio": "x"})
    wrong = {"metadata": {"config": config}, "tensors": {"blocks.0.ffn.0.qweight": torch.zeros(1)}}
    with pytest.raises(ValueError, match=r"^golden: .*(audio must be an object|blocks\.0\.ffn\.0\.qweight)"):
        load(pack, {**case, added: {**case[added], **wrong[added]}})


def test_tensors_of_others_are_named_to_the_user(
    pack: Import, case: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    model = load(pack, {**case, "tensors": {**case["tensors"], "vae.decoder.conv_in.weight": torch.zeros(1)}})
    assert "vae.decoder.conv_in.weight" in caplog.text
    assert "left out: vae.decoder.conv_in.weight" in model.model.checkpoint.notes[0]


def test_incomplete_and_foreign_checkpoints_are_refused(pack: Import, case: dict[str, Any]) -> None:
    error = pack("models.checkpoint").CheckpointError
    incomplete = {name: tensor for name, tensor in case["tensors"].items() if "time_projection" not in name}
    with pytest.raises(error, match="time_projection"):
        load(pack, {**case, "tensors": incomplete})
    with pytest.raises(ValueError, match="not a checkpoint of the AsymTalker family"):
        load(pack, {**case, "tensors": {"first_stage_model.weight": torch.zeros(1)}, "metadata": {}})


def test_weights_fingerprint_sees_every_change(pack: Import, case: dict[str, Any]) -> None:
    fingerprint = pack("host.model").weights_fingerprint
    name = "text_embedding.0.weight"

    def changed(change: Callable[[torch.Tensor], object]) -> dict[str, torch.Tensor]:
        tensor = case["tensors"][name].clone()
        change(tensor.view(-1))
        return {**case["tensors"], name: tensor}

    def swap_last(values: torch.Tensor) -> None:
        values[-4:] = values[-4:].roll(2)

    versions = [
        case["tensors"],
        changed(lambda values: values[-1].add_(1e-3)),
        changed(swap_last),
        {("renamed" if key == name else key): tensor for key, tensor in case["tensors"].items()},
    ]
    assert len({fingerprint(version) for version in versions}) == len(versions)
    assert fingerprint(changed(torch.Tensor.clone)) == fingerprint(case["tensors"])


def test_strength_leads_from_silence_to_the_audio(pack: Import, case: dict[str, Any]) -> None:
    """The flow is that of silence at 0 and, bit for bit, as trained at 1."""
    model, network = load(pack, case), pack("host.network").ChunkNetwork
    silence = torch.randn(case["audio"].shape[-2:], generator=torch.Generator().manual_seed(1))
    audio, reference, x, u = case["audio"], case["reference"], case["x"], torch.tensor(0.5)

    def x0(strength: float, windows: torch.Tensor) -> torch.Tensor:
        return network(model, strength=strength, silence=lambda: silence)(windows, reference, 1.0)(x, u)

    assert torch.equal(x0(1.0, audio), network(model)(audio, reference, 1.0)(x, u))
    assert torch.equal(x0(0.0, audio), x0(1.0, silence.expand_as(audio)))
    distances = [float((x0(strength, audio) - x0(0.0, audio)).norm()) for strength in (0.25, 0.5, 1.0, 1.5)]
    assert distances == sorted(distances)
