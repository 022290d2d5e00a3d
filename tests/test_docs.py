"""README and documentation: every command composes, quick starts run, links lead somewhere."""

import json
import os
import re
import runpy

import pytest
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from PIL import Image

from src.data.faces.generator import draw_scene
from src.utils.errors import ConfigError
from src.utils.paths import ROOT
from tests.helpers.documented import (
    DOCUMENTS,
    EXAMPLES,
    README,
    Wrong,
    blocks,
    check_command,
    commands,
    outside_commands,
    section,
    split_lines,
    words,
)
from tests.helpers.forking import run_forked
from tests.helpers.running import NO_FIGURES, TINY_DATA

MISTAKES = (Wrong, HydraException, OmegaConfBaseException, ConfigError, SystemExit)
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#[^)]*)?\)")
WORDS = 1400


def relative(path):
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def seen():
    """Commands that were checked already: pages share some."""
    return set()


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if commands(path)], ids=relative)
def test_commands_compose(path, tmp_path, seen):
    configs = [EXAMPLES / "conf"] if "cp -r examples/" in path.read_text() else []
    for command in commands(path):
        if (command, *configs) in seen:
            continue
        try:
            check_command(command, tmp_path, configs)
        except MISTAKES as error:
            pytest.fail(f"{relative(path)} says: {command}\n{error}")
        seen.add((command, *configs))


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if outside_commands(path)], ids=relative)
def test_commands_with_files_of_others_name_what_there_is(path, tmp_path):
    for command in outside_commands(path):
        check_command(command, tmp_path, composed=False)


@pytest.mark.parametrize(
    "command",
    [
        "python -m src.train trainer.max_epoch=3",
        "python -m studies.crop_study n_image=3",
        "python -m src.train head=cubic",
        "python -m src.train trainer.max_epochs=two",
        "python -m src.train head=linear,multihead",  # a sweep without -m
        "python -m src.train -m head=linear,cubic",
        "python -m src.train data.path=my faces.csv",
        "python -m src.train data=fer2013 data.path=faces=1.csv",
        "python -m src.engine.fit head=linear",
        "python -m src.nothing",
        "python -m src.predict inputs=holiday.jpg",
        "python -m tests.nothing",
        "make trian",
        "make train && make trian",
        "make study DATA=fer2013.csv",
        "pip install -e '.[everything]'",
        "pytest tests/test_nothing.py",
        "conda install emonet",
    ],
)
def test_wrong_commands_are_caught(command, tmp_path):
    with pytest.raises(MISTAKES):
        check_command(command, tmp_path)


def test_commands_are_found_wherever_they_stand(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "Say `make test`, `A=1 python -m src.train\nhead=linear` or `head=linear`.\n\n"
        "```bash\n# a comment\ngit clone <this> && cd <that>\npython -m src.eval \\\n    tta=flip  # twice\n```\n\n"
        "    python -m src.app port=8000\n\n```text\nmake nothing\n```\n"
    )
    found = [list(words(command)) for command in commands(page)]
    assert found == [
        [["git", "clone", "name"], ["cd", "name"]],
        [["python", "-m", "src.eval", "tta=flip"]],
        [["python", "-m", "src.app", "port=8000"]],
        [["make", "test"]],
        [["python", "-m", "src.train", "head=linear"]],
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_links_lead_to_files(path):
    for target in LINK.findall(path.read_text()):
        assert (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_modules_that_are_named_exist(path):
    for name in re.findall(r"`(src(?:\.\w+)+)`", path.read_text()):
        place = ROOT.joinpath(*name.split("."))
        assert place.is_dir() or place.with_suffix(".py").is_file(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=relative)
def test_shell_blocks_say_that_they_are(path):
    """Commands in blocks of no language would go unchecked."""
    for block in blocks(path, ""):
        assert not re.search(r"^(python|make) ", block.text, re.MULTILINE), block.text


def test_the_readme_is_short():
    assert len(README.read_text().split()) <= WORDS


@pytest.fixture
def holiday(tmp_path, monkeypatch):
    """A folder with the images that the examples read, as their working directory."""
    for name in ("holiday.jpg", "group.jpg"):
        Image.fromarray(draw_scene(7, 2, 400, faces=2)[0]).save(tmp_path / name, quality=95)
    (tmp_path / "pretrained").symlink_to(ROOT / "pretrained")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_quick_start_runs(holiday, data_dir):
    (block,) = re.findall(r"```bash\n(.*?)```", section(README, "Quick start"), re.DOTALL)[:1]
    train, evaluate, predict = split_lines(block)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment |= {"PYTHONPATH": str(ROOT), "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    small = [*TINY_DATA, *NO_FIGURES, "trainer.max_epochs=1", "callbacks.gradcam=null", "logger=csv"]
    for name, command, options in (("run", train, small), ("eval", evaluate, []), ("predict", predict, [])):
        ((_, _, module, *arguments),) = words(command.replace("outputs/runs/<run>", str(holiday / "run")))
        options = [*options, f"data_dir={data_dir}", f"hydra.run.dir={holiday / name}"]
        done = run_forked(module, *arguments, *options, env=environment, cwd=holiday)
        assert done.returncode == 0, done.stderr
    trained, evaluated = (json.loads((holiday / name / "metrics.json").read_text()) for name in ("run", "eval"))
    assert trained["test/accuracy"] == evaluated["test/accuracy"]
    assert len((holiday / "predict" / "predictions.csv").read_text().splitlines()) == 3


# Lines that are printed: a face each.
PRINTED = {README: 2, ROOT / "docs" / "deploying.md": 2}
# What has a title is an excerpt of a file.
PYTHON = [(path, block) for path in DOCUMENTS for block in blocks(path, "python") if "title=" not in block.title]


@pytest.mark.parametrize(("path", "block"), PYTHON, ids=[relative(path) for path, _ in PYTHON])
def test_python_blocks_run(path, block, holiday, capsys):
    included = re.fullmatch(r'--8<-- "(.*)"\n', block.text)
    if included:
        runpy.run_path(str(ROOT / included[1]))
    else:
        exec(compile(block.text, str(path), "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == PRINTED.get(path, 1)
    if path == README:
        assert len((holiday / "faces.csv").read_text().splitlines()) == 5
        with Image.open(holiday / "annotated.png") as annotated:
            assert annotated.width > 400
