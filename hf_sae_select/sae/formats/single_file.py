"""SAEs that come as a bare file of tensors, where names say the rest.

Sources: the repos' own README files, and for OpenAI its sparse_autoencoder package. None of them subtracts a bias but
OpenAI, whose pre-bias is taken off the normalised vector and added back, and connor_rob.
"""

from __future__ import annotations

from .layout import Format, Layout, Published
from .saelens import hub_id


def read_qwen_scope(published: Published) -> Layout:
    """Read Qwen-Scope: k and the model are in the repo's name alone, the layer in the file's."""
    k = published.said("k", lambda: int(published.search(r"-L0_(\d+)", "k, the latents per token")))
    model = published.said("model", lambda: "Qwen/" + published.search(r"SAE-Res-(.+?)-W\d+K-L0_", "the base model"))
    config = published.made(
        d_in=published.size("W_enc", 1),
        d_sae=published.size("W_enc", 0),
        activation="topk",
        k=k,
        model=model,
        hook=_resid_post(published, r"layer(\d+)\.sae\.pt"),
    )
    return Layout(config, {"W_enc": "W_enc.T", "b_enc": "b_enc", "W_dec": "W_dec.T", "b_dec": "b_dec"})


def read_goodfire(published: Published) -> Layout:
    """Read Goodfire's SAEs: ReLU, named after model and layer."""
    return _linear(published, "encoder_linear", "decoder_linear")


def read_qresearch(published: Published) -> Layout:
    """Read qresearch's SAEs: ReLU, named after model and layer."""
    return _linear(published, "encoder", "decoder")


def _linear(published: Published, encoder: str, decoder: str) -> Layout:
    config = published.made(
        d_in=published.size(f"{encoder}.weight", 1),
        d_sae=published.size(f"{encoder}.weight", 0),
        activation="relu",
        model=published.said("model", lambda: _named_model(published)),
        hook=_resid_post(published, r"l(\d+)(?:\b|_|\.|$)"),
        prepend_bos=True,
    )
    names = {"W_enc": f"{encoder}.weight.T", "b_enc": f"{encoder}.bias"}
    return Layout(config, names | {"W_dec": f"{decoder}.weight.T", "b_dec": f"{decoder}.bias"})


def read_openai(published: Published) -> Layout:
    """Read OpenAI's GPT-2 SAEs (arXiv 2406.04093): layer norm, a bias off, top-k; the place is a folder's name."""
    places = {
        "resid_post_mlp": "hook_resid_post",
        "resid_post_attn": "hook_resid_mid",
        "resid_delta_attn": "hook_attn_out",
        "resid_delta_mlp": "hook_mlp_out",
        "mlp_post_act": "mlp.hook_post",
    }

    def hook() -> str:
        place = published.search("(" + "|".join(places) + ")", "the place in the layer")
        layer = published.search("([0-9]+)[.]pt", "the layer")
        return f"blocks.{layer}.{places[place]}"

    k = published.said("k", lambda: published.scalars.get("activation_state_dict.k"))
    config = published.made(
        d_in=published.size("encoder.weight", 1),
        d_sae=published.size("encoder.weight", 0),
        activation="topk" if k else "relu",
        k=int(k) if k else None,
        model="openai-community/gpt2",
        hook=published.said("hook", hook),
        input_norm="layer_norm",
        context_size=64,
        prepend_bos=False,
    )
    names = {"W_enc": "encoder.weight.T", "b_enc": "latent_bias", "W_dec": "decoder.weight.T", "b_dec": "pre_bias"}
    ignored = frozenset({"stats_last_nonzero", "activation_state_dict.k"})
    return Layout(config, names, subtract_b_dec=True, ignored=ignored)


def read_connor_rob(published: Published) -> Layout:
    """Read Connor Kissane and Rob Krzyzanowski's SAEs on GPT-2's attention: `X.pt` beside `X_cfg.json`."""
    config = published.made(
        d_in=published.agreed("act_size", published.config.get("act_size"), published.size("W_enc", 0)),
        d_sae=published.agreed("dict_size", published.config.get("dict_size"), published.size("W_enc", 1)),
        activation="relu",
        model=hub_id("gpt2-small"),
        hook=published.said("hook", lambda: str(published.need("act_name"))),
        context_size=128,
        prepend_bos=True,
    )
    return Layout(config, {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}, subtract_b_dec=True)


def read_mwhanna(published: Published) -> Layout:
    """Read Michael Hanna's transcoders of Qwen3: `layer_N.safetensors`, base model in `config.yaml` or the name."""
    named = published.config.get("model_name")
    config = published.made(
        d_in=published.size("W_enc", 1),
        d_sae=published.size("W_enc", 0),
        activation="relu",
        model=published.said("model", lambda: hub_id(str(named)) if named else _qwen(published)),
        hook=published.said("hook", lambda: f"layers.{published.search('layer_([0-9]+)', 'the layer')}.mlp"),
        side="input",
        d_out=published.size("W_dec", 1),
        skip="W_skip" in published.shapes,
    )
    names = {"W_enc": "W_enc.T", "b_enc": "b_enc", "W_dec": "W_dec", "b_dec": "b_dec"}
    return Layout(config, names | ({"W_skip": "W_skip"} if config.skip else {}))


def _resid_post(published: Published, pattern: str) -> str:
    return str(published.said("hook", lambda: f"blocks.{published.search(pattern, 'the layer')}.hook_resid_post"))


def _named_model(published: Published) -> str:
    name = published.search(r"((?:DeepSeek|Llama)[\w.-]+?)-SAE-l\d", "the base model")
    return f"{'deepseek-ai' if name.startswith('DeepSeek') else 'meta-llama'}/{name}"


def _qwen(published: Published) -> str:
    return f"Qwen/Qwen3-{published.search(r'qwen3-([0-9.]+)b', 'the base model')}B"


QWEN_SCOPE = Format("qwen_scope", r"(?:.+/)?layer\d+\.sae\.pt", read_qwen_scope)
GOODFIRE = Format("goodfire", r"[^/]+\.pth?", read_goodfire, tensors=frozenset({"encoder_linear.weight"}), bare=True)
OPENAI = Format("openai", r"(?:.+/)?\d+\.pt", read_openai, tensors=frozenset({"pre_bias", "latent_bias"}), bare=True)
CONNOR_ROB = Format(
    "connor_rob", r"(?:.+/)?[^/]+\.pt", read_connor_rob, ("{stem}_cfg.json",), frozenset({"W_enc", "W_dec"})
)
QRESEARCH = Format(
    "qresearch",
    r"[^/]+\.pth?",
    read_qresearch,
    tensors=frozenset({"encoder.weight", "decoder.bias"}),
    bare=True,
)
MWHANNA = Format("mwhanna", r"layer_\d+\.safetensors", read_mwhanna, ("/config.yaml?",), frozenset({"W_enc", "W_dec"}))
