"""Hooks' names on tiny models of every family: what is read is what it should be, by the model's own arithmetic."""

import copy

import pytest
import torch
from helpers import families, tiny
from transformers import CONFIG_MAPPING, AutoModel

from hf_sae_select.encoding.hooks import find_hook, reads_residual
from hf_sae_select.encoding.language_model import LanguageModel

KINDS = list(tiny.MODELS) + list(tiny.MORE)
PARALLEL = "neox"  # attention and MLP read the same stream
IDS = torch.tensor([[4, 5, 6, 7, 8]])


def read(model, name, side="output"):
    lm = LanguageModel(model, tiny.tokenizer(), name, side=side)
    with torch.no_grad():
        return lm._run(IDS, torch.ones_like(IDS))


def layer_path(kind, number):
    return (tiny.MODELS | tiny.MORE)[kind][2].format(number)


@pytest.mark.parametrize("kind", KINDS)
def test_the_residual_stream_before_and_after_a_layer(kind):
    model = tiny.model(kind)
    with torch.no_grad():
        states = model(input_ids=IDS, output_hidden_states=True).hidden_states
    torch.testing.assert_close(read(model, "blocks.1.hook_resid_pre"), states[1])
    torch.testing.assert_close(read(model, "blocks.1.hook_resid_post"), states[2])
    torch.testing.assert_close(read(model, layer_path(kind, 1)), states[2])


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("bert", "roberta")])
def test_what_attention_and_mlp_add_is_what_the_stream_gains(kind):
    model = tiny.model(kind)
    before, after = (read(model, f"blocks.1.hook_resid_{side}") for side in ("pre", "post"))
    attention, mlp = (read(model, f"blocks.1.hook_{part}_out") for part in ("attn", "mlp"))
    torch.testing.assert_close(before + attention + mlp, after, atol=1e-4, rtol=1e-4)
    if kind != PARALLEL:
        torch.testing.assert_close(read(model, "blocks.1.hook_resid_mid"), before + attention, atol=1e-4, rtol=1e-4)
        assert find_hook(model, "blocks.1.hook_mlp_in") == find_hook(model, "blocks.1.hook_resid_mid")


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_bert_normalises_after_it_adds(kind):
    model = tiny.model(kind)
    layer = model.encoder.layer[1]
    before, mid, after = (read(model, f"blocks.1.hook_resid_{side}") for side in ("pre", "mid", "post"))
    attention, mlp = (read(model, f"blocks.1.hook_{part}_out") for part in ("attn", "mlp"))
    torch.testing.assert_close(layer.attention.output.LayerNorm(before + attention), mid)
    torch.testing.assert_close(layer.output.LayerNorm(mid + mlp), after)


@pytest.mark.parametrize("kind", KINDS)
def test_the_heads_side_by_side_are_what_the_output_projection_reads(kind):
    model = tiny.model(kind)
    hook = find_hook(model, "blocks.1.attn.hook_z")
    assert hook.side == "input" and hook.path.startswith(layer_path(kind, 1))
    out = hook.module(read(model, "blocks.1.attn.hook_z"))
    if kind.startswith(("gemma2", "gemma3", "gemma")) and kind != "gemma1":
        out = dict(model.named_modules())[f"{layer_path(kind, 1)}.post_attention_layernorm"](out)
    torch.testing.assert_close(out, read(model, "blocks.1.hook_attn_out"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_mlp_s_inside(kind):
    model = tiny.model(kind)
    hook = find_hook(model, "blocks.1.mlp.hook_post")
    assert read(model, "blocks.1.mlp.hook_post").shape[-1] == (64 if kind == "gpt2" else 32)
    assert hook.side == "input"


@pytest.mark.parametrize("kind", KINDS)
def test_the_embedding_is_the_module_s_output(kind):
    model = tiny.model(kind)
    torch.testing.assert_close(read(model, "hook_embed"), model.get_input_embeddings()(IDS))


def test_gemma_3_with_eyes_is_read_in_its_text_part():
    model = tiny.model("gemma3 with eyes")
    for name in ("blocks.1.hook_resid_post", "model.layers.1", "layers.1", "model.language_model.layers.1"):
        assert find_hook(model, name).path == "language_model.layers.1"
    wrapped = torch.nn.ModuleDict({"model": model})  # as it lies in the model with a head
    assert find_hook(wrapped, "model.layers.1").path == "model.language_model.layers.1"


def test_a_path_of_the_model_with_its_head_finds_the_backbone_s_module():
    llama = tiny.model("llama")
    assert find_hook(llama, "model.layers.1").module is find_hook(llama, "layers.1").module is llama.layers[1]


def test_a_raw_path_has_a_side():
    llama = tiny.model("llama")
    torch.testing.assert_close(read(llama, "layers.1", side="input"), read(llama, "blocks.1.hook_resid_pre"))


def test_a_parallel_layer_has_no_stream_in_between():
    with pytest.raises(
        ValueError, match=r"no place `hook_resid_mid` in the layers of GPTNeoXModel; choose one of: hook_resid_pre"
    ):
        find_hook(tiny.model("neox"), "blocks.1.hook_resid_mid")


def test_an_unknown_place_or_layer_or_module_lists_what_is_there():
    llama = tiny.model("llama")
    with pytest.raises(ValueError, match=r"no place `attn.hook_q` in the layers of LlamaModel; .*attn.hook_z"):
        find_hook(llama, "blocks.1.attn.hook_q")
    with pytest.raises(ValueError, match=r"no layer 3 in LlamaModel; it has 3, from 0 to 2"):
        find_hook(llama, "blocks.3.hook_resid_post")
    with pytest.raises(
        ValueError, match=r"no module `layers.7` in LlamaModel; choose one of: layers.0, layers.1, layers.2"
    ):
        find_hook(llama, "layers.7")
    with pytest.raises(ValueError, match=r"cannot find the layers of Linear: .* choose `hook_embed` or the path"):
        find_hook(torch.nn.Linear(2, 2), "blocks.0.hook_resid_post")


def test_which_names_are_of_the_residual_stream():
    assert all(map(reads_residual, ["blocks.3.hook_resid_mid", "model.layers.12", "h.0", "encoder.layer.4"]))
    assert not any(map(reads_residual, ["blocks.3.attn.hook_z", "layers.1.mlp", "hook_embed", "players.1"]))


@pytest.mark.parametrize("name", ["layer.2", "layers[2]", "layer2", "layers-2", "model.layer.2"])
def test_a_near_miss_of_a_module_is_named(name):
    with pytest.raises(ValueError, match=r"no module `.*` in LlamaModel; did you mean `layers.2"):
        find_hook(tiny.model("llama"), name)


@pytest.mark.parametrize("name", ["ln1.hook_normalized", "ln2.hook_normalized"])
def test_vectors_within_a_norm_are_refused_with_the_reason(name):
    with pytest.raises(
        ValueError, match=rf"no place `{name}` in .*; it lies within a norm, .*; choose one of: hook_res"
    ):
        find_hook(tiny.model("gemma"), f"blocks.1.{name}")


def test_the_input_of_the_mlp_is_read_after_the_norm():
    model = tiny.model("llama")
    normed = model.layers[1].post_attention_layernorm(read(model, "blocks.1.hook_resid_mid"))
    torch.testing.assert_close(read(model, "blocks.1.mlp.hook_in"), normed)


def test_a_model_that_scales_what_it_adds_has_no_place_for_it():
    model = families.model("granite")
    for name in ("hook_attn_out", "hook_mlp_out"):
        with pytest.raises(
            ValueError,
            match=rf"no place in the layers of GraniteModel is `blocks.1.{name}`: .*; choose one of: hook_resid_pre, "
            r"hook_resid_mid, hook_resid_post, hook_mlp_in, attn.hook_z, mlp.hook_post, mlp.hook_in, the path",
        ):
            LanguageModel(model, tiny.tokenizer(), f"blocks.1.{name}")
    pre, mid = (read(model, f"blocks.1.hook_resid_{where}") for where in ("pre", "mid"))
    torch.testing.assert_close(pre + 0.25 * read(model, "layers.1.self_attn"), mid)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_places_are_proven_in_every_precision(kind, dtype):
    model = copy.deepcopy(tiny.model(kind)).to(dtype)
    for name in ("hook_attn_out", "hook_mlp_out"):
        LanguageModel(model, tiny.tokenizer(), f"blocks.1.{name}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_part_that_is_scaled_is_refused_in_every_precision(dtype):
    model = copy.deepcopy(families.model("granite")).to(dtype)
    LanguageModel(model, tiny.tokenizer(), "blocks.1.hook_resid_mid")
    with pytest.raises(ValueError, match="do not add up to the residual stream"):
        LanguageModel(model, tiny.tokenizer(), "blocks.1.hook_attn_out")


def test_a_model_without_an_embedding_says_so():
    with pytest.raises(ValueError, match=r"cannot find the embedding of BertEncoder; .* one of: layer"):
        find_hook(tiny.model("bert").encoder, "hook_embed")


def test_a_path_that_begins_with_blocks_is_a_path():
    model = families.model("mpt")
    assert find_hook(model, "blocks.1.ffn").module is model.blocks[1].ffn
    assert find_hook(model, "blocks.1").module is find_hook(model, "blocks.1.hook_resid_post").module


EVERYTHING = "resid_pre resid_mid resid_post attn_out mlp_out"
PARALLEL_ONES = "resid_pre resid_post attn_out mlp_out"
# Families whose config changes the order of a layer's parts -> what resolves then.
VARIANTS = [
    ("falcon", {"parallel_attn": False}, EVERYTHING),
    ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}, PARALLEL_ONES),
    ("stablelm", {"use_parallel_residual": True}, PARALLEL_ONES),
    ("gpt_neox", {"use_parallel_residual": False}, EVERYTHING),
    ("opt", {"do_layer_norm_before": False}, "resid_pre resid_post"),
    ("opt", {"word_embed_proj_dim": 16}, EVERYTHING),
    ("bloom", {"apply_residual_connection_post_layernorm": True}, "resid_pre resid_post"),
    ("granite", {"residual_multiplier": 1.0}, EVERYTHING),
    ("gpt2", {"add_cross_attention": True}, EVERYTHING),
    ("nemotron_h", {}, "resid_pre resid_post"),
]


@pytest.mark.parametrize(("kind", "fields", "places"), VARIANTS)
def test_what_a_config_makes_of_a_family(kind, fields, places):
    torch.manual_seed(0)
    config = families.config(kind).to_dict() | fields
    model = AutoModel.from_config(CONFIG_MAPPING[kind].from_dict(config)).eval()
    vectors = {}
    for place in EVERYTHING.split():
        try:
            vectors[place] = read(model, f"blocks.1.hook_{place}")
        except ValueError as error:
            assert "choose one of: hook_resid_pre" in str(error)
    assert " ".join(vectors) == places
    if "attn_out" in vectors:
        added = vectors["attn_out"] + vectors["mlp_out"]
        torch.testing.assert_close(vectors["resid_pre"] + added, vectors["resid_post"], atol=1e-5, rtol=1e-4)
