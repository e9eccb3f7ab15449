import io

import PIL.Image

from t2t_mm.problem import get_problem
from t2t_mm.problems import emoji, emoji_table


def answers(problem, split, tmp_dir):
    return [example["targets"] for example in problem.generate(split, tmp_dir)]


def test_pictures_are_opaque_and_72_pixels_wide(tmp_dir):
    for name in ("image_emoji", "caption_emoji"):
        example = next(get_problem(name).generate("train", tmp_dir))
        picture = PIL.Image.open(io.BytesIO(example["inputs"]))
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (72, 72))


def test_only_training_sees_varied_copies(tmp_dir):
    problem = emoji.CaptionEmoji()
    for split in problem.splits:
        names = answers(problem, split, tmp_dir)
        copies = 1 + problem.varied_copies if split == "train" else 1
        assert len(names) == copies * len(set(names))


def test_the_captions_of_three_languages_are_of_the_same_pictures(tmp_dir):
    rows = {row.names["en"]: row.names for row in emoji_table.load(tmp_dir)}
    english = answers(emoji.CaptionEmoji(), "test", tmp_dir)
    for problem in (emoji.CaptionEmojiDe(), emoji.CaptionEmojiFr()):
        assert answers(problem, "test", tmp_dir) == [
            rows[name][problem.language] for name in english
        ]


def test_class_problems_show_each_concept_in_its_default_tone(tmp_dir):
    rows = [row for row in emoji_table.load(tmp_dir) if row.is_combination]
    assert rows
    assert not [row for row in rows if emoji.ImageEmoji().is_in(row, row.split)]


def test_there_are_9_groups_and_53_subgroups():
    assert len(emoji_table.GROUPS) == 9
    assert len(set(emoji_table.SUBGROUPS)) == 53
    assert list(emoji_table.SUBGROUPS) == sorted(emoji_table.SUBGROUPS)
