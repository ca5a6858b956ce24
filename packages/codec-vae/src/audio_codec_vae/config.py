"""The configurations of the autoencoders, without torch: encoder, bottleneck and decoder are chosen one by one.

Names and defaults of the settings are the originals', where a user meets them in a model_config.json.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# --- encoders and decoders -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LyraEncoderConfig:
    """LyraCodec's, which tells mean and log variance."""

    in_channels: int = 2
    base_channels: int = 128
    latent_dim: int = 64
    c_mults: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (2, 4), (4, 8), (8, 16))
    """Of each block the inputs and outputs, in base channels."""
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    group_norm: bool = False
    """Of the later revision: its results depend on the length."""

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class LyraDecoderConfig:
    """LyraCodec's, which knows the lengths that the encoder met on its way."""

    out_channels: int = 2
    base_channels: int = 128
    latent_dim: int = 64
    c_mults: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (2, 4), (4, 8), (8, 16))
    """In the encoder's order."""
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    group_norm: bool = False

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class OobleckEncoderConfig:
    """Of the stable-audio models."""

    in_channels: int = 2
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    use_snake: bool = False
    """Otherwise ELU."""
    antialias_activation: bool = False
    """Computes one activation at twice the rate, that before the last convolution."""

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class OobleckDecoderConfig:
    """Of the stable-audio models."""

    out_channels: int = 2
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    """In the encoder's order."""
    use_snake: bool = False
    antialias_activation: bool = False
    """Of the activations before each upsampling and of the last one."""
    use_nearest_upsample: bool = False
    """Repetition and a convolution in place of a transposed convolution."""
    final_tanh: bool = True

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class DACEncoderConfig:
    """Of the Descript Audio Codec."""

    in_channels: int = 1
    d_model: int = 128
    strides: tuple[int, ...] = (2, 4, 8, 8)
    latent_dim: int | None = None
    """Of a further convolution; without it the width is d_model * 2^len(strides)."""

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class DACDecoderConfig:
    """Of the Descript Audio Codec."""

    latent_dim: int
    out_channels: int = 1
    channels: int = 1536
    rates: tuple[int, ...] = (8, 8, 4, 2)
    """In the decoder's order."""

    @property
    def ratio(self) -> int:
        return math.prod(self.rates)


@dataclass(frozen=True, kw_only=True)
class SEANetEncoderConfig:
    """Of EnCodec."""

    channels: int = 1
    dimension: int = 128
    n_filters: int = 32
    n_residual_layers: int = 1
    ratios: tuple[int, ...] = (2, 4, 5, 8)
    """In the order in which the encoder downsamples."""
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2
    """Layers; 0: none."""

    @property
    def ratio(self) -> int:
        return math.prod(self.ratios)


@dataclass(frozen=True, kw_only=True)
class SEANetDecoderConfig:
    """Of EnCodec."""

    channels: int = 1
    dimension: int = 128
    n_filters: int = 32
    n_residual_layers: int = 1
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    """In the order in which the decoder upsamples."""
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2

    @property
    def ratio(self) -> int:
        return math.prod(self.ratios)


@dataclass(frozen=True, kw_only=True)
class TAAEEncoderConfig:
    """Of stable-codec: transformers on every level."""

    in_channels: int = 2
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    transformer_depths: tuple[int, ...] = (3, 3, 3, 3)
    use_snake: bool = False
    """Otherwise the blocks have no activation of their own."""
    sliding_window: tuple[int, int] | None = None
    """How many positions attention reaches to the left and right; None: all."""
    use_dilated_conv: bool = False
    conformer: bool = False

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class TAAEDecoderConfig:
    """Of stable-codec; lists in the encoder's order."""

    out_channels: int = 2
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    transformer_depths: tuple[int, ...] = (3, 3, 3, 3)
    use_snake: bool = False
    sliding_window: tuple[int, int] | None = None
    use_dilated_conv: bool = False
    conformer: bool = False

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


EncoderConfig = LyraEncoderConfig | OobleckEncoderConfig | DACEncoderConfig | SEANetEncoderConfig | TAAEEncoderConfig
DecoderConfig = LyraDecoderConfig | OobleckDecoderConfig | DACDecoderConfig | SEANetDecoderConfig | TAAEDecoderConfig

# --- bottlenecks -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LogVarianceConfig:
    """LyraCodec's Gaussian: mean and log variance, limited to [-10, 10]."""


@dataclass(frozen=True)
class VAEConfig:
    """A Gaussian of mean and softplus deviation."""


@dataclass(frozen=True)
class TanhConfig:
    scale: float = 1.0


@dataclass(frozen=True)
class L2NormConfig:
    """Vectors of length 1."""


@dataclass(frozen=True)
class WassersteinConfig:
    """Drawn towards a Gaussian by the maximum mean discrepancy of a batch."""

    noise_augment_dim: int = 0
    """Channels of noise that decoding appends."""
    bypass_mmd: bool = False
    use_tanh: bool = False
    tanh_scale: float = 5.0


@dataclass(frozen=True)
class SoftNormConfig:
    """A scale and a shift for each channel, learnt so that latents have mean 0 and deviation 1."""

    dim: int = 64
    noise_augment_dim: int = 0
    noise_regularize: bool = False


@dataclass(frozen=True)
class RVQConfig:
    """EnCodec's residual vector quantiser, with codebooks that are moving averages."""

    dim: int = 128
    codebook_size: int = 1024
    num_quantizers: int = 8
    decay: float = 0.99
    threshold_ema_dead_code: float = 2


@dataclass(frozen=True)
class RVQVAEConfig(RVQConfig):
    """A Gaussian, then the quantiser."""


@dataclass(frozen=True)
class DACRVQConfig:
    """DAC's residual vector quantiser, with codebooks that learn by gradients."""

    input_dim: int = 512
    n_codebooks: int = 9
    codebook_dim: int = 8
    codebook_size: int = 1024
    quantizer_dropout: float = 0.0
    quantize_on_decode: bool = False
    noise_augment_dim: int = 0


@dataclass(frozen=True)
class DACRVQVAEConfig(DACRVQConfig):
    """A Gaussian, then the quantiser."""


@dataclass(frozen=True)
class FSQConfig:
    """Finite scalar quantisation."""

    levels: tuple[int, ...] = (8, 5, 5, 5)
    num_codebooks: int = 1
    dim: int | None = None
    """Channels before and after, where a projection changes them; None: levels times codebooks."""
    noise_augment_dim: int = 0


@dataclass(frozen=True)
class DitheredFSQConfig:
    """Finite scalar quantisation that learns with uniform noise in place of rounding."""

    dim: int = 8
    """Channels of one codebook."""
    levels: int | tuple[int, ...] = 5
    num_codebooks: int = 1
    noise_dropout: float = 0.05


BottleneckConfig = (
    LogVarianceConfig
    | VAEConfig
    | TanhConfig
    | L2NormConfig
    | WassersteinConfig
    | SoftNormConfig
    | RVQConfig
    | RVQVAEConfig
    | DACRVQConfig
    | DACRVQVAEConfig
    | FSQConfig
    | DitheredFSQConfig
)

# --- what comes before the encoder and after the decoder ---------------------------------------------------


@dataclass(frozen=True)
class PatchedConfig:
    """Stretches of samples become channels."""

    channels: int
    patch_size: int
    oversampling: int = 1


@dataclass(frozen=True)
class WaveletConfig:
    channels: int
    levels: int
    wavelet: str = "bior4.4"


@dataclass(frozen=True)
class FilterBankConfig:
    """A pseudo-QMF filter bank."""

    channels: int
    num_bands: int = 16
    attenuation: int = 100


PretransformConfig = PatchedConfig | WaveletConfig | FilterBankConfig

# --- the whole -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    rate: int = 44100
    channels: int = 2
    encoder: EncoderConfig = field(default_factory=LyraEncoderConfig)
    decoder: DecoderConfig = field(default_factory=LyraDecoderConfig)
    bottleneck: BottleneckConfig | None = field(default_factory=LogVarianceConfig)
    pretransform: PretransformConfig | None = None
    soft_clip: bool = False
    """Limits the output by tanh."""
    frozen: tuple[str, ...] = ()
    """Which of encoder, bottleneck and decoder do not learn."""
