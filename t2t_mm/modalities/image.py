"""Pictures: Xception's entry flow (MultiModel, section 2.5.2)."""

import keras
import tensorflow as tf

from t2t_mm.layers.convolution import ConvRes, ConvStep, masked
from t2t_mm.modalities import augmentation
from t2t_mm.modalities.base import Modality, Represented
from t2t_mm.registry import register_modality


def standardize(images: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Gives each picture mean 0 and variance 1 over its real pixels.

    Args:
      images: float [B, H, W, C].
      mask: bool [B, H, W].
    """
    weight = tf.cast(mask, images.dtype)[..., None]
    count = tf.reduce_sum(weight, [1, 2, 3], keepdims=True) * images.shape[-1]
    count = tf.maximum(count, 1.0)  # a row that only fills a batch has no pixels
    mean = tf.reduce_sum(images * weight, [1, 2, 3], keepdims=True) / count
    centred = (images - mean) * weight
    variance = tf.reduce_sum(tf.square(centred), [1, 2, 3], keepdims=True) / count
    # A picture of one colour has no variance; 1/N is what TensorFlow uses, too.
    return centred * tf.math.rsqrt(tf.maximum(variance, 1 / count))


class FirstConvolution(keras.layers.Layer):
    """A full convolution of the raw picture or spectrum.

    A separable one would see each of the one to three raw channels through a single
    filter; Xception, too, starts with full ones. No normalisation follows: it would
    take away how bright or loud a place is.

    Args:
      filters: F.
      stride: of both axes.

    Call arguments:
      x: float [B, H, W, C].

    Returns:
      Float [B, ceil(H / stride), ceil(W / stride), F].
    """

    def __init__(self, filters: int, *, stride: int, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.stride = stride

    def build(self, input_shape):
        """Makes the kernel [3, 3, C, F] and the bias."""
        self.kernel = self.add_weight(
            shape=(3, 3, input_shape[-1], self.filters),
            initializer="glorot_uniform",
            name="kernel",
        )
        self.bias = self.add_weight(
            shape=(self.filters,), initializer="zeros", name="bias"
        )

    def call(self, x):
        """Gives the convolution."""
        x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        x = tf.nn.conv2d(x, tf.cast(self.kernel, x.dtype), self.stride, "VALID")
        return x + tf.cast(self.bias, x.dtype)


class ImageNet(keras.layers.Layer):
    """Entry flow: two steps and a ConvRes per further stage, doubling filters up to D.

    Of `stages` strides of 2 the first step takes one and each ConvRes one; 4 stages
    are the paper's, 299 pixels give 19 * 19 = 361 positions.

    Args:
      depth: D.
      filters: of the first step.
      stages: strides of 2, 0 or more.

    Call arguments:
      x: float [B, H, W, C]; mask: bool [B, H, W].

    Returns:
      (float [B, H', W', D], its mask), with H' = ceil(H / 2**stages).
    """

    def __init__(self, depth: int, *, filters: int, stages: int, **kwargs):
        super().__init__(**kwargs)
        self.first = FirstConvolution(filters, stride=2 if stages else 1, name="first")
        self.second = ConvStep(2 * filters, name="second")
        self.residuals = []
        for stage in range(max(stages - 1, 0)):
            is_last = stage == stages - 2
            width = depth if is_last else 4 * filters * 2**stage
            self.residuals.append(ConvRes(width, name=f"residual{stage + 1}"))
        self.filters = filters
        self.project = None
        if stages <= 1:
            self.project = ConvStep(depth, kernel=(1, 1), name="project")

    def build(self, input_shape):
        """Builds every step."""
        self.first.build(input_shape)
        self.second.build((*input_shape[:-1], self.filters))
        width = 2 * self.filters
        for residual in self.residuals:
            residual.build((*input_shape[:-1], width))
            width = residual.filters
        if self.project is not None:
            self.project.build((*input_shape[:-1], width))

    def call(self, x, mask):
        """Gives the picture's positions and their mask."""
        x = self.first(masked(x, mask))
        stride = self.first.stride
        mask = mask[:, ::stride, ::stride]
        x = self.second(x, mask)
        for residual in self.residuals:
            x, mask = residual(x, mask)
        if self.project is not None:
            x = self.project(x, mask)
        return x, mask


@register_modality(name="image")
class ImageModality(Modality):
    """Pictures of any size through Xception's entry flow; inputs only.

    Source: Kaiser et al. 2017, section 2.5.2, arxiv.org/abs/1706.05137; Chollet 2017,
    figure 5, arxiv.org/abs/1610.02357. We differ: the number of strides is an hparam,
    and the first convolution is a full one.
    """

    def build(self, input_shape=None):
        """Makes a net per number of channels."""
        self.nets = {}
        for channels in sorted({feature.channels for feature in self.features}):
            net = ImageNet(
                self.hparams.hidden_size,
                filters=self.hparams.image_filters,
                stages=self.hparams.image_stages,
                name=f"channels{channels}",
            )
            net.build((None, None, None, channels))
            self.nets[str(channels)] = net
        self.chance = keras.random.SeedGenerator(name="chance")

    def bottom(self, x, mask, *, feature, training):
        """Represents float [B, H, W, C] pictures in 0..1."""
        x = self._cropped(x, mask, training=training)
        if training:
            x = self._augment(x)
        x = standardize(tf.cast(x, tf.float32), mask)
        net = self.nets[str(feature.channels)]
        x, mask = net(tf.cast(x, self.compute_dtype), mask)
        shape = tf.shape(x)
        grid = (shape[1], shape[2])
        x = tf.reshape(x, [shape[0], -1, self.hparams.hidden_size])  # [B, S, D]
        return Represented(x, tf.reshape(mask, [shape[0], -1]), grid)

    def _cropped(self, x, mask, *, training):
        """Gives a random part in training, the middle otherwise, at full size."""
        hparams = self.hparams
        batch = tf.shape(x)[0]
        if training and hparams.image_min_crop_area < 1:
            draws = keras.random.uniform((batch, 4), seed=self.chance)
            boxes = augmentation.crop_boxes(
                draws,
                min_area=hparams.image_min_crop_area,
                max_stretch=hparams.image_crop_stretch,
            )
            return augmentation.cropped(x, mask, boxes)
        if not training and hparams.image_eval_crop < 1:
            boxes = augmentation.centre_boxes(batch, hparams.image_eval_crop)
            return augmentation.cropped(x, mask, boxes)
        return x

    def _augment(self, x):
        """Shifts, mirrors and re-lights each picture by its own chance."""
        hparams = self.hparams
        batch, height, width = tf.unstack(tf.shape(x)[:3])
        if hparams.image_max_shift or hparams.image_flip:
            draws = keras.random.uniform((batch, 4), -1.0, 1.0, seed=self.chance)
            size = tf.cast(tf.stack([width, height]), tf.float32)
            shift = draws[:, :2] * hparams.image_max_shift * size
            zoom = 1.0 + draws[:, 2:3] * hparams.image_max_shift
            mirror = tf.ones_like(zoom)
            if hparams.image_flip:
                mirror = tf.where(draws[:, 3:4] > 0, 1.0, -1.0)
            x = _transform(x, shift, zoom, mirror, size)
        if hparams.image_saturation_jitter:
            draws = keras.random.uniform((batch,), -1.0, 1.0, seed=self.chance)
            factor = 1.0 + draws * hparams.image_saturation_jitter
            x = augmentation.saturated(x, factor)
        if hparams.image_colour_jitter:
            # Each channel by itself: what all have in common, `standardize` undoes.
            shape = (batch, 2, x.shape[-1])
            draws = keras.random.uniform(shape, -1.0, 1.0, seed=self.chance)
            draws = (draws * hparams.image_colour_jitter)[:, :, None, None]
            x = (x - 0.5) * (1.0 + draws[:, 0]) + 0.5 + draws[:, 1]
        return x


def _transform(images, shift, zoom, mirror, size):
    """Moves [B, H, W, C] by shift [B, 2] pixels about the centre, zoomed, mirrored."""
    row, column = augmentation.pixels(images)
    centre = (size - 1.0) / 2.0
    return augmentation.read_at(
        images,
        centre[1] + (row - centre[1]) * zoom + shift[:, 1:],
        centre[0] + (column - centre[0]) * zoom * mirror + shift[:, :1],
    )
