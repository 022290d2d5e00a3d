import numpy as np
import pytest

from src.data.readers.frames import Frame
from src.inference.people import MAX_SHOWN, MAX_STEPS, People
from src.inference.results import Box, FacePrediction, Prediction

CLASSES = ("happy", "sad")


def face(track, happy, **values):
    box = Box(0.0, 0.0, 9.0, 9.0)
    return FacePrediction(box, box, {"happy": happy, "sad": 1 - happy}, track=track, **values)


def frame(time, *faces):
    return Prediction(Frame("film", np.zeros((9, 9, 3), np.uint8), round(25 * time), time), faces)


def film(*frames):
    people = People(CLASSES)
    for one in frames:
        people.add(one)
    return people


def test_each_person_has_a_row():
    people = film(
        frame(0.0, face(1, 0.9, valence=0.5, arousal=0.1), face(2, 0.2)),
        frame(0.5, face(1, 0.5, valence=0.1, arousal=0.3)),
        frame(4.0, face(1, 0.1, valence=0.0, arousal=0.2, reasons=("blurred",))),
    )
    first, second = people.rows("film.mp4")
    assert (first["source"], first["track"], first["first"], first["last"]) == ("film.mp4", 1, 0.0, 4.0)
    assert (first["frames"], first["trusted_frames"], first["prediction"]) == (3, 2, "happy")
    assert (first["happy"], first["sad"]) == pytest.approx((0.7, 0.3))
    assert (first["valence"], first["arousal"]) == pytest.approx((0.3, 0.2))
    assert (second["prediction"], second["valence"]) == ("sad", None)


def test_somebody_never_seen_well_has_no_prediction():
    people = film(frame(0.0, face(1, 0.9, reasons=("small",))))
    (row,) = people.rows("film")
    assert (row["frames"], row["trusted_frames"]) == (1, 0)
    assert "prediction" not in row
    assert people.draw() is None


def test_memory_is_bounded_and_means_stay():
    """Two hours of four frames a second; the second of them is another one's."""
    people = film(*(frame(i / 4, face(1, 0.5 if i < 14_400 else 0.9)) for i in range(28_800)))
    person = people.known[1]
    assert MAX_STEPS / 2 < len(person._sums) <= MAX_STEPS
    ((times, values),) = person.stretches()
    assert times[0] == 0
    assert 7200 <= times[-1] < 7200 + person.step
    assert values[times < 3600 - person.step, 0] == pytest.approx(0.5)
    assert values[times > 3600 + person.step, 0] == pytest.approx(0.9)
    assert people.rows("film")[0]["happy"] == pytest.approx(0.7)


def test_stretches_end_where_predictions_are_not_to_be_trusted():
    blurred = {"reasons": ("blurred",)}
    (first, _), (second, values) = (
        film(
            frame(0.0, face(1, 0.6)),
            frame(0.9, face(1, 0.4)),  # not found in between, but the same person
            frame(1.0, face(1, 0.1, **blurred)),
            frame(2.05, face(1, 0.8)),
        )
        .known[1]
        .stretches()
    )
    assert first.tolist() == pytest.approx([0, 0.0625, 0.9375, 1])
    assert second.tolist() == pytest.approx([2, 2.0625, 2.125])
    assert values[:, 0] == pytest.approx(0.8)


AFFECT = {"valence": 0.2, "arousal": -0.1}


def titles(figure):
    return [axis.get_title(loc="left") for axis in figure.axes]


def test_the_figure_shows_bands_and_lines_of_each_person():
    seen = [frame(t / 10, face(1, 0.6, **AFFECT)) for t in range(10)]
    figure = film(*seen, frame(6.0, face(2, 0.3, **AFFECT), face(3, 0.3, **AFFECT, reasons=("small",)))).draw()
    assert titles(figure) == ["person 1", "", "person 2", ""]
    assert figure.axes[0].get_title(loc="right") == "2 of 3 people, those seen well most often"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["happy", "sad", "valence", "arousal"]
    happy, sad = figure.axes[0].collections
    assert happy.get_paths()[0].get_extents().y1 == pytest.approx(0.6)
    assert sad.get_paths()[0].get_extents().y1 == pytest.approx(1)
    _, valence, arousal = figure.axes[1].lines
    assert set(np.round(valence.get_ydata(), 6)) == {0.2}
    assert set(np.round(arousal.get_ydata(), 6)) == {-0.1}
    assert figure.axes[0].get_xlim() == (0, 6)


def test_the_figure_grays_what_is_not_to_be_trusted():
    figure = film(frame(0.0, face(1, 0.6)), frame(1.0, face(1, 0.6, reasons=("blurred",)))).draw()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["happy", "sad", "not to be trusted"]
    (gray,) = figure.axes[0].patches
    assert (gray.get_x(), gray.get_width()) == (0, 1)
    assert len(figure.axes) == 1


def test_the_figure_has_room_for_a_few():
    crowd = frame(0.0, *(face(i, 0.6) for i in range(1, 12)))
    people = film(crowd, *(frame(t, face(11, 0.6)) for t in (0.5, 1.0)))
    assert titles(people.draw()) == [f"person {i}" for i in (*range(1, MAX_SHOWN), 11)]
    assert film(frame(0.0)).draw() is None
