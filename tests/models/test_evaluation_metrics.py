"""All metrics of a split together."""

import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from src.metrics.affect import MEASURES
from src.models.evaluation_metrics import EvaluationMetrics
from src.models.prediction import Prediction
from tests.helpers.forking import FORKS

CLASSES = ("happy", "sad", "angry")


def batch(n=6):
    values = torch.linspace(-1, 1, n)
    return {"label": torch.arange(n) % 3, "valence": values, "arousal": values.flip(0)}


def count(metrics, n=6, **changes):
    given = {**batch(n), **changes}
    probabilities = torch.nn.functional.one_hot(given["label"], 3).float()
    metrics.update(probabilities, Prediction(probabilities, given["valence"], given["arousal"]), given)


def test_what_is_no_output_is_no_metric():
    metrics = EvaluationMetrics(CLASSES, ("expression",))
    count(metrics)
    values = metrics.compute()
    assert values["accuracy"] == 1
    assert not any(name.startswith(("valence", "arousal", "landmarks", "accuracy_single")) for name in values)


def test_outputs_without_a_batch_that_has_them_are_left_out():
    metrics = EvaluationMetrics(CLASSES, ("expression", "valence_arousal", "landmarks"))
    nothing = torch.full((6,), torch.nan)
    count(metrics)
    count(metrics, valence=nothing)
    values = metrics.compute()
    assert values["valence_ccc"] == values["arousal_ccc"] == 1
    assert "landmarks_nme" not in values


def test_reset_forgets_everything():
    metrics = EvaluationMetrics(CLASSES, ("expression", "valence_arousal"))
    metrics.update_single_view(torch.eye(3), {"label": torch.tensor([1, 2, 0])})
    count(metrics)
    assert metrics.compute()["accuracy_single_view"] == 0
    metrics.reset()
    count(metrics, n=3, valence=torch.tensor([0.1, 0.2, 0.4]), arousal=torch.full((3,), torch.nan))
    values = metrics.compute()
    assert "accuracy_single_view" not in values
    assert "arousal_ccc" not in values
    assert values["valence_ccc"] == 1


def process(rank, store, results):
    """Count six images, of which the second process has no label."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    metrics = EvaluationMetrics(CLASSES, ("expression", "valence_arousal"))
    known = {} if rank == 0 else {"labeled": torch.zeros(6, dtype=torch.bool)}
    metrics.update_single_view(torch.eye(3).repeat(2, 1), {**batch(), **known})
    count(metrics, **known)
    torch.save(metrics.compute(), f"{results}-{rank}")
    dist.destroy_process_group()


def test_a_process_without_a_label_does_not_stop_the_others(tmp_path):
    results = str(tmp_path / "values")
    arguments = (str(tmp_path / "rendezvous"), results)
    running = mp.start_processes(process, arguments, nprocs=2, start_method=FORKS.get_start_method(), join=False)
    try:
        end = time.monotonic() + 60
        while not running.join(timeout=1):  # as soon as one of them ends
            assert time.monotonic() < end, "they wait for each other"
    finally:
        for each in running.processes:
            each.kill()
    for rank in range(2):
        values = torch.load(f"{results}-{rank}")
        assert (values["accuracy"], values["accuracy_single_view"]) == (1, 1)


def test_without_any_label_there_are_no_classes():
    metrics = EvaluationMetrics(CLASSES, ("expression", "valence_arousal"))
    count(metrics, labeled=torch.zeros(6, dtype=torch.bool))
    assert set(metrics.compute()) == {f"{name}_{m}" for name in ("valence", "arousal") for m in MEASURES}
