"""Run README's first example as a user of the wheel does: in an empty folder, with what is installed and nothing else.

    python -I tools/readme_example.py README.md

It fails if the example prints something else than README says, or if the package is not the installed one.
"""

import os
import re
import sys
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

# a block of code, and a plain block right below it: what the code prints
EXAMPLE = re.compile(r"^```python\n(?P<code>.*?)^```\n+^```\n(?P<output>.*?)^```", re.DOTALL | re.MULTILINE)


def main(readme: Path) -> None:
    """Run the example, and compare."""
    example = EXAMPLE.search(readme.read_text(encoding="utf-8"))
    if example is None:
        raise SystemExit(f"{readme} has no block of Python with its output below")
    os.environ |= {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}  # before the libraries read them
    with TemporaryDirectory() as folder, chdir(folder), redirect_stdout(StringIO()) as printed:
        os.environ["HF_HOME"] = folder
        exec(compile(example["code"], str(readme), "exec"), {"__name__": "__main__"})
    if printed.getvalue() != example["output"]:
        raise SystemExit(f"the example printed\n{printed.getvalue()}\nand README says\n{example['output']}")
    package = Path(sys.modules["hf_sae_select"].__file__ or "")
    if not package.is_relative_to(sys.prefix):
        raise SystemExit(f"the example ran with {package}, which is not in {sys.prefix}")
    print(printed.getvalue(), end="")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
