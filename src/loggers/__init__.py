"""Where a run is followed: Weights & Biases, TensorBoard, MLflow."""
