"""How a model is made, as immutable values that are saved beside it.

It deliberately holds no code and no path: the same recipe on the same records gives the same model on the same machine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One causal convolution with batch normalisation and ReLU.

    Attributes:
        channels: Output channels.
        kernel: Taps.
        stride: Input samples an output.
        dilation: Distance of the taps.
    """

    channels: int
    kernel: int
    stride: int = 1
    dilation: int = 1

    @property
    def context(self) -> int:
        """Earlier input samples that the layer needs: what the streaming model keeps as state."""
        return (self.kernel - 1) * self.dilation + 1 - self.stride


RHYTHM_LAYERS = (
    Layer(channels=20, kernel=16, stride=4),  # 32 Hz
    Layer(channels=40, kernel=5, stride=2),  # 16 Hz
    Layer(channels=48, kernel=5),
    Layer(channels=48, kernel=5, stride=2),  # 8 Hz
    Layer(channels=48, kernel=3),
    Layer(channels=48, kernel=4, stride=2),  # 4 Hz
    Layer(channels=48, kernel=3, dilation=2),
    Layer(channels=48, kernel=3, dilation=4),
    Layer(channels=48, kernel=3, dilation=8),
    Layer(channels=48, kernel=4, stride=4),  # 1 Hz
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Everything that decides what a training gives.

    Attributes:
        layers: The network; strides multiply to 128, so that it makes one step a second.
        seed: Seed of weights, order and augmentation.
        epochs: Passes over the training records.
        batch: Windows a step.
        window_s: Seconds a training window.
        learning_rate: Peak of the cosine schedule.
        warm_up_share: Share of the steps that the rate rises.
        weight_decay: Decoupled decay of the weights (not of offsets and gains).
        average_decay: Decay of the running average of weights, which is what is kept.
        label_smoothing: Share of probability spread over all classes.
        class_weight_power: Loss weight of a class is its frequency to this power, scaled to mean 1.
        dropout: Share of features dropped before the head.
        rate_jitter: Whether records are played up to 5 % slower or faster.
        scale_jitter: Natural logarithm of the largest gain change after normalisation.
        noise_probability: Share of windows with electrode noise added.
        noise_max_fraction: Its largest amplitude as a share of the signal's (99th percentiles).
        noise_left_out: Pieces of noise that are kept for figures under noise (``noise.KEPT_FOR_TESTS``), by id.
        lead_off_probability: Share of windows in which some seconds are flat, as when an electrode lifts.
        statistics_batches: Batches that re-estimate the batch normalisation for the averaged weights.
        representative_windows: Training records that set the quantization ranges.
        range_percentile: Percentile of a channel's activations that becomes full scale in int8.
        equalization: 1 gives every channel its own full scale, 0 one a layer; between is geometric.
        teacher: How the network that this one starts from and learns from is made; trained on the same records.
        distillation: Share of the loss that is likeness to the teacher, which sees the windows without the noise.
        distillation_temperature: Softens both sides of that likeness (Hinton, Vinyals, Dean 2015, arXiv:1503.02531).
        sparsity: Share of the weights that is pruned in every layer after the first (``prune``).
        pruned_by: Share of the steps after which no more weights are pruned.
    """

    layers: tuple[Layer, ...] = RHYTHM_LAYERS
    seed: int = 1906
    epochs: int = 30
    batch: int = 32
    window_s: int = 27
    learning_rate: float = 3e-3
    warm_up_share: float = 0.1
    weight_decay: float = 0.03
    average_decay: float = 0.995
    label_smoothing: float = 0.05
    class_weight_power: float = -0.35
    dropout: float = 0.2
    rate_jitter: bool = True
    scale_jitter: float = 0.2
    noise_probability: float = 0.15
    noise_max_fraction: float = 0.3
    noise_left_out: tuple[str, ...] = ()
    lead_off_probability: float = 0.0
    statistics_batches: int = 60
    representative_windows: int = 200
    range_percentile: float = 99.95
    equalization: float = 0.5
    teacher: Self | None = None
    distillation: float = 0.0
    distillation_temperature: float = 2.0
    sparsity: float = 0.0
    pruned_by: float = 0.6

    def as_json(self) -> dict[str, Any]:
        """As plain values for a manifest."""
        return asdict(self)


RHYTHM_RECIPE = Recipe(
    learning_rate=2e-3,
    noise_probability=0.4,
    noise_max_fraction=1.0,
    noise_left_out=("em_4",),
    lead_off_probability=0.1,
    teacher=Recipe(),
    distillation=0.5,
    sparsity=0.5,
)
"""The shipped one: a network trained on fairly clean windows teaches itself to say the same under noise, and with half
of its weights."""
