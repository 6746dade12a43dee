"""Tiny models of every text family that the installed transformers builds from a config alone."""

from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto as auto

HIDDEN, LAYERS, VOCABULARY, WINDOW = 32, 2, 64, 32

# Names of fields of configs, and a small value. A field that a config lacks is left out.
SIZES = [
    ("hidden_size n_embd d_model dim emb_dim embedding_size model_dim attention_hidden_size", HIDDEN),
    ("num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_decoder_layers", LAYERS),
    ("num_attention_heads n_head n_heads num_heads encoder_attention_heads decoder_attention_heads", 2),
    ("num_key_value_heads", 2),
    ("head_dim d_kv qk_nope_head_dim v_head_dim kv_channels", 16),
    ("qk_rope_head_dim", 8),
    ("q_lora_rank kv_lora_rank", 16),
    ("intermediate_size n_inner d_ff ffn_dim encoder_ffn_dim decoder_ffn_dim d_inner ffn_hidden_size", 64),
    ("moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size", 32),
    ("num_experts num_local_experts n_routed_experts moe_num_experts", 4),
    ("num_experts_per_tok moe_topk", 2),
    ("n_group topk_group n_shared_experts num_shared_experts", 1),
    ("vocab_size", VOCABULARY),
    ("max_position_embeddings n_positions n_ctx max_seq_len", WINDOW),
    ("pad_token_id", 0),
    ("bos_token_id decoder_start_token_id", 1),
    ("eos_token_id", 2),
]


def families():
    """Return the types of all text models: those that predict tokens, and those that encode texts."""
    names = (
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    )
    return sorted(set().union(*names) & set(auto.MODEL_MAPPING_NAMES))


def _has(config, name):
    try:
        return isinstance(getattr(config, name), int | None)
    except Exception:  # a field of single layers, or of no length
        return False


def config(kind):
    made = CONFIG_MAPPING[kind]
    default = made()
    return made(**{name: value for names, value in SIZES for name in names.split() if _has(default, name)})
