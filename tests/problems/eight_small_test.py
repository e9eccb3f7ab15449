import t2t_mm.problems  # noqa: F401
from t2t_mm import mixture, registry
from t2t_mm.problem import TEXT
from t2t_mm.vocabulary import vocabulary_spec


def test_the_mixture_names_eight_problems_of_four_modalities_with_rates():
    parsed = mixture.parse_problems("eight_small")
    problems = mixture.get_problems(parsed)
    assert len(problems) == 8
    assert set(parsed.rates) == set(parsed.problems)
    modalities = {f.modality for p in problems for f in p.features.values()}
    assert modalities == {"text", "image", "audio", "class_label"}


def test_all_text_of_the_eight_shares_one_vocabulary_learned_from_them():
    parsed = mixture.parse_problems("eight_small")
    for problem in mixture.get_problems(parsed):
        for feature in problem.features.values():
            if feature.modality == TEXT:
                assert feature.vocabulary == "eight_small"
    spec = vocabulary_spec("eight_small")
    assert spec.problems == parsed.problems
    assert spec.kind == "subword"


def test_problems_that_answer_in_english_share_a_command():
    commands = {
        name: registry.problems.get(name).command
        for name in mixture.parse_problems("eight_small").problems
    }
    assert sorted(name for name, c in commands.items() if c == "To-English") == [
        "caption_emoji",
        "speech_prompts",
        "translate_deen_home",
        "translate_fren_home",
    ]
    assert len(set(commands.values())) == 5
