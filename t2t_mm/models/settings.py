"""The `HParams` of each model. Imports no TensorFlow, so that sets can be listed."""

from dataclasses import dataclass

from t2t_mm.configuration import HParams, setting

NUM_CONV_STEPS = 4


@dataclass(frozen=True)
class MultiModelHParams(HParams):
    """Settings of the MultiModel; the defaults are the paper's structure."""

    encoder_blocks: int = setting(6, "ConvBlocks of the encoder", low=1)
    encoder_moe_after: int = setting(3, "encoder blocks before its experts", low=0)
    mixer_blocks: int = setting(4, "ConvBlocks of the I/O mixer", low=0)
    decoder_blocks: int = setting(
        4, "ConvBlock + Attention pairs of the decoder", low=1
    )
    decoder_moe_after: int = setting(2, "decoder blocks before its experts", low=0)
    attention_conv_blocks: int = setting(
        2, "ConvBlocks inside each attention block", low=0
    )
    kernels: tuple[int, ...] = setting(
        (3, 3, 15, 15), "taps of a ConvBlock's four steps, odd", low=1
    )
    dilations: tuple[int, ...] = setting(
        (1, 1, 1, 8), "dilations of a ConvBlock's four steps", low=1
    )
    num_heads: int = setting(8, "attention heads H", low=1)
    num_experts: int = setting(
        60, "experts E; the paper: 240 for eight problems, 60 for one", low=1
    )
    experts_per_position: int = setting(4, "experts that answer at once, k", low=1)
    expert_size: int = setting(512, "hidden units of an expert", low=1)
    expert_dispatch: str = setting(
        "exact",
        "how positions get to experts in training: exact, or capacity, with fixed "
        "shapes for XLA and TPU, where a full expert drops positions",
        choices=("exact", "capacity"),
    )
    expert_capacity_factor: float = setting(
        2.0, "with capacity: an expert's room, times its fair share", low=0.01
    )
    expert_groups: int = setting(
        1,
        "parts of the experts, each on a device of its own; divides num_experts",
        low=1,
    )
    balance_loss_weight: float = setting(
        1e-2, "weight of the experts' balance loss", low=0
    )
    use_moe: bool = setting(True, "false: experts are replaced by an identity")
    use_attention: bool = setting(
        True, "false: attention is an identity, the mixer sees the inputs' mean"
    )

    def __post_init__(self):
        super().__post_init__()
        if self.use_attention:
            refuse_no_divisor(self, "num_heads", of="hidden_size")
        if self.use_moe:
            refuse_no_divisor(self, "expert_groups", of="num_experts")
            if self.experts_per_position > self.num_experts:
                raise ValueError(
                    f"experts_per_position={self.experts_per_position} came with "
                    f"num_experts={self.num_experts}; expected at most as many as "
                    f"there are. Set experts_per_position={self.num_experts}, or more "
                    "experts."
                )
        for name in ("kernels", "dilations"):
            if len(given := getattr(self, name)) != NUM_CONV_STEPS:
                raise ValueError(
                    f"{name}={given} came, {len(given)} of them; expected "
                    f"{NUM_CONV_STEPS}, one for each step of a ConvBlock. Set for "
                    f"example {name}={getattr(MultiModelHParams, name)}."
                )


@dataclass(frozen=True)
class TransformerHParams(HParams):
    """Settings of the reference Transformer."""

    num_encoder_layers: int = setting(4, "layers of the encoder", low=1)
    num_decoder_layers: int = setting(4, "layers of the decoder", low=1)
    num_heads: int = setting(8, "attention heads H", low=1)
    filter_size: int = setting(512, "hidden units of the feed-forward layers", low=1)

    def __post_init__(self):
        super().__post_init__()
        refuse_no_divisor(self, "num_heads", of="hidden_size")


def refuse_no_divisor(hparams: HParams, name: str, *, of: str) -> None:
    """Refuses a setting that does not divide another one.

    Raises:
      ValueError: names both, and the next smaller divisor.
    """
    number, whole = getattr(hparams, name), getattr(hparams, of)
    if whole % number:
        nearest = next(one for one in range(number, 0, -1) if whole % one == 0)
        raise ValueError(
            f"{name}={number} came with {of}={whole}; expected a divisor of it. Set "
            f"{name}={nearest}, or a {of} that {number} divides."
        )
