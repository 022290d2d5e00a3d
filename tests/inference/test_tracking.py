import numpy as np
import pytest

from src.data.readers.frames import Frame
from src.inference.results import Box, FacePrediction, Prediction
from src.inference.tracking import MAX_GAP_SECONDS, WEIGHTS, Tracker, assign, smoothed

IMAGE = np.zeros((4, 4, 3), np.uint8)


def face(x, happy=0.5, valence=None, y=0.0):
    box = Box(float(x), y, 100.0, 100.0)
    return FacePrediction(box, box, {"neutral": 1 - happy, "happy": happy}, valence, valence)


def frame(index, *faces, rate=25):
    return Prediction(Frame("film", IMAGE, index, index / rate), faces)


def tracks(prediction):
    return {face.box.x: face.track for face in prediction.faces}


def test_people_keep_their_numbers_whatever_the_order_of_boxes():
    tracker = Tracker()
    first = tracker.update(frame(0, face(0), face(300)))
    assert tracks(first) == {0: 1, 300: 2}
    assert tracks(tracker.update(frame(1, face(310), face(20)))) == {310: 2, 20: 1}
    assert tracks(tracker.update(frame(2, face(40), face(150), face(320)))) == {40: 1, 320: 2, 150: 3}


def test_the_total_overlap_decides():
    # Greedily, the first box would take the second one's only match.
    known = [Box(0, 0, 100, 100), Box(50, 0, 100, 100)]
    assert assign(known, [Box(30, 0, 100, 100), Box(60, 0, 100, 100)]) == {0: 0, 1: 1}
    assert assign(known, [Box(48, 0, 100, 100), Box(51, 0, 100, 100)]) == {0: 0, 1: 1}
    assert assign(known, [Box(500, 0, 100, 100)]) == {}
    assert assign([], known) == assign(known, []) == {}


def test_someone_is_found_again_after_a_gap_but_not_after_a_long_one():
    tracker = Tracker()
    tracker.update(frame(0, face(0)))
    for i in range(1, 20):
        tracker.update(frame(i))
    assert tracks(tracker.update(frame(20, face(5)))) == {5: 1}
    late = 20 + round(25 * MAX_GAP_SECONDS) + 1
    assert tracks(tracker.update(frame(late, face(5)))) == {5: 2}


def test_whoever_was_in_the_frame_before_is_still_there_however_long_ago():
    """Frames of a slow film, and every 60th of a fast one."""
    slow, fast = Tracker(), Tracker(every_n=60)
    for i in range(3):
        assert tracks(slow.update(frame(i, face(5 * i), rate=0.5))) == {5 * i: 1}
        assert tracks(fast.update(frame(60 * i, face(5 * i)))) == {5 * i: 1}
    assert tracks(fast.update(frame(180))) == {}
    assert tracks(fast.update(frame(240, face(10)))) == {10: 2}


@pytest.mark.parametrize("hidden", [0, 6])
@pytest.mark.parametrize("every_n", [1, 3, 5])
def test_people_who_cross_keep_their_numbers(hidden, every_n):
    """One walks to the right, one to the left, past each other; the second is behind the first for a while."""
    tracker = Tracker(every_n=every_n)
    rng = np.random.default_rng(0)
    for i in range(0, 75, every_n):
        noise = rng.normal(0, 1.5, 2)
        right, left = 8 * i + noise[0], 600 - 8 * i + noise[1]
        seen = [face(right)] if abs(right - left) < 16 * hidden else [face(right), face(left, y=10.0)]
        found = tracks(tracker.update(frame(i, *seen)))
        assert found[right] == 1
        assert found.get(left, 2) == 2


def test_a_jump_within_reach_is_the_same_person_and_one_beyond_is_not():
    tracker = Tracker(every_n=12)
    assert tracks(tracker.update(frame(0, face(0)))) == {0: 1}
    assert tracks(tracker.update(frame(12, face(110)))) == {110: 1}  # half a second later
    assert tracks(tracker.update(frame(13, face(0)))) == {0: 2}  # a twenty-fifth of one
    tracker = Tracker(every_n=12)
    tracker.update(frame(0, face(0)))
    small = face(100)
    small = FacePrediction(Box(100.0, 0.0, 40.0, 40.0), small.crop, small.probabilities)
    assert tracks(tracker.update(frame(12, small))) == {100: 2}  # of another size


def test_a_box_without_width_is_nobodys():
    assert assign([Box(0, 0, 0, 0)], [Box(0, 0, 0, 0)], [1.2]) == {}


def test_nearness_never_takes_what_overlaps():
    known = [Box(0, 0, 100, 100), Box(150, 0, 100, 100)]
    found = [Box(60, 0, 100, 100), Box(20, 0, 100, 100)]
    assert assign(known, found, [1.2, 1.2]) == {1: 0, 0: 1}


def test_smoothing_is_the_weighted_mean_of_the_last_five_frames():
    values = np.random.default_rng(0).random(9)
    tracker = Tracker()
    shown = [tracker.update(frame(i, face(0, value, valence=value))).faces[0] for i, value in enumerate(values)]
    expected = np.dot(WEIGHTS, values[4:9])
    assert sum(WEIGHTS) == pytest.approx(1)
    assert shown[8].probabilities["happy"] == pytest.approx(expected)
    assert shown[8].probabilities["neutral"] == pytest.approx(1 - expected)
    assert shown[8].valence == shown[8].arousal == pytest.approx(expected)
    # At the start there are fewer: the weights of those that exist, scaled to a sum of one.
    assert shown[0].valence == pytest.approx(values[0])
    assert shown[2].valence == pytest.approx(np.dot(WEIGHTS[2:], values[:3]) / sum(WEIGHTS[2:]))


def test_smoothing_leaves_frames_without_the_face_out():
    tracker = Tracker()
    for i in (0, 1, 4):
        last = tracker.update(frame(i, face(0, i / 10))) if i in (0, 1, 4) else tracker.update(frame(i))
    expected = (0.1 * 0.0 + 0.1 * 0.1 + 0.4 * 0.4) / 0.6
    assert last.faces[0].probabilities["happy"] == pytest.approx(expected)
    assert smoothed([(0, face(0, 0.9)), (7, face(0, 0.2))]).probabilities["happy"] == pytest.approx(0.2)


def test_people_are_smoothed_each_for_themselves():
    tracker = Tracker()
    for i in range(6):
        last = tracker.update(frame(i, face(0, 0.9), face(300, 0.1)))
    assert [f.probabilities["happy"] for f in last.faces] == pytest.approx([0.9, 0.1])


def test_smoothing_can_be_switched_off():
    tracker = Tracker(smooth=False)
    tracker.update(frame(0, face(0, 0.9)))
    assert tracker.update(frame(1, face(0, 0.1))).faces[0].probabilities["happy"] == pytest.approx(0.1)


def test_memory_is_bounded():
    tracker = Tracker()
    for i in range(3000):
        tracker.update(frame(i, face(0), face((i * 200) % 100_000, y=500.0)))
    assert len(tracker._tracks) <= 2 + 25 * MAX_GAP_SECONDS
    assert all(len(track.recent) <= len(WEIGHTS) for track in tracker._tracks)
