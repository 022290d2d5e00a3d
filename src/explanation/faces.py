"""Where a model sees the evidence for the class that it gives each face of a picture."""

from __future__ import annotations

from dataclasses import replace

from src.explanation.explainer import Explainer
from src.explanation.targets import Target
from src.inference.crop import cut, to_tensor
from src.inference.results import Prediction
from src.models.classifier import ExpressionClassifier


def with_heat(prediction: Prediction, model: ExpressionClassifier, method: str = "auto") -> Prediction:
    """Return the prediction with a heat map for every face.

    Args:
        prediction: Faces of a picture.
        model: The model that predicted them.
        method: See `Explainer`.
    """
    faces = prediction.faces
    if not faces:
        return prediction
    spec = model.spec
    crops = [cut(prediction.frame.image, face.crop, spec.image_size, spec.grayscale) for face in faces]
    with Explainer(model, method) as explain:
        maps = explain(to_tensor(crops), [Target(face.expression) for face in faces]).numpy()
    return prediction.with_faces([replace(face, heat=heat) for face, heat in zip(faces, maps, strict=True)])
