"""How sound is heard: part of every `HParams`.

The net of `modalities.audio` reads them; `models.base` the loss of what it hears.
Imports no TensorFlow.
"""

import dataclasses
from dataclasses import dataclass

from t2t_mm.fields import setting

# What nothing reads where another setting has this value.
_UNREAD = {
    ("audio_stack", "paper"): (
        *("audio_filters", "audio_width", "audio_blocks"),
        *("audio_kernel", "audio_dropout"),
    ),
    ("audio_input", "waveform"): (
        *("audio_mel_bins", "audio_window_ms", "audio_hop_ms", "spec_augment"),
    ),
    ("audio_blocks", 0): ("audio_kernel", "audio_dropout"),
}


@dataclass(frozen=True)
class AudioSettings:
    """The audio net, and the loss on what it hears.

    `configuration.HParams` adds the rest and checks types and ranges.
    """

    audio_input: str = setting(
        "log_mel",
        "what the audio net sees: log-mel made in the graph, or the waveform",
        choices=("log_mel", "waveform"),
    )
    audio_stack: str = setting(
        "strided",
        "the audio net: strided in time and frequency, or the paper's (time only)",
        choices=("strided", "paper"),
    )
    audio_stages: int = setting(
        2, "stages of the audio net, each halves time; 8 is the paper's", low=0, high=12
    )
    audio_filters: int = setting(32, "filters of the strided net's first stage", low=1)
    audio_width: int = setting(
        0, "width of the strided net behind its first fold; 0 for hidden_size", low=0
    )
    audio_blocks: int = setting(
        0, "further residual steps of the strided net, at its last rate", low=0
    )
    audio_kernel: int = setting(7, "taps of those steps, odd", low=1)
    audio_dropout: float = setting(
        0.0, "share of values dropped in those steps", low=0, high=0.9
    )
    audio_alignment_weight: float = setting(
        0.0,
        "weight of a loss (CTC) that asks the audio net itself for the text, which it "
        "then hands on beside the sound; 0: the paper",
        low=0,
    )
    audio_merging: bool = setting(
        False,
        "merge the positions of a sound from one letter heard to the next; needs "
        "audio_alignment_weight",
    )
    audio_mel_bins: int = setting(80, "mel bands", low=1)
    audio_window_ms: float = setting(25.0, "length of a spectral window, ms", low=1)
    audio_hop_ms: float = setting(10.0, "time between spectral windows, ms", low=1)


def refuse_unread(hparams: AudioSettings) -> None:
    """Refuses settings that nothing would read beside the others.

    Raises:
      ValueError: names them, and what to set.
    """
    if hparams.audio_merging and not hparams.audio_alignment_weight:
        raise ValueError(
            "audio_merging=True came with audio_alignment_weight=0; expected a "
            "weight above 0, since positions are merged by the letters that its "
            "loss teaches. Set audio_alignment_weight=1, or audio_merging=false."
        )
    defaults = {field.name: field.default for field in dataclasses.fields(hparams)}
    for (name, value), unread in _UNREAD.items():
        if getattr(hparams, name) != value:
            continue
        set_in_vain = [n for n in unread if getattr(hparams, n) != defaults[n]]
        if set_in_vain:
            given = ", ".join(f"{n}={getattr(hparams, n)}" for n in set_in_vain)
            remedy = ",".join(f"{n}={defaults[n]}".lower() for n in set_in_vain)
            raise ValueError(
                f"{name}={value} came with {given}; expected their defaults, since "
                f"nothing reads them then. Set {remedy}, or another {name}."
            )
