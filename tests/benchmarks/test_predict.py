import re

from src.benchmarks import predict
from tests.running import compose_config


def test_its_rows_compare_speed_and_memory(monkeypatch):
    monkeypatch.setattr(predict, "SIDES", (64,))
    monkeypatch.setattr(predict, "N_CROPS", 2)
    monkeypatch.setattr(predict, "N_FRAMES", (3, 40))
    crops, short, long = predict.predict_suite(compose_config("benchmark", "suite=predict", "rounds=1"))
    assert crops.baseline == "one by one in float32"
    assert crops.ratio is not None
    assert crops.ratio > 0
    peaks = [float(re.search(r"peak memory (\d+) MiB", row.note)[1]) for row in (short, long)]
    assert all(peak > 100 for peak in peaks)
    assert f"{peaks[1] / peaks[0]:.2f} times that of 3 frames" in long.note
