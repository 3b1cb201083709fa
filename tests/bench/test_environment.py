"""Facts of the machine and the checkout."""

import subprocess

from rpc_wrapper.bench.environment import busy_share, environment, git_revision


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def test_a_folder_that_is_no_checkout_has_no_revision(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert git_revision() == "unknown"


def test_a_changed_checkout_is_marked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "one")
    clean = git_revision()
    (tmp_path / "file").write_text("two")
    assert git_revision() == f"{clean}+"
    assert len(clean) >= 7


def test_the_environment_of_this_machine():
    found = environment("the command", "b1", "a cpu", 2.0, (0.1, 0.2))
    assert found.memory_mib > 0
    assert found.python.startswith("3.")
    assert (found.command, found.busy_before, found.busy_after) == ("the command", 0.1, 0.2)


async def test_the_busy_share_is_a_share():
    assert 0 <= await busy_share() <= 1
