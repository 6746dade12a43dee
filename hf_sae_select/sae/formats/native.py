"""The native format, which `SparseAutoencoder.save_pretrained` writes: nothing to fold."""

from __future__ import annotations

from ..config import SaeConfig
from ..serialization import CONFIG_FILE, LIBRARY, tensor_shapes
from .format import ConfigFile, Format
from .layout import Layout, same_names
from .published import Published


def read(published: Published) -> Layout:
    """Read a `config.json` that contains the fields of `SaeConfig`.

    Raises:
        ValueError: If a field is missing, or its value is not allowed.
    """
    try:
        config = SaeConfig.from_dict(published.config)
    except ValueError as error:
        raise ValueError(f"{CONFIG_FILE} of `{published.path}`: {error}") from error
    return Layout(config, same_names(*tensor_shapes(config)))


NATIVE = Format(
    name="native",
    weights=r"(?:(?P<name>.+)/)?sae_weights\.safetensors",
    read=read,
    config_files=(ConfigFile(CONFIG_FILE),),
    required_values={"library_name": LIBRARY},
)
