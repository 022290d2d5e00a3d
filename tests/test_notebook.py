"""The notebook: its commands compose, nothing of a run is left in it, and it runs from its first cell to its last."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from importlib import util
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import nbformat
import numpy as np
import pytest
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient
from PIL import Image

from src.data.faces.generator import draw_scene
from src.inference.image_input import as_frame
from src.utils.paths import ROOT
from src.utils.precision import resolve_precision
from tests.helpers.documented import check_command, commands, split_lines

NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
SOURCES = {cell["id"]: "".join(cell["source"]) for cell in CELLS}
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
PROSE = "\n\n".join(SOURCES[cell["id"]] for cell in CELLS if cell["cell_type"] == "markdown")
LONGEST = 30
# What a machine calls its folders: a slash or a drive that nothing stands before.
MACHINE_PATH = re.compile(r"""(?:^|[\s"'`=(])(?:/[A-Za-z]|~/|[A-Za-z]:\\)""", re.MULTILINE)


def typed_commands():
    """The commands of the notebook, once for each choice of `data`; and those that its text names."""
    choices = re.findall(r'^(?:# )?data = "(.*)"$', SOURCES["train"], re.MULTILINE)
    assert len(choices) == 2, "synthetic faces, and FER2013 as a comment"
    typed = []
    for cell in CODE:
        for line in split_lines("".join(cell["source"])):
            if line.startswith("!"):
                for data in choices if "{data}" in line else [""]:
                    typed.append(line[1:].format(python="python", data=data, run="outputs/runs/name"))
    return typed


def test_it_is_a_notebook():
    content = json.loads(NOTEBOOK.read_text())
    nbformat.validate(content)
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert NOTEBOOK.read_text() == json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def test_nothing_of_a_run_is_left():
    for cell in CODE:
        assert (cell["outputs"], cell["execution_count"], cell["metadata"]) == ([], None, {}), cell["id"]


def test_no_cell_names_folders_of_a_machine():
    found = {name: MACHINE_PATH.search(source) for name, source in SOURCES.items()}
    assert not {name: match[0] for name, match in found.items() if match}
    for path in ("cd /content/emonet", "open('~/faces')", r'x = "C:\faces"', "data.path=/kaggle/input"):
        assert MACHINE_PATH.search(path), path


def test_each_cell_is_short_and_comes_after_its_explanation():
    for before, cell in pairwise(CELLS):
        if cell["cell_type"] == "code":
            assert before["cell_type"] == "markdown", cell["id"]
            assert len(cell["source"]) <= LONGEST, cell["id"]
    assert CELLS[0]["cell_type"] == "markdown"


def test_commands_compose(tmp_path):
    typed = typed_commands()
    assert Counter(re.findall(r"-m (src\.\w+)", "\n".join(typed))) == {"src.train": 2, "src.explain": 1}
    page = tmp_path / "page.md"
    page.write_text(PROSE)
    assert len(commands(page)) >= 3
    for command in [*typed, *commands(page)]:
        check_command(command, tmp_path)


def test_files_that_are_named_exist():
    named = re.findall(r"`((?:docs|notebooks|src)/[\w./-]+)`", PROSE)
    named += re.findall(r'"(src/[\w./-]+)"', "".join(SOURCES.values()))
    assert {"docs/training.md", "src/web/astronaut.jpg", "notebooks/quickstart.ipynb"} <= set(named)
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.fixture
def install(monkeypatch):
    """Run the first cell in a folder, and return the commands that it starts; those of pip are only noted."""
    started, real = [], subprocess.check_call

    def check_call(command):
        started.append(command)
        return 0 if "pip" in command else real(command)

    def run(folder, repository=""):
        monkeypatch.chdir(folder)
        assert 'REPOSITORY = ""' in SOURCES["install"]
        exec(SOURCES["install"].replace('REPOSITORY = ""', f"REPOSITORY = {str(repository)!r}"), {})
        return started

    monkeypatch.setattr(subprocess, "check_call", check_call)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setenv("TERM", "xterm")
    return run


@pytest.mark.parametrize("folder", [ROOT, NOTEBOOK.parent], ids=["root", "notebooks"])
def test_where_all_is_installed_nothing_is(install, folder):
    assert install(folder) == []
    assert Path.cwd() == ROOT
    assert sys.path[0] == str(ROOT)


def test_what_lacks_is_installed_beside_the_torch_that_is_there(install, monkeypatch):
    find_spec = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == "captum" else find_spec(name))
    ((*pip, extra, torch, torchvision),) = install(ROOT)
    assert pip == [sys.executable, "-m", "pip", "install", "--quiet", "--editable"]
    check_command(f"pip install -e '{extra}'", ROOT)
    assert (torch, torchvision) == (f"torch=={version('torch')}", f"torchvision=={version('torchvision')}")


def test_elsewhere_it_makes_a_clone(install, tmp_path):
    origin, elsewhere = tmp_path / "origin", tmp_path / "elsewhere"
    (origin / "conf").mkdir(parents=True)
    (origin / "conf" / "train.yaml").touch()
    elsewhere.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(origin)]
    for arguments in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--no-verify", "--message=all"]):
        subprocess.run([*git, *arguments], check=True)
    with pytest.raises(SystemExit, match="address of the repository"):
        install(elsewhere)
    (clone,) = install(elsewhere, origin.as_uri())
    assert clone[:2] == ["git", "clone"]
    assert Path.cwd() == elsewhere / "emonet-fer"


class Camera:
    """A camera that shows a scene, dark at first, as `cv2.VideoCapture` would."""

    scene = draw_scene(7, 2, 400)[0]

    def __init__(self, number):
        self.shown = 0

    def isOpened(self):
        return True

    def read(self):
        self.shown += 1
        return True, np.zeros_like(self.scene) if self.shown <= 10 else cv2.cvtColor(self.scene, cv2.COLOR_RGB2BGR)

    def release(self):
        pass


@pytest.fixture
def take_picture():
    """Run the cells of the camera with it switched on, and return what they display: pictures as a model gets them."""
    predictor = SimpleNamespace(predict=lambda picture: SimpleNamespace(draw=lambda: as_frame(picture).image))

    def run():
        shown = []
        names = {"sys": sys, "b64decode": base64.b64decode, "display": shown.append, "predictor": predictor}
        assert "CAMERA = False" in SOURCES["picture"]
        for source in (SOURCES["capture"], SOURCES["camera"], SOURCES["picture"].replace("= False", "= True")):
            exec(source, names)
        return shown

    return run


@pytest.fixture
def colab(monkeypatch):
    """Colab's modules, and the function that asks the browser."""
    output = SimpleNamespace(eval_js=None)
    for name, module in (("google", None), ("google.colab", output), ("google.colab.output", output)):
        monkeypatch.setitem(sys.modules, name, module or SimpleNamespace())
    return output


def test_a_camera_of_the_machine_takes_a_picture(take_picture, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    (picture,) = take_picture()
    assert (picture == Camera.scene).all()


def test_without_a_camera_it_says_so(take_picture, monkeypatch, capsys):
    closed = cv2.VideoCapture()
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: closed)
    assert take_picture() == []
    assert "No picture: there is no such camera" in capsys.readouterr().out


def test_on_colab_the_browser_takes_a_picture(take_picture, colab):
    file = io.BytesIO()
    Image.fromarray(Camera.scene).save(file, "JPEG")
    pictures = {"capture()": "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()}
    colab.eval_js = pictures.__getitem__
    script, picture = take_picture()
    assert "async function capture()" in script.data
    assert np.abs(picture - Camera.scene.astype(float)).mean() < 3, "JPEG"


def test_on_colab_a_camera_may_be_refused(take_picture, colab, capsys):
    def refuse(code):
        raise RuntimeError("NotAllowedError: Permission denied")

    colab.eval_js = refuse
    assert len(take_picture()) == 1
    assert capsys.readouterr().out == "No picture: NotAllowedError: Permission denied\n"


@pytest.fixture
def executed(tmp_path):
    """Run the notebook in a clone where nothing was done before, and return its cells, those with code, by id."""
    clone = tmp_path / "clone"
    shutil.copytree(NOTEBOOK.parent, clone / "notebooks")
    for name in ("src", "conf", "pretrained", "hydra_plugins", "pyproject.toml"):
        (clone / name).symlink_to(ROOT / name)
    write_kernel_spec(tmp_path / "kernels" / "own")  # this interpreter, whatever others are installed
    specs = KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")], ensure_native_kernel=False)
    manager = AsyncKernelManager(kernel_name="own", kernel_spec_manager=specs)
    client = NotebookClient(
        nbformat.read(clone / "notebooks" / NOTEBOOK.name, as_version=4),
        km=manager,
        timeout=600,
        startup_timeout=300,
        resources={"metadata": {"path": clone / "notebooks"}},
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "PYTHONPATH"))}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "IPYTHONDIR": str(tmp_path / "ipython")}
    notebook = client.execute(cleanup_kc=True, env=environment)
    return clone, {cell.id: cell.outputs for cell in notebook.cells if cell.cell_type == "code"}


def printed(outputs):
    """What a cell has printed; commands end their lines as terminals do."""
    return "".join(output.text for output in outputs if output.output_type == "stream").replace("\r\n", "\n")


def pictures(outputs):
    return [base64.b64decode(o.data["image/png"]) for o in outputs if "image/png" in o.get("data", {})]


@pytest.mark.slow
def test_it_runs(executed):
    clone, shown = executed
    run, explained = sorted((clone / "outputs" / "runs").glob("notebook_*"))
    assert explained.name == f"{run.name}_explained"
    for outputs in shown.values():
        assert not re.search(r"Error|Traceback|\x1b", printed(outputs)), printed(outputs)

    precision = resolve_precision("auto", "cpu")
    assert f"Precision: {precision}\n" in printed(shown["precision"])
    assert f"Precision: {precision}\n" in printed(shown["train"])
    assert json.loads((run / "metrics.json").read_text())["test/accuracy"] > 0.5
    assert {path.name for path in run.iterdir()} >= {"csv", "report.html"}
    assert not list(clone.rglob("wandb"))

    figures = run / "figures"
    assert pictures(shown["curves"]) == [(figures / "learning_curves.png").read_bytes()]
    assert pictures(shown["confusion"]) == [(figures / "confusion_matrix.png").read_bytes()]
    panels = [explained / "figures" / f"{name}.png" for name in ("correct", "incorrect")]
    assert pictures(shown["panels"]) == [path.read_bytes() for path in panels]
    (link,) = shown["report"]
    assert (
        base64.b64decode(re.search("base64,([^']+?)\"", link.data["text/html"])[1])
        == (run / "report.html").read_bytes()
    )

    (portrait,) = pictures(shown["predict"])
    with Image.open(io.BytesIO(portrait)) as image, Image.open(ROOT / "src" / "web" / "astronaut.jpg") as photo:
        assert image.width > photo.width, "cards stand beside it"
    assert re.search(r"prediction +happy", shown["table"][0].data["text/plain"])
    assert printed(shown["picture"]) == "The camera is off.\n"
