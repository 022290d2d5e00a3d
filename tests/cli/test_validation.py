import pytest
from omegaconf import OmegaConf

from src.cli.validation import validate_config
from src.utils.errors import ConfigError
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
    "loss.label_smoothing=1",
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


@pytest.mark.parametrize(
    "override", ["seed=0", "data.image_size=null", "trainer.limit_val_batches=3", "optimizer.lr=1"]
)
def test_right_values_pass(tmp_path, override):
    validate_config(compose_config("train", override, f"run_dir={tmp_path}"))


def test_absent_groups_are_not_checked():
    validate_config(OmegaConf.create({"seed": 1, "head": None}))
