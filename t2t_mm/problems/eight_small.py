"""The eight small problems as one mixture, and the vocabulary that they share."""

from t2t_mm.mixture import Mixture
from t2t_mm.registry import register_mixture, register_vocabulary
from t2t_mm.vocabulary import VocabularySpec

# Steps of each problem, relative to each other: the more there is to learn per
# example, and the slower it comes, the more.
RATES = {
    "image_emoji": 9.0,
    "caption_emoji": 12.5,
    "speech_prompts": 22.0,
    "parsing_silver": 8.0,
    "translate_ende_home": 7.0,
    "translate_deen_home": 7.0,
    "translate_enfr_home": 6.0,
    "translate_fren_home": 6.0,
}


@register_mixture(name="eight_small")
def eight_small_mixture() -> Mixture:
    """Eight small problems of four modalities on real data: the demo."""
    return Mixture(tuple(RATES), RATES)


@register_vocabulary(name="eight_small")
def eight_small_vocabulary() -> VocabularySpec:
    """Subwords of the training text of the eight small problems, shared by all."""
    return VocabularySpec(kind="subword", size=4096, problems=tuple(RATES))
