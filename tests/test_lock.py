"""requirements.lock against pyproject.toml: whoever changes a dependency has to run `make lock`."""

import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from src.utils.paths import ROOT

LINES = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]


def pinned():
    requirements = [Requirement(line) for line in LINES]
    return {canonicalize_name(one.name): next(iter(one.specifier)) for one in requirements}


def test_every_line_is_a_version_from_wherever_pip_looks():
    for line in LINES:
        requirement = Requirement(line)
        assert [part.operator for part in requirement.specifier] == ["=="], line
        assert requirement.url is None, line


def test_every_dependency_is_locked_within_its_bounds():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    locked = pinned()
    for requirement in map(Requirement, asked):
        if requirement.name != project["name"]:
            assert locked[canonicalize_name(requirement.name)].version in requirement.specifier, requirement


def test_all_builds_of_opencv_are_of_one_version():
    builds = [specifier.version for name, specifier in pinned().items() if name.startswith("opencv-")]
    assert len(set(builds)) == 1  # they overwrite each other's files
