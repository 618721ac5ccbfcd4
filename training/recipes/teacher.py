"""Train the teacher by flow matching: ``python -m asymtalker.training teacher``."""

from __future__ import annotations

import argparse
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...models.checkpoint import read_checkpoint, write_checkpoint
from ...models.config import DiTConfig, SamplingConfig
from ...models.dit import PLAIN, TalkingHeadDiT
from ...models.flow import broadcast
from ...models.layers import Kernels
from ..core.articulation import articulated, articulation_loss
from ..core.audio_projection import AUDIO_HIDDEN, PREFIX, copy_audio_projection, part, shapes
from ..core.config import RunConfig, TrainingError, read_config
from ..core.data import Batch, PreparedClips, load_batches
from ..core.device import CPU, training_device
from ..core.distributed import ShardedState, World, average_gradients, joined_world
from ..core.inference import ReferenceTraining
from ..core.loop import TrainingRun, clip_and_step
from ..core.nano import NanoNetwork
from ..core.objectives import uncertain
from ..core.paths import add_nano_arguments
from ..core.samples import SampleStrip
from ..core.state import Ema, TrainingState
from ..core.teaching import drop_audio, teacher_loss

CONDITIONS = ("audio", "articulation")


def short_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention on [B, S, heads, head_dim] tensors by plain products.

    On CPUs, PyTorch's attention would take a quarter of a training step in bfloat16; S is small there.
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    weights = torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2), dim=-1)
    return (weights.to(v.dtype) @ v).transpose(1, 2)


SHORT = Kernels(attention=short_attention)


@dataclass(frozen=True, kw_only=True)
class TeacherTraining(NanoNetwork, RunConfig):
    """Configuration of a teacher run.

    ``condition_on`` "articulation" gives the network the true articulation in place of its audio projection's hidden
    units (see ``core.articulation``), "audio" the speech itself. ``audio_weight`` is the weight of the articulation
    loss, which keeps the projection accurate; its parameters have ``audio_lr_ratio`` of the learning rate, since the
    clips hold fewer voices than it was trained on.
    ``mixed_precision`` computes in bfloat16, with weights and losses in float32. A step takes a third less time on CPUs
    with AVX-512 BF16.
    ``mouth_weight`` is added to the flow loss on sites of the mouth. Until ``crop_until`` of the steps, the input is
    windows of ``crop`` x ``crop`` latent sites around the mouth: attention over fewer tokens makes a step several times
    as fast, and rotary positions are relative. In a share ``crop_anywhere`` of these steps, they lie anywhere.
    ``blend`` is the most that a person takes of another one's appearance, see ``blended``.
    ``beginnings`` is as in ``PreparedClips``. ``reference`` "static" is the baseline without TRE;
    ``reference_noise`` (a standard deviation) makes either kind uncertain (see ``core.objectives.uncertain``).
    """

    condition_on: str
    audio_weight: float
    audio_lr_ratio: float
    audio_dropout: float
    mixed_precision: bool = False
    mouth_weight: float
    crop: int
    crop_until: float
    crop_anywhere: float = 0.0
    blend: float = 0.0
    beginnings: float = 1.0
    shift: float
    reference: str
    reference_noise: float = 0.0
    sampling: dict[str, float | int | str]

    def __post_init__(self) -> None:
        if self.condition_on not in CONDITIONS:
            raise TrainingError(f"condition_on must be one of {CONDITIONS}, got {self.condition_on!r}")


def cropped(batch: Batch, size: int, generator: torch.Generator, anywhere: float = 0.0) -> Batch:
    """A random window of ``size`` x ``size`` latent sites, its corner on even sites.

    It shows the mouths and the blinking eyes, or with the probability ``anywhere`` any part of the picture.
    """
    lengths = batch.latents.shape[-2:]
    # A draw of its own would change the noise of runs that have no such windows.
    if anywhere and float(torch.rand(1, generator=generator)) < anywhere:
        places = [(length - size) // 2 + 1 for length in lengths]
        return _window(batch, [2 * int(torch.randint(n, (1,), generator=generator)) for n in places], size)
    spans = [batch.watched.amax(dim=dims).nonzero()[:, 0] for dims in ((0, 1, 2, 3, 5), (0, 1, 2, 3, 4))]
    corner = []
    for sites, length in zip(spans, lengths, strict=True):
        low, high = max(0, int(sites.max()) + 1 - size), min(int(sites.min()), length - size)
        # If they do not fit into one window, it shows the middle between them.
        choices = [even for even in range(0, length - size + 1, 2) if low <= even <= high] or [2 * ((low + high) // 4)]
        corner.append(choices[int(torch.randint(len(choices), (1,), generator=generator))])
    return _window(batch, corner, size)


def _window(batch: Batch, corner: Sequence[int], size: int) -> Batch:
    window = (..., *(slice(start, start + size) for start in corner))
    parts = {name: getattr(batch, name)[window] for name in ("latents", "reference", "mask", "eyes")}
    return dataclasses.replace(batch, **parts)


def blended(batch: Batch, most: float, generator: torch.Generator) -> Batch:
    """Half of the people with up to ``most`` (0..1) of the appearance of the one before them in the batch.

    In latent space, reference and frames move alike, so that the motion stays. A network that has seen few faces moves
    only those.
    """
    share = most * (2 * torch.rand(len(batch.reference), generator=generator) - 1).clamp_min(0)
    shift = broadcast(share) * (batch.reference.roll(1, 0) - batch.reference)
    return dataclasses.replace(batch, reference=batch.reference + shift, latents=batch.latents + shift[:, None])


def train(
    config: TeacherTraining,
    data: Path,
    out: Path,
    workers: int,
    compile_network: bool,
    start: Path | None = None,
    vae: Path | None = None,
    audio: Path | None = None,
    device: torch.device = CPU,
    world: World | None = None,
) -> None:
    """Train (or resume) a run in ``out``; writes ``state.safetensors`` and ``teacher.safetensors`` (averaged).

    Args:
        start: checkpoint whose weights a new run starts from; its audio projection may have another shape.
        audio: checkpoint (of ``training.audio``) whose audio projection a new run starts with.
        vae: checkpoint to decode sample strips with; None makes none.
        world: processes that share each batch; None is this one alone.
    """
    torch.manual_seed(config.seed)
    rank, size = (0, 1) if world is None else (world.rank, world.size)
    if config.batch % size:
        raise TrainingError(f"a batch of {config.batch} cannot be divided among {size} processes")
    network = new_network(config, start, audio).to(device)
    audio_parameters = [value for name, value in network.named_parameters() if name.startswith(AUDIO_HIDDEN)]
    rest = [value for name, value in network.named_parameters() if not name.startswith(AUDIO_HIDDEN)]
    groups = [{"params": rest}, {"params": audio_parameters, "lr_ratio": config.audio_lr_ratio}]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
    ema = Ema(network, config.ema_decay)
    state = new_state(network, optimizer, ema, config, world)
    clips = PreparedClips(
        data, config.seed, config.batch * config.steps,
        reference=config.reference, lids=config.audio_lids, beginnings=config.beginnings,
    )  # fmt: skip
    strip = SampleStrip(clips, vae, out, config.condition_on)

    def publish() -> None:
        if not state.leads:
            return
        metadata = export(config, ema, out / "teacher.safetensors")
        strip.save(ema.shadow, metadata, state.step)

    run = TrainingRun("teacher", out, config, state, publish, device)
    forward = torch.compile(network, dynamic=False) if compile_network else network
    for batch in load_batches(clips, config.batch, state.step, workers, rank, size):
        generator = run.generator(rank)
        run.set_learning_rate()
        with device, torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision):
            terms, loss = step_losses(network, forward, batch.to(device), config, generator, state.step)
        loss.backward()
        if world is not None:
            average_gradients(network.parameters(), world)
            terms = {name: world.mean(value) for name, value in terms.items()}
        terms["gradient"] = clip_and_step(network.parameters(), optimizer)
        run.finish_step(terms)
    run.close()


def new_network(config: TeacherTraining, start: Path | None, audio: Path | None) -> TalkingHeadDiT:
    """The network that a new run trains; see ``train``."""
    network = TalkingHeadDiT(config.network(), kernels=SHORT if config.mixed_precision else PLAIN)
    network.initialise()
    if start is not None:
        tensors, metadata = read_checkpoint(start)
        start_from(network, tensors, told=DiTConfig.from_state_dict(tensors, metadata).audio.lids)
    if audio is not None:
        copy_audio_projection(network, audio)
    return network


def new_state(
    network: TalkingHeadDiT, optimizer: torch.optim.Optimizer, ema: Ema, config: TeacherTraining, world: World | None
) -> TrainingState:
    """The state of a run of this process alone, or of those of ``world``, of which one writes files."""
    if world is None:
        return TrainingState({"teacher": network}, {"adamw": optimizer}, {"teacher": ema}, config.record())
    return ShardedState({"teacher": network}, {"adamw": optimizer}, {"teacher": ema}, config.record(), world=world)


def start_from(network: TalkingHeadDiT, tensors: Mapping[str, Tensor], *, told: bool = False) -> None:
    """Load ``tensors``; an audio projection that does not fit is left as it was initialised.

    ``told`` says whether their network was told of blinks. If only ``network`` is, what its last hidden units meant
    before they became the lids is forgotten.
    """
    own = part(network.state_dict(), PREFIX)
    if shapes(part(tensors, PREFIX)) != shapes(own):
        tensors = {name: value for name, value in tensors.items() if not name.startswith(PREFIX)} | own
    network.load_state_dict(tensors)
    if network.config.audio.lids and not told:
        with torch.no_grad():
            network.audio_proj.proj3.weight[:, -network.config.vae_stride[0] :] = 0


def step_losses(
    network: TalkingHeadDiT,
    forward: Callable[..., Tensor],
    batch: Batch,
    config: TeacherTraining,
    generator: torch.Generator,
    step: int,
) -> tuple[dict[str, float], Tensor]:
    """The terms to report and the loss of one step."""
    if step < config.crop_until * config.steps:
        batch = cropped(batch, config.crop, generator, config.crop_anywhere)
    # A draw of its own would change the noise of runs without it.
    if config.blend:
        batch = blended(batch, config.blend, generator)
    batch = dataclasses.replace(batch, reference=uncertain(batch.reference, config.reference_noise, generator))
    projection, mouth = network.audio_proj, batch.mouth[:, 0]
    if config.condition_on == "articulation":
        if not mouth.isfinite().all():
            raise TrainingError('the clips have no articulation (real videos?): set condition_on = "audio"')
        hidden = articulated(network, mouth, batch.windows[:, 0])
        loss = teacher_loss(forward, projection.tokens(hidden), batch, config, generator)
        return {"flow": loss.item()}, loss
    windows = drop_audio(batch.windows[:, 0], config.audio_dropout, generator, network.config.audio)
    hidden = projection.hidden(windows)
    flow = teacher_loss(forward, projection.tokens(hidden), batch, config, generator)
    articulation = articulation_loss(hidden, mouth, network.config.vae_stride[0])
    return {"flow": flow.item(), "articulation": articulation.item()}, flow + config.audio_weight * articulation


def export(config: TeacherTraining, ema: Ema, path: Path) -> dict[str, str]:
    """Write the averaged teacher as a checkpoint that the loader reads; returns its metadata."""
    sampling = SamplingConfig(**config.sampling)  # type: ignore[arg-type]
    metadata = config.network().to_metadata() | sampling.to_metadata()
    metadata |= ReferenceTraining(config.reference, config.reference_noise).to_metadata()
    write_checkpoint(path, ema.shadow, metadata)
    return metadata


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    add_nano_arguments(parser, "nano_teacher.toml")
    parser.add_argument("--data", type=Path, required=True, help="folder of prepared clips")
    parser.add_argument("--start", type=Path, help="checkpoint to start from")
    parser.add_argument("--audio", type=Path, help="`audio` checkpoint whose projection replaces the network's")
    parser.add_argument("--vae", type=Path, help="nano VAE checkpoint; if given, sample strips are written")
    parser.add_argument("--compile", action="store_true", help="use torch.compile (takes a minute, then runs faster)")


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    config = read_config(TeacherTraining, args.config, args.set)
    paths = (args.data, args.out, args.workers, args.compile, args.start, args.vae, args.audio)
    if "RANK" not in os.environ:
        train(config, *paths, training_device(args.device))
        return
    with joined_world() as world:
        train(config, *paths, world.device, world)
