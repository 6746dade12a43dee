"""The environment: versions that a report of a fault needs, and nothing that says whose machine it is."""

from __future__ import annotations

import platform
import re
import warnings
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version

NAME = "hf-sae-select"
LIBRARIES = ("transformers", "datasets", "huggingface-hub", "accelerate", "safetensors", "numba", "numpy", "pyarrow")
# one that an extra has, as `altair<7,>=6; extra == "report"` or `hf-sae-select[report]; extra == "publish"`
OPTIONAL = re.compile(r"(?P<library>[\w.-]+)(?:\[(?P<extras>[^\]]*)\])?.*\bextra == ['\"](?P<extra>[\w-]+)['\"]")
DEVELOPMENT = ("dev", "docs")


@dataclass(frozen=True)
class Environment:
    """Hold the versions of what a result may depend on.

    It has no paths, no names of users or machines, no tokens and no values of environment variables.
    """

    hf_sae_select: str | None
    """None if the package is on the path and was not installed."""
    python: str
    """The version of Python, and its implementation."""
    platform: str
    """The system, the C library or release where it has one, and the processor."""
    torch: str | None
    """None if it is not installed."""
    torch_error: str | None
    """The type of the error of `import torch`; None if torch is imported."""
    cuda: str | None
    """The version of CUDA and the number of devices; None if torch sees no device of it."""
    mps: bool
    """Whether torch sees a device of Apple."""
    libraries: dict[str, str | None]
    """The version of each library; None for one that is not installed."""
    extras: dict[str, dict[str, str | None]]
    """Of each extra of the package, the libraries that it adds."""

    def to_dict(self) -> dict[str, object]:
        """Return all of it as JSON values.

        Returns:
            `dict`: The fields of this class.
        """
        return asdict(self)

    @property
    def installed_extras(self) -> list[str]:
        """The extras of which every library is installed."""
        return [extra for extra, libraries in self.extras.items() if None not in libraries.values()]

    def __str__(self) -> str:
        error = f" (import torch fails: {self.torch_error})" if self.torch_error else ""
        optional = {library: number for libraries in self.extras.values() for library, number in libraries.items()}
        lines = {
            NAME: self.hf_sae_select or "not installed",
            "python": self.python,
            "platform": self.platform,
            "torch": f"{self.torch or 'not installed'}{error}",
            "cuda": self.cuda or "not available",
            "mps": "available" if self.mps else "not available",
            **{library: number or "not installed" for library, number in self.libraries.items()},
            "extras": ", ".join(self.installed_extras) or "none",
            **{library: number for library, number in optional.items() if number},
        }
        return "\n".join(f"{name}: {value}" for name, value in lines.items())


def environment() -> Environment:
    """Return the versions that a report of a fault needs: Python, the platform, torch and its devices, libraries.

    Nothing in it is private, and it works where torch is missing or cannot be imported.

    Returns:
        `Environment`: Versions, as attributes. Its text is what `hf-sae-select env` prints.

    Example:
        ```python
        import hf_sae_select

        print(hf_sae_select.environment())
        ```
    """
    error, cuda, mps = _devices()
    return Environment(
        hf_sae_select=_version(NAME),
        python=f"{platform.python_version()} ({platform.python_implementation()})",
        platform=_platform(),
        torch=_version("torch"),
        torch_error=error,
        cuda=cuda,
        mps=mps,
        libraries={library: _version(library) for library in LIBRARIES},
        extras=_extras(),
    )


def _version(library: str) -> str | None:
    """Return the version of a library by its metadata: importing it may fail, and takes time."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _platform() -> str:
    """Return the platform without the release of a Linux kernel, which may have the name of a machine."""
    release = {"Darwin": platform.mac_ver()[0], "Windows": platform.release()}
    edition = release.get(platform.system(), " ".join(platform.libc_ver()).strip())
    return " ".join(filter(None, [platform.system(), edition, platform.machine()]))


def _devices() -> tuple[str | None, str | None, bool]:
    """Return the type of the error of importing torch, its CUDA, and whether it has a device of Apple.

    The text of the error is left out: it has paths.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old
        try:
            import torch

            devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
            cuda = f"{torch.version.cuda or torch.version.hip}, devices: {devices}" if devices else None
            return None, cuda, torch.backends.mps.is_available()
        except ModuleNotFoundError as error:
            return (None if error.name == "torch" else type(error).__name__), None, False
        except Exception as error:  # a broken library fails in any way
            return type(error).__name__, None, False


def _extras() -> dict[str, dict[str, str | None]]:
    """Return the libraries of each extra of the package, and of the extras in it, with their versions."""
    try:
        matches = [match for line in requires(NAME) or () if (match := OPTIONAL.match(line))]
    except PackageNotFoundError:  # the package is on the path, and was not installed
        return {}
    extras: dict[str, set[str]] = {}
    included: dict[str, set[str]] = {}
    for match in matches:
        if match["extra"] in DEVELOPMENT:
            continue
        libraries = extras.setdefault(match["extra"], set())
        if match["library"] == NAME:
            included.setdefault(match["extra"], set()).update(map(str.strip, match["extras"].split(",")))
        else:
            libraries.add(match["library"])
    for extra, others in included.items():
        extras[extra] |= set().union(*(extras[other] for other in others))
    return {extra: {library: _version(library) for library in sorted(extras[extra])} for extra in sorted(extras)}
