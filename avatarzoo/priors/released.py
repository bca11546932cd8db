"""Published EG3D generators in our modules: configuration and weights of an imported checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from avatarzoo.errors import BadCheckpointError
from avatarzoo.priors.checkpoints import ImportedCheckpoint, import_checkpoint
from avatarzoo.priors.eg3d import TriPlaneGenerator
from avatarzoo.priors.eg3d_config import FFHQ, EG3DConfig
from avatarzoo.priors.keys import GENERATOR, renamed

SUPERRESOLUTION = {512: "8XDC", 256: "4X", 128: "2X"}
"""Output side -> variant, for files that do not name the class."""
CLASS_PREFIX = "SuperresolutionHybrid"


def expected_shapes(config: EG3DConfig = FFHQ) -> dict[str, tuple[int, ...]]:
    """Official key -> shape of every tensor of a generator, for :func:`~avatarzoo.priors.checkpoints.import_checkpoint`."""
    return _shapes(TriPlaneGenerator(config))


def stored_config(checkpoint: ImportedCheckpoint) -> EG3DConfig:
    """The configuration that the averaged generator of a checkpoint was built with.

    A file without ``c_scale`` hides the label from the mapping, as the released code does.

    Raises:
        BadCheckpointError: the file does not say it, or says something that our generator has no counterpart for.
    """
    arguments = checkpoint.modules[checkpoint.main].init_kwargs
    try:
        return replace(
            _from_arguments(arguments, arguments["rendering_kwargs"]),
            neural_resolution=checkpoint.neural_resolution or FFHQ.neural_resolution,
            plane_axes=checkpoint.plane_axes or FFHQ.plane_axes,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadCheckpointError(
            f"The checkpoint does not say how its generator is built ({type(error).__name__}: {error}); give a configuration, "
            "e.g. RELEASED['ffhqrebalanced512-128']."
        ) from error


def load_eg3d(source: str | Path | ImportedCheckpoint, config: EG3DConfig | None = None) -> TriPlaneGenerator:
    """A published generator with its weights, in evaluation mode.

    Args:
        source: a published file, a folder of ``avatarzoo assets import``, or what was read from either.
        config: ``None`` takes what the file says.

    Raises:
        MissingAssetError, UnsafeCheckpointError: see :func:`~avatarzoo.priors.checkpoints.import_checkpoint`.
        BadCheckpointError: it is damaged, does not say its configuration, or its tensors are not exactly the generator's.
    """
    if isinstance(source, ImportedCheckpoint):
        checkpoint = source
    else:
        read = ImportedCheckpoint.load if Path(source).is_dir() else import_checkpoint
        checkpoint = read(source)
    config = config or stored_config(checkpoint)
    module = checkpoint.modules[checkpoint.main]
    generator = TriPlaneGenerator(config)
    module.require(_shapes(generator))
    names = renamed(generator, GENERATOR)
    generator.load_state_dict({ours: module.state[official] for official, ours in names.items()})
    return generator.eval()


def _shapes(generator: TriPlaneGenerator) -> dict[str, tuple[int, ...]]:
    ours = generator.state_dict()
    return {official: tuple(ours[name].shape) for official, name in renamed(generator, GENERATOR).items()}


def _from_arguments(arguments: dict[str, Any], rendering: dict[str, Any]) -> EG3DConfig:
    named = str(rendering.get("superresolution_module", "")).rpartition(".")[2].removeprefix(CLASS_PREFIX)
    pivot = rendering.get("avg_camera_pivot", FFHQ.camera_pivot)
    automatic = "auto" in (rendering["ray_start"], rendering["ray_end"])
    return EG3DConfig(
        latent_dim=arguments["z_dim"],
        code_dim=arguments["w_dim"],
        label_dim=arguments["c_dim"],
        mapping_layers=arguments.get("mapping_kwargs", {}).get("num_layers", 8),
        channel_base=arguments.get("channel_base", FFHQ.channel_base),
        channel_max=arguments.get("channel_max", FFHQ.channel_max),
        superresolution=named or SUPERRESOLUTION[arguments["img_resolution"]],  # type: ignore[arg-type]
        antialias=bool(rendering.get("sr_antialias", True)),
        half=arguments.get("sr_num_fp16_res", 0) > 0,
        coarse_samples=rendering["depth_resolution"],
        fine_samples=rendering["depth_resolution_importance"],
        depth_range="auto" if automatic else (rendering["ray_start"], rendering["ray_end"]),
        box=float(rendering["box_warp"]),
        white_background=bool(rendering.get("white_back", False)),
        label_scale=float(rendering.get("c_scale", 0)),
        pose_conditioning=not rendering.get("c_gen_conditioning_zero", False),
        decoder_rate=float(rendering.get("decoder_lr_mul", 1)),
        camera_radius=float(rendering.get("avg_camera_radius", FFHQ.camera_radius)),
        camera_pivot=(float(pivot[0]), float(pivot[1]), float(pivot[2])),
    )
