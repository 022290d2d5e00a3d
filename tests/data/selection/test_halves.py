import numpy as np
import pytest

from src.data.selection.halves import in_half
from tests.helpers.image_files import build, encoded, pixels, write

N = 101


def drawn(seed=0):
    rng = np.random.default_rng(seed)
    digests = np.array([rng.bytes(16) for _ in range(N)], dtype="S16")
    digests[50:70] = digests[:20]  # duplicates, some with another label
    return digests, np.arange(N) % 3


def test_the_halves_are_complements_stratified_and_keep_duplicates_together():
    digests, labels = drawn()
    first, second = (in_half(digests, labels, half, 0) for half in ("first", "second"))
    assert (first ^ second).all()
    assert (first[50:70] == first[:20]).all()
    unique = np.r_[0:50, 70:N]
    for label in range(3):
        own = unique[labels[unique] == label]
        assert abs(int(first[own].sum()) - int(second[own].sum())) <= 1


def test_the_draw_depends_on_seed_and_image_not_on_the_order():
    digests, labels = drawn()
    first = in_half(digests, labels, "first", 0)
    assert (in_half(digests, labels, "first", 1) != first).any()
    order = np.random.default_rng(1).permutation(np.r_[0:50, 70:N])  # without duplicates, whose first label counts
    assert (in_half(digests[order], labels[order], "first", 0) == first[order]).all()


@pytest.fixture
def folder(tmp_path):
    for split, n in (("train", 9), ("val", 3), ("test", 3)):
        for label in ("happy", "sad"):
            for i in range(n):
                image = encoded(pixels(1000 * n + 10 * i + len(label)))
                write(tmp_path / "source" / split / label / f"{i}.png", image)
    write(tmp_path / "source" / "train" / "sad" / "copy.png", encoded(pixels(9000 + len("sad"))))
    return tmp_path


def test_a_data_set_serves_a_half_of_its_training_images(folder):
    def serve(**options):
        return build("folder", folder / "source", folder / "cache", dedup=False, **options)

    whole, first, second = serve(), serve(half="first"), serve(half="second")
    rows = [set(data.split_rows("train")[0].tolist()) for data in (whole, first, second)]
    assert rows[0] == rows[1] | rows[2]
    assert not rows[1] & rows[2]
    assert 9 <= len(rows[1]) <= 10
    duplicates = [row for row in rows[0] if whole.store.ids[row] in ("train/sad/0.png", "train/sad/copy.png")]
    assert len(duplicates) == 2
    assert set(duplicates) <= rows[1] or set(duplicates) <= rows[2]
    for split in ("val", "test"):
        assert first.split_rows(split)[0].tolist() == whole.split_rows(split)[0].tolist()
    assert whole.trained_on == whole.fingerprint
    assert first.trained_on == f"{whole.fingerprint}, first half (seed 0)"
