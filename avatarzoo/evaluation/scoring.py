"""From predictions to columns: which metric fills which column, over which region, against what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from avatarzoo.errors import MissingAssetError, MissingExtraError, UsageError
from avatarzoo.evaluation.asked_pose import AskedPoseDistance
from avatarzoo.evaluation.case import Case, Shot
from avatarzoo.evaluation.protocol import Against, MetricSpec, Part
from avatarzoo.heads.base import HeadModel
from avatarzoo.metrics.base import AvatarMetric

COST_METRICS: dict[str, tuple[str, float]] = {
    "training_minutes": ("training_seconds", 1 / 60),
    "training_hours": ("training_seconds", 1 / 3600),
    "render_ms": ("render_ms_per_picture", 1.0),
    "render_seconds": ("render_ms_per_picture", 1 / 1000),
    "params_millions": ("parameters", 1e-6),
    "peak_memory_gb": ("peak_memory_mib", 1 / 1024),
    "resolution": ("resolution", 1.0),
}
"""Columns that are costs of a row, not scores of pictures: key of the recorded cost, and factor."""
DEFAULT_AGAINST: dict[str, Against] = {
    "csim": "source",
    "csim_pairs": "driver",
    "akd": "driver",
    "aed": "driver",
    "apd": "driver",
    "apd_asked": "driver",
}
"""What a metric compares with where the protocol does not say; all others with the target."""


class Tools:
    """Networks that several columns share, made when first asked for.

    Args:
        head: model of the coefficients that AED and APD through our own tracker are told in. device: for metric networks.
        embedder: face embedding of CSIM.
    """

    def __init__(self, head: HeadModel, device: str = "cpu", embedder: str = "auto") -> None:
        self.head, self.device, self.embedder_name = head, device, embedder

    @cached_property
    def reader(self) -> Any:
        from avatarzoo.perception.faces import FaceReader

        return FaceReader()

    @cached_property
    def tracker(self) -> Any:
        from avatarzoo.trackers.coefficients import TrackerEstimator

        return TrackerEstimator(self.head, self.reader)

    @cached_property
    def deep3d(self) -> Any:
        from avatarzoo.metrics.coefficients import Deep3DEstimator

        return Deep3DEstimator(self.reader, self.device)

    def estimator(self, name: str) -> Any:
        """``deep3d`` (published AED and APD, needs the user's weights) or ``tracker`` (ours); ``auto``: the first that is here."""
        if name == "auto":
            try:
                return self.deep3d
            except MissingAssetError:
                return self.tracker
        return {"deep3d": lambda: self.deep3d, "tracker": lambda: self.tracker}[name]()


def make_metric(spec: MetricSpec, tools: Tools, ground: float | None) -> AvatarMetric:
    """The metric of one column.

    Raises:
        UsageError: no such metric or option. MissingAssetError: its network is not on this machine.
    """
    from avatarzoo import metrics

    options = dict(spec.options)
    if "mode" in options:  # what a region means to the metric; ``region`` names the region itself
        options["region"] = options.pop("mode")
    if spec.region != "full" and "background" not in options and ground is not None:
        options["background"] = ground
    made: dict[str, Callable[[], Any]] = {
        "l1": lambda: metrics.L1(**options),
        "psnr": lambda: metrics.PSNR(**options),
        "ssim": lambda: metrics.SSIM(**options),
        "msssim": lambda: metrics.MSSSIM(**options),
        "lpips": lambda: metrics.LPIPS(**options),
        "fid": lambda: metrics.FID(**options),
        "frechet_face": lambda: metrics.FaceFrechetDistance(reader=tools.reader, **options),
        "csim": lambda: metrics.CSIM(tools.embedder_name, reader=tools.reader, **options),
        "csim_pairs": lambda: metrics.PairwiseCSIM(tools.embedder_name, reader=tools.reader, **options),
        "akd": lambda: metrics.AKD(reader=tools.reader, **options),
        "jitter": lambda: metrics.Jitter(reader=tools.reader, **options),
        "warped_error": lambda: metrics.WarpedError(**options),
        "apd_asked": lambda: AskedPoseDistance(tools.tracker),
        "aed": lambda: metrics.AED(tools.estimator(options.pop("estimator", "auto")), **options),
        "apd": lambda: metrics.APD(tools.estimator(options.pop("estimator", "auto")), **options),
    }
    if spec.metric not in made:
        known = ", ".join([*made, *COST_METRICS])
        raise UsageError(f"Column {spec.column}: there is no metric {spec.metric!r}; choose one of {known}.")
    try:
        return made[spec.metric]().to(tools.device)
    except (TypeError, ValueError) as error:
        raise UsageError(f"Column {spec.column}: {error}") from error


@dataclass
class Column:
    """One number of the table while it is being measured."""

    spec: MetricSpec
    metric: AvatarMetric
    per_case: dict[str, float | None] = field(default_factory=dict)

    @property
    def values(self) -> Tensor:
        return self.metric.per_image().cpu()

    def numbers(self) -> dict[str, Any]:
        """Plain numbers for a result file."""
        values = self.values
        good = values[torch.isfinite(values)].double()
        whole = self.is_set_metric
        mean = self.set_value() if whole else (float(good.mean()) if len(good) else None)
        return {
            "mean": mean,
            "std": None if whole or not len(good) else float(good.std(correction=0)),
            "count": int(getattr(self.metric, "prediction_count", 0)) if whole else len(good),
            "failures": int(self.metric.failures),
            "label": getattr(self.metric, "label", None),
            "per_case": self.per_case,
        }

    @property
    def is_set_metric(self) -> bool:
        """A distance between two sets of pictures (FID): one value, none per picture."""
        return self.spec.metric in ("fid", "frechet_face")

    def set_value(self) -> float | None:
        try:
            value = float(self.metric.compute())
        except ValueError:
            return None
        return value if value == value else None


class Board:
    """All columns of one row (one seed) in one part.

    Columns whose network is missing are left out and said so in ``notes``; they never get a substitute.

    Attributes:
        columns: ``GROUP / COLUMN`` -> measurement.
        notes: what was not computed, and why.
    """

    def __init__(self, part: Part, tools: Tools, ground: float | None) -> None:
        self.part, self.tools, self.ground = part, tools, ground
        self.columns: dict[str, Column] = {}
        self.notes: dict[str, str] = {}
        self.specs = [spec for spec in part.metrics if spec.metric not in COST_METRICS]

    def title(self, spec: MetricSpec, group: str) -> str:
        return f"{group} / {spec.column}" if group and spec.grouped else spec.column

    def column(self, spec: MetricSpec, group: str) -> Column | None:
        title = self.title(spec, group)
        if spec.column in self.notes:
            return None
        if title not in self.columns:
            try:
                self.columns[title] = Column(spec, make_metric(spec, self.tools, self.ground))
            except (MissingAssetError, MissingExtraError) as error:
                self.notes[spec.column] = f"{spec.column} was not computed: {error}"
                return None
        return self.columns[title]

    @torch.no_grad()
    def score(self, case: Case, pictures: list[tuple[Shot, Tensor]] | Any) -> None:
        """Score all pictures of one case: pairs of a shot and its prediction ``(B, 3, H, W)``, in order."""
        used = [(spec, column) for spec in self.specs if (column := self.column(spec, case.group))]
        before = {column.spec.column: len(column.values) for _, column in used}
        for shot, prediction in pictures:
            for spec, column in used:
                self._update(case, spec, column, shot, prediction)
        for spec, column in used:
            column.metric.end_clip()
            if not column.is_set_metric:
                new = column.values[before[spec.column] :]
                good = new[torch.isfinite(new)]
                column.per_case[case.name] = float(good.mean()) if len(good) else None

    def _update(self, case: Case, spec: MetricSpec, column: Column, shot: Shot, prediction: Tensor) -> None:
        against = spec.against or DEFAULT_AGAINST.get(spec.metric, "target")
        reference = getattr(shot, against)
        if reference is None:
            raise UsageError(
                f"Column {spec.column} compares with the {against}, which {self.part.task} does not have; "
                "say against: driver or source in the protocol."
            )
        device = self.tools.device
        region = None if spec.region == "full" else shot.regions[spec.region].to(device)
        if isinstance(column.metric, AskedPoseDistance):
            column.metric.ask(shot.params, shot.camera)
        column.metric.update(prediction.to(device), reference.to(device), region)

    def numbers(self) -> dict[str, dict[str, Any]]:
        return {title: column.numbers() for title, column in self.columns.items()}


def cost_columns(part: Part, costs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Columns of a part that are costs, from what a row's :class:`.costs.Costs` recorded."""
    columns: dict[str, dict[str, Any]] = {}
    for spec in part.metrics:
        if spec.metric in COST_METRICS:
            key, factor = COST_METRICS[spec.metric]
            value = costs.get(key)
            columns[spec.column] = {
                "mean": None if value is None else float(value) * factor, "std": None, "count": 1, "failures": 0, "label": None,
                "per_case": {},
            }  # fmt: skip
    return columns
