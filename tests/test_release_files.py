"""The files that say which release this is agree."""

import re
import tomllib
from datetime import date

import pytest
import yaml

from src.utils.paths import ROOT

RELEASE = re.compile(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", re.MULTILINE)
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    latest, day = RELEASE.findall(CHANGELOG)[0]
    assert project["version"] == CITATION["version"] == latest
    assert CITATION["date-released"] == day
    assert CITATION["license"] == project["license"]


def test_the_changelog_runs_backwards_and_has_one_kind_of_heading():
    releases = RELEASE.findall(CHANGELOG)
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    assert [heading for heading in headings if heading != "[Unreleased]"] == [f"[{v}] - {day}" for v, day in releases]
    numbers = [tuple(map(int, version.split("."))) for version, _ in releases]
    assert numbers == sorted(set(numbers), reverse=True)
    days = [date.fromisoformat(day) for _, day in releases]
    assert days == sorted(days, reverse=True)
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)) <= kinds


def test_the_citation_names_software_and_paper():
    assert {"cff-version", "message", "title", "authors"} <= CITATION.keys()
    assert CITATION["cff-version"] == "1.2.0"
    (paper,) = CITATION["references"]
    assert paper["doi"] == "10.1038/s42256-020-00280-0"
    assert {"type", "title", "authors"} <= paper.keys()


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert {"push", "pull_request"} <= workflow[True].keys(), "YAML 1.1 reads `on` as true"
    (job,) = workflow["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    (python,) = [step["with"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert python["python-version"] == "3.11"
    assert (ROOT / python["cache-dependency-path"]).is_file()


@pytest.mark.parametrize("name", ["bug_report", "feature_request"])
def test_issue_forms_have_what_github_asks_for(name):
    form = yaml.safe_load((TEMPLATES / f"{name}.yml").read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= form.keys()
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert fields
    assert len({part["id"] for part in fields}) == len(fields)
    assert all(part["attributes"]["label"] for part in fields)
