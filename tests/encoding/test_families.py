"""Every text family of transformers: a name of a hook is the right place, or it is refused; and windows fit."""

from functools import cache
from pathlib import Path

import pytest
import torch
import transformers
from helpers import families, tiny

from hf_sae_select.encoding.batches import Window
from hf_sae_select.encoding.hooks import PLACES
from hf_sae_select.encoding.language_model import LanguageModel

DOCS = Path(__file__).parents[2] / "docs" / "formats.md"
IDS = torch.arange(5, 13)[None]
STREAM = {"resid_pre", "resid_post"}
PARTS = {"attn_out", "mlp_out"}
# What a row of the table in the docs begins with -> the places.
ROWS = {
    "everything": STREAM | PARTS | {"resid_mid"},
    "parallel": STREAM | PARTS,
    "scaled": STREAM | {"resid_mid"},
    "mlp": STREAM | {"resid_mid", "mlp_out"},
    "attention": STREAM | {"resid_mid", "attn_out"},
    "ends": STREAM,
    "none": set(),
}
SHIFTED = ("mamba", "mamba2", "falcon_mamba", "rwkv")  # their hidden states begin after the first layer
KINDS = [kind for kind in families.families() if kind not in families.NOT_BUILT]


def parametrized(kinds):
    common = families.COMMON
    return [pytest.param(kind, marks=() if kind in common else pytest.mark.slow) for kind in kinds]


@cache
def tokenizer():
    made = tiny.tokenizer()
    made.model_max_length = int(1e30)
    return made


def opened(kind, name):
    return LanguageModel(families.model(kind), tokenizer(), name)


def read(kind, layer):
    """Return place -> vectors of all places of a layer that resolve."""
    vectors = {}
    for name, place in PLACES.items():
        try:
            lm = opened(kind, f"blocks.{layer}.{name}")
            vectors[place] = lm._run(IDS, torch.ones_like(IDS))
        except ValueError as error:
            message = str(error)
            assert "choose one of: " in message or "cannot find the layers" in message or "no vector per" in message
    return vectors


@cache
def documented():
    lines = [line.split("|") for line in DOCS.read_text().splitlines() if line.startswith("| *")]
    return {kind: line[1].strip(" *") for line in lines for kind in line[3].replace(",", " ").split()}


@pytest.mark.parametrize("kind", parametrized(KINDS))
@torch.no_grad()
def test_a_name_is_the_right_place_or_refused(kind):
    vectors = read(kind, 1)
    found = {place for place in vectors if place in ROWS["everything"]}
    check_sums(kind, 1, vectors)
    if found:
        check_hidden_states(kind, vectors["resid_pre"])
    if kind in documented():
        assert found == ROWS[documented()[kind]]
    else:
        assert transformers.__version__ != "5.24.0", f"{kind} is not in docs/formats.md: {found}"


def check_sums(kind, layer, vectors):
    """Check that what the parts of a layer add is what the stream gains."""
    pre, mid, post = (vectors.get(f"resid_{where}") for where in ("pre", "mid", "post"))
    attention, mlp = vectors.get("attn_out"), vectors.get("mlp_out")
    norms = None
    if mid is not None:
        parts = opened(kind, f"blocks.{layer}.hook_resid_mid").hook.parts
        norms = [parts.modules[name] for name in parts.norms or ()] or [torch.nn.Identity()] * 2
    near = {"atol": 1e-4, "rtol": 1e-4}
    if attention is not None and mid is not None:
        torch.testing.assert_close(norms[0](pre + attention), mid, **near)
        assert attention.norm() > 0.01
    if mlp is not None and mid is not None:
        torch.testing.assert_close(norms[1](mid + mlp), post, **near)
        assert mlp.norm() > 0.01
    if mid is None and (attention is not None or mlp is not None):
        torch.testing.assert_close(pre + attention + mlp, post, **near)
    for inside, out in (("z", attention), ("mlp_post", mlp)):
        if inside in vectors and out is not None:
            name = next(name for name, place in PLACES.items() if place == inside)
            hook = opened(kind, f"blocks.{layer}.{name}").hook
            added = hook.module(vectors[inside])
            path, _ = hook.parts.places["attn_out" if inside == "z" else "mlp_out"]
            if path != hook.parts.raw["attn" if inside == "z" else "mlp"][0]:
                added = hook.parts.modules[path](added)
            torch.testing.assert_close(added, out, **near)


def check_hidden_states(kind, before_last):
    """Check that the stream before layer 1 is that after layer 0, and what transformers returns."""
    torch.testing.assert_close(opened(kind, "blocks.0.hook_resid_post")._run(IDS, torch.ones_like(IDS)), before_last)
    outputs = families.model(kind)(input_ids=IDS, attention_mask=torch.ones_like(IDS), output_hidden_states=True)
    if states := getattr(outputs, "hidden_states", None):
        torch.testing.assert_close(states[0 if kind in SHIFTED else 1][:, : IDS.shape[1]], before_last)


@pytest.mark.parametrize(
    ("kind", "places"),
    {
        "jamba": STREAM | {"resid_mid", "mlp_out"},  # Mamba
        "bamba": STREAM | {"resid_mid", "mlp_out"},
        "lfm2_moe": STREAM | {"resid_mid", "mlp_out"},  # convolution
        "lfm3": STREAM | {"resid_mid", "mlp_out"},
        "granitemoehybrid": STREAM,
        "qwen3_next": ROWS["everything"],  # linear attention
        "rwkv": STREAM | {"resid_mid", "mlp_out"},  # normalised before the residual stream begins
    }.items(),
)
@torch.no_grad()
def test_the_first_layer_of_a_model_whose_layers_differ(kind, places):
    vectors = read(kind, 0)
    check_sums(kind, 0, vectors)
    assert {place for place in vectors if place in ROWS["everything"]} == places


@pytest.mark.parametrize("kind", parametrized(KINDS))
@torch.no_grad()
def test_a_window_is_as_long_as_the_model_reads(kind, monkeypatch):
    monkeypatch.setattr(LanguageModel, "_check", lambda *_: None)  # any module does
    model = families.model(kind)
    lm = opened(kind, next(iter(dict(model.named_children()))))
    ids = torch.full((1, min(lm.window, 40)), 7)
    arguments = {"decoder_input_ids": ids[:, :1]} if model.config.is_encoder_decoder else {}
    model(input_ids=ids, attention_mask=torch.ones_like(ids), **arguments)
    if lm.window < families.WINDOW and kind != "prophetnet":  # which has one position for all that are too many
        ids = torch.full((1, lm.window + 1), 7)
        with pytest.raises((IndexError, RuntimeError, ValueError)):
            model(input_ids=ids, attention_mask=torch.ones_like(ids), **arguments)


def test_each_family_is_built_or_the_reason_is_known():
    assert set(families.NOT_BUILT).isdisjoint(documented())
    assert len(KINDS) > 150 and set(families.COMMON) <= set(KINDS)


def test_a_layer_that_is_shared_or_in_a_decoder_is_found_by_its_path_alone():
    for kind, reason in {"albert": "they share one module", "t5": "an encoder and a decoder"}.items():
        with pytest.raises(
            ValueError,
            match=rf"cannot find the layers of \w+: .*{reason}.*; choose `hook_embed` or the path of a module",
        ):
            opened(kind, "blocks.0.hook_resid_post")


@torch.no_grad()
def test_the_encoder_of_an_encoder_decoder_is_read_by_its_path():
    mask = torch.ones_like(IDS)
    states = families.model("t5").encoder(input_ids=IDS, attention_mask=mask, output_hidden_states=True).hidden_states
    torch.testing.assert_close(opened("t5", "encoder.block.0")._run(IDS, mask), states[1])


@pytest.mark.parametrize("kind", parametrized([kind for kind in KINDS if documented().get(kind) != "none"]))
@torch.no_grad()
def test_layers_above_the_hook_are_not_loaded_and_the_states_are_those_of_the_whole_model(kind, tmp_path):
    families.model(kind).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = LanguageModel.from_pretrained(str(tmp_path), "blocks.1.hook_resid_pre", whole=True)
    for hook in ("hook_embed", "blocks.0.hook_resid_post", "blocks.1.hook_resid_pre"):
        if kind == "sam3_lite_text_text_model" and hook == "hook_embed":  # it has none that transformers knows
            continue
        whole = LanguageModel(loaded.model, loaded.tokenizer, hook)
        part = LanguageModel.from_pretrained(str(tmp_path), hook)
        assert part.hook.path == whole.hook.path
        assert torch.equal(part._run(IDS, torch.ones_like(IDS)), whole._run(IDS, torch.ones_like(IDS)))
        numbers = [sum(parameter.numel() for parameter in lm.model.parameters()) for lm in (part, whole)]
        assert numbers[0] < numbers[1] or hook == "blocks.1.hook_resid_pre"  # of two layers


PADDED = {"convbert", "fnet", "mobilebert", "nystromformer", "sam3_lite_text_text_model", "yoso"}


@pytest.mark.parametrize("kind", parametrized(sorted(set(documented()) - {"reformer"})))  # whose hashes are random
@torch.no_grad()
def test_padding_does_not_change_the_states_of_a_row(kind):
    check_padding(kind)


@pytest.mark.parametrize("kind", sorted(PADDED))
@torch.no_grad()
def test_where_padding_matters_nothing_is_padded(kind):
    check_padding(kind)
    assert opened(kind, "blocks.1.hook_resid_post")._pad_to == 1


def check_padding(kind):
    if documented()[kind] == "none":
        return
    lm = opened(kind, "blocks.1.hook_resid_post")
    lengths = (3, 5, 8, 13)
    windows = [Window(n, list(range(3, 3 + n)), [True] * n) for n in lengths]
    for (window,), states in lm.states(windows, batch_size=1):
        alone = lm._run(torch.tensor([window.ids]), torch.ones(1, len(window.ids), dtype=torch.long))[0]
        torch.testing.assert_close(states, alone, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["cpmant", "deepseek_v4", "gemma3n_text", "hy_v4"])
def test_a_layer_without_a_vector_per_token_is_refused_at_once(kind):
    with pytest.raises(ValueError, match="has no vector per token; choose one of: "):
        opened(kind, "blocks.1.hook_resid_post")


@pytest.mark.parametrize("kind", ["bart", "led", "mbart", "t5"])
@torch.no_grad()
def test_the_embedding_of_an_encoder_decoder_is_that_of_its_encoder(kind):
    vectors = opened(kind, "hook_embed")._run(IDS, torch.ones_like(IDS))
    torch.testing.assert_close(vectors, families.model(kind).encoder.embed_tokens(IDS))
    with pytest.raises(
        ValueError, match=r"`shared` .* has no vector per token; choose one of: encoder\.embed_tokens, "
    ):
        opened(kind, "shared")


def test_an_embedding_in_another_order_is_refused_at_once():
    with pytest.raises(ValueError, match=r"`word_embedding` .* has no vector per token"):
        opened("xlnet", "hook_embed")


@pytest.mark.parametrize("kind", ["fnet", "mra", "inkling2_text"])
def test_a_dtype_that_a_model_does_not_run_in_is_named(kind):
    with pytest.raises(ValueError, match=r"does not run in `dtype=torch.bfloat16` here: .*; load it in torch.float32"):
        LanguageModel(in_dtype(kind, torch.bfloat16, 1.0), tokenizer(), "blocks.1.hook_resid_post")


@cache
def in_dtype(kind, dtype, multiplier):
    """Return a model that scales what it adds to the stream, in a dtype."""
    config = families.config(kind)
    for name in {"residual_multiplier", "scale_depth"} & set(vars(config)):
        setattr(config, name, multiplier * (families.LAYERS**0.5 if name == "scale_depth" else 1))
    torch.manual_seed(0)
    model = transformers.AutoModel.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.2)
    return model.to(dtype)


HALVES = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
@pytest.mark.parametrize("multiplier", [0.22, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["granite", "granitemoe", "minicpm3"])
def test_a_part_that_the_model_scales_is_refused_in_any_dtype(kind, multiplier, dtype):
    model = in_dtype(kind, dtype, multiplier)
    LanguageModel(model, tokenizer(), "blocks.1.hook_resid_mid")
    for name in ("hook_attn_out", "hook_mlp_out"):
        with pytest.raises(ValueError, match=f"no place .* is `blocks.1.{name}`") as error:
            LanguageModel(model, tokenizer(), f"blocks.1.{name}")
        assert ("load the model in float32" in str(error.value)) == (dtype != torch.float32)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "kind", ["bert", "bloom", "falcon", "gemma2", "glm4", "gpt2", "gpt_neox", "gptj", "llama", "olmo2"]
)
def test_true_places_are_accepted_in_half_precision(kind, dtype):
    model = in_dtype(kind, dtype, 1.0)
    for place in ROWS[documented()[kind]]:
        LanguageModel(model, tokenizer(), f"blocks.1.hook_{place}")
