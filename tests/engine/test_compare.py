import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from omegaconf import OmegaConf

from src.comparison.entries import MAY_DIFFER, group_runs
from src.data.options import OF_THE_RUN
from src.engine.build import plain
from src.engine.compare import compare_runs
from src.engine.fit import fit_and_test
from src.reports.plots import learning_plot
from src.reports.run_report import write_report
from src.runs.directory import write_config
from src.runs.finished import Run, find_runs
from src.utils.atomic_files import write_json
from src.utils.errors import ConfigError
from tests.helpers.running import compose_config, tiny_config

CLASSES = ("happy", "sad", "angry")


def make_run(path: Path, head: str, seed: int, accuracy: float, n: int = 120):
    path.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    predictions = np.where(rng.random(n) < accuracy, labels, (labels + 1) % 3)
    table = pd.DataFrame({"id": range(n), "split": "test", "label": [CLASSES[i] for i in labels]})
    table["prediction"], table["in_dedup"] = [CLASSES[i] for i in predictions], True
    for i, name in enumerate(CLASSES):
        table[name] = np.where(predictions == i, 0.8, 0.1)
    table.to_csv(path / "predictions.csv", index=False)
    write_json(path / "metrics.json", {"test/accuracy": 0.5, "val/f1_macro": 0.4, "test/n": n, "test/f1/sad": 0.25})
    write_json(path / "status.json", {"state": "finished"})
    cfg = {"task": "train", "seed": seed, "data": {"name": "<drawn>"}, "head": {"name": head}}
    OmegaConf.save(OmegaConf.create(cfg), path / "config.yaml")
    return path


def change(run: Path, **entries):
    """Change the configuration of a run."""
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(run / "config.yaml"), entries), run / "config.yaml")
    return run


def make_evaluation(path: Path, of: Path, tta: str):
    make_run(path, "", 0, 0.7)
    (path / "config.yaml").unlink()
    cfg = {"task": "eval", "seed": 0, "data": {"name": "<drawn>"}, "head": {"vocabulary": None}, "tta": tta}
    OmegaConf.save(OmegaConf.create({**cfg, "ckpt_path": str(of)}), path / "config.yaml")
    return path


def compare(tmp_path, *overrides):
    return compare_runs(compose_config("compare", f"run_dir={tmp_path}", *overrides))


def repetitions(tmp_path, by=None):
    """Return how many runs each entry has."""
    return [len(entry.runs) for entry in group_runs(find_runs(f"{tmp_path}/runs/*"), by)]


def test_seeds_are_one_entry_and_the_page_needs_no_network(tmp_path):
    for seed in (0, 1):
        make_run(tmp_path / "runs" / f"a{seed}", "linear", seed, 0.9)
        make_run(tmp_path / "runs" / f"b{seed}", "multihead", seed, 0.4)
    found = compare(tmp_path, f"runs={tmp_path}/runs/*")
    assert found.board["entry"].tolist() == ["head=linear", "head=multihead"]
    assert found.board["runs"].tolist() == [2, 2]
    first, names = found.entries[0], found.class_names
    own = [float((run.indices("label", names) == run.indices("prediction", names)).mean()) for run in first.runs]
    assert found.board["accuracy"][0] == pytest.approx(np.mean(own))
    assert found.board["accuracy_sd"][0] == pytest.approx(np.std(own, ddof=1))
    assert found.board["f1_macro"][0] == pytest.approx(np.mean(found.scores(first)))
    assert len(found.run_pairs) == 6
    html = (tmp_path / "comparison.html").read_text()
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert "&lt;drawn&gt;" in html
    assert "<drawn>" not in html


def test_runs_from_before_the_registry_are_repetitions_of_those_after_it(tmp_path):
    for seed in (0, 1):
        change(make_run(tmp_path / "runs" / f"a{seed}", "linear", seed, 0.9), backbone={"name": "emonet_tiny"})
    change(tmp_path / "runs" / "a1", backbone={"architecture": "emonet"}, plugins=["my_package.my_head"])
    (entry,) = compare(tmp_path, f"runs={tmp_path}/runs/*").entries
    assert len(entry.runs) == 2


@pytest.mark.parametrize("transform", ["flip", "light"])
def test_runs_from_before_data_had_what_the_run_gives_it_are_repetitions(tmp_path, transform):
    old = composed_run(tmp_path / "runs" / "a", 0, f"transform={transform}")
    config = OmegaConf.load(old / "config.yaml")
    for key in (*OF_THE_RUN, "_convert_", "_recursive_"):
        del config.data[key]
    OmegaConf.save(config, old / "config.yaml")
    composed_run(tmp_path / "runs" / "b", 1, f"transform={transform}")
    assert repetitions(tmp_path) == [2]


def test_an_older_name_of_an_option_is_the_same_option(tmp_path):
    old = composed_run(tmp_path / "runs" / "a", 0, "auxiliary_weight=0.5")
    config = OmegaConf.load(old / "config.yaml")
    del config.loss["auxiliary_weight"]  # as runs from before the new name are
    OmegaConf.save(config, old / "config.yaml")
    composed_run(tmp_path / "runs" / "b", 1, "auxiliary_weight=0.5")
    composed_run(tmp_path / "runs" / "c", 2, "loss.auxiliary_weight=0.5")
    composed_run(tmp_path / "runs" / "d", 3, "loss.auxiliary_weight=0.2")
    assert sorted(repetitions(tmp_path)) == [1, 3]
    assert sorted(repetitions(tmp_path, by=["auxiliary_weight"])) == [1, 3]


def test_other_test_sets_are_refused_and_named(tmp_path):
    make_run(tmp_path / "runs" / "a", "linear", 0, 0.9)
    make_run(tmp_path / "runs" / "b", "linear", 1, 0.9, n=90)
    with pytest.raises(ConfigError, match=r"(?s)2 different test sets.*120 test images.*: a.*90 test images.*: b"):
        compare(tmp_path, f"runs={tmp_path}/runs/*")


def test_other_images_of_the_same_names_are_refused(tmp_path):
    for name in "ab":
        write_json(make_run(tmp_path / "runs" / name, "linear", 0, 0.9) / "provenance.json", {"pictures": name})
    with pytest.raises(ConfigError, match="2 different test sets"):
        compare(tmp_path, f"runs={tmp_path}/runs/*")


def test_a_run_notes_which_images_it_was_tested_on(tmp_path, data_dir):
    noted = []
    for name, more in {"a": [], "b": ["seed=1"], "other": ["data.draw_seed=1"]}.items():
        fit_and_test(tiny_config(tmp_path / name, data_dir, "trainer.max_epochs=1", *more))
        noted.append(Run.read(tmp_path / name).pixels)
    assert noted[0] == noted[1]
    assert noted[0] != noted[2]


def test_entries_by_some_keys(tmp_path):
    for i, (head, lr) in enumerate((("linear", 1), ("linear", 2), ("multihead", 1), ("multihead", 2))):
        change(make_run(tmp_path / "runs" / str(i), head, i, 0.8), optimizer={"lr": lr})
    runs = f"runs={tmp_path}/runs/*"
    assert len(compare(tmp_path, runs).entries) == 4
    assert set(compare(tmp_path, runs, "by=[head]").board["entry"]) == {"head=linear", "head=multihead"}
    by_lr = compare(tmp_path, runs, "by=[optimizer.lr]")
    assert set(by_lr.board["entry"]) == {"optimizer.lr=1", "optimizer.lr=2"}
    assert by_lr.board["runs"].tolist() == [2, 2]
    with pytest.raises(ConfigError, match=r"by=optimizer\.speed is no key"):
        compare(tmp_path, runs, "by=[optimizer.speed]")


def composed_run(path: Path, seed: int, *overrides: str):
    """A run with the configuration that a training would have written."""
    make_run(path, "linear", seed, 0.8)
    write_config(path, plain(compose_config("train", f"seed={seed}", f"run_dir={path}", *overrides)))
    return path


SAME = {
    "nothing": [],
    "writes more": ["callbacks.gradcam=null", "callbacks.gradient_norms.every_n_steps=5", "callbacks.last=null"],
    "logs elsewhere": ["logger=none", "trainer.enable_progress_bar=false", "data.num_workers=3"],
    "went on": ["ckpt_path=last"],
    "lies elsewhere": ["data_dir=/other/data"],
    "other order": ["data.seed=7"],
}
OTHER = {
    "patience": ["callbacks.early_stopping.patience=3"],
    "no early stopping": ["callbacks.early_stopping=null"],
    "last epoch": ["callbacks.best=null"],
    "averaged weights": ["callbacks=ema"],
    "a callback of one's own": ["+callbacks.mine._target_=mine.Callback", "+callbacks.mine.strength=1"],
    "a new option": ["+trainer.benchmark=true"],
    "started from another run": ["ckpt_path=/another/run"],
    "other augmentation": ["transform=light"],
    "none of its augmentation": ["data.transform=null"],
    "other source": ["data.path=/a/other.csv"],
}


@pytest.mark.parametrize("difference", SAME)
def test_what_cannot_change_the_numbers_may_differ_between_seeds(tmp_path, difference):
    composed_run(tmp_path / "runs" / "a", 0)
    composed_run(tmp_path / "runs" / "b", 1, *SAME[difference])
    assert repetitions(tmp_path) == [2]


@pytest.mark.parametrize("difference", OTHER)
def test_whatever_else_differs_is_another_entry(tmp_path, difference):
    composed_run(tmp_path / "runs" / "a", 0)
    composed_run(tmp_path / "runs" / "b", 1, *OTHER[difference])
    assert repetitions(tmp_path) == [1, 1]


def test_files_and_classes_may_have_moved(tmp_path):
    old = composed_run(tmp_path / "runs" / "a", 0, "data.path=/here/pictures.csv")
    composed_run(tmp_path / "runs" / "b", 1, "data.path=/there/pictures.csv")
    text = (old / "config.yaml").read_text()
    (old / "config.yaml").write_text(text.replace("_target_: src.data.", "_target_: src.older."))
    assert repetitions(tmp_path) == [2]


def test_what_may_differ_exists(tmp_path):
    cfg = compose_config("train", f"run_dir={tmp_path}")
    for key in (*MAY_DIFFER, "data.path"):
        assert OmegaConf.select(cfg, key, default=MAY_DIFFER) is not MAY_DIFFER, key


def test_images_without_a_duplicate(tmp_path):
    for name in "ab":
        run = make_run(tmp_path / "runs" / name, f"head_{name}", 3, 0.5)
        table = pd.read_csv(run / "predictions.csv")
        table["in_dedup"] = table["id"] % 2 == 0
        table.to_csv(run / "predictions.csv", index=False)
    found = compare(tmp_path, f"runs={tmp_path}/runs/*", "dedup=true")
    kept = table[table["in_dedup"]]
    assert len(found.labels) == 60
    assert found.board["accuracy"][0] == pytest.approx((kept["label"] == kept["prediction"]).mean())
    assert "test images without a duplicate elsewhere" in (tmp_path / "comparison.html").read_text()
    table.assign(in_dedup=False).to_csv(run / "predictions.csv", index=False)
    with pytest.raises(ConfigError, match="no image is left"):
        compare(tmp_path, f"runs={run}", "dedup=true")


def test_evaluations_are_entries_named_after_the_training(tmp_path):
    trained = make_run(tmp_path / "a", "linear", 0, 0.9)
    single = make_evaluation(tmp_path / "runs" / "plain", trained, "none")
    flip = make_evaluation(tmp_path / "runs" / "flip", trained, "flip")
    other = make_evaluation(tmp_path / "runs" / "other", make_run(tmp_path / "b", "multihead", 0, 0.9), "none")
    names = compare(tmp_path, f"runs=[{single},{flip},{other}]").board["entry"]
    assert len(set(names)) == 3
    assert sum("linear" in name for name in names) == 2
    assert sum("tta=flip" in name for name in names) == 1


def test_one_epoch_is_a_point():
    history = pd.DataFrame({"epoch": [0], "val/loss": [0.5]})
    (axis,) = learning_plot({"a": [history]}, ["val/loss"]).axes
    assert axis.lines[0].get_marker() == "o"
    (axis,) = learning_plot({"a": [pd.concat([history, history.assign(epoch=1)])]}, ["val/loss"]).axes
    assert axis.lines[0].get_marker() == ""


def test_no_runs_is_said(tmp_path):
    with pytest.raises(ConfigError, match="names no directory"):
        compare(tmp_path, f"runs={tmp_path}/none/*")


def test_the_report_of_one_run(tmp_path):
    run = make_run(tmp_path / "runs" / "a", "linear", 0, 0.5)
    html = write_report(run).read_text()
    for heading in ("Numbers", "Calibration", "Worst mistakes", "Configuration"):
        assert f"<h2>{heading}</h2>" in html
    assert not re.search(r'(src|href)="(?!data:)', html)
