import io

import numpy as np
import PIL.Image

from t2t_mm.problems import pictures


def opened(png):
    return np.array(PIL.Image.open(io.BytesIO(png)))


def half_seen():
    """Gives a PNG, 7 x 5, its left half red, its right half invisible black."""
    pixels = np.zeros((5, 8, 4), np.uint8)
    pixels[:, :4] = (255, 0, 0, 255)
    return pictures.png_of_array(pixels)


def test_what_is_invisible_becomes_white():
    picture = opened(pictures.png_on_white(half_seen()))
    assert picture.shape == (5, 8, 3)
    assert (picture[:, :4] == (255, 0, 0)).all()
    assert (picture[:, 4:] == 255).all()


def test_varied_copies_follow_the_seed_and_keep_the_size():
    def vary(seed):
        rng = np.random.default_rng(seed)
        return pictures.png_varied(half_seen(), rng, may_flip=True)

    assert vary(1) == vary(1)
    assert vary(1) != vary(2)
    assert opened(vary(1)).shape == (5, 8, 3)


def test_only_what_may_flip_is_mirrored():
    def red_is_left(seed, *, may_flip):
        rng = np.random.default_rng(seed)
        picture = opened(pictures.png_varied(half_seen(), rng, may_flip=may_flip))
        red = 255 - picture[..., 1].astype(int)
        return red[:, :4].sum() > red[:, 4:].sum()

    assert all(red_is_left(seed, may_flip=False) for seed in range(20))
    flipped = [red_is_left(seed, may_flip=True) for seed in range(20)]
    assert True in flipped
    assert False in flipped
