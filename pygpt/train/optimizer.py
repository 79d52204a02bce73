"""The optimizer and the device it works on."""

from __future__ import annotations

import torch

from pygpt.errors import InvalidRequestError
from pygpt.model import Model
from pygpt.train.config import TrainConfig


def make_optimizer(model: Model, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101) that decays matrices, not biases and norms."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    betas = (config.beta1, config.beta2)
    try:
        return torch.optim.AdamW(groups, config.learning_rate, betas, fused=True)  # one pass over the memory
    except RuntimeError:  # a device, or an older torch, without it
        return torch.optim.AdamW(groups, config.learning_rate, betas)


def choose_device(name: str) -> torch.device:
    """The torch device of that name; "auto" is the fastest one here.

    Raises:
        InvalidRequestError: there is no such device here.
    """
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise InvalidRequestError("device", f"{name!r} cannot be used: {reason}; try 'cpu'") from error
    return torch.device(name)


def check_precision(precision: str, device: torch.device) -> None:
    """Hold the precision of matrix products to what the device can do.

    Raises:
        InvalidRequestError: it cannot.
    """
    on_gpu = device.type == "cuda"
    if precision == "tf32" and not (on_gpu and torch.cuda.get_device_capability(device) >= (8, 0)):
        raise InvalidRequestError(
            "precision",
            f"tf32 is for NVIDIA's GPUs since Ampere, not for this {device.type}; take f32 or bf16",
        )
    if precision == "bf16" and on_gpu and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise InvalidRequestError("precision", "this GPU has no bf16; take f32")
