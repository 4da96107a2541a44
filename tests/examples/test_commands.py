"""The examples run programs in one folder, with a git that asks nobody."""

import pytest

from plan_execute.examples.commands import CommandRunner


@pytest.mark.parametrize("path", ["..", "inner/../..", "link", "/"])
def test_a_path_that_leaves_the_folder_is_refused(tmp_path, path):
    root = tmp_path / "root"
    (root / "inner").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="outside"):
        CommandRunner(root).inside(path)


def test_a_commit_needs_no_git_settings_of_the_user(tmp_path):
    commands = CommandRunner(tmp_path)
    commands.run(["git", "init", "--quiet"])
    commands.run(["git", "commit", "--quiet", "--allow-empty", "--message", "start"])
    assert commands.run(["git", "log", "--format=%an: %s"]) == "plan_execute example: start\n"
