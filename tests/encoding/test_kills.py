import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "soak" / "encode_kills.py"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_an_encoding_that_is_killed_goes_on_to_the_same_bytes():
    done = subprocess.run([sys.executable, str(SCRIPT), "--steps", "8"], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["killed 8 encodings: 8 survived"], done.stdout + done.stderr
