"""SAEs in a single tensor file, whose name or repo says the rest.

Sources: the repos' README files, and for OpenAI its sparse_autoencoder package. Only two subtract a bias from the
input: connor_rob, and OpenAI, which subtracts it after the layer norm.
"""

from __future__ import annotations

from .format import ConfigFile, Format
from .layout import Layout, StoredTensor, linear_layers, same_names
from .names import hub_id
from .published import Published

PLAIN = same_names("W_enc", "b_enc", "W_dec", "b_dec")
QWEN_SCOPE_TENSORS = PLAIN | {
    "W_enc": StoredTensor("W_enc", transpose=True),
    "W_dec": StoredTensor("W_dec", transpose=True),
}
MWHANNA_TENSORS = PLAIN | {"W_enc": StoredTensor("W_enc", transpose=True)}
OPENAI_TENSORS = {
    "W_enc": StoredTensor("encoder.weight", transpose=True),
    "b_enc": StoredTensor("latent_bias"),
    "W_dec": StoredTensor("decoder.weight", transpose=True),
    "b_dec": StoredTensor("pre_bias"),
}
OPENAI_HOOKS = {
    "resid_post_mlp": "hook_resid_post",
    "resid_post_attn": "hook_resid_mid",
    "resid_delta_attn": "hook_attn_out",
    "resid_delta_mlp": "hook_mlp_out",
    "mlp_post_act": "mlp.hook_post",
}


def read_qwen_scope(published: Published) -> Layout:
    """Read Qwen-Scope: the repo's name contains k and the model, the file's name contains the layer."""
    d_in, d_sae = published.matrix_shape(QWEN_SCOPE_TENSORS["W_enc"])
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="topk",
        k=published.override_or("k", lambda: int(published.search_names(r"-L0_(\d+)", "k, the latents per token"))),
        model=published.override_or(
            "model", lambda: "Qwen/" + published.search_names(r"SAE-Res-(.+?)-W\d+K-L0_", "the base model")
        ),
        hook=_resid_post(published, r"layer(\d+)\.sae\.pt"),
    )
    return Layout(config, QWEN_SCOPE_TENSORS)


def read_goodfire(published: Published) -> Layout:
    """Read Goodfire's SAEs: ReLU, named after model and layer."""
    return _read_linear(published, "encoder_linear", "decoder_linear")


def read_qresearch(published: Published) -> Layout:
    """Read qresearch's SAEs: ReLU, named after model and layer."""
    return _read_linear(published, "encoder", "decoder")


def _read_linear(published: Published, encoder: str, decoder: str) -> Layout:
    tensors = linear_layers(encoder, decoder) | {"b_dec": StoredTensor(f"{decoder}.bias")}
    d_in, d_sae = published.matrix_shape(tensors["W_enc"])
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="relu",
        model=published.override_or("model", lambda: _model_before_layer(published)),
        hook=_resid_post(published, r"l(\d+)(?:\b|_|\.|$)"),
        prepend_bos=True,
    )
    return Layout(config, tensors)


def read_openai(published: Published) -> Layout:
    """Read OpenAI's GPT-2 SAEs (arXiv 2406.04093): layer norm and top-k; a folder's name contains the hook."""
    d_in, d_sae = published.matrix_shape(OPENAI_TENSORS["W_enc"])
    k = published.override_or("k", lambda: published.scalars.get("activation_state_dict.k"))
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="topk" if k else "relu",
        k=int(k) if k else None,
        model="openai-community/gpt2",
        hook=published.override_or("hook", lambda: _openai_hook(published)),
        input_norm="layer_norm",
        context_size=64,
        prepend_bos=False,
    )
    ignored = frozenset({"stats_last_nonzero", "activation_state_dict.k"})
    return Layout(config, OPENAI_TENSORS, subtract_b_dec=True, ignored=ignored)


def _openai_hook(published: Published) -> str:
    place = published.search_names("(" + "|".join(OPENAI_HOOKS) + ")", "the hook")
    layer = published.search_names("([0-9]+)[.]pt", "the layer")
    return f"blocks.{layer}.{OPENAI_HOOKS[place]}"


def read_connor_rob(published: Published) -> Layout:
    """Read Connor Kissane and Rob Krzyzanowski's SAEs on GPT-2's attention: `X.pt` and `X_cfg.json`."""
    d_in, d_sae = published.matrix_shape(PLAIN["W_enc"])
    config = published.sae_config(
        d_in=published.check_size("act_size", published.config.get("act_size"), d_in),
        d_sae=published.check_size("dict_size", published.config.get("dict_size"), d_sae),
        activation="relu",
        model=hub_id("gpt2-small"),
        hook=published.override_or("hook", lambda: str(published.require("act_name"))),
        context_size=128,
        prepend_bos=True,
    )
    return Layout(config, PLAIN, subtract_b_dec=True)


def read_mwhanna(published: Published) -> Layout:
    """Read Michael Hanna's transcoders of Qwen3: `config.yaml` or the repo's name contains the base model."""
    d_in, d_sae = published.matrix_shape(MWHANNA_TENSORS["W_enc"])
    skip = "W_skip" in published.shapes
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="relu",
        model=published.override_or("model", lambda: _mwhanna_model(published)),
        hook=published.override_or(
            "hook", lambda: f"layers.{published.search_names('layer_([0-9]+)', 'the layer')}.mlp"
        ),
        side="input",
        d_out=published.matrix_shape(MWHANNA_TENSORS["W_dec"])[1],
        skip=skip,
    )
    return Layout(config, MWHANNA_TENSORS | (same_names("W_skip") if skip else {}))


def _mwhanna_model(published: Published) -> str:
    if name := published.config.get("model_name"):
        return hub_id(str(name))
    return f"Qwen/Qwen3-{published.search_names(r'qwen3-([0-9.]+)b', 'the base model')}B"


def _resid_post(published: Published, pattern: str) -> str:
    def hook() -> str:
        return f"blocks.{published.search_names(pattern, 'the layer')}.hook_resid_post"

    return str(published.override_or("hook", hook))


def _model_before_layer(published: Published) -> str:
    name = published.search_names(r"((?:DeepSeek|Llama)[\w.-]+?)-SAE-l\d", "the base model")
    return f"{'deepseek-ai' if name.startswith('DeepSeek') else 'meta-llama'}/{name}"


QWEN_SCOPE = Format(name="qwen_scope", weights=r"(?:.+/)?layer\d+\.sae\.pt", read=read_qwen_scope)
GOODFIRE = Format(
    name="goodfire",
    weights=r"[^/]+\.pth?",
    read=read_goodfire,
    required_tensors=frozenset({"encoder_linear.weight"}),
    bare=True,
)
OPENAI = Format(
    name="openai",
    weights=r"(?:.+/)?\d+\.pt",
    read=read_openai,
    required_tensors=frozenset({"pre_bias", "latent_bias"}),
    bare=True,
)
CONNOR_ROB = Format(
    name="connor_rob",
    weights=r"(?:.+/)?[^/]+\.pt",
    read=read_connor_rob,
    config_files=(ConfigFile("_cfg.json", after_stem=True),),
    required_tensors=frozenset({"W_enc", "W_dec"}),
)
QRESEARCH = Format(
    name="qresearch",
    weights=r"[^/]+\.pth?",
    read=read_qresearch,
    required_tensors=frozenset({"encoder.weight", "decoder.bias"}),
    bare=True,
)
MWHANNA = Format(
    name="mwhanna",
    weights=r"layer_\d+\.safetensors",
    read=read_mwhanna,
    config_files=(ConfigFile("config.yaml", optional=True, at_root=True),),
    required_tensors=frozenset({"W_enc", "W_dec"}),
)
