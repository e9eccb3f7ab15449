"""Separable convolutions, ConvStep and ConvBlock (MultiModel, section 2.1).

Sequences are pictures of width 1: everything works on [B, H, W, C] with a mask
[B, H, W]; `ConvBlock`, the sequence block, takes and gives [B, L, D].
"""

from collections.abc import Callable

import keras
import tensorflow as tf

from t2t_mm.layers.dropout import Dropout
from t2t_mm.layers.halves import side_by_side
from t2t_mm.layers.memory import DecoderMemory, Moment
from t2t_mm.layers.normalization import LayerNorm, centred
from t2t_mm.layers.segments import Segments, apart, together

# A layer at one position of a decoder: f(x [R, D], moment) gives [R, D].
Step = Callable[[tf.Tensor, Moment], tf.Tensor]


def depthwise_convolution(
    x: tf.Tensor, kernel: tf.Tensor, *, dilation: int, stride: int, is_causal: bool
) -> tf.Tensor:
    """Convolves each channel with its own kernel.

    Output i is centred at input i * stride (or ends there, if causal), whatever the
    length, so a longer, padded input gives the same values. Dilated rows are laid side
    by side as columns, and taps that reach only beyond the input are left out: a
    15-tap kernel of dilation 8 has 4 taps to compute on 32 positions.

    Args:
      x: float [B, H, W, C].
      kernel: float [kh, kw, C]; odd sizes unless causal.
      dilation: distance of the taps along H; 1 where W or the stride is above 1.
      stride: of both axes.
      is_causal: pads H on the left only, so no output sees a later input.

    Returns:
      Float [B, ceil(H / stride), ceil(W / stride), C].
    """
    kh, kw = kernel.shape[0], kernel.shape[1]
    length = tf.shape(x)[1]
    rows = (length + dilation - 1) // dilation
    before = kh - 1 if is_causal else (kh - 1) // 2
    after = kh - 1 - before
    if kh > 3:
        reach = tf.maximum(rows - 1, 0)
        first = tf.maximum(before - reach, 0)
        last = tf.maximum(after - reach, 0)
        kernel = kernel[first : kh - last]
        before, after = before - first, after - last
    side = kw // 2
    if dilation == 1:
        x = tf.pad(x, [[0, 0], [before, after], [side, kw - 1 - side], [0, 0]])
        return tf.nn.depthwise_conv2d(
            x, tf.expand_dims(kernel, -1), [1, stride, stride, 1], "VALID"
        )
    shape = tf.shape(x)
    channels = x.shape[-1]
    padding = rows * dilation - length
    x = tf.pad(
        x,
        [[0, 0], [before * dilation, after * dilation + padding], [0, 0], [0, 0]],
    )
    x = tf.reshape(x, [shape[0], -1, dilation, channels])  # [B, rows+, dilation, C]
    x = tf.nn.depthwise_conv2d(x, tf.expand_dims(kernel, -1), [1, 1, 1, 1], "VALID")
    # Not x[:, :length], whose gradient takes several times as long as that of tf.slice.
    x = tf.reshape(x, [shape[0], -1, channels])
    x = tf.slice(x, [0, 0, 0], [-1, length, -1])
    return tf.reshape(x, [shape[0], length, 1, channels])


def strided(x: tf.Tensor, strides: tuple[int, int]) -> tf.Tensor:
    """Gives x[:, ::sh, ::sw] of x [B, H, W, C].

    By a pool of one place, whose gradient takes a fifth of the time of a slice's.
    """
    return x if strides == (1, 1) else tf.nn.avg_pool2d(x, 1, strides, "VALID")


def masked(x: tf.Tensor, mask: tf.Tensor | None) -> tf.Tensor:
    """Zeroes the padded positions of x [..., C]; mask [...] or None for all real."""
    if mask is None:
        return x
    return x * tf.cast(mask, x.dtype)[..., None]


class ConvStep(keras.layers.Layer):
    """ReLU, separable convolution, layer normalisation.

    ConvStep(x) = LayerNorm(Pointwise(Depthwise(ReLU(x))))

    Args:
      filters: channels of the result (F).
      kernel: (kh, kw).
      dilation: along H, where W is 1.
      stride: of both axes.
      is_causal: no position sees a later one along H.
      use_relu: false leaves the ReLU out, for raw pictures.
      scale: of the layer normalisation at first; see `LayerNorm`.

    Call arguments:
      x: float [B, H, W, C].
      mask: bool [B, H, W], or None.
      segments: of packed rows, where W and the stride are 1; None for a row each.

    Returns:
      Float [B, ceil(H / stride), ceil(W / stride), F].

    Raises:
      ValueError: if a dilation meets a stride or a kernel wider than 1.

    Source: Kaiser et al. 2017, section 2.1, arxiv.org/abs/1706.05137.
    """

    def __init__(
        self,
        filters: int,
        *,
        kernel: tuple[int, int] = (3, 3),
        dilation: int = 1,
        stride: int = 1,
        is_causal: bool = False,
        use_relu: bool = True,
        scale: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if dilation > 1 and (stride > 1 or kernel[1] > 1):
            raise ValueError(
                f"ConvStep came with dilation {dilation}, stride {stride} and kernel "
                f"{kernel}; a dilation goes with stride 1 and a kernel (k, 1). "
                "Set one of them to 1."
            )
        self.filters = filters
        self.kernel_size = kernel
        self.dilation = dilation
        self.stride = stride
        self.is_causal = is_causal
        self.use_relu = use_relu
        self.norm = LayerNorm(scale=scale, name="norm")

    def build(self, input_shape):
        """Makes the depthwise [kh, kw, C] and pointwise [C, F] kernels and the bias."""
        channels = input_shape[-1]
        taps = self.kernel_size[0] * self.kernel_size[1]
        self.depthwise = self.add_weight(
            shape=(*self.kernel_size, channels),
            initializer=keras.initializers.TruncatedNormal(stddev=taps**-0.5),
            name="depthwise",
        )
        self.pointwise = self.add_weight(
            shape=(channels, self.filters),
            initializer="glorot_uniform",
            name="pointwise",
        )
        self.bias = self.add_weight(
            shape=(self.filters,), initializer="zeros", name="bias"
        )
        self.norm.build((None, self.filters))

    def call(self, x, mask=None, *, segments: Segments | None = None):
        """Gives the step's output."""
        if self.use_relu:
            x = tf.nn.relu(x)
        if segments is None:
            x = masked(x, mask)
        else:
            x = apart(tf.squeeze(x, 2), segments)[:, :, None]  # [N, T, 1, C]
        depthwise = tf.cast(self.depthwise, self.compute_dtype)
        if self.kernel_size == (1, 1):
            x = strided(x, (self.stride, self.stride)) * depthwise[0, 0]
        else:
            x = depthwise_convolution(
                x,
                depthwise,
                dilation=self.dilation,
                stride=self.stride,
                is_causal=self.is_causal,
            )
        if segments is not None:
            x = together(tf.squeeze(x, 2), segments)[:, :, None]  # [B, L, 1, C]
        shape = tf.shape(x)
        x = tf.reshape(x, [-1, x.shape[-1]])
        pointwise, bias = (tf.convert_to_tensor(w) for w in (self.pointwise, self.bias))
        # In low precision the rest of a mean would not be 0 but a rounding error.
        is_centred = self.compute_dtype == "float32"
        if is_centred:
            pointwise, bias = centred(pointwise), centred(bias)
        x = tf.matmul(x, tf.cast(pointwise, self.compute_dtype))
        x = tf.nn.bias_add(x, tf.cast(bias, self.compute_dtype))
        x = self.norm(x, is_centred=is_centred)
        return tf.reshape(x, tf.concat([shape[:3], [self.filters]], 0))

    def prepared(self, memory: DecoderMemory) -> Step:
        """Gives the step for one position after the other; for causal (k, 1) kernels.

        The mean over channels that the normalisation takes off is taken off the
        pointwise matrix and the bias instead, once.

        Raises:
          ValueError: if it is not causal, has a stride or is wider than 1.
        """
        if not self.is_causal or self.stride > 1 or self.kernel_size[1] > 1:
            raise ValueError(
                f"ConvStep '{self.name}' came with is_causal={self.is_causal}, stride "
                f"{self.stride}, kernel {self.kernel_size}; one position at a time "
                "needs is_causal=True, stride 1, kernel (k, 1). Change the layer."
            )
        dtype = self.compute_dtype
        depthwise = tf.cast(self.depthwise, dtype)[:, 0]  # [k, D]
        latest = depthwise[-1]
        number = None
        if self.kernel_size[0] > 1:
            number = memory.add_convolution(depthwise, self.dilation)
        pointwise, bias = (
            tf.cast(w - tf.reduce_mean(w, -1, keepdims=True), dtype)
            for w in (tf.cast(v, tf.float32) for v in (self.pointwise, self.bias))
        )
        normalize = self.norm.prepared(is_centred=True)

        def step(x, moment):
            if self.use_relu:
                x = tf.nn.relu(x)
            y = x * latest
            if number is not None:
                y += moment.past(number)
                moment.remember(number, x)
            return normalize(tf.nn.bias_add(tf.matmul(y, pointwise), bias))

        return step


class ConvBlock(keras.layers.Layer):
    """Four ConvSteps with two skips, both from the block's input.

    h1 = step1(x); h2 = x + step2(h1); h3 = step3(h2); h4 = x + step4(h3)
    ConvBlock(x) = Dropout(h4)

    Args:
      size: D, of input and output alike.
      kernels: taps of each step.
      dilations: distance of the taps of each step.
      dropout: share of values dropped in training.
      is_causal: left padding, for everything that sees targets.

    Call arguments:
      x: float [B, L, D].
      mask: bool [B, L].
      training: drops values when true.
      segments: of packed rows; None for a row each.

    Returns:
      Float [B, L, D].

    Raises:
      ValueError: if kernels and dilations are not four each.

    Source: Kaiser et al. 2017, section 2.1, arxiv.org/abs/1706.05137.
    """

    def __init__(
        self,
        size: int,
        *,
        kernels: tuple[int, ...] = (3, 3, 15, 15),
        dilations: tuple[int, ...] = (1, 1, 1, 8),
        dropout: float,
        is_causal: bool,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if len(kernels) != 4 or len(dilations) != 4:
            raise ValueError(
                f"ConvBlock came with kernels {kernels} and dilations {dilations}; "
                "four of each were expected. Give one per ConvStep."
            )
        self.size = size
        self.steps = [
            ConvStep(
                size,
                kernel=(kernel, 1),
                dilation=dilation,
                is_causal=is_causal,
                scale=0.0 if i in (1, 3) else 1.0,
                name=f"step{i + 1}",
            )
            for i, (kernel, dilation) in enumerate(zip(kernels, dilations, strict=True))
        ]
        self.dropout = Dropout(dropout, name="dropout")

    def build(self, input_shape):
        """Builds the four steps."""
        for step in self.steps:
            step.build((None, None, 1, self.size))
        self.dropout.build(input_shape)

    def call(self, x, mask=None, *, training: bool, segments: Segments | None = None):
        """Gives the block's output."""
        if training and mask is not None and segments is None:
            h4 = side_by_side(self._four_steps, x, mask)
        else:
            h4 = self._four_steps(x, mask, segments)
        return self.dropout(h4, training=training)

    def _four_steps(self, x, mask, segments=None):
        x = tf.expand_dims(x, 2)  # [B, L, 1, D]
        mask = None if mask is None else mask[:, :, None]
        step1, step2, step3, step4 = self.steps
        h2 = x + step2(step1(x, mask, segments=segments), mask, segments=segments)
        h4 = x + step4(step3(h2, mask, segments=segments), mask, segments=segments)
        return tf.squeeze(h4, 2)  # [B, L, D]

    def prepared(self, memory: DecoderMemory) -> Step:
        """Gives the block for one position after the other; see `ConvStep`."""
        step1, step2, step3, step4 = (step.prepared(memory) for step in self.steps)

        def step(x, moment):
            h2 = x + step2(step1(x, moment), moment)
            return x + step4(step3(h2, moment), moment)

        return step


class ConvRes(keras.layers.Layer):
    """Two ConvSteps and a max pool beside a strided 1x1 ConvStep, added.

    ConvRes(x) = MaxPool 3x3 (ConvStep_F(ConvStep_F(x))) + ConvStep 1x1 (x)

    Args:
      filters: channels of the result (F).
      strides: (along H, along W), of pool and skip.
      kernel: of the two steps.

    Call arguments:
      x: float [B, H, W, C].
      mask: bool [B, H, W].

    Returns:
      (float [B, ceil(H / sh), ceil(W / sw), F], its mask).

    Source: Kaiser et al. 2017, section 2.5, arxiv.org/abs/1706.05137.
    """

    def __init__(
        self,
        filters: int,
        *,
        strides: tuple[int, int] = (2, 2),
        kernel: tuple[int, int] = (3, 3),
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.strides = strides
        self.step1 = ConvStep(filters, kernel=kernel, name="step1")
        self.step2 = ConvStep(filters, kernel=kernel, name="step2")
        self.skip = ConvStep(filters, kernel=(1, 1), name="skip")

    def build(self, input_shape):
        """Builds the three steps."""
        self.step1.build(input_shape)
        self.step2.build((*input_shape[:-1], self.filters))
        self.skip.build(input_shape)

    def call(self, x, mask):
        """Gives the output and its mask."""
        rows, columns = self.strides
        h = self.step2(self.step1(x, mask), mask)
        h = max_pool(h, mask, strides=self.strides)
        mask = mask[:, ::rows, ::columns]
        return h + self.skip(strided(x, self.strides), mask), mask


def max_pool(x: tf.Tensor, mask: tf.Tensor, *, strides: tuple[int, int]) -> tf.Tensor:
    """Takes the largest real value of each 3x3 window, centred at i * stride.

    Args:
      x: float [B, H, W, C].
      mask: bool [B, H, W]; padded positions take no part.
      strides: (along H, along W).

    Returns:
      Float [B, ceil(H / sh), ceil(W / sw), C], zero where the window's centre is
      padding.
    """
    lowest = tf.constant(-1e4, x.dtype)
    x = tf.where(mask[..., None], x, lowest)
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=lowest)
    x = tf.nn.max_pool2d(x, 3, strides, "VALID")
    return masked(x, mask[:, :: strides[0], :: strides[1]])
