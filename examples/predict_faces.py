"""Predict the faces of an image."""

from src.inference import EmotionPredictor

predictor = EmotionPredictor()
for face in predictor.predict("holiday.jpg").faces:
    print(face.box, face.expression, face.probability, face.valence, face.arousal)
