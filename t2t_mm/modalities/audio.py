"""Sound: log-mel spectra in the graph, or the waveform (MultiModel, section 2.5.4)."""

import keras
import tensorflow as tf

from t2t_mm.layers import noise
from t2t_mm.layers.convolution import ConvRes, ConvStep, masked
from t2t_mm.layers.dropout import Dropout
from t2t_mm.layers.normalization import LayerNorm
from t2t_mm.modalities import augmentation
from t2t_mm.modalities.base import Modality, Represented
from t2t_mm.modalities.image import FirstConvolution
from t2t_mm.problem import Feature
from t2t_mm.registry import register_modality

LOWEST_HZ = 60.0
FLOOR = 1e-5


def log_mel(
    waveform: tf.Tensor,
    mask: tf.Tensor,
    *,
    sample_rate: int,
    num_bins: int,
    window_ms: float,
    hop_ms: float,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Gives log-mel spectra, each bin with mean 0 and variance 1 over the real frames.

    Args:
      waveform: float [B, T] in -1..1.
      mask: bool [B, T].
      sample_rate: samples per second, Hz.
      num_bins: mel bands.
      window_ms, hop_ms: length of, and time between, the windows.

    Returns:
      (float32 [B, ceil(T / hop), num_bins], bool mask [B, ceil(T / hop)]). A frame is
      real if its first sample is.
    """
    window, hop = (round(sample_rate * ms / 1000) for ms in (window_ms, hop_ms))
    waveform = tf.where(mask, tf.cast(waveform, tf.float32), 0.0)
    spectrum = tf.signal.stft(waveform, window, hop, pad_end=True)  # [B, frames, fft]
    mel = tf.signal.linear_to_mel_weight_matrix(
        num_bins, spectrum.shape[-1], sample_rate, LOWEST_HZ, sample_rate * 0.49
    )
    x = tf.math.log(tf.matmul(tf.abs(spectrum), mel) + FLOOR)
    mask = mask[:, ::hop]
    weight = tf.cast(mask, tf.float32)[..., None]
    count = tf.maximum(tf.reduce_sum(weight, 1, keepdims=True), 1.0)
    mean = tf.reduce_sum(x * weight, 1, keepdims=True) / count
    centred = (x - mean) * weight
    variance = tf.reduce_sum(tf.square(centred), 1, keepdims=True) / count
    return centred * tf.math.rsqrt(variance + 1e-3), mask


class StridedStack(keras.layers.Layer):
    """Folds frequency into one width early, then halves time stage by stage.

    A full convolution of stride 2 in time and frequency, frequency folded into the
    width, a ConvRes over time per further stage, then residual steps at the last rate.
    Everything after the fold costs as much as text of the same length and width; stages
    that keep frequency apart cost ten times that. What a position has seen stays
    short: a net that hears whole sentences at once learns them by heart.

    Args:
      depth: D.
      filters: of the first convolution.
      stages: strides of 2 in time, 1 or more.
      width: of all that follows the fold.
      blocks: residual steps behind the stages.
      kernel: their taps.
      dropout: share of their values dropped in training.

    Call arguments:
      x: float [B, T, bins, 1]; mask: bool [B, T]; training: drops values when true.

    Returns:
      (float [B, ceil(T / 2**stages), D], its mask).
    """

    def __init__(
        self,
        depth: int,
        *,
        filters: int,
        stages: int,
        width: int,
        blocks: int,
        kernel: int,
        dropout: float,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.first = FirstConvolution(filters, stride=2 if stages else 1, name="first")
        self.fold = keras.layers.Dense(width, name="fold")
        self.norm = LayerNorm(name="norm")
        self.residuals = [
            ConvRes(width, strides=(2, 1), kernel=(3, 1), name=f"residual{i}")
            for i in range(1, stages)
        ]
        self.steps = [
            ConvStep(width, kernel=(kernel, 1), name=f"step{i + 1}")
            for i in range(blocks)
        ]
        self.dropout = Dropout(dropout, name="dropout")
        self.project = None
        if width != depth:
            self.project = keras.layers.Dense(depth, name="project")

    def build(self, input_shape):
        """Builds the stages; needs the number of bins."""
        self.first.build(input_shape)
        self.folded = -(-input_shape[2] // self.first.stride) * self.filters
        self.fold.build((None, None, self.folded))
        parts: list[keras.layers.Layer] = [self.norm, *self.residuals, *self.steps]
        if self.project is not None:
            parts.append(self.project)
        for layer in parts:
            layer.build((None, None, 1, self.fold.units))

    def call(self, x, mask, *, training):
        """Gives positions in time and their mask."""
        x = self.first(masked(x, tf.expand_dims(mask, 2)))
        mask = mask[:, :: self.first.stride]
        shape = tf.shape(x)
        x = tf.nn.relu(tf.reshape(x, [shape[0], shape[1], self.folded]))
        x = tf.expand_dims(self.norm(self.fold(x)), 2)  # [B, T/2, 1, D]
        mask = tf.expand_dims(mask, 2)
        for residual in self.residuals:
            x, mask = residual(x, mask)
        for step in self.steps:
            x += self.dropout(step(x, mask), training=training)
        if self.project is not None:
            x = self.project(tf.nn.relu(x))
        return tf.squeeze(x, 2), tf.squeeze(mask, 2)


class PaperStack(keras.layers.Layer):
    """The paper's stack: ConvRes i has 2**i filters and halves time only.

    Args:
      depth: D.
      stages: how many; the paper has 8.

    Call arguments, Returns: as `StridedStack`.

    Source: Kaiser et al. 2017, section 2.5.4, arxiv.org/abs/1706.05137.
    """

    def __init__(self, depth: int, *, stages: int, **kwargs):
        super().__init__(**kwargs)
        self.residuals = [
            ConvRes(2**i, strides=(2, 1), name=f"residual{i}")
            for i in range(1, stages + 1)
        ]
        self.fold = keras.layers.Dense(depth, name="fold")
        self.norm = LayerNorm(name="norm")

    def build(self, input_shape):
        """Builds the stages; needs the number of bins."""
        bins, width = input_shape[2], input_shape[3]
        for residual in self.residuals:
            residual.build((None, None, bins, width))
            width = residual.filters
        self.folded = bins * width
        self.fold.build((None, None, self.folded))
        self.norm.build((None, None, self.fold.units))

    def call(self, x, mask, *, training):
        """Gives positions in time and their mask."""
        del training
        mask = tf.repeat(mask[:, :, None], tf.shape(x)[2], 2)  # [B, T, bins]
        for residual in self.residuals:
            x, mask = residual(x, mask)
        shape = tf.shape(x)
        x = tf.nn.relu(tf.reshape(x, [shape[0], shape[1], self.folded]))
        return self.norm(self.fold(x)), mask[:, :, 0]


@register_modality(name="audio")
class AudioModality(Modality):
    """Sound as log-mel spectra or waveform, 4 to 8 times fewer positions; inputs only.

    Source: Kaiser et al. 2017, section 2.5.4, arxiv.org/abs/1706.05137. We differ in
    the default: log-mel spectra, frequency folded into D after one convolution, 4 to 8
    times fewer positions than frames. The paper's is `audio_stack=paper` with
    `audio_stages=8`.
    """

    def build(self, input_shape=None):
        """Makes the one stack."""
        hparams = self.hparams
        bins = hparams.audio_mel_bins if hparams.audio_input == "log_mel" else 1
        if hparams.audio_stack == "paper":
            self.net = PaperStack(
                hparams.hidden_size, stages=hparams.audio_stages, name="paper"
            )
        else:
            self.net = StridedStack(
                hparams.hidden_size,
                filters=hparams.audio_filters,
                stages=hparams.audio_stages,
                width=hparams.audio_width or hparams.hidden_size,
                blocks=hparams.audio_blocks,
                kernel=hparams.audio_kernel,
                dropout=hparams.audio_dropout,
                name="strided",
            )
        self.net.build((None, None, bins, 1))
        self.chance = keras.random.SeedGenerator(name="chance")

    def bottom(self, x, mask, *, feature, training):
        """Represents waveforms, float [B, T]."""
        hparams = self.hparams
        if training:
            x, mask = self._varied(x, mask)
        if hparams.audio_input == "log_mel":
            x, mask = log_mel(
                x,
                mask,
                sample_rate=feature.sample_rate,
                num_bins=hparams.audio_mel_bins,
                window_ms=hparams.audio_window_ms,
                hop_ms=hparams.audio_hop_ms,
            )
            if training and hparams.spec_augment:
                x = self._spec_augment(x, mask)
        else:
            x = tf.where(mask, x, 0.0)[..., None]
        x, mask = self.net(
            tf.cast(x, self.compute_dtype)[..., None], mask, training=training
        )
        return Represented(x, mask)

    def seconds_per_position(self, feature: Feature) -> float:
        """Gives how much sound one position of the representation stands for."""
        hparams = self.hparams
        frame = 1 / feature.sample_rate
        if hparams.audio_input == "log_mel":
            hop = round(feature.sample_rate * hparams.audio_hop_ms / 1000)
            frame = hop / feature.sample_rate
        return frame * 2**hparams.audio_stages

    def _varied(self, x, mask):
        """Plays each sound a little faster or slower, and adds noise."""
        hparams = self.hparams
        if hparams.audio_speed_change:
            change = hparams.audio_speed_change
            draws = keras.random.uniform((tf.shape(x)[0],), -1.0, 1.0, seed=self.chance)
            speed = 1.0 + change * draws
            x, mask = augmentation.at_speed(x, mask, speed, slowest=1.0 - change)
        if hparams.audio_noise:
            draws = keras.random.uniform((tf.shape(x)[0],), seed=self.chance)
            drawn = noise.normal(tf.shape(x), self.chance)
            x = augmentation.noisy(x, mask, drawn, draws * hparams.audio_noise)
        return x, mask

    def _spec_augment(self, x, mask):
        """Zeroes random bands of frequency and of time in each spectrum."""
        hparams = self.hparams
        batch = tf.shape(x)[0]
        bins = tf.fill([batch], tf.cast(tf.shape(x)[2], tf.float32))
        frames = tf.reduce_sum(tf.cast(mask, tf.float32), 1)
        for axis, share, sizes in (
            (2, hparams.spec_augment_frequency, bins),
            (1, hparams.spec_augment_time, frames),
        ):
            for _ in range(hparams.spec_augment_masks):
                draws = keras.random.uniform((batch, 2), seed=self.chance)
                x = augmentation.bands_masked(
                    x, draws, axis=axis, share=share, sizes=sizes
                )
        return x
