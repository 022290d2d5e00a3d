import numpy as np
import pytest
import torch

from src.exporting.deployed import DeployedModel, fold_batch_norm
from src.utils.errors import ConfigError
from tests.exporting.tiny import faces, tiny_model, torch_outputs, without_colors


class Echo(torch.nn.Module):
    """Keeps the images that the model is given."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, **options):
        self.seen = images
        return self.model(images, **options)


@pytest.mark.parametrize("grayscale", [True, False])
def test_images_are_normalized_as_in_training(grayscale):
    deployed = DeployedModel(tiny_model(grayscale=grayscale))
    deployed.model = Echo(deployed.model)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3, 64, 64), dtype=np.uint8)
    with torch.no_grad():
        deployed(torch.from_numpy(pixels))
    expected = without_colors(pixels) if grayscale else pixels
    assert torch.equal(deployed.model.seen, torch.from_numpy(expected).float() / 255)


def test_gray_images_stay_as_they_are():
    deployed = DeployedModel(tiny_model())
    deployed.model = Echo(deployed.model)
    with torch.no_grad():
        deployed(torch.arange(256, dtype=torch.uint8).repeat(16).reshape(1, 1, 64, 64).expand(-1, 3, -1, -1))
    assert torch.equal(deployed.model.seen[0, 2].flatten()[:256], torch.arange(256) / 255)


def test_folded_batch_norms_fit_into_half_precision_and_change_nothing():
    model = tiny_model()
    norm = model.backbone.conv3.bn2
    norm.running_var.fill_(1e6)
    norm.running_mean.fill_(-3e3)
    norm.weight.data.fill_(2.0)
    pixels = faces(3, grayscale=True)
    before = torch_outputs(model, pixels)
    after = torch_outputs(fold_batch_norm(model), pixels)
    for name in ("probabilities", "valence", "arousal", "heatmap"):
        np.testing.assert_allclose(after[name], before[name], atol=2e-5, err_msg=name)
    assert all(float(value.abs().max()) < 65504 for value in model.state_dict().values())


def test_the_model_itself_is_left_alone():
    model = tiny_model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    DeployedModel(model)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("outputs", [("expression",), ("expression", "valence_arousal")])
def test_untrained_outputs_are_absent_or_refused(outputs):
    model = tiny_model(outputs=outputs)
    deployed = DeployedModel(model)
    affect = ("valence", "arousal") if "valence_arousal" in outputs else ()
    assert deployed.output_names == ("probabilities", *affect)
    assert deployed.spec.outputs == outputs
    with pytest.raises(ConfigError, match=r"\['heatmap'\], but the landmarks of this model are not trained"):
        DeployedModel(model, ("heatmap",))


def test_temperatures_are_applied_once():
    model = tiny_model(temperatures={"expression": 2.5})
    deployed = DeployedModel(model)
    with torch.no_grad():
        probabilities = deployed(torch.from_numpy(faces(3)))[0]
        outputs = model.head(model.features(torch.from_numpy(without_colors(faces(3))).float() / 255))
    torch.testing.assert_close(probabilities, (outputs[:, :7] / 2.5).softmax(1), atol=1e-5, rtol=1e-4)
    assert deployed.spec.temperature == 1


def test_both_vocabularies_are_exported_the_chosen_one_first():
    eight = (*tiny_model().spec.class_names, "contempt")
    vocabularies, temperatures = {"fer2013": eight[:7], "ferplus": eight}, {"fer2013": 0.5, "ferplus": 2.0}
    model = tiny_model(vocabularies=vocabularies, class_names=eight, temperatures=temperatures)
    deployed = DeployedModel(model)
    with torch.no_grad():
        found = dict(zip(deployed.output_names, deployed(torch.from_numpy(faces(2))), strict=True))
        outputs = model.head(model.features(torch.from_numpy(without_colors(faces(2))).float() / 255))
    torch.testing.assert_close(found["probabilities"], (outputs[:, 7:15] / 2).softmax(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found["probabilities_fer2013"], (outputs[:, :7] * 2).softmax(1), atol=1e-5, rtol=1e-4)
    assert deployed.spec.class_names == eight
    assert deployed.spec.vocabularies == vocabularies
    assert deployed.spec.temperatures == {}
