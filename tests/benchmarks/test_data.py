from src.benchmarks import data as suite
from tests.helpers.running import compose_config


def test_the_suite_measures_every_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "N_SERVED", 64)
    sizes = ["data.n_train=70", "data.n_val=7", "data.n_test=7"]
    rows = suite.data_suite(compose_config("benchmark", "rounds=1", *sizes, f"run_dir={tmp_path}"))
    assert [row.name.split(":")[0] for row in rows[:2]] == ["synthetic", "open the store again"]
    assert "GiB" in rows[0].note
    served = rows[2:]
    assert [row.name.rsplit("=", 1)[1] for row in served] == ["none", "light"]
    assert all(row.baseline == "ImageFolder + Compose" and row.ratio > 0 for row in served)
