"""Each publisher's SAEs beside the publisher's equation, written out here; `test_parity` has what libraries compute.

What an equation calls `z` is what `encode` must give; `out` what the SAE's forward pass must.
"""

import ast
import io
import math
import re

import pytest
import torch
from helpers import published
from helpers.published import D_IN, D_SAE, HOOK, MLP_IN, MLP_OUT, K

from hf_sae_select import load_sae

X = published.inputs()


def load(repo, tmp_path, **options):
    return load_sae(repo.at(tmp_path), **options)


def close(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def same(sae, z, out):
    """Check that `sae` gives z, of which something but not everything is zero, and out."""
    assert 0.05 < (z != 0).float().mean() < 0.95
    close(sae.encode(X), z)
    assert torch.equal(sae.encode(X) != 0, z != 0)
    close(sae(X), out)


def about(sae, **expected):
    """Check what the config says; every SAE here has these widths."""
    expected = {"d_in": D_IN, "d_sae": D_SAE, "side": "output", "input_norm": "none"} | expected
    assert {name: getattr(sae.config, name) for name in expected} == expected


def jump(pre, threshold):
    return pre.relu() * (pre > threshold)


def top(pre, k=K):
    """Return the k largest of each row by sorting, negatives set to 0."""
    least = pre.sort(dim=-1, descending=True).values[:, k - 1 : k]
    return pre.relu() * (pre >= least)


def rms(x):
    return x * math.sqrt(x.shape[1]) / x.norm(dim=1, keepdim=True)


# Gemma Scope


@pytest.mark.parametrize(
    ("kind", "size", "hook", "model"),
    [
        ("res", "2b-pt", "blocks.3.hook_resid_post", "google/gemma-2-2b"),
        ("res", "9b-it", "blocks.3.hook_resid_post", "google/gemma-2-9b-it"),
        ("mlp", "9b-pt", "blocks.3.hook_mlp_out", "google/gemma-2-9b"),
        ("att", "27b-pt", "blocks.3.attn.hook_z", "google/gemma-2-27b"),
    ],
)
@pytest.mark.parametrize("lower", [False, True], ids=["W_enc", "w_enc"])
def test_gemma_scope_1(tmp_path, kind, size, hook, model, lower):
    repo = published.gemma_scope_1(kind, size, lower=lower)
    sae, t = load(repo, tmp_path), repo.tensors
    z = jump(X @ t["W_enc"] + t["b_enc"], t["threshold"])
    same(sae, z, z @ t["W_dec"] + t["b_dec"])
    about(sae, activation="jumprelu", hook=hook, model=model, l0=71.0, prepend_bos=True, d_out=None, k=None)


def test_a_gemma_scope_1_transcoder_reads_the_residual_over_its_root_mean_square(tmp_path):
    repo = published.gemma_scope_1("transcoders")
    sae, t = load(repo, tmp_path), repo.tensors
    z = jump(rms(X) @ t["W_enc"] + t["b_enc"], t["threshold"])
    same(sae, z, z @ t["W_dec"] + t["b_dec"])
    about(sae, hook="blocks.3.hook_resid_mid", input_norm="rms", d_out=D_IN, l0=71.0)


def test_a_gemma_scope_1_embedding_sae_was_trained_on_rows_that_the_model_has_scaled_since(tmp_path):
    repo = published.gemma_scope_1(folder="embedding/width_4k/average_l0_6")
    sae, t = load(repo, tmp_path), repo.tensors
    z = jump(X / math.sqrt(D_IN) @ t["W_enc"] + t["b_enc"], t["threshold"])
    same(sae, z, (z @ t["W_dec"] + t["b_dec"]) * math.sqrt(D_IN))
    about(sae, hook="hook_embed", l0=6.0, model="google/gemma-2-2b")


IN, OUT = "pre_feedforward_layernorm.output", "post_feedforward_layernorm.output"


@pytest.mark.parametrize(
    ("folder", "config", "hook", "side", "d_out", "l0"),
    [
        ("resid_post/layer_3_width_16k_l0_small", None, "model.layers.3", "output", None, None),
        (
            "resid_post/layer_3_width_16k_l0_small",
            {"hf_hook_point_in": "model.layers.3.output", "model_name": "gemma-v3-1b-pt", "l0": 20},
            "model.layers.3",
            "output",
            None,
            20,
        ),
        ("attn_out/layer_3_width_16k_l0_big", None, "model.layers.3.self_attn.o_proj", "input", None, None),
        (
            "attn_out_all/layer_3_width_16k_l0_big",
            {"hf_hook_point_in": "model.layers.3.self_attn.o_proj.input", "l0": 100},
            "model.layers.3.self_attn.o_proj",
            "input",
            None,
            100,
        ),
        ("mlp_out/layer_3_width_16k_l0_big", None, "model.layers.3.post_feedforward_layernorm", "output", None, None),
        (
            "transcoder/layer_3_width_16k_l0_big",
            None,
            "model.layers.3.pre_feedforward_layernorm",
            "output",
            D_IN,
            None,
        ),
        (
            "transcoder_all/layer_3_width_16k_l0_big_affine",
            {"hf_hook_point_in": f"model.layers.3.{IN}", "hf_hook_point_out": f"model.layers.3.{OUT}", "l0": 9},
            "model.layers.3.pre_feedforward_layernorm",
            "output",
            D_IN,
            9,
        ),
    ],
)
def test_gemma_scope_2(tmp_path, folder, config, hook, side, d_out, l0):
    repo = published.gemma_scope_2(folder, config=config, affine=folder.endswith("affine"))
    sae, t = load(repo, tmp_path), repo.tensors
    z = jump(X @ t["w_enc"] + t["b_enc"], t["threshold"])
    skip = X @ t["affine_skip_connection"] if folder.endswith("affine") else 0.0
    same(sae, z, z @ t["w_dec"] + t["b_dec"] + skip)
    about(sae, activation="jumprelu", hook=hook, side=side, d_out=d_out, l0=l0, prepend_bos=True)
    assert (sae.config.model, sae.config.skip) == ("google/gemma-3-1b-pt", folder.endswith("affine"))


@pytest.mark.parametrize(
    ("size", "model"),
    [("270m-pt", "google/gemma-3-270m"), ("270m-it", "google/gemma-3-270m-it"), ("27b-it", "google/gemma-3-27b-it")],
)
def test_gemma_scope_2_models(tmp_path, size, model):
    assert load(published.gemma_scope_2(size=size), tmp_path).config.model == model


def test_a_gemma_scope_2_folder_of_another_name_has_its_model_from_the_config(tmp_path):
    repo = published.gemma_scope_2(size="1b-pt", config={"model_name": "gemma-v3-4b-it", "l0": 3})
    assert load_sae(published.written(tmp_path / "copy", repo.files)).config.model == "google/gemma-3-4b-it"


@pytest.mark.parametrize("folder", ["crosscoder/layer_7_13_width_65k_l0_medium", "clt/width_262k_l0_big/layer_3"])
def test_gemma_scope_2_encoders_of_several_layers_are_refused(tmp_path, folder):
    with pytest.raises(ValueError, match="several layers"):
        load(published.gemma_scope_2(folder), tmp_path)


# OpenMOSS

TRANSCODER = {"hook_in": MLP_IN, "hook_out": MLP_OUT}


@pytest.mark.parametrize("flag", [True, False], ids=["with norm", "without"])
@pytest.mark.parametrize("pre_bias", [False, True])
@pytest.mark.parametrize("act_fn", ["jumprelu", "topk"])
@pytest.mark.parametrize("transcoder", [False, True])
def test_llama_scope(tmp_path, flag, pre_bias, act_fn, transcoder):
    norms = {"in": 5.0, "out": 1.7 if transcoder else 5.0}
    repo = published.llama_scope(
        **(TRANSCODER if transcoder else {}),
        dataset_average_activation_norm=norms,
        sparsity_include_decoder_norm=flag,
        apply_decoder_bias_to_pre_encoder=pre_bias,
        act_fn=act_fn,
    )
    sae, t = load(repo, tmp_path), repo.tensors
    # standardize_parameters_of_dataset_norm
    factor_in, factor_out = math.sqrt(D_IN) / norms["in"], math.sqrt(D_IN) / norms["out"]
    W, b = t["encoder.weight"], t["encoder.bias"] / factor_in
    W_dec, b_dec = t["decoder.weight"] * factor_in / factor_out, t["decoder.bias"] / factor_out
    if flag:  # transform_to_unit_decoder_norm
        norm = W_dec.norm(dim=0)
        W, b, W_dec = W * norm[:, None], b * norm, W_dec / norm
    x = rms(X) if transcoder else X
    pre = (x - b_dec if pre_bias else x) @ W.T + b
    z = jump(pre, 0.4) if act_fn == "jumprelu" else top(pre)
    same(sae, z, z @ W_dec.T + b_dec)
    about(
        sae,
        hook="blocks.3.hook_resid_mid" if transcoder else HOOK,
        input_norm="rms" if transcoder else "none",
        d_out=D_IN if transcoder else None,
        k=K if act_fn == "topk" else None,
        model="meta-llama/Llama-3.1-8B",
        prepend_bos=True,
    )


def test_llama_scope_is_read_without_the_decoders_norms_if_asked(tmp_path):
    flagged = load(published.llama_scope(), tmp_path / "a", config={"sparsity_include_decoder_norm": False})
    unflagged = load(published.llama_scope(sparsity_include_decoder_norm=False), tmp_path / "b")
    assert torch.equal(flagged.encode(X), unflagged.encode(X))


@pytest.mark.parametrize("flag", [True, False], ids=["with norm", "without"])
def test_llama_scope_r1(tmp_path, flag):
    repo = published.llama_scope_r1(sparsity_include_decoder_norm=flag)
    sae, t = load(repo, tmp_path), repo.tensors
    scale = math.sqrt(D_IN) / 5
    pre = scale * X @ t["encoder.weight"].T + t["encoder.bias"]
    norm = t["decoder.weight"].norm(dim=0) if flag else 1.0
    z = jump(pre * norm, t["log_jumprelu_threshold"].exp()) / norm
    same(sae, z, (z @ t["decoder.weight"].T + t["decoder.bias"]) / scale)
    about(sae, hook=HOOK, model="deepseek-ai/DeepSeek-R1-Distill-Llama-8B", d_out=None, activation="jumprelu")


@pytest.mark.parametrize("flag", [True, False], ids=["with norm", "without"])
@pytest.mark.parametrize("act_fn", ["relu", "topk", "jumprelu"])
@pytest.mark.parametrize("norm", ["token-wise", "dataset-wise", "inference"])
@pytest.mark.parametrize("transcoder", [False, True])
def test_llamascopium(tmp_path, flag, act_fn, norm, transcoder):
    """Its `encode` after its `normalize_activations`; top-k latents fire stronger by the norm that was folded."""
    hooks = TRANSCODER | {"hook_in": "blocks.3.hook_resid_mid"} if transcoder else {}
    repo = published.llamascopium(
        **hooks,
        norms=(5.0, 1.7 if transcoder else 5.0),
        act_fn=act_fn,
        norm_activation=norm,
        sparsity_include_decoder_norm=flag,
    )
    sae, t = load(repo, tmp_path), repo.tensors
    scale = {"token-wise": math.sqrt(D_IN) / X.norm(dim=1, keepdim=True), "inference": torch.tensor(1.0)}
    scale["dataset-wise"] = torch.tensor(math.sqrt(D_IN) / 5)
    scale_out = torch.tensor(math.sqrt(D_IN) / 1.7) if transcoder and norm == "dataset-wise" else scale[norm]
    norms = t["W_D"].norm(dim=1) if flag else torch.ones(D_SAE)
    pre = (scale[norm] * X @ t["W_E"] + t["b_E"]) * norms
    if act_fn == "jumprelu":
        z = jump(pre, t["activation_function.log_jumprelu_threshold"].exp()) / norms
    else:
        z = (pre.relu() if act_fn == "relu" else top(pre)) / norms
    out = (z @ t["W_D"] + t["b_D"]) / scale_out
    if flag and act_fn == "topk":
        z = z * norms / (scale_out if norm == "dataset-wise" else 1)
    same(sae, z, out if norm != "token-wise" or not transcoder else sae(X))  # which scale it puts out no input says
    about(
        sae,
        activation=act_fn,
        k=K if act_fn == "topk" else None,
        hook="blocks.3.hook_resid_mid" if transcoder else HOOK,
        input_norm="rms" if norm == "token-wise" else "none",
        d_out=D_IN if transcoder else None,
        model="Qwen/Qwen3-1.7B",
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [({"sae_type": kind}, f"`sae_type='{kind}'`") for kind in ("clt", "lorsa", "crosscoder", "molt")]
    + [
        ({"use_glu_encoder": True}, "`use_glu_encoder=True`"),
        ({"act_fn": "batchtopk"}, "`act_fn='batchtopk'`"),
        ({"norm_activation": "batch-wise"}, "`norm_activation='batch-wise'`"),
        ({"d_model": 7}, "`d_model=7`"),
    ],
)
def test_llamascopium_that_is_refused(tmp_path, config, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        load(published.llamascopium(**config), tmp_path)


def test_llamascopium_without_the_norm_that_its_inputs_are_scaled_by_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dataset_average_activation_norm"):
        load(published.llamascopium(norms=(5.0, float("nan"))), tmp_path)


# Vendors


def test_qwen_scope(tmp_path):
    repo = published.qwen_scope()
    sae, t = load(repo, tmp_path), repo.tensors
    z = top(X @ t["W_enc"].T + t["b_enc"])
    same(sae, z, z @ t["W_dec"].T + t["b_dec"])
    about(sae, activation="topk", k=4, hook="blocks.3.hook_resid_post", model="Qwen/Qwen3-1.7B-Base")


def test_a_copy_of_qwen_scope_under_another_name_needs_k_and_model(tmp_path):
    folder = published.written(tmp_path / "copy", published.qwen_scope().files)
    with pytest.raises(ValueError, match="k, the latents per token"):
        load_sae(folder)
    sae = load_sae(folder, config={"k": 2, "model": "Qwen/Qwen3-1.7B-Base"})
    assert (sae.config.k, sae.config.model) == (2, "Qwen/Qwen3-1.7B-Base")


def test_goodfire(tmp_path):
    repo = published.goodfire()
    sae, t = load(repo, tmp_path), repo.tensors
    z = (X @ t["encoder_linear.weight"].T + t["encoder_linear.bias"]).relu()
    same(sae, z, z @ t["decoder_linear.weight"].T + t["decoder_linear.bias"])
    about(sae, hook="blocks.19.hook_resid_post", model="meta-llama/Llama-3.1-8B-Instruct", activation="relu")


@pytest.mark.parametrize(
    ("name", "model", "layer"),
    [
        ("DeepSeek-R1-Distill-Llama-8B-SAE-l19", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", 19),
        ("Llama-3.2-1B-Instruct-SAE-l9", "meta-llama/Llama-3.2-1B-Instruct", 9),
    ],
)
def test_qresearch(tmp_path, name, model, layer):
    repo = published.qresearch()
    t = repo.tensors
    sae = load_sae(published.written(tmp_path / name, {f"{name}.pt": published.pt(t)}))
    z = (X @ t["encoder.weight"].T + t["encoder.bias"]).relu()
    same(sae, z, z @ t["decoder.weight"].T + t["decoder.bias"])
    about(sae, hook=f"blocks.{layer}.hook_resid_post", model=model, activation="relu")


@pytest.mark.parametrize(
    ("place", "hook"),
    [
        ("resid_post_mlp", "blocks.3.hook_resid_post"),
        ("resid_post_attn", "blocks.3.hook_resid_mid"),
        ("resid_delta_attn", "blocks.3.hook_attn_out"),
        ("resid_delta_mlp", "blocks.3.hook_mlp_out"),
        ("mlp_post_act", "blocks.3.mlp.hook_post"),
    ],
)
@pytest.mark.parametrize("k", [K, None])
def test_openai(tmp_path, place, hook, k):
    """Its `Autoencoder.from_state_dict`: inputs are normalised if, and only if, the activation is TopK."""
    repo = published.openai(place, k)
    sae, t = load(repo, tmp_path), repo.tensors
    mean, std = (X.mean(dim=1, keepdim=True), X.std(dim=1, keepdim=True)) if k else (0.0, 1.0)
    x = (X - mean) / (std + 1e-5) if k else X
    pre = (x - t["pre_bias"]) @ t["encoder.weight"].T + t["latent_bias"]
    z = top(pre) if k else pre.relu()
    same(sae, z, (z @ t["decoder.weight"].T + t["pre_bias"]) * std + mean)
    norm = "layer_norm" if k else "none"
    about(sae, hook=hook, k=k, input_norm=norm, model="openai-community/gpt2", context_size=64)
    assert sae.config.prepend_bos is False


def openai_file(**changes):
    content = torch.load(io.BytesIO(next(iter(published.openai().files.values()))), weights_only=True)
    content |= changes
    return {"resid_post_mlp/autoencoders/3.pt": published.pt({n: v for n, v in content.items() if v is not None})}


def test_openai_with_a_tied_decoder(tmp_path):
    t = published.openai().tensors
    files = openai_file(**{"decoder.weight": None, "decoder.linear.weight": t["encoder.weight"]})
    sae = load_sae(published.written(tmp_path, files))
    assert torch.equal(sae.W_dec, t["encoder.weight"])


@pytest.mark.parametrize(
    "changes",
    [{"activation": "Identity"}, {"activation": 5}, {"activation_state_dict": {"k": K, "postact_fn": "Identity"}}],
    ids=str,
)
def test_openai_with_other_activations_is_refused(tmp_path, changes):
    published.refused(published.written(tmp_path, openai_file(**changes)), "activation", "3.pt")


@pytest.mark.parametrize(("folder", "k"), [("math", 128), ("logic", 64)])
def test_goodfire_r1(tmp_path, folder, k):
    """Its `encode` of one token: batch top-k of a batch of one."""
    repo = published.goodfire_r1(folder, k)
    sae, t = load(repo, tmp_path), repo.tensors
    f = (X @ t["W"] + t["b_enc"]).relu()
    z = torch.stack([torch.zeros_like(row).scatter(0, row.topk(k).indices, row.topk(k).values) for row in f])
    close(sae.encode(X), z)
    close(sae(X), z @ t["W"].T + t["b_dec"])
    assert (sae.config.model, sae.config.hook) == ("deepseek-ai/DeepSeek-R1", "blocks.37.hook_resid_post")


def test_goodfire_r1_in_another_folder_needs_k(tmp_path):
    repo = published.goodfire_r1("elsewhere", 4)
    published.refused(repo.at(tmp_path), "config={'k': 8}")
    assert load(repo, tmp_path, config={"k": 4}).config.k == 4


@pytest.mark.parametrize("k", [K, None])
def test_fac_synthesis(tmp_path, k):
    """Its `TopKSAE` and `SparseAutoencoder`: `load_pretrained` counts layers from 1."""
    repo = published.fac_synthesis(k)
    sae, t = load(repo, tmp_path), repo.tensors
    pre = (X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    z = top(pre) if k else pre.relu()
    same(sae, z, z @ t["W_enc"].T + t["b_dec"])
    about(sae, hook="blocks.15.hook_resid_post", k=k, model="meta-llama/Llama-3.1-8B-Instruct")


@pytest.mark.parametrize("batch_topk", [False, True])
def test_hypothesaes(tmp_path, batch_topk):
    """Its `forward` in evaluation."""
    repo = published.hypothesaes(batch_topk)
    config = {"model": "owner/name", "hook": "layers.12"}
    published.refused(repo.at(tmp_path), "embeddings of whole texts", f"`config={config!r}`")
    sae, t = load(repo, tmp_path, config=config), repo.tensors
    pre = (X - t["input_bias"]) @ t["encoder.weight"].T + t["neuron_bias"]
    z = jump(pre, 0.3) if batch_topk else top(pre)
    same(sae, z, z @ t["decoder.weight"].T + t["input_bias"])
    about(sae, hook="layers.12", k=None if batch_topk else K)


def test_latent_sae_needs_model_and_hook(tmp_path):
    cfg = {"sae_type": "topk", "expansion_factor": 0, "signed": None}
    repo = published.sparsify("64_32", cfg=cfg)
    files = {path: content for path, content in repo.files.items() if path != "config.json"}
    folder = published.written(tmp_path / "sae-nomic", files)
    config = {"model": "owner/name", "hook": "layers.12"}
    published.refused(folder, f"`config={config!r}`")
    assert load_sae(folder, config=config).config.k == K
    repo = published.sparsify(cfg={"sae_type": "gated"})
    published.refused(repo.at(tmp_path), "`sae_type='gated'`")


def test_sparsify_without_its_config_needs_what_the_config_says(tmp_path):
    repo = published.sparsify()
    folder = published.written(tmp_path / "r", {"layers.3/sae.safetensors": repo.files["layers.3/sae.safetensors"]})
    config = {"k": 8, "model": "owner/name"}
    published.refused(folder, f"`config={config!r}`")
    sae = load_sae(folder, config=config | {"k": K})
    assert torch.equal(sae.encode(X), load(repo, tmp_path).encode(X))


def test_one_layer_of_a_cross_layer_transcoder_reads_that_layer(tmp_path):
    repo = published.mntss()
    published.refused(repo.at(tmp_path), "decoder writes to several layers", "`encoder_only=True`")
    sae, t = load(repo, tmp_path, encoder_only=True), repo.tensors
    close(sae.encode(X), (X @ t["W_enc_3"].T + t["b_enc_3"]).relu())
    about(sae, hook="blocks.3.hook_resid_mid", model="google/gemma-2-2b", activation="relu")
    mlp = {"config.yaml": b"model_name: meta-llama/Llama-3.2-1B\nfeature_input_hook: mlp.hook_in\n"}
    sae = load_sae(published.changed(repo, tmp_path, mlp), encoder_only=True)
    about(sae, hook="layers.3.mlp", side="input", model="meta-llama/Llama-3.2-1B")


@pytest.mark.parametrize(
    "hooks", ["model.layers.3.pre_feedforward_layernorm.output", ["a", "b", "c", "model.layers.3"]]
)
def test_one_layer_of_a_gemma_scope_2_cross_layer_transcoder(tmp_path, hooks):
    repo = published.gemma_scope_2_clt({"hf_hook_point_in": hooks})
    sae, t = load(repo, tmp_path, encoder_only=True), repo.tensors
    close(sae.encode(X), jump(X @ t["w_enc"] + t["b_enc"], t["threshold"]))
    hook = "model.layers.3" + (".pre_feedforward_layernorm" if isinstance(hooks, str) else "")
    about(sae, hook=hook, model="google/gemma-3-1b-pt")
    published.refused(published.gemma_scope_2_clt().at(tmp_path / "bare"), "config={'hook': 'layers.12'}")


@pytest.mark.parametrize("metadata", [False, True], ids=["config.json", "metadata"])
@pytest.mark.parametrize(
    "config",
    [
        {},
        {"apply_b_dec_to_input": True},
        {"activation": "topk", "k": K},
        {"activation": "TopK", "k": None, "top_k": K},
        {"normalize_activations": "layer_norm"},
    ],
    ids=str,
)
def test_an_sae_of_an_unknown_publisher_whose_files_say_everything(tmp_path, config, metadata):
    repo = published.other(config, metadata)
    sae, t = load(repo, tmp_path), repo.tensors
    x = (X - X.mean(1, keepdim=True)) / (X.std(1, keepdim=True) + 1e-5) if "normalize_activations" in config else X
    pre = (x - (t["decoder.bias"] if "apply_b_dec_to_input" in config else 0.0)) @ t["encoder.weight"].T
    pre = pre + t["encoder.bias"]
    close(sae.encode(X), top(pre) if "k" in config else pre.relu())
    norm = config.get("normalize_activations", "none")
    about(sae, hook="layers.3", model="alice/model", input_norm=norm)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_orientation_of_an_encoder_is_read_from_its_biases(tmp_path, transposed):
    t = published.plain()
    stored = {n: w.T.contiguous() if transposed and n.startswith("W") else w for n, w in t.items()}
    sae = load(published.other(tensors=stored), tmp_path)
    assert torch.equal(sae.W_enc, t["W_enc"]) and torch.equal(sae.W_dec, t["W_dec"])


@pytest.mark.parametrize(
    "files",
    [
        {"x.safetensors": published.save(published.linear())},
        {"a/b/x.pt": published.pt({"state_dict": published.plain()})},
        {"x.npz": published.npz(published.plain())},
    ],
    ids=lambda files: next(iter(files)),
)
def test_the_error_for_bare_tensors_says_what_to_pass_and_this_loads(tmp_path, files):
    folder = published.written(tmp_path / "r", files)
    message = published.refused(folder, "`activation`", "`apply_b_dec_to_input`", "`input_norm`")
    config = ast.literal_eval(message.partition("`config=")[2].rstrip("`"))
    sae = load_sae(folder, config=config)
    assert {name: getattr(sae.config, name) for name in ("model", "hook")} == {
        "model": "owner/name",
        "hook": "layers.12",
    }


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"activation": "gelu"}, "`activation='gelu'`"),
        ({"activation": ["relu"]}, "`activation=['relu']`"),
        ({"activation": "jumprelu"}, "`threshold` is missing"),
        ({"activation": "topk", "k": "4"}, "`k='4'`"),
        ({"apply_b_dec_to_input": "false"}, "`apply_b_dec_to_input='false'`"),
        ({"normalize_activations": "batch"}, "`input_norm='batch'`"),
        ({"model_name": 5}, "`model=5`"),
        ({"d_sae": 3}, "`d_sae=3`"),
    ],
    ids=str,
)
def test_impossible_configs_of_unknown_publishers(tmp_path, config, word):
    published.refused(published.other(config).at(tmp_path), word)


def test_a_square_encoder_of_unknown_orientation_is_refused(tmp_path):
    square = published.draw(W_enc=(D_IN, D_IN), W_dec=(D_IN, D_IN), b_enc=(D_IN,), b_dec=(D_IN,))
    published.refused(published.other({"d_sae": D_IN}, tensors=square).at(tmp_path), "does not tell d_in from d_sae")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
@pytest.mark.parametrize("name", ["saelens", "sparsify", "dictionary_learning", "goodfire", "other"])
def test_prefixes_of_wrapped_modules_are_left_out(tmp_path, name, prefix):
    repo = published.REPOS[name]
    tensors = {prefix + key: tensor for key, tensor in repo.tensors.items()}
    sae = load_sae(published.changed(repo, tmp_path, repo.with_tensors(tensors)))
    close(sae.encode(X), load_sae(repo.at(tmp_path / "plain")).encode(X))


def test_a_compiled_part_of_a_module_is_read(tmp_path):
    repo = published.REPOS["goodfire"]
    tensors = {key.replace(".", "._orig_mod."): tensor for key, tensor in repo.tensors.items()}
    sae = load_sae(published.changed(repo, tmp_path, repo.with_tensors(tensors)))
    close(sae.encode(X), load_sae(repo.at(tmp_path / "plain")).encode(X))


@pytest.mark.parametrize(("d_out", "skip"), [(D_IN, False), (9, False), (9, True), (3, True)])
@pytest.mark.parametrize("jumprelu", [False, True])
def test_saelens_transcoders_of_any_output_width(tmp_path, d_out, skip, jumprelu):
    tensors = published.draw(W_enc=(D_IN, D_SAE), W_dec=(D_SAE, d_out), b_enc=(D_SAE,), b_dec=(d_out,))
    tensors |= published.draw(W_skip=(d_out, D_IN)) if skip else {}
    tensors |= {"threshold": torch.full((D_SAE,), 0.2)} if jumprelu else {}
    architecture = "jumprelu_" * jumprelu + "skip_" * skip + "transcoder"
    repo = published.saelens(cfg={"architecture": architecture, "d_out": d_out}, tensors=tensors)
    sae, t = load(repo, tmp_path), tensors
    pre = X @ t["W_enc"] + t["b_enc"]
    z = jump(pre, 0.2) if jumprelu else pre.relu()
    same(sae, z, z @ t["W_dec"] + t["b_dec"] + (X @ t["W_skip"].T if skip else 0.0))
    about(sae, d_out=d_out, skip=skip)
    wrong = published.saelens(cfg={"architecture": architecture, "d_out": d_out + 1}, tensors=tensors)
    published.refused(wrong.at(tmp_path / "wrong"), f"`d_out={d_out + 1}`")


def test_connor_rob(tmp_path):
    repo = published.connor_rob()
    sae, t = load(repo, tmp_path), repo.tensors
    z = ((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    same(sae, z, z @ t["W_dec"] + t["b_dec"])
    about(sae, hook="blocks.3.attn.hook_z", model="openai-community/gpt2", prepend_bos=True)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("config", [True, False])
def test_mwhanna(tmp_path, skip, config):
    repo = published.mwhanna(skip, config)
    sae, t = load(repo, tmp_path), repo.tensors
    z = (X @ t["W_enc"].T + t["b_enc"]).relu()
    same(sae, z, z @ t["W_dec"] + t["b_dec"] + (X @ t["W_skip"].T if skip else 0.0))
    about(sae, hook="layers.3.mlp", side="input", d_out=D_IN, skip=skip, model="Qwen/Qwen3-4B")


# SAELens beyond what it records: what its registry says of some releases, and files of before version 6


TM = "tommmcgrath/gpt2-small-mlp-out-saes"


@pytest.mark.parametrize(
    ("id", "folder", "centred", "factor"),
    [
        ("jbloom/GPT2-Small-SAEs-Reformatted", "blocks.3.hook_resid_pre", True, 1.0),
        (TM, "sae_group_gpt2_blocks.1.hook_mlp_out_24576:v0", True, 2.3693984005104283),
        (TM, "sae_group_gpt2_blocks.11.hook_mlp_out_24576:v0", True, 0.2851548652550073),
        ("jbloom/Gemma-2b-Residual-Stream-SAEs", "gemma_2b_blocks.12.hook_resid_post_16384", False, 0.21381938399317),
    ],
)
def test_saelens_releases_whose_repos_lack_settings(hub, id, folder, centred, factor):
    norm = "none" if factor == 1 else "expected_average_only_in"
    repo = published.saelens(id, folder, {"normalize_activations": norm})
    hub.push(id, repo.files)
    sae, t = load_sae(id), repo.tensors
    x = X - X.mean(dim=1, keepdim=True) if centred else X
    z = ((factor * x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    same(sae, z, (z @ t["W_dec"] + t["b_dec"]) / factor)


def test_the_mistral_release_scales_each_vector(hub):
    repo = published.saelens("JoshEngels/Mistral-7B-Residual-Stream-SAEs", "mistral_7b_layer_8")
    hub.push(repo.id, repo.files)
    sae, t = load_sae(repo.id), repo.tensors
    z = ((rms(X) - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    same(sae, z, (z @ t["W_dec"] + t["b_dec"]) * X.norm(dim=1, keepdim=True) / math.sqrt(D_IN))


def test_an_input_scale_that_is_given_is_folded_and_one_that_is_missing_is_warned_of(tmp_path):
    repo = published.saelens(cfg={"normalize_activations": "expected_average_only_in"})
    sae, t = load(repo, tmp_path, config={"norm_scaling_factor": 0.5}), repo.tensors
    z = ((X / 2 - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    same(sae, z, (z @ t["W_dec"] + t["b_dec"]) * 2)
    with pytest.warns(UserWarning, match="norm_scaling_factor"):
        unscaled = load(repo, tmp_path)
    close(unscaled.encode(X), ((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu())


@pytest.mark.parametrize("norm", ["none", "layer_norm"])
def test_centred_models_that_the_config_names(tmp_path, norm):
    metadata = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    repo = published.saelens(cfg={"normalize_activations": norm}, metadata=metadata)
    sae, t = load(repo, tmp_path), repo.tensors
    x = X - X.mean(dim=1, keepdim=True)
    x = {"none": x, "layer_norm": x / (x.std(dim=1, keepdim=True) + 1e-5)}[norm]
    close(sae.encode(X), ((x - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu())


def test_centring_and_then_scaling_each_vector_is_refused(tmp_path):
    metadata = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
    repo = published.saelens(cfg={"normalize_activations": "constant_norm_rescale"}, metadata=metadata)
    with pytest.raises(ValueError, match="`center_writing_weights` together with `constant_norm_rescale`"):
        load(repo, tmp_path)


def test_abstopk_keeps_signs(tmp_path):
    repo = published.saelens(cfg={"architecture": "abstopk", "k": K, "apply_b_dec_to_input": False})
    sae, t = load(repo, tmp_path), repo.tensors
    pre = X @ t["W_enc"] + t["b_enc"]
    z = top(pre.abs()) * pre.sign()
    same(sae, z, z @ t["W_dec"] + t["b_dec"])
    assert (z < 0).any()
    about(sae, activation="abstopk", k=K)


@pytest.mark.parametrize(
    ("cfg", "activation", "k"),
    [
        ({"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}}, "topk", 3),
        ({"activation_fn": "topk", "activation_fn_kwargs": {"k": 3}, "architecture": "standard"}, "topk", 3),
        ({"architecture": "topk", "activation_fn_kwargs": {"k": 3}}, "topk", 3),
        ({"activation_fn_str": "relu", "activation_fn_kwargs": {}}, "relu", None),
        ({}, "relu", None),
    ],
)
def test_saelens_of_before_version_6(tmp_path, cfg, activation, k):
    old = {"model_name": "pythia-70m-deduped", "hook_point": HOOK, "hook_point_layer": 3, "d_in": D_IN, "d_sae": D_SAE}
    repo = published.saelens()
    files = {
        "cfg.json": published.js(**old | cfg),
        "sae_weights.safetensors": repo.files["blocks.3/sae_weights.safetensors"],
    }
    sae, t = load_sae(published.written(tmp_path, files)), repo.tensors
    pre = (X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]
    close(sae.encode(X), top(pre, 3) if k else pre.relu())
    about(sae, activation=activation, k=k, hook=HOOK, model="EleutherAI/pythia-70m-deduped")


def test_a_decoder_that_was_fine_tuned_to_write_larger(tmp_path):
    tensors = published.plain() | {"scaling_factor": torch.linspace(0.5, 2, D_SAE)}
    sae, t = load(published.saelens(tensors=tensors), tmp_path), tensors
    z = ((X - t["b_dec"]) @ t["W_enc"] + t["b_enc"]).relu()
    same(sae, z, (z * t["scaling_factor"]) @ t["W_dec"] + t["b_dec"])


def test_a_saelens_hook_by_hugging_faces_name(tmp_path):
    metadata = {"hf_hook_name": "model.layers.12.output", "model_name": "gemma-2-2b", "l0": 40.5}
    about(
        load(published.saelens(metadata=metadata), tmp_path),
        hook="model.layers.12",
        model="google/gemma-2-2b",
        l0=40.5,
        context_size=128,
        prepend_bos=True,
    )


OWN = {"side": "input", "prepend_bos": False, "context_size": 128, "skip_first": True, "max_norm_ratio": 10.0}
OWN |= {"feature_threshold": 0.5, "l0": 3.0, "model_revision": "main"}


@pytest.mark.parametrize("metadata", [False, True])
def test_other_configs_say_how_the_model_is_read(tmp_path, metadata):
    about(load(published.other(OWN, metadata), tmp_path), **OWN)
    about(load(published.other(OWN, metadata), tmp_path, config={"side": "output"}), **OWN | {"side": "output"})


@pytest.mark.parametrize(
    ("key", "value", "neutral"),
    [
        ("norm_scaling_factor", 3.0, 1.0),
        ("rescale_acts_by_decoder_norm", True, False),
        ("sparsity_include_decoder_norm", True, False),
        ("finetuning_scaling_factor", True, False),
        ("reshape_activations", "hook_z", "none"),
        ("hook_head_index", 2, None),
        ("signed", True, False),
        ("skip_connection", True, False),
        ("hook_out", "layers.4", "layers.3"),
        ("d_out", D_IN + 1, D_IN),
    ],
)
def test_what_other_configs_ask_for_and_is_not_computed_is_refused(tmp_path, key, value, neutral):
    published.refused(published.other({key: value}).at(tmp_path), f"`{key}={value}`", f"config={{{key!r}: ")
    assert load(published.other({key: neutral}), tmp_path).config.hook == "layers.3"
    assert load(published.other({key: value}), tmp_path, config={key: neutral}).config.hook == "layers.3"


def test_a_scale_among_the_tensors_is_refused(tmp_path):
    tensors = published.linear() | {"norm_scaling_factor": torch.tensor(3.0)}
    published.refused(published.other(tensors=tensors).at(tmp_path), "norm_scaling_factor")


def test_sections_of_a_model_or_an_optimizer_are_not_the_sae_s(tmp_path):
    nested = {"activation": "topk", "k": 2, "hook": "layers.9", "side": "input", "d_in": 99}
    others = {"model_config": nested, "optimizer": nested, "text_config": nested}
    about(load(published.other(others), tmp_path), activation="relu", k=None, hook="layers.3", side="output")
    published.refused(published.other(others | {"activation": None}).at(tmp_path), "lack `activation`")


def test_a_hook_that_contradicts_its_side_is_refused(tmp_path):
    repo = published.other({"hook": "layers.3.mlp.input", "side": "output"})
    published.refused(repo.at(tmp_path), "layers.3.mlp.input", "contradicts")


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        *(({"activation": name}, {"activation": "relu"}) for name in ("batchtopk", "gated", ["relu"], "x" * 999)),
        ({"normalize_activations": "expected_average_only_in"}, {"input_norm": "none"}),
        ({"normalize_activations": True}, {"input_norm": "none"}),
    ],
    ids=str,
)
def test_the_advice_for_unknown_values_works(tmp_path, changes, config):
    published.refused(published.other(changes).at(tmp_path), f"config={config!r}")
    assert load(published.other(changes), tmp_path, config=config).config.activation == "relu"


@pytest.mark.parametrize("file", ["model.safetensors", "sae.safetensors", "a/sae.safetensors"])
def test_a_file_of_a_publisher_s_name_with_complete_metadata_is_read(tmp_path, file):
    tensors = published.plain()
    sae = load(published.other(metadata=True, file=file, tensors=tensors), tmp_path)
    assert torch.equal(sae.W_enc, tensors["W_enc"])


def test_an_openai_file_of_any_name_asks_for_its_hook_alone(tmp_path):
    (content,) = published.openai().files.values()
    folder = published.written(tmp_path, {"thing.pt": content})
    published.refused(folder, "config={'hook': 'layers.12'}")
    sae = load_sae(folder, config={"hook": "layers.12"})
    about(sae, activation="topk", k=K, hook="layers.12", input_norm="layer_norm", model="openai-community/gpt2")


# sparsify and dictionary_learning, what is not recorded


def test_old_sparsify_files_with_signed_latents(tmp_path):
    repo = published.sparsify(cfg={"signed": True})
    sae, t = load(repo, tmp_path), repo.tensors
    pre = (X - t["b_dec"]) @ t["encoder.weight"].T + t["encoder.bias"]
    z = top(pre.abs()) * pre.sign()
    same(sae, z, z @ t["W_dec"] + t["b_dec"])


@pytest.mark.parametrize("folder", ["layers.3", "layers.3.mlp", "layers.3/seed0", "runs/a/layers.3"])
def test_a_sparsify_folder_says_which_module_is_read(tmp_path, folder):
    sae = load(published.sparsify(folder), tmp_path)
    hook = next(part for part in folder.split("/") if part.startswith("layers"))
    about(sae, hook=hook, k=K, model="EleutherAI/pythia-70m", context_size=64, prepend_bos=False)


@pytest.mark.parametrize(
    ("trainer", "buffer", "hook"),
    [
        ({}, {}, "blocks.3.hook_resid_post"),
        ({"submodule_name": "mlp_layer_3"}, {}, "blocks.3.hook_mlp_out"),
        ({"submodule_name": "attention_out_layer_3"}, {}, "blocks.3.hook_attn_out"),
        ({"submodule_name": "resid_post_layer_3"}, {"ctx_len": 1024}, "blocks.3.hook_resid_post"),
    ],
)
def test_what_a_dictionary_learning_config_says(tmp_path, trainer, buffer, hook):
    options = {"remove_bos": True, "max_activation_norm_multiple": 10}
    sae = load(published.dictionary_learning(trainer, options | buffer), tmp_path)
    about(sae, hook=hook, model="Qwen/Qwen3-8B", l0=4.0, k=None, skip_first=True, max_norm_ratio=10)
    assert sae.config.context_size == buffer.get("ctx_len")


NO_PLACES = (
    "resid_pre attn_in resid_mid mlp_in mlp.act_fn pre_mlp_layernorm embed latt_resid resid_post_layer_4 9".split()
)


@pytest.mark.parametrize("submodule", [*NO_PLACES, "", ["mlp"], 9, "MLP"])
def test_a_module_of_unknown_name_is_asked_for(tmp_path, submodule):
    repo = published.dictionary_learning({"submodule_name": submodule})
    published.refused(repo.at(tmp_path), f"`submodule_name={str(submodule)!r}`", "config={'hook': 'layers.12'}")
    assert load(repo, tmp_path, config={"hook": "layers.3.mlp"}).config.hook == "layers.3.mlp"


@pytest.mark.parametrize("layer", [3, [3], "3"])
def test_one_layer_in_a_list_is_that_layer(tmp_path, layer):
    about(load(published.dictionary_learning({"layer": layer}), tmp_path), hook="blocks.3.hook_resid_post")


@pytest.mark.parametrize("layer", [[3, 4], [], [[3]], "x", 3.5, -1, True, {"a": 1}])
def test_layers_that_are_no_layer_are_refused(tmp_path, layer):
    repo = published.dictionary_learning({"layer": layer})
    published.refused(repo.at(tmp_path), f"`layer={layer!r}`", "config={'layer': ...}")
    assert load(repo, tmp_path, config={"layer": 3}).config.hook == "blocks.3.hook_resid_post"
