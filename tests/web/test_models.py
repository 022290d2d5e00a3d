import pytest

from src.inference.backend import TorchBackend
from src.inference.onnx_backend import OnnxBackend
from src.models.weights import save_safetensors
from src.utils.errors import ConfigError
from src.web.models import MAX_LOADED, Choice, ModelShelf, find_models
from tests.exporting.tiny import CLASSES, tiny_model


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Return a folder with two run directories, and one of something else."""
    folder = tmp_path_factory.mktemp("runs")
    for name in ("a", "b"):
        (folder / name / "checkpoints").mkdir(parents=True)
        save_safetensors(tiny_model(), folder / name / "checkpoints" / "best.safetensors")
    (folder / "export").mkdir()
    return folder


def test_globs_pass_over_what_is_no_model(runs):
    files = {name: runs / name / "checkpoints" / "best.safetensors" for name in ("b", "a")}
    found = find_models([f"{runs}/*"])
    assert list(found) == ["b", "a"]
    assert found == {name: Choice(str(file)) for name, file in files.items()}


def test_every_vocabulary_is_a_choice(tmp_path):
    eight = (*CLASSES, "contempt")
    model = tiny_model(class_names=CLASSES, vocabularies={"fer2013": CLASSES, "ferplus": eight})
    save_safetensors(model, tmp_path / "two.safetensors")
    shelf = ModelShelf([str(tmp_path / "two.safetensors")])
    assert list(shelf.choices) == ["two, ferplus", "two, fer2013"]
    assert shelf.predictor("two, ferplus").backend.class_names == eight
    assert shelf.predictor("two, fer2013").backend.class_names == CLASSES


def test_files_of_one_name_stay_apart(runs):
    files = [str(runs / name / "checkpoints" / "best.safetensors") for name in ("a", "b")]
    assert list(find_models(files)) == ["best", "best (2)"]


def test_an_exported_file_is_run_by_onnx(exported, runs):
    shelf = ModelShelf([str(exported.files["fp32"]), str(runs / "a")])
    assert isinstance(shelf.predictor("fp32").backend, OnnxBackend)
    assert isinstance(shelf.predictor("a").backend, TorchBackend)


def test_models_stay_loaded_but_not_all(runs):
    shelf = ModelShelf([str(runs / "a")])
    first = shelf.predictor("a")
    assert shelf.predictor("a") is first
    for i in range(MAX_LOADED):
        shelf.choices[f"copy {i}"] = shelf.choices["a"]
        shelf.predictor(f"copy {i}")
    assert shelf.predictor("a") is not first


@pytest.mark.parametrize(
    ("locations", "message"),
    [
        (["nowhere"], "models=nowhere does not exist"),
        (["README.md"], "models=README.md is no model; expected a file of the kind .ckpt, .safetensors, .onnx"),
        (["nowhere/*"], r"models=\[nowhere/\*\] has no model"),
    ],
)
def test_no_models(locations, message):
    with pytest.raises(ConfigError, match=message):
        find_models(locations)


def test_heat_maps_take_the_model_that_is_loaded_if_it_has_gradients(runs):
    shelf = ModelShelf([str(runs / "a")], detector="none")  # no ONNX file beside it: PyTorch on every machine
    assert shelf.predictor("a", gradcam=True).backend is shelf.predictor("a").backend


def test_a_request_for_heat_maps_leaves_the_others_alone(runs):
    shelf = ModelShelf([str(runs / "a")], detector="none")
    others = shelf.predictor("a")
    assert shelf.predictor("a", gradcam=True).gradcam
    assert not others.gradcam
    assert not shelf.predictor("a").gradcam
