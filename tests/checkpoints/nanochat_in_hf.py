"""nanochat's first generation as transformers' NanoChatForCausalLM keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nanochat import Config, NanoChat
from safetensors.torch import save_file

THEIRS = {
    "transformer.wte": "model.embed_tokens",
    "transformer.h": "model.layers",
    "attn.c_proj": "self_attn.o_proj",
    "attn.c_": "self_attn.",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def config_json(config: Config, **changes: Any) -> dict[str, Any]:
    """The fields of config.json; None takes one away."""
    fields = {
        "architectures": ["NanoChatForCausalLM"], "model_type": "nanochat", "hidden_act": "relu2",
        "hidden_size": config.n_embd, "intermediate_size": 4 * config.n_embd, "vocab_size": config.vocab_size,
        "num_hidden_layers": config.n_layer, "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head, "max_position_embeddings": config.sequence_len,
        "rms_norm_eps": 2.0**-23, "final_logit_softcapping": 15.0, "rope_theta": 10000.0,
        "bos_token_id": 55, "eos_token_id": 59, "tie_word_embeddings": False,
    } | changes  # fmt: skip
    return {key: value for key, value in fields.items() if value is not None}


def save_hf_nanochat(model: NanoChat, directory: Path, **changes: Any) -> Path:
    """The same model in transformers' names."""
    state = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in THEIRS.items():
            name = name.replace(ours, theirs)
        for part in "qkv":
            name = name.replace(f"self_attn.{part}.", f"self_attn.{part}_proj.")
        state[name] = tensor
    directory.mkdir()
    save_file(state, directory / "model.safetensors")
    (directory / "config.json").write_text(json.dumps(config_json(model.config, **changes)))
    return directory
