"""SAELens, version 6 and earlier: `cfg.json` and `sae_weights.safetensors` in one folder.

Source: SAELens 6.54 (sae_lens/saes/*.py), which saves batchtopk and matryoshka_batchtopk SAEs as jumprelu.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .format import ConfigFile, Format
from .layout import Layout, StoredTensor, same_names
from .names import hub_id, split_side
from .published import Published

ACTIVATIONS = {  # architecture -> our activation
    "standard": "relu",
    "topk": "topk",
    "abstopk": "abstopk",
    "jumprelu": "jumprelu",
    "gated": "jumprelu",
    "transcoder": "relu",
    "skip_transcoder": "relu",
    "jumprelu_transcoder": "jumprelu",
    "jumprelu_skip_transcoder": "jumprelu",
}
UNSUPPORTED_ARCHITECTURES = {
    "matching_pursuit": "it encodes by matching pursuit, in several steps that use its decoder",
    "temporal": "it encodes a whole sequence at once, with attention",
}
INPUT_NORMS = {"layer_norm": "layer_norm", "constant_norm_rescale": "rms"}
SCALED = "expected_average_only_in"

TYPES: dict[str, type | tuple[type, ...]] = {
    "architecture": str,
    "normalize_activations": (str, bool),
    "model_name": str,
    "hook_name": str,
    "activation_fn_kwargs": dict,
    "model_from_pretrained_kwargs": dict,
}
OPTIONS = frozenset(
    {
        "architecture",
        "apply_b_dec_to_input",
        "hook_name",
        "model_from_pretrained_kwargs",
        "model_name",
        "norm_scaling_factor",
        "normalize_activations",
        "rescale_acts_by_decoder_norm",
    }
)

# Fields of `SaeConfig` that our own `cfg.json` adds to SAELens's keys.
OUR_FIELDS = ("model_revision", "feature_threshold", "skip_first", "max_norm_ratio", "training")

# Settings that these repos lack and SAELens's registry of releases contains: repo -> part of the path -> settings.
RELEASES: dict[str, dict[str, dict[str, Any]]] = json.loads(
    Path(__file__).with_name("saelens_releases.json").read_text(encoding="utf-8")
)


def read(published: Published) -> Layout:
    """Read a SAELens config of any version."""
    cfg = _config(published)
    architecture = _architecture(cfg)
    transcoder = "transcoder" in architecture
    norm = cfg.get("normalize_activations") or "none"
    if norm not in ("none", SCALED, *INPUT_NORMS):
        known = ", ".join(["none", SCALED, *INPUT_NORMS])
        raise ValueError(f"unknown `normalize_activations={norm!r}`; choose one of: {known}")
    d_in, d_sae = published.matrix_shape(StoredTensor("W_enc"))
    hook, side = split_side(str(published.override_or("hook", lambda: _hook(published, cfg))))
    d_out = published.matrix_shape(StoredTensor("W_dec"))[1] if transcoder else None
    config = published.sae_config(
        d_in=published.check_size("d_in", cfg.get("d_in"), d_in),
        d_sae=published.check_size("d_sae", cfg.get("d_sae"), d_sae),
        activation=ACTIVATIONS[architecture],
        k=cfg.get("k") if "topk" in architecture else None,
        model=published.override_or("model", lambda: hub_id(published.require_text("model_name", cfg))),
        hook=hook,
        side=cfg.get("side") or side,
        input_norm=INPUT_NORMS.get(norm, "none"),
        d_out=published.check_size("d_out", cfg.get("d_out"), d_out) if d_out else None,
        skip="skip" in architecture,
        l0=cfg.get("l0"),
        context_size=cfg.get("context_size"),
        prepend_bos=cfg.get("prepend_bos"),
        **{name: cfg[name] for name in OUR_FIELDS if cfg.get(name) is not None},
    )
    centered = published.flag("center_writing_weights", False, cfg.get("model_from_pretrained_kwargs") or {})
    if centered and config.input_norm == "rms":
        raise ValueError("`center_writing_weights` together with `constant_norm_rescale` is not supported")
    return Layout(
        config,
        _tensors(published, architecture),
        subtract_b_dec=published.flag("apply_b_dec_to_input", True, cfg) and not transcoder,
        scale=_input_scale(published, cfg, norm),
        unit_decoder=published.flag("rescale_acts_by_decoder_norm", False, cfg),
        center_input=centered,
    )


def _architecture(cfg: Mapping[str, Any]) -> str:
    architecture = cfg.get("architecture") or "standard"
    if architecture in UNSUPPORTED_ARCHITECTURES:
        reason = UNSUPPORTED_ARCHITECTURES[architecture]
        raise ValueError(f"`architecture={architecture!r}` is not a feed-forward encoder: {reason}")
    if architecture not in ACTIVATIONS:
        raise ValueError(f"unknown `architecture={architecture!r}`; choose one of: {', '.join(ACTIVATIONS)}")
    if (head := cfg.get("hook_head_index")) is not None:
        raise ValueError(f"`hook_head_index={head!r}` is not supported: the SAE reads a single attention head")
    return str(architecture)


def _hook(published: Published, cfg: Mapping[str, Any]) -> str:
    return str(published.overrides.get("hook_name") or cfg.get("hf_hook_name") or published.require("hook_name", cfg))


def _input_scale(published: Published, cfg: Mapping[str, Any], norm: str) -> dict[str, float]:
    has_factor = cfg.get("norm_scaling_factor") is not None
    factor = published.require_positive("norm_scaling_factor", cfg) if has_factor else 1.0
    if norm != SCALED:
        return {}
    if not has_factor:
        warnings.warn(
            f"`{published.path}` was trained on scaled inputs, but its repo does not contain the factor; its inputs "
            "stay unscaled, as in SAELens; if you know the factor, pass `config={'norm_scaling_factor': ...}`",
            stacklevel=2,
        )
        return {}
    return {"W_enc": factor, "W_dec": 1 / factor, "b_dec": 1 / factor}


def _tensors(published: Published, architecture: str) -> dict[str, StoredTensor]:
    names = ["W_enc", "W_dec", "b_dec"]
    names += ["b_gate", "b_mag", "r_mag"] if architecture == "gated" else ["b_enc"]
    if "jumprelu" in architecture:
        names.append("threshold")
    if "skip" in architecture:
        names.append("W_skip")
    tensors = same_names(*names)
    if "scaling_factor" in published.shapes:  # before version 6: the decoder was fine-tuned by a factor of each row
        tensors["scaling"] = StoredTensor("scaling_factor")
    return tensors


def _config(published: Published) -> dict[str, Any]:
    """Return the config with its metadata at the top level, in the keys of version 6."""
    cfg = {**published.config, **published.section("metadata", required=False)}
    cfg |= _release_settings(published)
    cfg |= published.overrides
    for name, kind in TYPES.items():
        if cfg.get(name) is not None and not isinstance(cfg[name], kind):
            raise ValueError(f"`{name}={cfg[name]!r}` in the config of `{published.path}` must be a {_names(kind)}")
    cfg.setdefault("hook_name", cfg.get("hook_point"))
    cfg.setdefault("hook_head_index", cfg.get("hook_point_head_index"))
    if isinstance(cfg.get("normalize_activations"), bool):
        cfg["normalize_activations"] = SCALED if cfg["normalize_activations"] else "none"
    arguments = cfg.get("activation_fn_kwargs") or {}
    activation, architecture = cfg.get("activation_fn_str", cfg.get("activation_fn")), cfg.get("architecture")
    if activation == "topk" and architecture in (None, "standard"):
        cfg |= {"architecture": "topk", "k": arguments.get("k")}
    elif architecture == "topk":
        cfg.setdefault("k", arguments.get("k"))
    return cfg


def _names(types: type | tuple[type, ...]) -> str:
    return " or ".join(kind.__name__ for kind in (types if isinstance(types, tuple) else (types,)))


def _release_settings(published: Published) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for repo, paths in RELEASES.items():
        if repo == published.repo or repo.partition("/")[2] in published.repo.split("/"):  # or a local copy
            for part, values in paths.items():
                settings |= values if part in published.path else {}
    return settings


SAELENS = Format(
    name="saelens",
    weights=r"(?:(?P<name>.+)/)?sae_weights\.(?:safetensors|pt)",
    read=read,
    config_files=(ConfigFile("cfg.json"),),
    options=OPTIONS,
)
