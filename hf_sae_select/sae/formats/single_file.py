"""SAEs in a single tensor file, whose name or repo says the rest.

Sources: the repos' README files, and the packages of OpenAI (sparse_autoencoder), Goodfire (r1-interpretability),
FAC-Synthesis and HypotheSAEs. connor_rob, OpenAI, FAC-Synthesis and HypotheSAEs subtract a bias from the input;
OpenAI's top-k autoencoders do so after a layer norm, which its ReLU autoencoders lack.
"""

from __future__ import annotations

from .format import ConfigFile, Format
from .layout import Layout, StoredTensor, linear_layers, same_names
from .names import hub_id
from .published import MissingValueError, Published

TORCH_FILE = r"(?:.+/)?[^/]+\.pth?"
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
# Counts of the training, and what belongs to the activation or to a decoder that is the transposed encoder.
OPENAI_IGNORED = frozenset(
    {
        "stats_last_nonzero",
        "latents_activation_frequency",
        "latents_mean_square",
        "activation_state_dict.k",
        "decoder.linear.weight",
    }
)
GOODFIRE_R1_K = {"math": 128, "logic": 64}  # in its code, not in the files
FAC_MODELS = (
    (r"sae_llama", "meta-llama/Llama-3.1-8B-Instruct"),
    (r"sae_qwen", "Qwen/Qwen2-7B-Instruct"),
)
HYPOTHESAES_TENSORS = {
    "W_enc": StoredTensor("encoder.weight", transpose=True),
    "b_enc": StoredTensor("neuron_bias"),
    "W_dec": StoredTensor("decoder.weight", transpose=True),
    "b_dec": StoredTensor("input_bias"),
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


def read_goodfire_r1(published: Published) -> Layout:
    """Read Goodfire's SAEs of DeepSeek-R1: BatchTopK with a tied decoder.

    The files have no threshold, so `encode` takes the k largest of each token: batch top-k of a batch of one.
    """
    d_in, d_sae = published.matrix_shape(StoredTensor("W"))
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="topk",
        k=published.override_or("k", lambda: _k_of_r1(published)),
        model=published.override_or("model", lambda: _model_before_layer(published)),
        hook=_resid_post(published, r"l(\d+)(?:\b|_|\.|$)"),
    )
    return Layout(config, same_names("b_enc", "b_dec") | {"W_enc": StoredTensor("W")}, tied=True)


def _k_of_r1(published: Published) -> int:
    return GOODFIRE_R1_K[
        published.search_names("(?:^|/)(math|logic)/", "`math/` or `logic/`, which have k of 128 and 64")
    ]


def read_openai(published: Published) -> Layout:
    """Read OpenAI's GPT-2 SAEs (arXiv 2406.04093); a folder's name contains the hook."""
    d_in, d_sae = published.matrix_shape(OPENAI_TENSORS["W_enc"])
    activation = published.values.get("activation", "ReLU")
    output = published.section_of_values("activation_state_dict").get("postact_fn", "ReLU")
    if activation not in ("ReLU", "TopK") or output != "ReLU":
        raise ValueError(
            f"`activation={activation!r}` with `postact_fn={output!r}` in `{published.path}` is not supported; only "
            "ReLU and TopK of ReLU are"
        )
    topk = activation == "TopK"
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="topk" if topk else "relu",
        k=published.override_or("k", lambda: _openai_k(published)) if topk else None,
        model="openai-community/gpt2",
        hook=published.override_or("hook", lambda: _openai_hook(published)),
        input_norm="layer_norm" if topk else "none",
        context_size=64,
        prepend_bos=False,
    )
    tied = "decoder.linear.weight" in published.shapes
    tensors = {name: tensor for name, tensor in OPENAI_TENSORS.items() if not (tied and name == "W_dec")}
    return Layout(config, tensors, subtract_b_dec=True, tied=tied, ignored=OPENAI_IGNORED)


def _openai_k(published: Published) -> int:
    k = published.scalars.get("activation_state_dict.k")
    if k is None:
        raise MissingValueError(f"`{published.path}` lacks k, the latents per token")
    return int(k)


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
        hook=published.override_or("hook", lambda: published.require_text("act_name")),
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
    if published.config.get("model_name") is not None:
        return hub_id(published.require_text("model_name"))
    return f"Qwen/Qwen3-{published.search_names(r'qwen3-([0-9.]+)b', 'the base model')}B"


def read_fac_synthesis(published: Published) -> Layout:
    """Read an SAE of FAC-Synthesis: ReLU or top-k, with a tied decoder. Its layers count from 1."""
    cfg = published.section_of_values("config")
    d_in, d_sae = published.matrix_shape(PLAIN["W_enc"])
    topk = "topK" in cfg

    def hook() -> str:
        layer = int(published.search_names(r"_l(\d+)_", "the layer"))
        if layer < 1:
            raise ValueError(f"`{published.path}` names layer 0; its layers count from 1")
        return f"blocks.{layer - 1}.hook_resid_post"

    config = published.sae_config(
        d_in=published.check_size("d_inp", cfg.get("d_inp"), d_in),
        d_sae=published.check_size("d_hide", cfg.get("d_hide"), d_sae),
        activation="topk" if topk else "relu",
        k=cfg["topK"] if topk else None,
        model=published.override_or("model", lambda: published.search_model(FAC_MODELS)),
        hook=published.override_or("hook", hook),
    )
    tensors = same_names("W_enc", "b_enc", "b_dec")
    return Layout(config, tensors, subtract_b_dec=True, tied=True, ignored=frozenset({"mask"}))


def read_hypothesaes(published: Published) -> Layout:
    """Read an SAE of HypotheSAEs: top-k, or BatchTopK with its threshold. It encodes embeddings of whole texts."""
    cfg = published.section_of_values("config")
    d_in, d_sae = published.matrix_shape(HYPOTHESAES_TENSORS["W_enc"])
    batch_topk = published.flag("use_batch_topk", False, cfg)
    k = cfg.get("k_active_neurons")
    config = published.sae_config(
        d_in=published.check_size("input_dim", cfg.get("input_dim"), d_in),
        d_sae=published.check_size("m_total_neurons", cfg.get("m_total_neurons"), d_sae),
        activation="jumprelu" if batch_topk else "topk",
        k=None if batch_topk else k,
        l0=k if batch_topk else None,
        model=published.override_or("model", lambda: _encodes_embeddings(published)),
        hook=published.override_or("hook", lambda: _encodes_embeddings(published)),
    )
    threshold = same_names("threshold") if batch_topk else {}
    return Layout(config, HYPOTHESAES_TENSORS | threshold, subtract_b_dec=True, ignored=frozenset({"threshold"}))


def _encodes_embeddings(published: Published) -> str:
    raise MissingValueError(
        f"`{published.path}` was trained on embeddings of whole texts, and contains neither their model nor a module"
    )


def read_mntss(published: Published) -> Layout:
    """Read the encoder of one layer of a cross-layer transcoder: it reads this layer alone."""
    layer = published.search_names(r"W_enc_(\d+)\.", "the layer")
    tensors = {"W_enc": StoredTensor(f"W_enc_{layer}", transpose=True), "b_enc": StoredTensor(f"b_enc_{layer}")}
    d_in, d_sae = published.matrix_shape(tensors["W_enc"])
    hook = published.override_or("hook", lambda: f"blocks.{layer}.{published.require_text('feature_input_hook')}")
    is_mlp = str(hook) == f"blocks.{layer}.mlp.hook_in"
    config = published.sae_config(
        d_in=d_in,
        d_sae=d_sae,
        activation="relu",
        model=published.override_or("model", lambda: hub_id(published.require_text("model_name"))),
        hook=f"layers.{layer}.mlp" if is_mlp else hook,
        side="input" if is_mlp else "output",
        d_out=d_in,
    )
    return Layout(config, tensors, ignored=frozenset({f"b_dec_{layer}"}))


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
    weights=TORCH_FILE,
    read=read_goodfire,
    required_tensors=frozenset({"encoder_linear.weight"}),
    bare=True,
)
OPENAI = Format(
    name="openai",
    weights=TORCH_FILE,
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
GOODFIRE_R1 = Format(
    name="goodfire_r1",
    weights=TORCH_FILE,
    read=read_goodfire_r1,
    required_tensors=frozenset({"W", "b_enc", "b_dec"}),
    bare=True,
)
FAC_SYNTHESIS = Format(
    name="fac_synthesis",
    weights=TORCH_FILE,
    read=read_fac_synthesis,
    required_tensors=frozenset({"W_enc", "b_enc", "b_dec", "mask"}),
    bare=True,
)
HYPOTHESAES = Format(
    name="hypothesaes",
    weights=TORCH_FILE,
    read=read_hypothesaes,
    required_tensors=frozenset({"encoder.weight", "input_bias", "neuron_bias"}),
    bare=True,
)
MNTSS = Format(
    name="mntss",
    weights=r"W_enc_\d+\.safetensors",
    read=read_mntss,
    config_files=(ConfigFile("config.yaml", optional=True, at_root=True),),
)
QRESEARCH = Format(
    name="qresearch",
    weights=TORCH_FILE,
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
