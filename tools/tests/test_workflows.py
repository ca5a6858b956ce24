from pathlib import Path

import pytest
import yaml
from workspace import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))


def load(path: Path) -> dict:
    return yaml.safe_load(path.read_text())


def granted(path: Path) -> dict[str, dict[str, str]]:
    """The permissions of each job: its own, or else the workflow's."""
    workflow = load(path)
    return {name: job.get("permissions", workflow["permissions"]) for name, job in workflow["jobs"].items()}


def steps(path: Path) -> list[dict]:
    return [step for job in load(path)["jobs"].values() for step in job["steps"]]


def test_there_are_workflows_for_tests_releases_and_documentation():
    assert [path.name for path in WORKFLOWS] == ["docs.yml", "release.yml", "test.yml"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_no_job_may_write_but_the_two_that_publish(path):
    writing = {name: rights for name, rights in granted(path).items() if "write" in rights.values()}
    expected = {"publish": {"id-token": "write"}, "announce": {"contents": "write"}}
    assert writing == (expected if path.name == "release.yml" else {})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_checkouts_leave_no_credentials(path):
    used = [step for step in steps(path) if "uses" in step]
    assert used and all(step["uses"].split("@")[1].removeprefix("release/").startswith("v") for step in used)
    checkouts = [step for step in used if step["uses"].startswith("actions/checkout@")]
    assert checkouts and all(step["with"]["persist-credentials"] is False for step in checkouts)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_commands_never_paste_what_an_outsider_can_name(path):
    """A branch, a title or a tag that is pasted into a shell line can end it and start another."""
    pasted = [step["run"] for step in steps(path) if "${{ github." in step.get("run", "")]
    assert pasted == []


def test_the_publishing_job_only_uploads_what_was_built_without_rights():
    publish = load(ROOT / ".github/workflows/release.yml")["jobs"]["publish"]
    assert [step["uses"].split("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]
    assert publish["needs"] == ["select", "build"]
    assert publish["environment"]["name"] == "pypi-${{ needs.select.outputs.name }}"


def test_tools_named_in_workflows_exist():
    named = [word for path in WORKFLOWS for step in steps(path) for word in step.get("run", "").split()]
    tools = {word.strip('"$()') for word in named if word.strip('"$()').startswith(("tools/", ".ci/"))}
    assert tools == {".ci/run", "tools/changed.py", "tools/clean_wheel.py", "tools/release.py"}
    assert all((ROOT / tool).exists() for tool in tools)
