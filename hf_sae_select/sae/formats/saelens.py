"""SAELens, version 6 and before: `cfg.json` beside `sae_weights.safetensors`.

Source: SAELens 6.54 (sae_lens/saes/*.py). batchtopk and matryoshka_batchtopk are saved by it as jumprelu.
"""

from __future__ import annotations

import re
import warnings
from typing import Any

from .layout import Format, Layout, Published

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
REFUSED = {
    "matching_pursuit": "it encodes by pursuit, step after step, with its decoder",
    "temporal": "it encodes a whole sequence at once, with attention",
}
INPUT_NORMS = {"layer_norm": "layer_norm", "constant_norm_rescale": "rms"}

TYPES = {"architecture": str, "model_name": str, "activation_fn_kwargs": dict, "model_from_pretrained_kwargs": dict}
OPTIONS = frozenset(
    {"architecture", "apply_b_dec_to_input", "normalize_activations", "norm_scaling_factor", "hook_name", "model_name"}
    | {"rescale_acts_by_decoder_norm", "model_from_pretrained_kwargs"}
)

# What our own `cfg.json` says beyond SAELens's words.
OURS = ("model_revision", "feature_threshold", "skip_first", "max_norm_ratio", "training")

# TransformerLens's short names, where they are not the end of the Hub's id of the same model.
MODELS = {
    "gpt2-small": "openai-community/gpt2",
    "gpt2": "openai-community/gpt2",
    "gpt2-medium": "openai-community/gpt2-medium",
    "gpt2-large": "openai-community/gpt2-large",
    "gpt2-xl": "openai-community/gpt2-xl",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "llama-3-8b-instruct": "meta-llama/Meta-Llama-3-8B-Instruct",
}
OWNERS = {
    "pythia": "EleutherAI",
    "gemma": "google",
    "qwen": "Qwen",
    "llama": "meta-llama",
    "tiny-stories": "roneneldan",
}

# What these repos leave out and SAELens's registry of releases says: repo -> part of the SAE's path -> settings.
CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
MLP_OUT_FACTORS = (  # of tommmcgrath/gpt2-small-mlp-out-saes, layer by layer
    *(1.049317316132615, 2.3693984005104283, 1.6411934982190302, 1.8958522157897557, 1.81673478700627),
    *(1.550234472245924, 1.3237742807210804, 1.1042905114723296, 0.9123762783479742, 0.6955335635232373),
    *(0.3619728926727644, 0.2851548652550073),
)
OVERRIDES: dict[str, dict[str, dict[str, Any]]] = {
    "jbloom/GPT2-Small-SAEs-Reformatted": {"": CENTRED},
    "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8": {"": CENTRED},
    "JoshEngels/Mistral-7B-Residual-Stream-SAEs": {"": {"normalize_activations": "constant_norm_rescale"}},
    "jbloom/Gemma-2b-Residual-Stream-SAEs": {
        "gemma_2b_blocks.12.hook_resid_post_16384": {"norm_scaling_factor": 0.21381938399317255}
    },
    "tommmcgrath/gpt2-small-mlp-out-saes": {
        f"blocks.{layer}.hook_mlp_out": CENTRED | {"norm_scaling_factor": factor}
        for layer, factor in enumerate(MLP_OUT_FACTORS)
    },
}


def hub_id(name: str) -> str:
    """Return the Hub's id of a model that TransformerLens has a shorter name for."""
    if "/" in name or name in MODELS:
        return MODELS.get(name, name)
    owner = next((owner for start, owner in OWNERS.items() if name.lower().startswith(start)), None)
    return f"{owner}/{name}" if owner else name


def read(published: Published) -> Layout:
    """Read a SAELens config of any version."""
    cfg = _flat(published)
    architecture = cfg.get("architecture") or "standard"
    if architecture in REFUSED:
        raise ValueError(f"`architecture={architecture!r}` is no feed-forward encoder: {REFUSED[architecture]}")
    if architecture not in ACTIVATIONS:
        raise ValueError(f"unknown `architecture={architecture!r}`; known: {', '.join(ACTIVATIONS)}")
    if cfg.get("hook_head_index") is not None:
        raise ValueError(f"`hook_head_index={cfg['hook_head_index']!r}`: SAEs on a single attention head are not read")
    norm = cfg.get("normalize_activations") or "none"
    factor = published.positive("norm_scaling_factor", cfg) if cfg.get("norm_scaling_factor") is not None else None
    if norm not in ("none", "expected_average_only_in", *INPUT_NORMS):
        raise ValueError(f"`normalize_activations={norm!r}` is not known")
    transcoder = "transcoder" in architecture
    hook, side = split_side(str(published.said("hook", lambda: _hook(published, cfg))))
    config = published.made(
        d_in=published.agreed("d_in", cfg.get("d_in"), published.size("W_enc", 0)),
        d_sae=published.agreed("d_sae", cfg.get("d_sae"), published.size("W_enc", 1)),
        activation=ACTIVATIONS[architecture],
        k=cfg.get("k") if "topk" in architecture else None,
        model=published.said("model", lambda: hub_id(str(published.need("model_name", cfg)))),
        hook=hook,
        side=cfg.get("side") or side,
        input_norm=INPUT_NORMS.get(norm, "none"),
        d_out=published.size("W_dec", 1) if transcoder else None,
        skip="skip" in architecture,
        l0=cfg.get("l0"),
        context_size=cfg.get("context_size"),
        prepend_bos=cfg.get("prepend_bos"),
        **{name: cfg[name] for name in OURS if cfg.get(name) is not None},
    )
    centred = bool((cfg.get("model_from_pretrained_kwargs") or {}).get("center_writing_weights"))
    if centred and config.input_norm == "rms":
        raise ValueError("`center_writing_weights` together with `constant_norm_rescale` is not supported")
    scaled = factor is not None and norm == "expected_average_only_in"
    if norm == "expected_average_only_in" and not scaled:
        warnings.warn(
            f"`{published.path}` was trained on inputs scaled by a factor that the repo does not state; they are read "
            "unscaled, as SAELens reads them; if you know the factor, say `config={'norm_scaling_factor': ...}`",
            stacklevel=2,
        )
    return Layout(
        config,
        _names(published, architecture),
        subtract_b_dec=bool(cfg.get("apply_b_dec_to_input", True)) and not transcoder,
        scale={"W_enc": factor, "W_dec": 1 / factor, "b_dec": 1 / factor} if factor and scaled else {},
        unit_decoder=bool(cfg.get("rescale_acts_by_decoder_norm")),
        centre=centred,
    )


def _hook(published: Published, cfg: dict[str, Any]) -> str:
    named = published.given.get("hook_name") or cfg.get("hf_hook_name") or published.need("hook_name", cfg)
    return str(named)


def split_side(path: str) -> tuple[str, str]:
    """Return a module path and the side of it that is read, where the name ends in one: `layers.3.output`.

    Only below a decoder's layers: BERT has modules that are called `output`.
    """
    found = re.fullmatch(r"(.*\blayers\.\d+.*)\.(input|output)", path)
    return (found[1], found[2]) if found else (path, "output")


def _names(published: Published, architecture: str) -> dict[str, str]:
    names = {"W_enc": "W_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
    if architecture == "gated":
        names |= {"b_gate": "b_gate", "b_mag": "b_mag", "r_mag": "r_mag"}
    else:
        names["b_enc"] = "b_enc"
    if "jumprelu" in architecture:
        names["threshold"] = "threshold"
    if "skip" in architecture:
        names["W_skip"] = "W_skip"
    if "scaling_factor" in published.shapes:  # of before 6: an SAE fine-tuned to write larger
        names["scaling"] = "scaling_factor"
    return names


def _flat(published: Published) -> dict[str, Any]:
    """Return a config with its metadata beside the rest, in the words of version 6."""
    cfg = {**published.config, **published.section("metadata", needed=False)}
    for repo, releases in OVERRIDES.items():
        if repo == published.repo or repo.partition("/")[2] in published.repo.split("/"):  # a local copy of it
            for part, settings in releases.items():
                cfg |= settings if part in published.path else {}
    cfg |= published.given
    for name, kind in TYPES.items():
        if cfg.get(name) is not None and not isinstance(cfg[name], kind):
            raise ValueError(
                f"`{name}={cfg[name]!r}` in the config beside `{published.path}` must be a {kind.__name__}"
            )
    cfg.setdefault("hook_name", cfg.get("hook_point"))
    cfg.setdefault("hook_head_index", cfg.get("hook_point_head_index"))
    if isinstance(cfg.get("normalize_activations"), bool):
        cfg["normalize_activations"] = "expected_average_only_in" if cfg["normalize_activations"] else "none"
    arguments = cfg.get("activation_fn_kwargs") or {}
    activation, architecture = cfg.get("activation_fn_str", cfg.get("activation_fn")), cfg.get("architecture")
    if activation == "topk" and architecture in (None, "standard"):
        cfg |= {"architecture": "topk", "k": arguments.get("k")}
    elif architecture == "topk":
        cfg.setdefault("k", arguments.get("k"))
    return cfg


SAELENS = Format("saelens", r"(?:(?P<name>.+)/)?sae_weights\.(?:safetensors|pt)", read, ("cfg.json",), options=OPTIONS)
