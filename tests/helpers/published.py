"""Tiny SAEs in the format of every publisher: files and tensors, without any interpretation."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from hf_sae_select import load_sae

D_IN, D_SAE, K = 6, 16, 4
HOOK, MLP_IN, MLP_OUT = "blocks.3.hook_resid_post", "blocks.3.ln2.hook_normalized", "blocks.3.hook_mlp_out"


@dataclass(frozen=True)
class Published:
    """A repo with one SAE: its Hub id, path -> content, and the tensors by the publisher's names."""

    id: str
    files: dict[str, bytes]
    tensors: dict[str, torch.Tensor] = field(repr=False)

    def at(self, folder):
        """Write the repo below `folder`, in a folder of the repo's name, and return that."""
        return written(folder / self.id.rpartition("/")[2], self.files)

    def with_tensors(self, tensors):
        """Return path -> content of the weights file with other tensors; its other values stay."""
        path = next(path for path in self.files if not path.endswith((".json", ".yaml")))
        match path.rpartition(".")[2]:
            case "npz":
                return {path: npz(tensors)}
            case "safetensors":
                return {path: save(tensors)}
        content = torch.load(io.BytesIO(self.files[path]), weights_only=True)
        if inner := {"state_dict", "weight"} & content.keys():
            return {path: pt(content | {inner.pop(): tensors})}
        return {path: pt({name: value for name, value in content.items() if name not in self.tensors} | tensors)}


def written(folder, files):
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return Path(folder)


def inputs(rows=24, width=D_IN):
    """Rows from small to large, off centre."""
    generator = torch.Generator().manual_seed(7)
    return torch.linspace(0.3, 3, rows)[:, None] * (torch.randn(rows, width, generator=generator) + 0.3)


def draw(**shapes):
    """Draw tensors with which some latents fire and some do not, and every bias, threshold and norm matters."""
    generator = torch.Generator().manual_seed(len(shapes))
    tensors = {name: torch.randn(shape, generator=generator) / 2 for name, shape in shapes.items()}
    for name in tensors:
        if name == "threshold":
            tensors[name] = tensors[name].abs()
    return tensors


def npz(tensors):
    file = io.BytesIO()
    np.savez(file, **{name: tensor.numpy() for name, tensor in tensors.items()})
    return file.getvalue()


def pt(value):
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def js(**values):
    return json.dumps(values).encode()


def plain(**more):
    """Tensors by SAELens's names and in its orientation."""
    return draw(W_enc=(D_IN, D_SAE), W_dec=(D_SAE, D_IN), b_enc=(D_SAE,), b_dec=(D_IN,), **more)


def linear(encoder="encoder", decoder="decoder", **more):
    """Tensors of two `nn.Linear`."""
    tensors = {f"{encoder}.weight": (D_SAE, D_IN), f"{encoder}.bias": (D_SAE,)}
    return draw(**tensors, **{f"{decoder}.weight": (D_IN, D_SAE), f"{decoder}.bias": (D_IN,)}, **more)


def saelens(id="alice/saes", folder="blocks.3", cfg=(), tensors=None, metadata=()):
    tensors = plain() if tensors is None else tensors
    about = {"model_name": "gpt2-small", "hook_name": HOOK, "context_size": 128, "prepend_bos": True}
    values = {"architecture": "standard", "d_in": D_IN, "d_sae": D_SAE, "normalize_activations": "none"}
    values |= {"apply_b_dec_to_input": True, "metadata": about | dict(metadata)} | dict(cfg)
    return Published(
        id, {f"{folder}/cfg.json": js(**values), f"{folder}/sae_weights.safetensors": save(tensors)}, tensors
    )


def sparsify(folder="layers.3", cfg=(), top=(), tensors=None):
    tensors = tensors or draw(
        **{"encoder.weight": (D_SAE, D_IN), "encoder.bias": (D_SAE,)}, W_dec=(D_SAE, D_IN), b_dec=(D_IN,)
    )
    values = {"activation": "topk", "num_latents": D_SAE, "k": K, "d_in": D_IN, "transcode": False} | dict(cfg)
    files = {
        "config.json": js(**{"model": "EleutherAI/pythia-70m", "ctx_len": 64} | dict(top)),
        f"{folder}/cfg.json": js(**values),
        f"{folder}/sae.safetensors": save(tensors),
    }
    return Published("EleutherAI/sae-tiny", files, tensors)


def dictionary_learning(trainer=(), buffer=(), tensors=None):
    tensors = tensors or plain(threshold=(D_SAE,))
    values = {"dict_class": "JumpReluAutoEncoder", "activation_dim": D_IN, "dict_size": D_SAE, "layer": 3}
    config = js(trainer=values | {"lm_name": "Qwen/Qwen3-8B", "k": K} | dict(trainer), buffer=dict(buffer))
    folder = "resid_post_layer_3/trainer_0"
    return Published("andy/saes", {f"{folder}/config.json": config, f"{folder}/ae.pt": pt(tensors)}, tensors)


def gemma_scope_1(kind="res", size="2b-pt", folder="layer_3/width_16k/average_l0_71", lower=False):
    tensors = plain(threshold=(D_SAE,))
    named = {name.lower() if lower else name: tensor for name, tensor in tensors.items()}
    return Published(f"google/gemma-scope-{size}-{kind}", {f"{folder}/params.npz": npz(named)}, tensors)


def gemma_scope_2(folder="resid_post/layer_3_width_16k_l0_small", size="1b-pt", config=None, affine=False):
    tensors = draw(w_enc=(D_IN, D_SAE), w_dec=(D_SAE, D_IN), b_enc=(D_SAE,), b_dec=(D_IN,), threshold=(D_SAE,))
    if affine:
        tensors["affine_skip_connection"] = torch.randn(D_IN, D_IN, generator=torch.Generator().manual_seed(1))
    files = {f"{folder}/params.safetensors": save(tensors)}
    if config is not None:
        files[f"{folder}/config.json"] = js(**{"architecture": "jump_relu"} | config)
    return Published(f"google/gemma-scope-2-{size}", files, tensors)


def llama_scope(hook_out=HOOK, hook_in=HOOK, **config):
    tensors = linear()
    values = {"d_model": D_IN, "d_sae": D_SAE, "hook_point_in": hook_in, "hook_point_out": hook_out, "top_k": K}
    values |= {"act_fn": "jumprelu", "jump_relu_threshold": 0.4, "norm_activation": "dataset-wise"}
    values |= {"dataset_average_activation_norm": {"in": 5.0, "out": 5.0}, "use_decoder_bias": True}
    values |= {"apply_decoder_bias_to_pre_encoder": False, "sparsity_include_decoder_norm": True} | config
    folder = "Llama3_1-8B-Base-L3R-8x"
    files = {f"{folder}/hyperparams.json": js(**values), f"{folder}/checkpoints/final.safetensors": save(tensors)}
    return Published("fnlp/Llama3_1-8B-Base-LXR-8x", files, tensors)


def llama_scope_r1(**config):
    tensors = linear(log_jumprelu_threshold=(D_SAE,))
    tensors[f"dataset_average_activation_norm.{HOOK}"] = torch.tensor(5.0)
    values = {"sae_type": "sae", "d_model": D_IN, "hook_point_in": HOOK, "hook_point_out": HOOK, "act_fn": "jumprelu"}
    values |= {"norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True} | config
    folder = "800M-Slimpajama-0-OpenR1-Math-220k/L3R"
    files = {f"{folder}/config.json": js(**values), f"{folder}/sae_weights.safetensors": save(tensors)}
    return Published("fnlp/Llama-Scope-R1-Distill", files, tensors)


def llamascopium(hook_in=HOOK, hook_out=HOOK, norms=(5.0, 5.0), **config):
    tensors = draw(W_E=(D_IN, D_SAE), b_E=(D_SAE,), W_D=(D_SAE, D_IN), b_D=(D_IN,))
    if config.get("act_fn") == "jumprelu":
        tensors |= draw(**{"activation_function.log_jumprelu_threshold": (D_SAE,)})
    for hook, norm in ((hook_in, norms[0]), (hook_out, norms[1])):
        tensors[f"dataset_average_activation_norm.{hook}"] = torch.tensor(norm)
    values = {"sae_type": "sae", "d_model": D_IN, "expansion_factor": D_SAE / D_IN, "act_fn": "relu", "top_k": K}
    values |= {"hook_point_in": hook_in, "hook_point_out": hook_out, "use_decoder_bias": True}
    values |= {"norm_activation": "dataset-wise", "sparsity_include_decoder_norm": True} | config
    folder = "sae/8x/layer3"
    files = {f"{folder}/config.json": js(**values), f"{folder}/sae_weights.safetensors": save(tensors)}
    return Published("OpenMOSS-Team/Llama-Scope-2-Qwen3-1.7B", files, tensors)


def qwen_scope():
    tensors = draw(W_enc=(D_SAE, D_IN), W_dec=(D_IN, D_SAE), b_enc=(D_SAE,), b_dec=(D_IN,))
    return Published("Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_4", {"layer3.sae.pt": pt(tensors)}, tensors)


def goodfire():
    tensors = linear("encoder_linear", "decoder_linear")
    name = "Llama-3.1-8B-Instruct-SAE-l19"
    return Published(f"Goodfire/{name}", {f"{name}.pth": pt(tensors)}, tensors)


def qresearch():
    tensors = linear()
    name = "DeepSeek-R1-Distill-Llama-8B-SAE-l19"
    return Published(f"qresearch/{name}", {f"{name}.pt": pt(tensors)}, tensors)


def openai(place="resid_post_mlp", k=K):
    tensors = draw(
        **{"encoder.weight": (D_SAE, D_IN), "decoder.weight": (D_IN, D_SAE)}, pre_bias=(D_IN,), latent_bias=(D_SAE,)
    )
    more = {"stats_last_nonzero": torch.zeros(D_SAE, dtype=torch.long), "activation": "ReLU"}
    more |= {"latents_activation_frequency": torch.ones(D_SAE), "latents_mean_square": torch.zeros(D_SAE)}
    if k:
        more |= {"activation": "TopK", "activation_state_dict": {"k": k, "postact_fn": "ReLU"}}
    return Published("alice/gpt2-oai", {f"{place}_v5_32k/autoencoders/3.pt": pt(tensors | more)}, tensors)


def goodfire_r1(folder="math", k=128):
    d_sae = max(D_SAE, k + 3)
    tensors = draw(W=(D_IN, d_sae), b_enc=(d_sae,), b_dec=(D_IN,))
    return Published("Goodfire/DeepSeek-R1-SAE-l37", {f"{folder}/DeepSeek-R1-SAE-l37.pt": pt(tensors)}, tensors)


def fac_synthesis(k=K, layer=16):
    tensors = draw(W_enc=(D_IN, D_SAE), b_enc=(D_SAE,), b_dec=(D_IN,)) | {"mask": torch.ones(D_SAE)}
    config = {"d_inp": D_IN, "d_hide": D_SAE} | ({"topK": k} if k else {})
    name = f"{'TopK7' if k else 'SAE'}_l{layer}_h65536_epoch3.pth"
    return Published("Zhongzhi1228/sae_llama_l16_h65536", {name: pt({"weight": tensors, "config": config})}, tensors)


def hypothesaes(batch_topk=False):
    tensors = draw(
        **{"encoder.weight": (D_SAE, D_IN), "decoder.weight": (D_IN, D_SAE)}, input_bias=(D_IN,), neuron_bias=(D_SAE,)
    ) | {"threshold": torch.tensor(0.3)}
    config = {"input_dim": D_IN, "m_total_neurons": D_SAE, "k_active_neurons": K, "aux_k": None}
    config |= {"prefix_lengths": [4, D_SAE], "use_batch_topk": batch_topk}
    files = {"checkpoints/SAE_M=16_K=4.pt": pt({"config": config, "state_dict": tensors})}
    return Published("alice/hypotheses", files, tensors)


def mntss(layer=3):
    tensors = draw(**{f"W_enc_{layer}": (D_SAE, D_IN), f"b_enc_{layer}": (D_SAE,), f"b_dec_{layer}": (D_IN,)})
    decoder = {f"W_dec_{layer}": torch.zeros(D_SAE, 2, D_IN)}
    files = {f"W_enc_{layer}.safetensors": save(tensors), f"W_dec_{layer}.safetensors": save(decoder)}
    files["config.yaml"] = b"model_name: google/gemma-2-2b\nfeature_input_hook: hook_resid_mid\n"
    return Published("mntss/clt-gemma-2-2b-426k", files, tensors)


def gemma_scope_2_clt(config=None, layer=3):
    tensors = draw(w_enc=(D_IN, D_SAE), w_dec=(D_SAE, 5, D_IN), b_enc=(D_SAE,), b_dec=(D_IN,), threshold=(D_SAE,))
    folder = "clt/width_262k_l0_medium_affine"
    files = {f"{folder}/params_layer_{layer}.safetensors": save(tensors)}
    if config is not None:
        files[f"{folder}/config.json"] = js(**{"architecture": "jump_relu"} | config)
    return Published("google/gemma-scope-2-1b-pt", files, tensors)


def other(config=(), metadata=None, file="weights.safetensors", tensors=None):
    """An SAE of nobody we know: a JSON config, or the metadata of the weights, says everything."""
    tensors = tensors or linear()
    values = {"activation": "relu", "d_in": D_IN, "d_sae": D_SAE, "model_name": "alice/model", "hook": "layers.3"}
    values |= {"apply_b_dec_to_input": False, "normalize_activations": "none"} | dict(config)
    if metadata:
        return Published("alice/thing", {file: save(tensors, {"sae": json.dumps(values)})}, tensors)
    return Published("alice/thing", {"config.json": js(**values), file: save(tensors)}, tensors)


def connor_rob():
    tensors, name = plain(), "gpt2-small_L3_Hcat_z_lr1.20e-03_ds24576_v9"
    about = js(act_size=D_IN, dict_size=D_SAE, act_name="blocks.3.attn.hook_z")
    files = {f"{name}.pt": pt(tensors), f"{name}_cfg.json": about}
    return Published("ckkissane/attn-saes-gpt2-small-all-layers", files, tensors)


def mwhanna(skip=False, config=True):
    tensors = draw(W_enc=(D_SAE, D_IN), W_dec=(D_SAE, D_IN), b_enc=(D_SAE,), b_dec=(D_IN,))
    if skip:
        tensors["W_skip"] = torch.randn(D_IN, D_IN, generator=torch.Generator().manual_seed(1))
    files = {"layer_3.safetensors": save(tensors), "wandb-config.yaml": b"d_model:\n  value: 6\n"}
    if config:
        files["config.yaml"] = b"model_name: Qwen/Qwen3-4B\nfeature_input_hook: mlp.hook_in\n"
    return Published("mwhanna/qwen3-4b-transcoders", files, tensors)


# Every format but native, and every way in which an encoder may depend on the decoder.
REPOS = {
    "saelens": saelens(),
    "saelens_gated": saelens(
        cfg={"architecture": "gated"},
        tensors=draw(W_enc=(D_IN, D_SAE), W_dec=(D_SAE, D_IN), b_dec=(D_IN,))
        | draw(b_gate=(D_SAE,), b_mag=(D_SAE,), r_mag=(D_SAE,)),
    ),
    "saelens_rescaled": saelens(cfg={"architecture": "topk", "k": K, "rescale_acts_by_decoder_norm": True}),
    "sparsify": sparsify(),
    "dictionary_learning": dictionary_learning(),
    "gemma_scope_1": gemma_scope_1(),
    "gemma_scope_1_transcoder": gemma_scope_1("transcoders"),
    "gemma_scope_1_embedding": gemma_scope_1(folder="embedding/width_4k/average_l0_6"),
    "gemma_scope_2": gemma_scope_2(),
    "gemma_scope_2_affine": gemma_scope_2("transcoder/layer_3_width_16k_l0_small_affine", affine=True),
    "llama_scope": llama_scope(),
    "llama_scope_pre_bias": llama_scope(apply_decoder_bias_to_pre_encoder=True),
    "llama_scope_r1": llama_scope_r1(),
    "llamascopium": llamascopium(),
    "llamascopium_jumprelu": llamascopium(act_fn="jumprelu", norm_activation="inference"),
    "llamascopium_topk": llamascopium(act_fn="topk", norm_activation="token-wise"),
    "qwen_scope": qwen_scope(),
    "goodfire": goodfire(),
    "qresearch": qresearch(),
    "openai": openai(),
    "connor_rob": connor_rob(),
    "mwhanna": mwhanna(),
    "mwhanna_skip": mwhanna(skip=True),
    "other": other(),
}


X = inputs()
every_repo = pytest.mark.parametrize("name", REPOS)  # one test per repo
GEMMA, PARAMS = REPOS["gemma_scope_1"], "layer_3/width_16k/average_l0_71/params.npz"
SAELENS, CFG, WEIGHTS = REPOS["saelens"], "blocks.3/cfg.json", "blocks.3/sae_weights.safetensors"
CONNOR, X_PT = REPOS["connor_rob"], next(path for path in REPOS["connor_rob"].files if path.endswith(".pt"))
GEMMA_FILES = {
    f"layer_{n}/width_16k/average_l0_{l0}/params.npz": GEMMA.files[PARAMS] for n in (1, 12) for l0 in (9, 71)
}


def changed(repo, tmp_path, files):
    """Write a repo with some of its files replaced, and return its folder."""
    return written(tmp_path / repo.id.rpartition("/")[2], repo.files | files)


def refused(source, *words, error=ValueError, **options):
    """Check that loading `source` fails with a message that contains `words`, and return the message."""
    with pytest.raises(error) as caught:
        load_sae(source, **options)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)
