"""Tiny models of every text family that the installed transformers builds from a config alone."""

import inspect
from functools import cache

import torch
from transformers import CONFIG_MAPPING, AutoModel
from transformers.models.auto import modeling_auto as auto

HIDDEN, LAYERS, VOCABULARY, WINDOW = 32, 2, 64, 32

# Names of fields of configs, and a small value. A field that a config lacks is left out.
SIZES = [
    ("hidden_size n_embd d_model dim emb_dim embedding_size model_dim", HIDDEN),
    ("num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers", LAYERS),
    ("num_encoder_layers", LAYERS),
    ("num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads", 2),
    ("num_encoder_attention_heads num_decoder_attention_heads num_key_value_heads", 2),
    ("head_dim d_kv qk_nope_head_dim v_head_dim kv_channels d_head mamba_d_head", 16),
    ("mamba_n_heads mamba_num_heads linear_num_value_heads linear_num_key_heads", 4),
    ("linear_key_head_dim linear_value_head_dim mamba_head_dim ssm_state_size mamba_d_state", 16),
    ("chunk_size mamba_chunk_size attention_window", 8),
    ("qk_rope_head_dim", 8),
    ("q_lora_rank kv_lora_rank", 16),
    ("intermediate_size n_inner d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim d_inner ffn_hidden_size", 64),
    ("moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size dim_ff dff hidden_dim", 32),
    ("num_experts num_local_experts n_routed_experts moe_num_experts", 4),
    ("num_experts_per_tok moe_topk", 2),
    ("n_group topk_group n_shared_experts num_shared_experts", 1),
    ("vocab_size", VOCABULARY),
    ("max_position_embeddings n_positions n_ctx max_seq_len", WINDOW),
    ("pad_token_id", 0),
    ("bos_token_id decoder_start_token_id", 1),
    ("eos_token_id", 2),
]
ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}}
# Layers of two kinds, the second with attention.
MIXED = {"layer_types": ["linear_attention", "full_attention"]}
# What some configs need besides.
MORE = {
    "axk1": {"head_dim": 8},
    "bailing_hybrid": {**MIXED, "head_dim": 8, "linear_num_heads": 2, "linear_head_dim": 16},
    "bamba": {"attn_layer_indices": [1]},
    "codegen": {"rotary_dim": 8},
    "cohere_compass_text": {"layer_types": ["full_attention"] * 2},
    "dbrx": {"attn_config": {"kv_n_heads": 2}, "ffn_config": {"ffn_hidden_size": 32, "moe_num_experts": 4}},
    "deepseek_v3": {"head_dim": 8},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {"num_kv_shared_layers": 0, "vocab_size_per_layer_input": VOCABULARY},
    "gemma4_text": {"vocab_size_per_layer_input": VOCABULARY},
    "cosmos3_edge_text": ROPE,
    "glm4v_text": ROPE,
    "glm_image_text": ROPE,
    "glm_ocr_text": ROPE,
    "qwen2_5_vl_text": ROPE,
    "qwen2_vl_text": ROPE,
    "gpt_neo": {"attention_types": [[["global"], LAYERS]]},
    "gptj": {"rotary_dim": 8},
    "granite": {"residual_multiplier": 0.25},
    "granitemoehybrid": {"layer_types": ["linear_attention", "full_attention"], "residual_multiplier": 0.25},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": {**MIXED, "head_dim": 8, "linear_num_heads": 2, "linear_head_dim": 16},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    "longcat_flash": {"head_dim": 8},
    "luke": {"entity_vocab_size": 8},
    "mamba2": {"num_heads": 4, "n_groups": 1, "state_size": 16},
    "nemotron_h": {"n_groups": 1},
    "mimo_v2_flash": {"layer_types": ["full_attention"] * 2},
    "qwen3_5_moe_text": MIXED,
    "qwen3_5_text": MIXED,
    "qwen3_next": MIXED,
    "qwen4_exp_text": MIXED,
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {"axial_pos_embds_dim": [16, 16], "axial_pos_shape": [4, 8], "attn_layers": ["local", "local"]},
    "rwkv": {"attention_hidden_size": HIDDEN},
    "xmod": {"default_language": "en_XX"},
    "youtu": {"head_dim": 8},
    "zamba2": {"layer_types": ["linear_attention", "hybrid"], "mamba_ngroups": 1, "n_mamba_heads": 4},
    "zaya": {"num_experts_per_tok": 1},
}
LACKS = {"prophetnet": ["num_hidden_layers"], "xlnet": ["max_position_embeddings"]}
PARTS = {"attn_config", "ffn_config", "esmfold_config"}  # configs of parts of a text model
# Families that are not built here, and why.
NOT_BUILT = {
    "bros": "reads boxes on a page too",
    "canine": "reads characters, and has a vector for four of them",
    "cohere_compass_text": "its default config has no frequencies for its layers",
    "dbrx": "its default config has no frequencies for its layers",
    "funnel": "pools tokens: its layers have no vector per token",
    "glm4v_moe_text": "its rotary embedding has sections that a tiny head does not hold",
    "glm5_next_text": "a tiny one takes most of a minute",
    "hunyuan_vl_text": "its rotary embedding has sections that its default config lacks",
    "hy_v4_vl_text": "its rotary embedding has sections that a tiny head does not hold",
    "layoutlmv2": "reads images too",
    "layoutlmv3": "reads boxes on a page too",
    "lilt": "reads boxes on a page too",
    "lxmert": "reads images too",
    "mistral4": "its default config does not build",
    "perceiver": "reads bytes as `inputs`, not `input_ids`",
    "qwen4_exp_text": "its default config does not build",
    "seamless_m4t": "translates speech; cannot be built small",
    "seamless_m4t_v2": "translates speech; cannot be built small",
    "speech_to_text": "reads sound",
    "voxtral_realtime_text": "transformers has no class for it",
    "whisper": "reads sound",
    "xlstm": "its kernels need more tokens than a tiny model has",
    "zamba": "its layers share weights in a pattern that two layers do not have",
    "zamba2": "its layers share weights in a pattern that two layers do not have",
}
COMMON = """albert bart bert bloom cohere deepseek_v3 distilbert exaone4 falcon gemma gemma2 gemma3_text glm4 gpt2
gpt_neox gpt_oss gptj granite jamba llama llama4_text longformer mamba mistral mixtral modernbert mpnet mpt olmo olmo2
olmo3 opt phi phi3 qwen2 qwen3 qwen3_moe qwen3_next roberta rwkv stablelm starcoder2 t5 xlm-roberta""".split()


def families():
    """Return the types of all text models: those that predict tokens, and those that encode texts."""
    names = (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
        auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING_NAMES,
        [kind for kind in auto.MODEL_MAPPING_NAMES if kind.endswith(("_text", "text_model"))],
    )
    kinds = sorted(set().union(*names) & set(auto.MODEL_MAPPING_NAMES))
    # A model that is composed of others has another family's text model.
    return [kind for kind in kinds if set(CONFIG_MAPPING[kind].sub_configs) <= PARTS]


def _takes(config, name):
    """Tell whether a config has a number, or nothing, under a name, and lets it be set."""
    if isinstance(inspect.getattr_static(config, name, None), property):
        return False
    try:
        return isinstance(getattr(config, name), int | None)
    except Exception:  # a field of single layers
        return False


def config(kind):
    made = CONFIG_MAPPING[kind]
    default = made()
    fields = {name: value for names, value in SIZES for name in names.split() if _takes(default, name)}
    fields = {name: value for name, value in fields.items() if name not in LACKS.get(kind, ())}
    return made(**fields | MORE.get(kind, {}))


@cache
def model(kind):
    """Return a random model whose weights are large enough that each part of a layer adds something."""
    torch.manual_seed(0)
    made = AutoModel.from_config(config(kind)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.2)
    return made
