"""The demo: inputs on the left, what was predicted on the right."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gradio as gr
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse

from src.inference.results import Image
from src.web.analysis import Analyst, Overlay, View
from src.web.api import add_api
from src.web.cards import image_html, notice
from src.web.examples import Example

log = logging.getLogger(__name__)

TITLE = "EmoNet-FER"
INTRODUCTION = (
    f"<h1>{TITLE}</h1><p>Expressions of faces, in images, videos and what your camera sees. "
    "The model runs on this computer; nothing is sent anywhere.</p>"
)
FOOTNOTE = (
    '<p class="small">The classes say what a model has learned to call the look of a face, not what a person feels; do '
    "not use them to judge people. Uploads lie in a temporary folder that is deleted when the demo ends.</p>"
)
# Gradio's default fonts come from a server of Google.
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]
MONO_FONTS = ["ui-monospace", "Consolas", "monospace"]
STYLE = Path(__file__).with_name("style.css")
# What waits for the model, of the demo and of programs: as many at a time as the queue's default says.
QUEUE: dict[str, Any] = {"concurrency_id": "model"}
UPLOADS: dict[str, Any] = {**QUEUE, "api_visibility": "private"}
# A camera holds its place until it is switched off: those of uploads are others. Gradio keeps the latest frame alone,
# so that a slow machine shows fewer of them, not older ones.
CAMERAS: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "cameras", "api_visibility": "private"}
CAMERA_SECONDS = 0.1


class Demo(gr.Blocks):
    """Gradio's interface, which answers values that are none of its inputs' in a line, and without a traceback."""

    async def preprocess_data(self, *args: Any, **kwargs: Any) -> Any:
        """Return what a function is given.

        Raises:
            gr.Error: If a request has too few values, or values of another kind, or names a file by its address.
        """
        traverse([args, kwargs], _refuse_address, is_file_obj_with_meta)
        try:
            return await super().preprocess_data(*args, **kwargs)
        except Exception as error:  # Gradio's inputs raise what comes along
            log.warning("Refused values that are none of the demo's (%s)", type(error).__name__)
            raise gr.Error("The demo has nothing of the kind.", print_exception=False) from error


def _refuse_address(file: dict[str, Any]) -> None:
    """Refuse a file that Gradio would fetch, of whatever size."""
    if is_http_url_like(file["path"]):
        raise gr.Error("Files at addresses are not fetched; send the file itself.", print_exception=False)


def theme() -> gr.themes.Base:
    """Return the look, with the fonts of the system."""
    soft = gr.themes.Soft(primary_hue="indigo", neutral_hue="slate", font=FONTS, font_mono=MONO_FONTS)
    # Its own are fainter than the 4.5 to 1 of WCAG 2.1, 1.4.3.
    return soft.set(
        body_text_color_subdued="*neutral_600",
        block_title_text_color="*primary_700",
        block_label_text_color="*primary_700",
        color_accent="*primary_700",
    )


def build_demo(analyst: Analyst, examples: list[Example], max_mb: float) -> gr.Blocks:
    """Build the demo.

    Args:
        analyst: What predicts.
        examples: Images and videos to try.
        max_mb: Largest size of a file, for the label.
    """
    names = list(analyst.shelf.choices)
    demo: gr.Blocks
    with Demo(title=TITLE, fill_width=True, analytics_enabled=False) as demo:
        gr.HTML(INTRODUCTION, elem_classes="title")
        latest = gr.State(None)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                model = gr.Dropdown(names, value=names[0], label="Model", elem_id="model", filterable=False)
                heat = gr.Checkbox(label="Show where the model looks (Grad-CAM)", elem_id="heat")
                points = gr.Checkbox(label="Show the 68 landmarks", elem_id="landmarks")
                with gr.Tab("Image or video"):
                    label = f"Image or video, {max_mb:g} MB or less"
                    file = gr.File(label=label, elem_id="file", height=170)
                    gr.HTML('<p class="small">Or an example: a portrait by NASA, and synthetic faces:</p>')
                    thumbnails: list[tuple[Any, str]] = [(str(e.thumbnail), e.caption) for e in examples]
                    gallery = gr.Gallery(
                        thumbnails,
                        label="Examples",
                        show_label=False,
                        columns=4,
                        height=132,
                        allow_preview=False,
                        interactive=False,
                        buttons=[],
                        elem_id="examples",
                    )
                with gr.Tab("Camera"):
                    camera = gr.Image(
                        sources=["webcam"], streaming=True, type="numpy", label="Camera", elem_id="camera", height=300
                    )
                gr.HTML(FOOTNOTE)
            with gr.Column(scale=3, min_width=360):
                line = gr.HTML(notice("Choose a file, try an example, or start the camera."), elem_id="notice")
                # No gr.Image, which has no words for those who do not see it.
                image = gr.HTML(visible=False, elem_id="image")
                video = gr.Video(
                    label="Faces",
                    show_label=False,
                    interactive=False,
                    visible=False,
                    autoplay=True,
                    buttons=[],
                    elem_id="video",
                )
                with gr.Row():
                    download = gr.DownloadButton("Download the video", visible=False, size="sm", elem_id="download")
                    table = gr.DownloadButton("Download the table (CSV)", visible=False, size="sm", elem_id="table")
                faces = gr.HTML(elem_id="faces")
        outputs = [line, image, video, download, table, faces]

        def analyze(
            path: str | None,
            name: str,
            with_heat: bool,
            with_points: bool,
            progress: gr.Progress = gr.Progress(),  # noqa: B008  # how Gradio passes it
        ) -> list[Any]:
            if path is None:
                return [gr.skip()] * len(outputs)
            overlay = Overlay(with_heat, with_points)
            return _updates(analyst.file(path, name, overlay, lambda fraction, text: progress(fraction, desc=text)))

        def look(image: Image | None, name: str, with_heat: bool, with_points: bool) -> list[Any]:
            if image is None:
                return [gr.skip()] * len(outputs)
            return _updates(analyst.frame(image, name, Overlay(with_heat, with_points)))

        def example(event: gr.SelectData) -> str:
            return str(examples[event.index].file)

        again = [latest, model, heat, points]
        keep: dict[str, Any] = {"api_visibility": "private"}
        file.upload(lambda path: path, file, latest, **keep).then(analyze, again, outputs, **UPLOADS)
        gallery.select(example, None, latest, **keep).then(analyze, again, outputs, **UPLOADS)
        for control in (model, heat, points):
            control.input(analyze, again, outputs, **UPLOADS)
        camera.stream(
            look,
            [camera, model, heat, points],
            outputs,
            stream_every=CAMERA_SECONDS,
            show_progress="hidden",
            **CAMERAS,
        )
        add_api(analyst, model, QUEUE)
    return demo


def _updates(view: View) -> list[Any]:
    """Return what becomes of the line, the image, the video, the buttons of both, and the cards."""
    return [
        view.notice,
        gr.update(value="" if view.image is None else image_html(view.image, view.alt), visible=view.image is not None),
        gr.update(value=view.video, visible=view.video is not None),
        gr.update(value=view.video, visible=view.video is not None),
        gr.update(value=view.table, visible=view.table is not None),
        view.faces,
    ]
