import os
import subprocess
import sys

import pytest

FIRST = """
import gc, sys, weakref
class Cycle:
    def __init__(self): self.me = self
cycle = Cycle()
alive = weakref.ref(cycle)
{before}
from hf_sae_select.encoding.libraries import import_libraries
import_libraries()
was_enabled, was_frozen = gc.isenabled(), gc.get_freeze_count() > 0
import_libraries()
del cycle
gc.collect()
is_frozen, is_collected = gc.get_freeze_count() > 0, alive() is None
print("transformers.modeling_utils" in sys.modules, was_enabled, was_frozen, is_frozen, is_collected)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("", ["True", "True", "True", "False", "True"]),
        ("gc.disable()", ["True", "False", "True", "False", "True"]),
        ("gc.freeze()", ["True", "True", "True", "True", "False"]),  # as without the import
    ],
)
def test_the_garbage_collector_is_afterwards_as_the_user_left_it(before, expected):
    script = FIRST.format(before=before)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


def shown(script):
    """Return what a process writes to a terminal that is its stderr."""
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))  # lines and columns
    child = subprocess.Popen([sys.executable, "-c", script], stderr=theirs)
    os.close(theirs)
    written = b""
    try:
        while part := os.read(ours, 1024):
            written += part
    except OSError:  # Linux says so that the process has closed it
        pass
    os.close(ours)
    assert child.wait() == 0
    return written.decode()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such terminals")
def test_a_terminal_shows_that_libraries_are_imported():
    script = "from hf_sae_select.encoding.libraries import import_libraries\nimport_libraries({})"
    assert "Importing torch and transformers:  50%" in shown(script.format(""))
    assert "Importing" not in shown(script.format("show=False"))
    done = subprocess.run([sys.executable, "-c", script.format("")], capture_output=True, text=True, check=True)
    assert done.stderr == ""
