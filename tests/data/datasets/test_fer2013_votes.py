"""Tests of FER2013 with the votes of FER+ beside its labels."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from pytorch_lightning import Trainer

from src.data.circumplex import COORDINATES, project
from src.data.datasets.fer2013 import LABELS
from src.data.vocabulary import CANONICAL, canonical_order
from src.engine.build import build_data
from src.engine.evaluate import evaluate as run_evaluation
from src.engine.fit import fit_and_test
from src.models.losses import MultiTaskLoss
from src.models.weights import load_weights
from src.utils.errors import ConfigError
from tests.data.datasets.test_fer2013 import pixels, text
from tests.data.datasets.test_ferplus import HEADER
from tests.helpers.running import compose_config, tiny_config

N = 24
USAGES = ("Training", "PublicTest", "PrivateTest")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A FER2013 of different images, and votes: on every third image all people saw contempt, on the last none."""
    folder = tmp_path_factory.mktemp("votes")
    rows = [f"{i % 7},{text(pixels(i))},{USAGES[i % 3]}" for i in range(N)]
    (folder / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    votes = [[0, 10, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 5, 5, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 10, 0, 0]]
    lines = [f"{USAGES[i % 3]},fer{i:07}.png," + ",".join(map(str, votes[i // 3 % 3])) for i in range(N - 1)]
    lines.append(f"{USAGES[(N - 1) % 3]},,0,0,0,0,0,0,0,0,0,10")
    (folder / "votes.csv").write_text("\n".join([HEADER, *lines]) + "\n")
    return [f"data.path={folder}/fer2013.csv", f"data.votes_path={folder}/votes.csv", "data.batch_size=6"]


@pytest.fixture(scope="module")
def trained(files, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("two_vocabularies")
    head = ["head=emonet", "head.valence_arousal=true"]
    cfg = tiny_config(run_dir, run_dir / "data", "data=fer2013_votes", *files, *head)
    return run_dir, fit_and_test(cfg)


def test_projection_is_the_mean_of_the_coordinates():
    both = np.zeros(8, dtype=np.float32)
    both[[CANONICAL.index("sad"), CANONICAL.index("angry")]] = 0.5
    expected = np.mean([COORDINATES["sad"], COORDINATES["angry"]], axis=0)
    assert project(both) == pytest.approx(tuple(expected))
    some = both * 0.8
    some[CANONICAL.index("contempt")] = 0.2
    assert project(some) == pytest.approx(tuple(expected))
    assert np.isnan(project(np.eye(8, dtype=np.float32)[CANONICAL.index("contempt")])).all()


def test_both_targets_are_served(files, tmp_path):
    cfg = compose_config("train", "data=fer2013_votes", *files, f"data_dir={tmp_path}")
    data = build_data(cfg, transform={"name": "none"}, image_size=64)
    data.prepare_data()
    data.setup()
    assert data.class_names == canonical_order(LABELS)
    assert data.vocabularies == {"fer2013": canonical_order(LABELS), "ferplus": CANONICAL}
    served = {int(data.store.ids[row]): i for batch in data.val_dataloader() for i, row in enumerate(batch["row"])}
    assert sorted(served) == list(range(1, N, 3))
    for batch in data.val_dataloader():
        for i, row in enumerate(batch["row"]):
            number = int(data.store.ids[row])
            assert data.class_names[int(batch["label"][i])] == LABELS[number % 7]
            votes = batch["second_target"][i]
            kind = number // 3 % 3
            if kind == 0:
                assert votes[CANONICAL.index("happy")] == 1
                assert (batch["valence"][i], batch["arousal"][i]) == pytest.approx(COORDINATES["happy"])
            elif kind == 1:
                assert votes[CANONICAL.index("sad")] == votes[CANONICAL.index("angry")] == 0.5
            else:
                assert votes[CANONICAL.index("contempt")] == 1
                assert torch.isnan(batch["valence"][i])
    last = next(b for b in data.test_dataloader() if int(data.store.ids[b["row"][-1]]) == N - 1)
    assert torch.isnan(last["second_target"][-1]).all()


def test_the_weights_hold_both_vocabularies(trained):
    spec = load_weights(trained[0] / "checkpoints" / "best.safetensors").spec
    assert list(spec.vocabularies) == ["fer2013", "ferplus"]
    assert spec.class_names == canonical_order(LABELS)
    assert spec.columns() == slice(0, 7)
    assert spec.with_vocabulary("ferplus").columns() == slice(7, 15)
    assert spec.with_vocabulary(None, CANONICAL).class_names == CANONICAL
    assert spec.with_vocabulary(None, ("happy", "sad")).class_names == canonical_order(LABELS)
    with pytest.raises(ConfigError, match=r"head.vocabulary=rafdb, but the weights have fer2013, ferplus"):
        spec.with_vocabulary("rafdb")


@pytest.mark.parametrize(
    ("data", "chosen", "classes"),
    [
        ("fer2013", "null", canonical_order(LABELS)),
        ("ferplus", "null", CANONICAL),
        ("fer2013", "ferplus", CANONICAL),
    ],
)
def test_evaluation_takes_the_vocabulary_of_the_data(trained, files, tmp_path, data, chosen, classes):
    run_dir, expected = trained
    options = [
        f"data={data}",
        *(f for f in files if data == "ferplus" or not f.startswith("data.votes_path")),
        "trainer=cpu",
    ]
    options += [f"ckpt_path={run_dir}", f"run_dir={tmp_path}", f"data_dir={run_dir}/data", f"head.vocabulary={chosen}"]
    results = run_evaluation(compose_config("eval", *options, "trainer.enable_progress_bar=false"))
    columns = (tmp_path / "predictions.csv").read_text().splitlines()[0].split(",")
    assert tuple(columns[5:13][: len(classes)]) == classes
    if chosen == "null" and data == "fer2013":
        assert results["test/accuracy"] == pytest.approx(expected["test/accuracy"])


def test_the_second_vocabulary_is_learned(trained, files, tmp_path):
    """Its loss reaches the head: with it the second block of the last layer moves, and only votes can move it."""
    weights = load_weights(trained[0] / "checkpoints" / "best.safetensors")
    bias = weights.state["head.fc.3.bias"]
    assert bias.shape == (7 + 8 + 2,)
    from src.models.classifier import ExpressionClassifier

    loss = MultiTaskLoss(torch.nn.CrossEntropyLoss())
    model = ExpressionClassifier(weights.spec, weights.spec.build_backbone(), weights.spec.build_head(), loss=loss)
    image = torch.rand(6, 3, 64, 64)
    nothing = torch.full((6,), float("nan"))
    batch = {"label": torch.zeros(6, dtype=torch.long), "valence": nothing, "arousal": nothing}
    for votes, moves in ((torch.full((6, 8), float("nan")), False), (torch.eye(8)[:6], True)):
        model.zero_grad()
        model._loss(model(image), {**batch, "second_target": votes}).backward()
        gradient = model.head.fc[3].bias.grad
        assert bool(gradient[7:15].abs().sum() > 0) is moves
        assert gradient[:7].abs().sum() > 0


def test_a_head_starts_from_the_weights(trained, files, tmp_path):
    """EmoNet's head takes the outputs of the same classes; without an optimizer step it predicts as before."""
    run_dir, expected = trained
    start = [f"backbone.weights={run_dir}", "head=emonet", "trainer.limit_train_batches=1", "trainer.max_epochs=1"]
    frozen = ["backbone.freeze=all", "optimizer.lr=1e-12", "data=fer2013", files[0], "data.batch_size=6"]
    results = fit_and_test(tiny_config(tmp_path, run_dir / "data", *start, *frozen))
    ours = load_weights(tmp_path / "checkpoints" / "best.safetensors").state["head.fc.3.weight"]
    theirs = load_weights(run_dir / "checkpoints" / "best.safetensors").state["head.fc.3.weight"]
    assert ours.shape == (7, 128)
    torch.testing.assert_close(ours, theirs[:7], atol=1e-6, rtol=0)
    assert results["test/n"] == expected["test/n"]


def test_a_head_starts_from_both_vocabularies_whatever_the_labels_are_called(trained, files, tmp_path):
    """The classes of another data set take the labels' outputs by name, the votes those of their own name."""
    run_dir, _ = trained
    options = dict(option.removeprefix("data.").split("=", 1) for option in files[:2])
    part = ", ".join(f"{key}: {value}" for key, value in options.items())
    start = [f"backbone.weights={run_dir}", "head=emonet", "trainer.limit_train_batches=1", "trainer.max_epochs=1"]
    frozen = ["backbone.freeze=all", "optimizer.lr=1e-12", "data=combined", "data.batch_size=6"]
    parts = f"data.parts=[{{name: fer2013_votes, {part}}}]"
    fit_and_test(tiny_config(tmp_path, run_dir / "data", *start, *frozen, parts, "test=false"))
    ours, theirs = (load_weights(folder / "checkpoints" / "best.safetensors") for folder in (tmp_path, run_dir))
    assert list(ours.spec.vocabularies) == ["fer2013", "ferplus"]
    key = "head.fc.3.weight"
    torch.testing.assert_close(ours.state[key], theirs.state[key][:15], atol=1e-6, rtol=0)


@pytest.mark.parametrize("mixing", [{"mixup": 1.0}, {"cutmix": 1.0}])
def test_images_and_all_their_targets_are_mixed_in_the_same_fractions(files, tmp_path, mixing):
    cfg = compose_config("train", "data=fer2013_votes", *files, f"data_dir={tmp_path}")
    data = build_data(cfg, transform={"name": "none", **mixing}, image_size=64)
    data.prepare_data()
    data.setup()
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.training = True
    before = next(iter(data.train_dataloader()))
    after = data.on_after_batch_transfer(before, 0)
    own = {name: before[name] for name in ("second_target", "valence", "arousal")}
    own["target"] = torch.nn.functional.one_hot(before["label"], 7).float()
    pair = int(torch.nonzero(before["label"] != before["label"].roll(1))[0])
    fraction = after["target"][pair, before["label"][pair]]
    assert 0 < fraction < 1
    for name, values in own.items():
        torch.testing.assert_close(after[name], fraction * values + (1 - fraction) * values.roll(1, 0), equal_nan=True)
    assert torch.equal(after["label"], after["target"].argmax(dim=1))


def test_what_mixed_images_lack_spoils_no_weight(files, tmp_path):
    options = ["data=fer2013_votes", *files, "head=emonet", "head.valence_arousal=true", "transform.mixup=0.4"]
    results = fit_and_test(tiny_config(tmp_path, tmp_path / "data", *options))
    assert np.isfinite(results["test/loss"])
    state = load_weights(tmp_path / "checkpoints" / "best.safetensors").state
    assert all(value.isfinite().all() for value in state.values())


def test_the_test_split_stays_unseen_without_test(files, tmp_path):
    fit_and_test(tiny_config(tmp_path, tmp_path / "data", "data=fer2013_votes", *files, "head=emonet", "test=false"))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert "val/accuracy" in metrics
    assert not [name for name in metrics if name.startswith("test")]
    assert set(pd.read_csv(tmp_path / "predictions.csv")["split"]) == {"val"}
