import pytest

from t2t_mm.configuration import HParams


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"audio_stack": "paper", "audio_width": 3},
            "audio_stack=paper came with audio_width=3; expected their defaults, since "
            "nothing reads them then. Set audio_width=0, or another audio_stack.",
        ),
        (
            {"audio_stack": "paper", "audio_filters": 2, "audio_blocks": 5},
            "audio_stack=paper came with audio_filters=2, audio_blocks=5; .* Set "
            "audio_filters=32,audio_blocks=0, or",
        ),
        (
            {"audio_stack": "paper", "audio_kernel": 3, "audio_dropout": 0.5},
            "came with audio_kernel=3, audio_dropout=0.5; .* Set "
            "audio_kernel=7,audio_dropout=0.0, or another audio_stack",
        ),
        (
            {"audio_input": "waveform", "audio_mel_bins": 7, "spec_augment": True},
            "audio_input=waveform came with audio_mel_bins=7, spec_augment=True; .* "
            "Set audio_mel_bins=80,spec_augment=false, or another audio_input",
        ),
        (
            {"audio_input": "waveform", "audio_window_ms": 7.0, "audio_hop_ms": 5.0},
            "Set audio_window_ms=25.0,audio_hop_ms=10.0, or",
        ),
        ({"audio_kernel": 3}, "audio_blocks=0 came with audio_kernel=3; .*another aud"),
        ({"audio_dropout": 0.2}, "audio_blocks=0 came with audio_dropout=0.2"),
        (
            {"audio_merging": True},
            "audio_merging=True came with audio_alignment_weight=0; expected a weight "
            "above 0, .* Set audio_alignment_weight=1, or audio_merging=false.",
        ),
    ],
)
def test_what_nothing_would_read_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        HParams(**values)


@pytest.mark.parametrize(
    "values",
    [
        {"audio_stack": "paper", "audio_stages": 8, "audio_mel_bins": 7},
        # The loss on what was heard is of every net.
        {"audio_stack": "paper", "audio_alignment_weight": 1.0, "audio_merging": True},
        {"audio_input": "waveform", "audio_filters": 3, "audio_width": 5},
        {"audio_blocks": 2, "audio_kernel": 3, "audio_dropout": 0.5},
    ],
)
def test_what_something_reads_is_accepted(values):
    hparams = HParams(**values)
    assert {name: getattr(hparams, name) for name in values} == values
