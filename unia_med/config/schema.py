"""All settings of a run, with defaults, units and ranges; YAML only fills these models.

`RunConfig` is the whole; its larger parts live in `config/data.py`, `config/prior.py` and one file per method, and are
importable from here.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from unia_med.config.aalr import AalrConfig
from unia_med.config.affinitynet import AffinityNetConfig, CamConfig
from unia_med.config.agmm import AgmmConfig
from unia_med.config.custom import CustomConfig
from unia_med.config.data import SYNTHETIC, DataConfig, Fraction, GridConfig, Positive, SplitConfig, TagsConfig
from unia_med.config.images import CocoConfig, CrfConfig, VocConfig
from unia_med.config.older import FORMAT, under_todays_settings
from unia_med.config.partial import PartialConfig
from unia_med.config.prior import (
    PriorConfig,
    WalkerConfig,
    draws_slices,
    labels_named,
    refuse_foreign_names,
    refuse_unknown_classes,
)
from unia_med.config.section import Section
from unia_med.config.unia import UniaConfig
from unia_med.config.weak_labels import CompleteConfig, LabelSource, MakeConfig

__all__ = [
    "AalrConfig",
    "AffinityNetConfig",
    "AgmmConfig",
    "AugmentConfig",
    "CamConfig",
    "CocoConfig",
    "CompleteConfig",
    "CrfConfig",
    "CustomConfig",
    "DataConfig",
    "GridConfig",
    "InferenceConfig",
    "LabelSource",
    "MakeConfig",
    "MethodConfig",
    "NetworkConfig",
    "PartialConfig",
    "PostprocessConfig",
    "PriorConfig",
    "RunConfig",
    "SplitConfig",
    "TagsConfig",
    "TestTimeConfig",
    "TrainingConfig",
    "UniaConfig",
    "VocConfig",
]

HEADS = 4
"""Attention heads of `hybrid_lite0`, of 32 channels each at its usual width."""

MethodConfig = Annotated[
    UniaConfig | PartialConfig | AgmmConfig | AalrConfig | CamConfig | AffinityNetConfig | CustomConfig,
    Field(discriminator="name"),
]
"""The settings of one method; `name` says which."""


def _check_range(name: str, pair: tuple[float, float]) -> None:
    if not 0 < pair[0] <= pair[1]:
        raise ValueError(f"{name} {list(pair)} is not a rising pair of positive numbers")


class AugmentConfig(Section):
    """Random changes of training slices; every value drawn uniformly per slice, 0 or [1, 1] switches one off."""

    rotate_degrees: float = Field(20, ge=0, le=180)
    """Largest rotation to either side."""
    scale: tuple[float, float] = (0.8, 1.25)
    """Zoom; above 1 objects get larger."""
    shear: float = Field(0.1, ge=0, lt=1)
    """Largest shear to either side, as a slope."""
    translate: Fraction = 0.08
    """Largest shift to either side, as a fraction of the slice size."""
    mirror: bool = False
    """Mirror left and right; off where left and right differ between classes."""
    gamma: tuple[float, float] = (0.7, 1.5)
    """Exponent on intensities in [0, 1]; above 1 darkens."""
    contrast: tuple[float, float] = (0.75, 1.25)
    """Factor on the distance from the mean intensity."""
    brightness: Fraction = 0.1
    """Largest offset to either side, intensities being in [0, 1]."""
    noise: Fraction = 0.05
    """Largest standard deviation of added Gaussian noise."""
    blur_px: float = Field(1.0, ge=0)
    """Largest standard deviation of Gaussian blur, pixels."""
    bias_field: float = Field(0.3, ge=0)
    """Largest log-amplitude of a smooth multiplicative field."""

    @model_validator(mode="after")
    def _check(self) -> AugmentConfig:
        for name in ("scale", "gamma", "contrast"):
            _check_range(name, getattr(self, name))
        return self


class NetworkConfig(Section):
    """The backbone and the decoder on it."""

    backbone: str = "hybrid_lite0"
    """`hybrid_lite0`: EfficientNet-Lite0 stages with a small transformer, runs on a CPU; `lite0`: those stages alone,
    for methods that need no attention; `vit`: a timm ViT."""
    weights: str = "package"
    """`package`: ImageNet weights that came with the installation; `none`: random; `timm`: timm's, from its local
    cache; or the path of a weights file."""
    model: str = "vit_small_patch16_224"
    """timm model name; `vit` only."""
    width: int = Field(128, ge=8, multiple_of=HEADS)
    """Token width E, a multiple of 4, the number of attention heads; `hybrid_lite0` only."""
    depth: int = Field(4, ge=2)
    """Transformer blocks; `hybrid_lite0` only. At least 2: affinity needs the attention of two."""
    token_stride: Literal[4, 8, 16] | None = None
    """Pixels from one token to the next; 4 costs 16 times the attention of 8. null: 8 for `hybrid_lite0`, the side of a
    patch for `vit`, whose patches overlap where it is smaller."""
    decoder: Literal["unet", "largefov", "aspp"] = "unet"
    """`unet` uses finer backbone features; the others see tokens alone (LargeFOV is UniA's)."""
    decoder_widths: list[Annotated[int, Field(ge=4)]] | None = None
    """Channels after each step of `unet`, coarsest first, one per skip and one at full size; null: 64, 48, 32, 16 as
    far as there are skips."""
    input_size: Annotated[int, Field(ge=32)] | None = None
    """Pixels to which the longer side of a slice is enlarged for the backbone; null: as it is. A 160 px crop at 448 px
    has 5.7 px per ViT token."""

    channels: int = Field(1, ge=1)
    """Image channels C; taken from `data.channels`, no need to set it. Pre-trained filters of the first layer are kept
    for 3 and shared out evenly over any other number."""
    uncertainty_width: int = Field(128, ge=16)
    """Inner width D of the uncertainty network; the published one has 1024."""

    @model_validator(mode="after")
    def _check(self) -> NetworkConfig:
        if self.backbone == "vit" and self.decoder == "unet":
            raise ValueError("decoder unet needs finer features than a vit has; use largefov or aspp")
        if self.backbone == "vit" and self.weights == "package":
            raise ValueError("weights package belongs to hybrid_lite0 and lite0; use timm, none or a file")
        steps = 4 if self.backbone == "lite0" else len([s for s in (2, 4, 8) if s < (self.token_stride or 8)]) + 1
        if self.decoder_widths is not None and len(self.decoder_widths) != steps:
            raise ValueError(f"decoder_widths has {len(self.decoder_widths)} entries, this backbone needs {steps}")
        return self


class CudaConfig(Section):
    """Batch and budget of a run on a CUDA device, in place of those for a CPU."""

    iterations: int = Field(ge=1)
    """In place of `training.iterations`."""
    batch_size: int = Field(ge=1)
    """In place of `training.batch_size` and of the teacher's, per device."""
    teacher_iterations: int = Field(ge=1)
    """In place of the iterations of a prior's teacher."""


class TrainingConfig(Section):
    """Optimiser, schedule and what is written when."""

    start_from: str | None = None
    """Run folder, bundle or name of a shipped model whose weights a training starts from (`train --from`): classes are
    matched by name, those it does not know start fresh. Where `prior.names` has a prior that trains a teacher, that
    model is the teacher, and none is trained. Null: from `network.weights`."""
    iterations: int = Field(3000, ge=1)
    """Training steps of the whole run, shared out over `prior.rounds`; the teacher of a prior has its own."""
    batch_size: int = Field(12, ge=1)
    """Slices per iteration and device."""
    cuda: CudaConfig | None = None
    """Another batch and budget where the run finds a CUDA device; null: the same on every device."""
    learning_rate: float = Field(1e-3, gt=0)
    """Peak rate of AdamW for the backbone."""
    head_multiplier: float = Field(1.0, gt=0)
    """Factor on the rate of everything but the backbone; 10 with a pretrained ViT (UniA)."""
    weight_decay: float = Field(0.01, ge=0)
    """Not applied to norms, biases and embeddings."""
    warmup: Fraction = 0.05
    """Share of the iterations in which the rate rises from near 0."""
    schedule: Literal["poly", "poly_published", "cosine"] = "poly"
    """`poly`: (1 - t/T)^0.9 after warm-up, continuous; `poly_published` drops there, as UniA's public script does;
    `cosine`: half a cosine to 0."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest gradient norm; null leaves gradients alone."""
    balanced: bool = False
    """Draw slices with a rare tag pattern more often."""
    labelled_share: float | None = Field(None, gt=0, lt=1)
    """Share of slices with weak labels among the real slices of a batch, where only some have any; null: as they
    come. Five scribbled patients of sixty come to a twelfth."""
    ema: float = Field(0.99, ge=0, lt=1)
    """Decay of the weight average that is validated, predicted with and exported; 0: none."""
    amp: bool = True
    """Mixed precision: on CUDA, and on a CPU whose bfloat16 (AMX, AVX512-BF16) a short timing finds faster."""
    validate_every: int = Field(500, ge=1)
    """Iterations between validations; the last iteration always validates."""
    checkpoint_every: int = Field(200, ge=1)
    """Iterations between checkpoints; what a kill costs at most."""
    keep_best_by: Literal["none", "dice"] = "none"
    """`none`: best.pt is the last state; `dice`: that of highest validation Dice, which needs masks that weak
    supervision does not have."""
    log_every: int = Field(20, ge=1)
    """Iterations between logged losses; each costs a device synchronisation."""


class TestTimeConfig(Section):
    """Test-time augmentation: probabilities averaged over views; used with `predict --tta`, or always."""

    __test__ = False  # The name starts with Test, which pytest would collect.

    flips: bool = False
    """Add the mirrored slice; only where left and right look alike."""
    scales: list[Positive] = [1.0]
    """Sizes at which a slice is seen, rounded to sides of multiples of 16 pixels; more are slower."""
    by_default: bool = False
    """Predict, validate and calibrate with these views unless `predict --no-tta` asks for the slice as it is."""


class PostprocessConfig(Section):
    """Cleaning of the predicted mask; switched off with `predict --no-postprocess`."""

    largest_component: bool | Literal["foreground"] | list[str] = False
    """Keep the largest 3D component, for structures of which there is one: true of each class, a list of names of those
    classes alone, `foreground` of all classes taken as one, for labels that separate foreground from background better
    than classes from each other."""
    fill_holes: bool = False
    """Fill background holes enclosed by the mask, slice by slice."""
    slice_gaps: bool = False
    """Fill a class missing in a single slice between two that hold it."""
    by_length: bool = False
    """The largest component is the one whose diameters have the largest sum over the slices, and not the most voxels: a
    ventricle, which many slices cut, and not an organ that is wide in two of them."""

    def steps(self, data: DataConfig) -> dict[str, Any]:
        """Return the arguments of `inference.postprocess.postprocess`, in which classes are labels.

        Args:
            data: names the classes; of merged ones the members count, see `labels_named`.
        """
        largest = self.largest_component
        labels = list(labels_named(largest, data)) if isinstance(largest, list) else largest
        return {**self.model_dump(), "largest_component": labels}


class PredictionWalkerConfig(WalkerConfig):
    """The random walk that decides what a network trained on inexact labels is unsure of, and how far it is trusted."""

    share: float = Field(0.5, ge=0, le=1)
    """Weight of the walk where the network is unsure; the rest is the network's own probability. 1: the walk alone."""
    background_odds: Positive = 1.0
    """Factor on the odds of the background. Where labels are too large, the network's objects are, too: 2 keeps only
    pixels in which the background has less than a third."""


class InferenceConfig(Section):
    """How masks are made from the network's output."""

    batch_slices: int = Field(16, ge=1)
    """Slices per forward pass; halved once when memory runs out."""
    tta: TestTimeConfig = TestTimeConfig()
    postprocess: PostprocessConfig = PostprocessConfig()
    walker: PredictionWalkerConfig | None = None
    """Where the network is not sure, its probabilities are averaged with those of a walk along the image; null: not."""
    slice_smoothing: float = Field(0.0, ge=0, le=5)
    """Standard deviation, in slices, of a Gaussian along the stack by which probabilities are smoothed, so that a slice
    that is taken for something else follows its neighbours. 0: none."""
    crf: CrfConfig = CrfConfig()
    temperature: Positive | None = None
    """Divides logits before the softmax; above 1 gives softer probabilities and a higher uncertainty. null: the one
    that was fitted on validation masks after training (RUN/calibration.json), or 1 where there were none. A number
    wins over the fitted one."""
    uncertainty: Literal["entropy", "network"] = "entropy"
    """`entropy`: predictive entropy of the averaged probabilities, divided by log K; `network`: the method's own
    map (UniA: U, of its uncertainty branch), averaged over the same views; no temperature changes it."""
    samples: int = Field(0, ge=0, le=1000)
    """Draws of the Gaussian features over which probabilities are averaged; 0: none, the features as they are. Each
    costs a pass of the decoder. For methods with an uncertainty network only."""


class RunConfig(Section):
    """One `unia-med train`: the resolved form of a config file, enough to repeat the run."""

    version: int = Field(FORMAT, ge=1)
    """Version of the settings, written into run folders; no need to set it."""
    seed: int = Field(0, ge=0, lt=2**32)
    """Drives everything random."""
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    network: NetworkConfig = NetworkConfig()
    method: MethodConfig = UniaConfig()
    prior: PriorConfig = PriorConfig()
    training: TrainingConfig = TrainingConfig()
    inference: InferenceConfig = InferenceConfig()

    @model_validator(mode="before")
    @classmethod
    def _older_version(cls, values: Any) -> Any:
        """Leave out settings of earlier versions that are constants today."""
        return under_todays_settings(values) if isinstance(values, dict) else values

    @model_validator(mode="before")
    @classmethod
    def _name_the_method(cls, values: Any) -> Any:
        """Read a method without a name as UniA."""
        method = values.get("method") if isinstance(values, dict) else None
        if isinstance(method, dict) and "name" not in method:
            return {**values, "method": {"name": "unia", **method}}
        return values

    @model_validator(mode="after")
    def _classes_by_name(self) -> RunConfig:
        """Compare the classes that settings name with those of the data."""
        refuse_unknown_classes(self.prior.names, self.data)
        refuse_foreign_names("prior.one_piece", self.prior.one_piece, self.data)
        if self.prior.proposals is not None:
            refuse_foreign_names("prior.proposals.classes", self.prior.proposals.classes, self.data)
            if len(labels_named(self.prior.proposals.classes, self.data)) == len(self.data.target_classes):
                raise ValueError("prior.proposals.classes names all classes; leave out those that the maps find")
        largest = self.inference.postprocess.largest_component
        if isinstance(largest, list):
            refuse_foreign_names("inference.postprocess.largest_component", largest, self.data)
        return self

    @model_validator(mode="after")
    def _channels_of_the_data(self) -> RunConfig:
        """Give the network the channels that the images have, so that they are written down once."""
        channels = self.data.channels
        if self.network.channels not in (1, channels):
            raise ValueError(f"network.channels {self.network.channels} differs from data.channels {channels}")
        if channels > 1 and self.prior.names:
            raise ValueError("anatomical priors know images of one channel; remove prior.names or data.channels")
        # The model is frozen for its users; here it is still being made.
        object.__setattr__(self, "network", self.network.model_copy(update={"channels": channels}))
        return self

    @model_validator(mode="after")
    def _check_synthetic(self) -> RunConfig:
        if self.data.name == SYNTHETIC and not any(draws_slices(name) for name in self.prior.names):
            raise ValueError("data.name synthetic needs a prior that draws slices; add prior.names: [phantom]")
        return self

    @model_validator(mode="after")
    def _check_backbone(self) -> RunConfig:
        if self.network.backbone == "lite0" and self.method.name == "unia":
            raise ValueError(f"method {self.method.name} needs attention, which backbone lite0 lacks; use hybrid_lite0")
        return self
