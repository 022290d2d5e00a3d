from pathlib import Path

import pandas as pd

from src.runs.finished import Run


def test_columns_are_found_by_name():
    columns = {"label": ["sad", "happy"], "prediction": ["sad", "sad"], "happy": [0.25, 0.4], "sad": [0.75, 0.6]}
    run = Run(Path("run"), {}, pd.DataFrame({"id": ["0", "1"], "split": "test", "in_dedup": True, **columns}))
    assert run.class_names == ("happy", "sad")
    assert run.probabilities.tolist() == [[0.25, 0.75], [0.4, 0.6]]
    assert run.indices("label", run.class_names).tolist() == [1, 0]
    confidence, correct = run.confidences()
    assert confidence.tolist() == [0.75, 0.6]
    assert correct.tolist() == [True, False]
