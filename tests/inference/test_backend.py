import pytest
import torch

from src.inference import backend as backend_module
from src.inference.backend import TorchBackend, choose_vocabulary
from src.models.emonet import EmoNet
from src.models.weights import save_safetensors
from src.utils.errors import ConfigError
from tests.inference.conftest import SEVEN, assert_close, faces_tensor, tiny_model

TWO = {"fer2013": SEVEN, "ferplus": (*SEVEN, "contempt")}


def test_it_gives_the_outputs_of_the_model(weights):
    backend = TorchBackend.from_weights(weights, precision="32-true")
    images = faces_tensor(5)
    output = backend(images)
    with torch.no_grad():
        expected = tiny_model()(images)
    assert_close(output.probabilities, expected.logits.softmax(1))
    assert_close(output.valence, expected.valence)
    assert_close(output.arousal, expected.arousal)
    assert output.landmarks is None
    assert (backend.class_names, backend.image_size, backend.grayscale) == (SEVEN, 64, True)
    assert not images.is_inference()


def test_untrained_outputs_are_absent():
    output = TorchBackend(tiny_model(outputs=("expression",)))(faces_tensor(2))
    assert output.valence is None
    assert output.arousal is None


def test_large_batches_are_predicted_in_parts(monkeypatch):
    images = faces_tensor(5)
    model = tiny_model()
    whole = TorchBackend(model, precision="32-true")(images)
    sizes = []
    model.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    monkeypatch.setattr(backend_module, "PIXELS_AT_ONCE", 2 * 64**2)
    parts = TorchBackend(model, precision="32-true")(images)
    assert sizes == [2, 2, 1]
    for one, other in zip(parts[:3], whole[:3], strict=True):
        assert_close(one, other)
    monkeypatch.setattr(backend_module, "PIXELS_AT_ONCE", 1)
    assert len(TorchBackend(model)(images).probabilities) == 5


@pytest.mark.parametrize(("precision", "tolerance"), [("bf16-mixed", 0.2), ("64-true", 1e-2)])
def test_precision_changes_little(precision, tolerance):
    images = faces_tensor(4)
    plain = TorchBackend(tiny_model(), precision="32-true")(images)
    other = TorchBackend(tiny_model(), precision=precision)(images)
    assert other.probabilities.dtype == torch.float32
    assert (plain.probabilities - other.probabilities).abs().max() < tolerance
    assert not torch.equal(plain.probabilities, other.probabilities)


def test_what_overflows_in_half_precision_is_predicted_in_single(caplog):
    model = tiny_model()
    with torch.no_grad():
        model.backbone.conv1x1_input_emo_2.weight.mul_(1e6)
    images = faces_tensor(3)
    expected = TorchBackend(model, precision="32-true")(images)
    backend = TorchBackend(model, precision="16-mixed")
    assert torch.equal(backend(images).probabilities, expected.probabilities)
    assert "going on in 32-true" in caplog.text
    assert backend.precision == "32-true"


def test_it_prefers_the_labels_of_many_people(tmp_path):
    save_safetensors(tiny_model(vocabularies=TWO), tmp_path / "two.safetensors")
    location = str(tmp_path / "two.safetensors")
    assert TorchBackend.from_weights(location).class_names == TWO["ferplus"]
    backend = TorchBackend.from_weights(location, vocabulary="fer2013", precision="32-true")
    assert backend.class_names == SEVEN
    images = faces_tensor(3)
    both = backend.model.head(backend.model.features(images))
    assert_close(backend(images).probabilities, both[:, :7].softmax(1))
    preferred = TorchBackend.from_weights(location, precision="32-true")
    assert_close(preferred(images).probabilities, both[:, 7:15].softmax(1))


def test_an_unknown_vocabulary_is_refused():
    with pytest.raises(ConfigError, match=r"head.vocabulary=ferplus, but the weights have a single vocabulary"):
        choose_vocabulary(tiny_model().spec, "ferplus")


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_an_absent_device_is_refused(device):
    with pytest.raises(ConfigError, match=f"device={device} is not to be had here"):
        TorchBackend(tiny_model(), device=device)


@pytest.mark.parametrize(("n", "order"), [(8, list(range(8))), (5, None)])
def test_the_authors_weights_are_predicted_as_their_network_would(tmp_path, n, order):
    torch.manual_seed(0)
    network = EmoNet(n).eval()
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, tmp_path / f"emonet_{n}.pth")
    backend = TorchBackend.from_weights(str(tmp_path / f"emonet_{n}.pth"), precision="32-true")
    assert len(backend.class_names) == n
    assert (backend.image_size, backend.grayscale) == (256, False)
    assert backend.crop == "landmarks"
    images = torch.nn.functional.interpolate(faces_tensor(1), size=256)
    output = backend(images)
    with torch.no_grad():
        expected = network(images)
    torch.testing.assert_close(output.valence, expected.valence, rtol=1e-3, atol=1e-3)
    if order:
        torch.testing.assert_close(output.probabilities, expected.expression.softmax(1)[:, order], rtol=1e-3, atol=1e-4)
    assert output.landmarks.shape == (1, 68, 2)


def test_other_weights_of_that_kind_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"resnet.pth; of .pth files, expected emonet_8 or emonet_5.pth"):
        TorchBackend.from_weights(str(tmp_path / "resnet.pth"))
    with pytest.raises(ConfigError, match=r"emonet_8.pth does not exist"):
        TorchBackend.from_weights(str(tmp_path / "emonet_8.pth"))


def test_finite_weights_whose_outputs_are_not_are_an_error():
    """Weights that no check of the file refuses: the sums overflow."""
    model = tiny_model()
    model.head.fc[3].weight.data.fill_(3e38)
    backend = TorchBackend(model, device="cpu", precision="32-true", source="big.safetensors")
    with pytest.raises(ConfigError, match=r"big\.safetensors gives probabilities"):
        backend(faces_tensor(2))
