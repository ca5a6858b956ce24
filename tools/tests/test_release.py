import json
import subprocess
from pathlib import Path

import changed
import pytest
import release

NEWS = "# Changelog\n\n## Unreleased\n\n- More of it.\n\n## {}\n\nFirst.\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A committed workspace: the core and sep at 0.1.0, acdnet only a name; nothing has a tag."""
    for folder, name, version in (
        ("audio-core", "audio-core", "0.1.0"),
        ("sep", "audio-sep", "0.1.0"),
        ("acdnet", "audio-acdnet", "0.0.0"),
    ):
        module, needs = (
            name.replace("-", "_"),
            '"torch"' if name == "audio-core" else '"audio-core[hdf5]>=0.1,<0.2"',
        )
        source = tmp_path / "packages" / folder / "src" / module
        source.mkdir(parents=True)
        (source / "__about__.py").write_text(f'__version__ = "{version}"\n')
        home = tmp_path / "packages" / folder
        (home / "pyproject.toml").write_text(f'[project]\nname = "{name}"\ndependencies = [{needs}]\n')
        (home / "CHANGELOG.md").write_text(f"# Changelog\n\n## {version}\n\nFirst.\n")
    (tmp_path / "README.md").write_text("# Read me\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    person = ("-c", "user.name=A Person", "-c", "user.email=person@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *person, *arguments], cwd=root, check=True, capture_output=True, text=True).stdout


def commit(root: Path) -> None:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "state")


@pytest.fixture
def say(root, capsys):
    def run(*arguments: str) -> tuple[int, str]:
        status = release.main(list(arguments), root)
        out = capsys.readouterr()
        return status, (out.err if status else out.out).rstrip("\n")

    return run


def news(root: Path, folder: str, version: str) -> None:
    (root / "packages" / folder / "CHANGELOG.md").write_text(NEWS.format(version))


def test_unreleased_packages_are_listed_core_first_and_placeholders_never(root, say):
    assert say("list") == (0, "audio-core 0.1.0\naudio-sep 0.1.0")
    git(root, "tag", "audio-core-v0.1.0")
    assert json.loads(say("list", "--json")[1]) == [{"name": "audio-sep", "version": "0.1.0", "path": "packages/sep"}]


def test_the_tags_can_be_run_as_printed_and_then_nothing_is_left(root, say, tmp_path_factory):
    status, text = say("tags")
    assert status == 0 and text.splitlines()[1] == "# go on when the index has audio-core"
    remote = tmp_path_factory.mktemp("remote")
    git(remote, "init", "-q", "--bare")
    git(root, "remote", "add", "origin", str(remote))
    git(root, "config", "user.name", "A Person")
    git(root, "config", "user.email", "person@example.org")
    subprocess.run(text, shell=True, cwd=root, check=True, capture_output=True)
    assert git(remote, "tag").split() == ["audio-core-v0.1.0", "audio-sep-v0.1.0"]
    assert say("list") == (0, "")


@pytest.mark.parametrize(
    ("part", "version"), [("patch", "0.1.1"), ("minor", "0.2.0"), ("major", "1.0.0"), ("0.1.7", "0.1.7")]
)
def test_a_bump_sets_the_version_and_names_the_news(root, say, part, version):
    news(root, "sep", "0.1.0")
    assert say("bump", "audio-sep", part) == (0, f"audio-sep {version}")
    assert (root / "packages/sep/src/audio_sep/__about__.py").read_text() == f'__version__ = "{version}"\n'
    assert (root / "packages/sep/CHANGELOG.md").read_text() == NEWS.format("0.1.0").replace("Unreleased", version)


def test_a_bump_without_news_or_downwards_is_refused_and_changes_nothing(root, say):
    assert say("bump", "audio-sep", "minor") == (
        1,
        "packages/sep/CHANGELOG.md: write what is new under `## Unreleased` first",
    )
    news(root, "sep", "0.1.0")
    assert say("bump", "audio-sep", "0.1.0") == (1, "audio-sep is at 0.1.0 already, 0.1.0 is not higher")
    assert say("bump", "audio-sep", "0.2") == (1, "0.2 is no version of the form x.y.z")
    assert say("bump", "audio-set", "minor")[1].startswith("audio-set is not one of audio-core, audio-acdnet")
    assert release.named(root, "audio-sep").version == "0.1.0"


def test_the_core_leaving_the_bounds_moves_them_and_staying_within_does_not(root, say):
    news(root, "audio-core", "0.1.0")
    assert say("bump", "audio-core", "patch") == (0, "audio-core 0.1.1")
    assert '"audio-core[hdf5]>=0.1,<0.2"' in (root / "packages/sep/pyproject.toml").read_text()
    news(root, "audio-core", "0.1.1")
    text = say("bump", "audio-core", "minor")[1]
    assert text.splitlines()[0] == "audio-core 0.2.0" and len(text.splitlines()) == 3
    assert '"audio-core[hdf5]>=0.2,<0.3"' in (root / "packages/sep/pyproject.toml").read_text()
    news(root, "audio-core", "0.2.0")
    say("bump", "audio-core", "1.4.0")
    assert '"audio-core[hdf5]>=1.4,<2"' in (root / "packages/acdnet/pyproject.toml").read_text()


def test_a_check_of_a_ready_tree_is_silent(say):
    assert say("check") == (0, "")


def test_a_check_finds_each_obstacle(root, say):
    git(root, "tag", "audio-sep-v0.1.0")
    git(root, "tag", "audio-core-v0.3.0")
    news(root, "audio-core", "0.1.0")
    bounds = root / "packages/acdnet/pyproject.toml"
    bounds.write_text(bounds.read_text().replace(">=0.1,<0.2", ">=0.2,<0.3"))
    status, text = say("check", "audio-core", "audio-sep", "audio-acdnet")
    assert status == 1 and text.splitlines() == [
        "the checkout has changes that are not committed",
        "audio-acdnet: its bounds refuse the local audio-core 0.1.0",
        "audio-core: a higher version than 0.1.0 has a tag already",
        "audio-core: there is news under `## Unreleased`: bump it",
        "audio-sep: the tag audio-sep-v0.1.0 exists already",
        "audio-acdnet: 0.0.0 holds the name only and is not for release",
    ]
    assert say("tags")[0] == 1


def test_a_tag_selects_its_package_only_when_version_and_changelog_agree(root, say):
    assert say("select", "audio-sep-v0.1.0") == (
        0,
        "name=audio-sep\nversion=0.1.0\npath=packages/sep",
    )
    assert say("notes", "audio-sep-v0.1.0") == (0, "First.")
    for tag in ("audio-sep-v0.1.1", "audio-acdnet-v0.0.0", "sep-v0.1.0", "v0.1.0"):
        assert say("select", tag)[0] == 1
    (root / "packages/sep/CHANGELOG.md").write_text("# Changelog\n\n## 0.0.9\n\nOld.\n")
    assert say("select", "audio-sep-v0.1.0") == (
        1,
        "audio-sep-v0.1.0 does not fit packages/sep: version 0.1.0, changelog 0.0.9",
    )


@pytest.mark.parametrize(
    ("file", "folders"),
    [
        ("packages/sep/README.md", ["packages/sep"]),
        ("README.md", []),
        ("tools/demo.py", ["packages/audio-core", "packages/acdnet", "packages/sep"]),
        ("packages/audio-core/x.py", ["packages/audio-core", "packages/acdnet", "packages/sep"]),
    ],
)
def test_changed_files_select_the_packages_that_may_notice(root, file, folders):
    (root / file).parent.mkdir(exist_ok=True)
    (root / file).write_text("new\n")
    commit(root)
    assert changed.changed(root, "HEAD~1") == folders


def test_a_push_without_a_base_selects_all(root):
    assert len(changed.changed(root, "0" * 40)) == 3
