import collections
import io

import PIL.Image

from t2t_mm.problems.digits import ImageDigits


def test_each_picture_is_in_one_split_and_28_pixels_wide(tmp_dir):
    seen = collections.Counter()
    for split in ("train", "dev", "test"):
        examples = list(ImageDigits().generate(split, tmp_dir))
        assert examples
        seen.update(example["inputs"] for example in examples)
    picture = PIL.Image.open(io.BytesIO(next(iter(seen))))
    assert (picture.mode, picture.size) == ("L", (28, 28))
    # MNIST may hold a picture twice, but not often.
    assert seen.total() - len(seen) < 5
