import shlex

import pytest

from src.cli.command_line import check_command_line, quoted
from tests.helpers.running import compose_config

REFUSED = [
    "my face (1).png", "a=b.png", "[x].png", "{y}.png", "é.png", "日本.png", "~/x y.png", "it's.png", 'say "hi".png',
    "#x.png", "a;b.png", "a!b.png", 'q\\" x.png', "a'b\"c.png",
]  # fmt: skip
# Hydra reads these as something else: they are quoted if there is such a file.
MISREAD = ["a,b.png", "${a}.png", "null", "true", "1e3", " blank", "[a]", "{b: c}"]
FINE = ["plain-1.2_3.png", "photos/*.jpg", "colon: x.png", "back\\slash.png", "0", "x?.png"]


def read(argument):
    return compose_config("predict", argument).input


@pytest.mark.parametrize("name", REFUSED)
def test_refused_names_are_quoted_so_that_they_are_read(name):
    (argument,) = shlex.split(quoted(f"input={name}"))
    assert read(argument) == name


@pytest.mark.parametrize("name", MISREAD)
def test_names_that_mean_something_else_are_quoted_if_there_is_such_a_file(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert quoted(f"input={name}") is None
    (tmp_path / name).write_text("")
    (argument,) = shlex.split(quoted(f"input={name}"))
    assert read(argument) == name


@pytest.mark.parametrize("name", FINE)
def test_fine_names_are_left_alone(name):
    assert quoted(f"input={name}") is None
    assert str(read(f"input={name}")) == name


def test_lists_are_quoted_name_by_name():
    assert quoted("input=[a.png,b.png]") is None
    (argument,) = shlex.split(quoted("input=[a (1).png, b.png]"))
    assert read(argument) == ["a (1).png", "b.png"]


@pytest.mark.parametrize("argument", ["head=é", "-m", "--help", "input=", "seed=(1"])
def test_other_options_are_hydras_business(argument):
    assert quoted(argument) is None


@pytest.mark.parametrize(
    "key", ["input", "ckpt_path", "data.path", "data.votes_path", "data.landmarks_path", "backbone.weights"]
)
def test_the_message_names_the_form_that_works(key, capsys):
    with pytest.raises(SystemExit) as stop:
        check_command_line(["seed=0", f"{key}=my run (1)"])
    assert stop.value.code == 1
    assert f"""'{key}="my run (1)"'""" in capsys.readouterr().err


@pytest.mark.parametrize("argument", ["logger=null", "callbacks=null", "head=null"])
def test_a_group_has_no_choice_of_nothing(argument, capsys):
    with pytest.raises(SystemExit, match="1"):
        check_command_line([argument])
    assert f"{argument} is no choice; expected one of " in capsys.readouterr().err
    check_command_line(["data.path=null", "head=linear"])
