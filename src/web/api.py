"""The demo's endpoints for programs: the rows of `predictions.csv` and `people.csv`, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr

from src.data.readers.video import UnreadableVideo
from src.inference.image_input import as_frame
from src.inference.people import People
from src.web.analysis import Analyst, FirstFrames, reason

Answer = dict[str, Any]


def add_api(analyst: Analyst, model: gr.Dropdown, queue: dict[str, Any]) -> None:
    """Add the endpoints to the demo that is being built; nothing of them is seen in it.

    Args:
        analyst: What predicts.
        model: The demo's choice of a model, whose first one is the default.
        queue: In which queue they wait, as options of Gradio's events.
    """
    upload = gr.File(label="File", visible=False)
    answer = gr.JSON(label="Faces", visible=False)

    # Programs call them by the names of these arguments.
    def predict_image(file: str | None, model: str) -> Answer:
        return _answered(file, lambda path: image_answer(analyst, path, model))

    def predict_video(file: str | None, model: str) -> Answer:
        return _answered(file, lambda path: video_answer(analyst, path, model))

    about_image = "Faces of an image: `faces`, the rows of predictions.csv."
    about_video = (
        "Faces and people of the first seconds of a video: `faces`, the rows of predictions.csv, `people`, those of "
        "people.csv, and `cut`, which part of it was looked at, empty for all."
    )
    for function, about in ((predict_image, about_image), (predict_video, about_video)):
        # Without a trigger: programs alone call it.
        gr.on([], function, [upload, model], answer, api_name=function.__name__, api_description=about, **queue)


def image_answer(analyst: Analyst, path: Path, model: str) -> Answer:
    """Predict an image.

    Raises:
        UnreadableImage: If it is none, or broken.
        ConfigError: If there is no such model.
    """
    predictor = analyst.shelf.predictor(model)
    return {"faces": predictor.predict(replace(as_frame(path), source=path.name)).rows()}


def video_answer(analyst: Analyst, path: Path, model: str) -> Answer:
    """Predict the first seconds of a video; of one that breaks off, what comes before.

    Raises:
        UnreadableVideo: If it is none.
        ConfigError: If there is no such model.
    """
    predictor = analyst.shelf.predictor(model)
    frames, people = FirstFrames(str(path), analyst.max_seconds), People(predictor.backend.class_names)
    count, faces, broken = 0, list[Answer](), ""
    try:
        for prediction in predictor.track(frames):
            people.add(prediction)
            faces += prediction.rows()
            count += 1
    except UnreadableVideo as error:
        if not count:
            raise
        broken = f"The file is broken: {error}."
    return {"faces": faces, "people": people.rows(path.name), "cut": frames.cut or broken}


def _answered(path: str | None, work: Callable[[Path], Answer]) -> Answer:
    """Return what work gives for an upload; if it fails, tell the caller why."""
    if path is None:
        raise gr.Error("There is no file; send one, see gradio_client.handle_file.", print_exception=False)
    try:
        return work(Path(path))
    except Exception as error:  # whatever a stranger's file brings about, the demo goes on
        raise gr.Error(reason(Path(path).name, error), print_exception=False) from error
