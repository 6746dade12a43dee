"""Folders that appear whole or not at all, also when their writer is killed at any step, or is not the only one."""

import os
import re
import subprocess
import sys
import textwrap

import pytest

from hf_sae_select._files import LARGEST_TEXT, check_target, read_text, whole_file
from hf_sae_select._folders import whole_folder

# Writes a folder and kills itself before the n-th operation on files; prints how many there were if it lives.
WRITER = """
import os, signal, sys
from pathlib import Path
from hf_sae_select._folders import whole_folder
folder, content, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
count = 0
def hook(event, arguments):
    global count
    if event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "open") and folder.name in str(arguments[0]):
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
with whole_folder(folder) as part:
    for name in ("one", "two"):
        (part / name).write_text(content)
    (part / "deeper").mkdir()
    (part / "deeper" / "three").write_text(content)
print(count)
"""


def written(folder, content, last=0):
    """Write in a process of its own; return the number of operations, or None if it was killed."""
    command = [sys.executable, "-I", "-c", textwrap.dedent(WRITER), str(folder), content, str(last)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, -9), done.stderr
    return int(done.stdout) if done.returncode == 0 else None


def content_of(folder):
    """The content that all files of a whole folder have."""
    contents = {file.relative_to(folder).as_posix(): file.read_text() for file in folder.rglob("*") if file.is_file()}
    assert sorted(contents) == ["deeper/three", "one", "two"] and len(set(contents.values())) == 1
    return contents["one"]


def beside(folder):
    return [path.name for path in folder.parent.iterdir() if path != folder]


@pytest.mark.slow
def test_a_writer_killed_at_any_step_leaves_what_the_next_repairs(tmp_path):
    folder = tmp_path / "folder"
    assert written(folder, "first") >= 8
    operations = written(folder, "0")
    assert operations >= 8
    for last in range(1, operations + 1):
        assert written(folder, f"new {last}", last) is None
        if folder.exists():
            assert content_of(folder) in (f"new {last}", str(last - 1))
        with pytest.raises(RuntimeError), whole_folder(folder) as part:
            assert list(part.iterdir()) == []
            raise RuntimeError  # what fails later repairs it too
        assert content_of(folder) in (f"new {last}", str(last - 1)) and beside(folder) == []
        written(folder, str(last))
        assert content_of(folder) == str(last) and beside(folder) == []


@pytest.mark.parametrize("leftover", [".folder.earlier", ".folder.0123456789ab.earlier"])
def test_a_folder_that_was_set_aside_comes_back(tmp_path, leftover):
    (tmp_path / leftover).mkdir()
    (tmp_path / leftover / "file").write_text("old")
    (tmp_path / ".folder.unfinished").mkdir()
    (tmp_path / ".folder.unfinished" / "half").write_text("half")
    (tmp_path / ".folder.more.earlier").mkdir()  # of the folder "folder.more"
    with pytest.raises(RuntimeError), whole_folder(tmp_path / "folder"):
        raise RuntimeError
    assert (tmp_path / "folder" / "file").read_text() == "old"
    with whole_folder(tmp_path / "folder") as part:
        (part / "file").write_text("new")
    assert (tmp_path / "folder" / "file").read_text() == "new" and beside(tmp_path / "folder") == [
        ".folder.more.earlier"
    ]


def test_a_second_writer_is_refused_by_name_and_the_first_goes_on(tmp_path):
    folder = tmp_path / "folder"
    with whole_folder(folder) as part:
        (part / "file").write_text("first")
        with pytest.raises(OSError, match=r"another process is writing .*folder'"), whole_folder(folder):
            raise AssertionError
        with whole_folder(tmp_path / "other") as other:
            (other / "file").write_text("other")
    assert (folder / "file").read_text() == "first" and beside(folder) == ["other"]
    with whole_folder(folder):  # and afterwards it is free
        pass


def test_a_text_that_is_too_large_or_not_utf_8_is_refused(tmp_path):
    file = tmp_path / "file"
    with file.open("wb") as stream:
        stream.truncate(LARGEST_TEXT + 1)  # takes no space
    with pytest.raises(ValueError, match=r"it has 67,108,865 bytes; at most 67,108,864 are read"):
        read_text(file)
    file.write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(file)


def targets(folder):
    """Make paths that no file can be written to; each with what its error says."""
    os.mkfifo(folder / "pipe")
    (folder / "link").symlink_to(folder / "nothing")
    return {
        str(folder / "pipe"): "no regular file",
        str(folder / "link"): "is a link to a file that does not exist",
        "/dev/null": "no regular file",
        str(folder): "must be a file in a folder that exists, such as 'x.html'",
        str(folder / "none" / "file"): "must be a file in a folder that exists",
        str(folder / ("d" * 300) / "file"): "must be a file in a folder that exists",
        f"{folder}/a\x00b": "has no name that a file can have",
        f"{folder}/a\ud800b": "has no name that a file can have",
        str(folder / ("n" * 250)): "has a name of 250 bytes; at most 236",
    }


def test_what_is_no_file_to_write_is_refused_by_the_arguments_name(tmp_path):
    for path, message in targets(tmp_path).items():
        with pytest.raises((OSError, ValueError), match=re.escape(message)) as caught:
            check_target("path", path, "x.html")
        assert str(caught.value).startswith("`path='") and ".part" not in str(caught.value)
    assert check_target("path", str(tmp_path / "n"), "x.html") == tmp_path / "n"


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="no folder where even root cannot write")
def test_a_folder_that_cannot_be_written_to_is_refused():
    with pytest.raises(PermissionError, match=r"`path='/proc/file'`: the folder '/proc' cannot be written to \(.+\)"):
        check_target("path", "/proc/file", "x.html")


@pytest.mark.parametrize("name", ["link", "pipe"])
def test_a_pipe_and_a_link_to_nothing_stay_as_they_are(tmp_path, name):
    targets(tmp_path)
    with pytest.raises(OSError, match=name), whole_file(tmp_path / name):
        pytest.fail("work")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_link_to_a_file_is_replaced_and_the_file_stays(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with whole_file(tmp_path / "link") as part:
        part.write_text("new")
    assert (tmp_path / "file").read_text() == "old" and (tmp_path / "link").read_text() == "new"
