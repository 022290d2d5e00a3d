import re
from typing import get_args

import pytest
import torch
from omegaconf import OmegaConf

from src.benchmarks.suites import SUITES
from src.cli.validation import CHOICES, RULES, OnnxPrecision, validate_config
from src.data.datasets.affectnet_releases import RELEASES
from src.data.faces.generator import draw_face
from src.explanation.methods import METHODS
from src.inference.choice import BACKENDS
from src.inference.detection import DETECTORS
from src.metrics.intervals import METRICS
from src.models.crops import CROPS
from src.models.emonet import check_image_size
from src.models.losses import ClassWeights
from src.models.normalization import NORMALIZATIONS
from src.models.onnx_metadata import PRECISIONS
from src.models.test_time import TestTimeAugmentation
from src.utils.errors import ConfigError
from src.utils.validation import check_value
from tests.helpers.running import compose_config

WRONG = [
    "trainer.max_epochs=two",
    "trainer.max_epochs=0",
    "trainer.max_epochs=1.5",
    "trainer.limit_train_batches=1.5",
    "data.image_size=100",
    "data.image_size=0",
    "data.batch_size=many",
    "data.batch_size=true",
    "data.sampler=random",
    "data.max_bad=2",
    "optimizer.lr=fast",
    "optimizer.lr=-1",
    "seed=-1",
    "seed=null",
    "backbone.freeze=half",
    "backbone.width=50",
    "head.tap=middle",
    "monitor_mode=best",
    "monitor=val/beauty",
    "loss.label_smoothing=1",
    "loss.class_weights=sqrt",
    "data.half=third",
    "scheduler.cycle_multiplier=0",
]
# Wrong values of options that other groups than the default ones have.
WRONG_ELSEWHERE = [
    ("loss=focal", "loss.gamma=-1"),
    ("scheduler=plateau", "scheduler.factor=1.0"),
    ("data=ferplus", "data.mode=hard"),
    ("data=affectnet", "data.release=parquet"),
    ("data=rafdb", "data.val_share=1"),
    ("data=folder", "data.split_shares=[0.8,0.2]"),
]


@pytest.mark.parametrize("override", WRONG)
def test_wrong_values_are_named(tmp_path, override):
    key, value = override.split("=")
    cfg = compose_config("train", override, f"run_dir={tmp_path}")
    with pytest.raises(ConfigError) as caught:
        validate_config(cfg)
    message = str(caught.value).lower()
    assert key in message
    assert {"null": "none"}.get(value, value) in message
    assert "expected" in message


@pytest.mark.parametrize(("group", "override"), WRONG_ELSEWHERE)
def test_wrong_values_of_other_groups_are_named(tmp_path, group, override):
    with pytest.raises(ConfigError, match=rf"{re.escape(override.split('=')[0])}=.*; expected"):
        validate_config(compose_config("train", group, override, f"run_dir={tmp_path}"))


@pytest.mark.parametrize("override", ["start=-1", "start=early", "end=0", "end=.nan", "every_n=0", "every_n=1.5"])
def test_wrong_parts_of_videos_are_named(tmp_path, override):
    with pytest.raises(ConfigError, match=rf"^{override.split('=')[0]}=.*; expected"):
        validate_config(compose_config("predict", override, f"run_dir={tmp_path}"))


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["monitor=val/loss", "monitor_mode=max"], "monitor_mode=max contradicts monitor=val/loss"),
        (["monitor_mode=min"], "monitor_mode=min contradicts monitor=val/f1_macro"),
        (["scheduler=plateau", "scheduler.mode=min"], "scheduler.mode=min contradicts scheduler.monitor"),
        (["callbacks.early_stopping.mode=min"], "callbacks.early_stopping.mode=min contradicts"),
    ],
)
def test_a_mode_that_contradicts_its_metric_is_refused(tmp_path, overrides, key):
    with pytest.raises(ConfigError, match=key):
        validate_config(compose_config("train", *overrides, f"run_dir={tmp_path}"))


@pytest.mark.parametrize("monitor", ["val/loss", "val/landmarks_nme", "val/accuracy", "val/f1/happy"])
def test_whatever_watches_a_metric_knows_its_direction(tmp_path, monitor):
    cfg = compose_config("train", f"monitor={monitor}", "scheduler=plateau", f"run_dir={tmp_path}")
    validate_config(cfg)
    watching = (cfg.callbacks.best, cfg.callbacks.early_stopping, cfg.scheduler)
    expected = "min" if monitor in ("val/loss", "val/landmarks_nme") else "max"
    assert {cfg.monitor_mode, *(each.mode for each in watching)} == {expected}


def test_what_watches_a_metric_of_its_own_has_its_own_direction(tmp_path):
    own = ["scheduler=plateau", "scheduler.monitor=val/loss", "callbacks.early_stopping.monitor=val/ece"]
    cfg = compose_config("train", *own, f"run_dir={tmp_path}")
    validate_config(cfg)
    assert (cfg.scheduler.mode, cfg.callbacks.early_stopping.mode, cfg.callbacks.best.mode) == ("min", "min", "max")


@pytest.mark.parametrize(
    "override", ["monitor_mode=max", "seed=0", "data.image_size=null", "trainer.limit_val_batches=3", "optimizer.lr=1"]
)
def test_right_values_pass(tmp_path, override):
    validate_config(compose_config("train", override, f"run_dir={tmp_path}"))


def test_absent_groups_are_not_checked():
    validate_config(OmegaConf.create({"seed": 1, "head": None}))


# Lists whose owners are slow to import, or in rooms that must not know each other.
OWNERS = {
    "tta": get_args(TestTimeAugmentation),
    "metric": METRICS,
    "suite": (*SUITES, "all"),
    "detector": DETECTORS,
    "backend": BACKENDS,
    "explain.method": ("auto", *METHODS),
    "onnx.precision": PRECISIONS,
    "backbone.normalize": (None, *NORMALIZATIONS),
    "loss.class_weights": get_args(ClassWeights),
    "data.release": ("auto", *RELEASES),
    "data.crop": (None, *CROPS),
}
# As OWNERS, of ranges: what refuses a value, and values on both sides of the limit.
RANGES = [
    ("data.draw_size", lambda size: draw_face(0, 0, size), [15, 16]),
    ("data.draw_seed", lambda seed: draw_face(seed, 0), [-1, 0]),
    ("data.image_size", lambda side: check_image_size(torch.empty(1, 3, side, side)), [0, 32, 64, 96, 128]),
]


@pytest.mark.parametrize("key", OWNERS)
def test_lists_are_those_of_their_owners(key):
    named = {**CHOICES, "onnx.precision": get_args(OnnxPrecision)}[key]
    assert sorted(map(str, named)) == sorted(map(str, OWNERS[key]))


def refuses(check, *arguments):
    try:
        check(*arguments)
    except ValueError:
        return True
    return False


@pytest.mark.parametrize(("key", "owner", "values"), RANGES)
def test_ranges_are_those_of_their_owners(key, owner, values):
    refused = [value for value in values if refuses(owner, value)]
    assert refused == [value for value in values if refuses(check_value, key, value, *RULES[key])]
    assert 0 < len(refused) < len(values)
