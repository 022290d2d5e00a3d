"""The original experiment: tiny runs from the images to the page, and findings on runs whose truth is known."""

import numpy as np
import pytest

from src.engine.build import plain
from src.engine.fit import fit_and_test
from src.runs.directory import write_config, write_status
from studies.original_experiment.page import CONDITIONS, DEFECTS, costs, findings, write_experiment
from studies.study import Study
from tests.helpers.running import compose_config, tiny_config
from tests.studies.test_head_study import fabricate
from tests.test_student_baseline import parts, sources  # noqa: F401  # a fixture

SWITCHES = {
    "mended": [],
    "doubled": ["data.dedup=false"],
    "imagenet": ["backbone.normalize=imagenet"],
    "drifting": ["callbacks.train_mode_once.enabled=true", "cache=false"],
}


def page_of(folder, tmp_path):
    page = tmp_path / "docs" / "original_experiment.md"
    page.parent.mkdir(exist_ok=True)
    write_experiment(compose_config("original_experiment", f"runs={folder}", f"output={page}", f"run_dir={folder}"))
    return page.read_text()


def test_from_the_images_to_the_page(tmp_path, data_dir, sources):  # noqa: F811
    folder, small = tmp_path / "runs", ["trainer.max_epochs=1", "trainer.precision=32-true", "backbone=emonet_tiny"]
    for condition, options in SWITCHES.items():
        for seed in range(2 if condition == "mended" else 1):
            run_dir = folder / condition / f"linear_{seed}"
            data = ["data=combined", parts(sources), "data.batch_size=8"]
            fixed = ["experiment=original_experiment", "backbone.freeze=all", "head=linear", f"seed={seed}"]
            cfg = tiny_config(run_dir, data_dir, *fixed, *small, *data, *options)
            write_config(run_dir, plain(cfg))
            fit_and_test(cfg)
            write_status(run_dir, "finished")
    study = Study.read(folder, CONDITIONS, common=True)
    # FER2013's seven and MMAFEDB's own seven; their copies in MMAFEDB are in the doubled data alone.
    assert len(study.labels) == 14
    assert len(study.part("fer2013").labels) == len(study.part("mmafedb").labels) == 7
    text = page_of(folder, tmp_path)
    assert (tmp_path / "docs" / "images" / "original_experiment.png").stat().st_size > 10_000
    assert "weighted F1 on 14 test\nimages" in text
    assert f"Not run: {CONDITIONS['upside_down']}; {CONDITIONS['all']}." in text
    for part in ("| `imagenet`: linear |", "`mended`, on the images of `mmafedb` alone", "(`drifting`)"):
        assert part in text
    for block in (b.splitlines() for b in text.split("\n\n") if b.startswith("|")):
        assert len({line.count("|") for line in block}) == 1, block


@pytest.mark.parametrize(
    ("change", "outcome"), [(-0.2, "confirmed"), (0.2, "refuted"), (0.0, "left open")], ids=["harm", "help", "nothing"]
)
def test_what_defects_cost(tmp_path, change, outcome):
    for seed in range(2):
        fabricate(tmp_path, "mended", "linear", seed, 0.6, 2000)
        for name in DEFECTS:
            fabricate(tmp_path, name, "linear", seed, 0.6 + (change if name == "imagenet" else 0), 2000)
    study = Study.read(tmp_path, CONDITIONS, common=True)
    found = {contrast.name: contrast.value for contrast in costs(study)}
    assert found.keys() == {f"`{name}`: linear" for name in DEFECTS}
    assert found["`imagenet`: linear"] == pytest.approx(change, abs=0.05)
    assert findings(study)[-1].outcome == outcome
    assert np.isclose(found["`doubled`: linear"], 0, atol=0.05)


def test_missing_runs_leave_the_conclusions_open(tmp_path):
    fabricate(tmp_path, "mended", "linear", 0, 0.6)
    assert [finding.outcome for finding in findings(Study.read(tmp_path, CONDITIONS, common=True))] == ["left open"] * 3
