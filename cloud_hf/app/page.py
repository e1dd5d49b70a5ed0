"""The page: what can be given, what is shown, and what happens in between."""

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from cloud_hf.app.crystals import Answers
from cloud_hf.app.figures import HIGHEST, crystal_figure, dos_figure, heat_capacity_figure
from cloud_hf.app.reading import MAX_BYTES, ReadCrystal
from cloud_hf.app.uploads import Uploads
from cloud_hf.data.inputs import Item
from cloud_hf.errors import CloudError, CrystalReadError
from cloud_hf.inference.prediction import Prediction
from cloud_hf.models.modeling_cloud import ROOM_TEMPERATURE

__all__ = ["EXAMPLES", "make_page"]

EXAMPLES = {path.stem: path for path in sorted((Path(__file__).parent / "examples").glob("*.cif"))}
"""Crystal files that ship with the page, by their names."""

WELCOME = """# CLOUD: crystals in, physical properties out

Drop a crystal file, choose an example, or paste a SCOPE string. You get predicted properties with intervals, the heat
capacity at any temperature, and an explanation of the string that the model reads. Nothing that you give is kept.
"""


class Shown(NamedTuple):
    """The components that an answer fills, in this order."""

    file: Any
    crystal: Any
    failure: Any
    results: Any
    summary: Any
    picture: Any
    no_picture: Any
    words: Any
    neighbours: Any
    properties: Any
    heat_capacity: Any
    dos: Any
    download: Any


N_THERMAL = 4
"""The last of them, those that depend on the temperature."""


class Handlers:
    """What the page does with what users give.

    Args:
        answers: Predictions and tables.
        uploads: Where uploads are taken from.
    """

    def __init__(self, answers: Answers, uploads: Uploads) -> None:
        self.answers, self.uploads = answers, uploads

    def upload(self, path: str | None, temperature: float) -> list[Any]:
        """Answer an uploaded file, which is deleted before it is parsed."""
        if path is None:
            return self._failed(CrystalReadError("there is no file; drop a CIF or POSCAR."))
        file = Path(path)
        try:
            read = self.answers.readers.file(file.name, self.uploads.take(file))
        except CloudError as error:
            return self._failed(error)
        return self._answer(read, temperature)

    def example(self, name: str | None, temperature: float) -> list[Any]:
        """Answer an example."""
        path = EXAMPLES.get(name or "")
        if path is None:
            return self._failed(CrystalReadError("choose one of the examples."))
        try:
            read = self.answers.readers.file(path.name, path.read_bytes())
        except CloudError as error:
            return self._failed(error)
        return self._answer(read, temperature)

    def string(self, text: str | None, temperature: float) -> list[Any]:
        """Answer a SCOPE string."""
        try:
            read = self.answers.readers.string(text or "")
        except CloudError as error:
            return self._failed(error)
        return self._answer(read, temperature)

    def warm(self, item: Item | None, temperature: float) -> list[Any]:
        """Answer another temperature for the crystal that is shown."""
        if item is None:
            return [gr.skip()] * N_THERMAL
        return self._thermal(self.answers.predict(item, float(temperature)), float(temperature))

    def _answer(self, read: ReadCrystal, temperature: float) -> list[Any]:
        item, answers, kelvin = read.item, self.answers, float(temperature)
        try:
            prediction = answers.predict(item, kelvin)
        except CloudError as error:
            return self._failed(error)
        neighbours = answers.neighbours(item)
        picture = None if read.scene is None else crystal_figure(read.scene)
        return [
            None,
            item,
            gr.update(value="", visible=False),
            gr.update(visible=True),
            answers.summary(item),
            gr.update(value=picture, visible=picture is not None),
            gr.update(visible=picture is None),
            answers.words(item),
            gr.update(value=neighbours, visible=bool(neighbours)),
            *self._thermal(prediction, kelvin),
        ]

    def _thermal(self, prediction: Prediction, kelvin: float) -> list[Any]:
        curve, dos = heat_capacity_figure(prediction, kelvin), dos_figure(prediction, kelvin)
        return [
            self.answers.properties(prediction, kelvin),
            gr.update(value=curve, visible=curve is not None),
            gr.update(value=dos, visible=dos is not None),
            self.answers.download(prediction, kelvin),
        ]

    def _failed(self, error: CloudError) -> list[Any]:
        shown = [gr.update(value=self.answers.failure(error), visible=True), gr.update(visible=False)]
        return [None, None, *shown, *[gr.skip()] * (len(Shown._fields) - 4)]


def _path_of(payload: Any) -> str | None:
    """The path of an upload, without the empty file that `gr.File` leaves beside it."""
    return None if payload is None else str(payload.path)


def make_page(answers: Answers, uploads: Uploads) -> gr.Blocks:
    """Return the page, not yet served.

    Args:
        answers: What it shows.
        uploads: Where uploads are taken from.
    """
    handlers = Handlers(answers, uploads)
    has_temperature = answers.predictors.has_temperature
    page = gr.Blocks(title="CLOUD", analytics_enabled=False)
    with page:
        gr.Markdown(WELCOME)
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300):
                file: Any = gr.File(
                    label=f"CIF or POSCAR, up to {MAX_BYTES / 1e6:g} MB", file_count="single", height=150
                )
                file.preprocess = _path_of
            with gr.Column(scale=1, min_width=300):
                example = gr.Dropdown(list(EXAMPLES), value=None, label="Example")
                text = gr.Textbox(label="SCOPE string", placeholder="1 0 0 | Cu 1a", max_lines=4)
                submit = gr.Button("Predict the string", variant="primary")
        failure = gr.HTML(visible=False, elem_id="failure")
        crystal = gr.State(None, time_to_live=3600)
        with gr.Column(visible=False, elem_id="results") as results:
            summary = gr.HTML(elem_id="summary")
            temperature = gr.Slider(
                0, HIGHEST, ROOM_TEMPERATURE, step=5, label="Temperature, K", visible=has_temperature,
                elem_id="temperature",
            )  # fmt: skip
            with gr.Row(equal_height=False):
                with gr.Column(scale=1, min_width=300):
                    picture = gr.Plot(label="Crystal", show_label=False, elem_id="picture")
                    no_picture = gr.Markdown(
                        "A string has no coordinates, so there is no picture of this crystal.", visible=False
                    )
                with gr.Column(scale=1, min_width=300):
                    properties = gr.HTML(elem_id="properties")
                    download = gr.HTML(elem_id="download")
            with gr.Row(equal_height=False):
                with gr.Column(scale=1, min_width=300):
                    heat_capacity = gr.Plot(label="Heat capacity", show_label=False, elem_id="heat-capacity")
                with gr.Column(scale=1, min_width=300):
                    dos = gr.Plot(label="Phonon density of states", show_label=False, elem_id="dos")
            neighbours = gr.HTML(visible=False, elem_id="neighbours")
            words = gr.HTML(elem_id="words")
        shown = Shown(
            file, crystal, failure, results, summary, picture, no_picture, words, neighbours, properties, heat_capacity,
            dos, download,
        )  # fmt: skip
        every, thermal = list(shown), list(shown)[-N_THERMAL:]
        file.upload(handlers.upload, [file, temperature], every, api_name="file")
        # not `input`, which the box sends again when it loses the focus
        example.select(handlers.example, [example, temperature], every, api_name="example")
        gr.on([submit.click, text.submit], handlers.string, [text, temperature], every, api_name="string")
        temperature.change(
            handlers.warm, [crystal, temperature], thermal, trigger_mode="always_last", show_progress="hidden",
            api_name="temperature",
        )  # fmt: skip
    return page
