"""Prediction on images, videos and cameras: `EmotionPredictor` and its typed results."""

from src.inference.predictor import EmotionPredictor
from src.inference.results import FacePrediction, Prediction, Predictions

__all__ = ["EmotionPredictor", "FacePrediction", "Prediction", "Predictions"]
