"""The GPT of the lecture in PyTorch: what is trained here is what the C++ engine runs.

A decoder-only transformer (Vaswani et al. 2017, "Attention Is All You Need", arXiv:1706.03762) in the form of
GPT and GPT-2 (Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training"; Radford et
al. 2019, "Language Models are Unsupervised Multitask Learners"): learned positions, layer norm in front of
each sublayer, a linear head over the vocabulary.

Read from top to bottom: one attention head, all heads at once, the network behind them, the block of both,
the model. Shapes stand at the end of the lines where they change: B batch, T time (positions), C width
(`d_model`), H heads (`h`), D head size (`C / H`), V vocabulary (`n_vocab`).
"""

# ruff: noqa: N806, N812  (B, T, C and F are the names that everyone knows)

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygpt.errors import ContextLengthError, InvalidRequestError

Activation = Literal["relu", "gelu", "gelu_tanh"]

LAYER_NORM_EPSILON = 1e-5
INITIAL_STD = 0.02  # of weight matrices and embeddings (Radford et al. 2018, section 4.1)
INITIAL_LOGIT_STD = 0.1  # costs the first loss half its square, 0.005 nats

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,  # Vaswani et al. 2017, section 3.3
    "gelu": F.gelu,  # x * Phi(x) with the exact error function: Hendrycks and Gimpel, arXiv:1606.08415
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),  # the approximation that GPT-2 was trained with
}


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Everything that fixes a model's architecture; the weights are the rest.

    Attributes:
        context_length: the most positions the model sees at once; also the rows of the position table.
        d_model: width C of the residual stream, divisible by `h`.
        h: attention heads a block; each has C / h columns.
        n_layers: blocks.
        n_vocab: tokens that can be read and predicted.
        dropout: share of values zeroed while training, in [0, 1).
        activation: between the two layers of the feed-forward network.
        bias: whether linear layers and layer norms have a bias.
        tie_weights: whether the head multiplies with the token embedding's own table (Press and Wolf,
            arXiv:1608.05859), as GPT-2 does; the lecture's head has its own.

    Raises:
        InvalidRequestError: a value out of its range, named by field.
    """

    context_length: int = 8
    d_model: int = 384
    h: int = 6
    n_layers: int = 6
    n_vocab: int = 65
    dropout: float = 0.2
    activation: Activation = "relu"
    bias: bool = True
    tie_weights: bool = False

    def __post_init__(self) -> None:
        for name in ("context_length", "d_model", "h", "n_layers", "n_vocab"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise InvalidRequestError(name, f"must be an integer of at least 1, got {value!r}")
        for name in ("bias", "tie_weights"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidRequestError(name, f"must be True or False, got {getattr(self, name)!r}")
        if self.d_model % self.h:
            raise InvalidRequestError("d_model", f"{self.d_model} is not divisible by the {self.h} heads (h)")
        if not 0.0 <= self.dropout < 1.0:
            raise InvalidRequestError("dropout", f"must be in [0, 1), got {self.dropout}")
        if self.activation not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise InvalidRequestError("activation", f"must be one of {known}, got {self.activation!r}")


class SelfAttention(nn.Module):
    """One head of causal self-attention, every step spelled out: softmax(q kᵀ / sqrt(D)) v.

    Each position asks a question (query), every earlier position and itself offers a label (key) and a
    message (value); the answer is the mean of the messages, weighted by how well label and question agree
    (Vaswani et al. 2017, section 3.2.1). `MultiHeadAttention` computes the same for all heads at once.
    """

    mask: Tensor

    def __init__(
        self, context_length: int, d_model: int, head_size: int, dropout: float = 0.0, *, bias: bool = True
    ) -> None:
        super().__init__()
        self.query = nn.Linear(d_model, head_size, bias=bias)
        self.key = nn.Linear(d_model, head_size, bias=bias)
        self.value = nn.Linear(d_model, head_size, bias=bias)
        self.dropout = nn.Dropout(dropout)
        # Position t may look at 0..t and no further: what it is trained to predict stands at t + 1.
        mask = torch.ones(context_length, context_length, dtype=torch.bool).tril()
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """What each position gathers from its past. x: [B, T, C] -> [B, T, D]."""
        T = x.shape[1]
        q, k, v = self.query(x), self.key(x), self.value(x)  # each [B, T, D]
        # q · k sums D products and so has a variance of D; without the scale the softmax saturates and its
        # gradient vanishes as heads grow (Vaswani et al. 2017, section 3.2.1, footnote 4).
        scores = q @ k.transpose(-2, -1) * k.shape[-1] ** -0.5  # [B, T, T]: row asks, column answers
        scores = scores.masked_fill(~self.mask[:T, :T], float("-inf"))  # exp(-inf) is 0: no weight at all
        weights = scores.softmax(dim=-1)  # rows sum to 1
        attended: Tensor = self.dropout(weights) @ v  # [B, T, T] @ [B, T, D] -> [B, T, D]
        return attended


class MultiHeadAttention(nn.Module):
    """All heads of causal self-attention at once, and the projection that mixes them.

    Several heads ask different questions of the same past (Vaswani et al. 2017, section 3.2.2). The queries,
    keys and values of all heads are one matrix: the first C rows of `qkv` are the queries, the next the keys,
    the last the values, head after head in each third. Equal to `SelfAttention` heads side by side, then
    `proj` (tested).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.h = config.h
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model, bias=config.bias)
        self.proj = nn.Linear(config.d_model, config.d_model, bias=config.bias)
        self.weight_dropout = config.dropout
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """What each position gathers from its past, over all heads. x: [B, T, C] -> [B, T, C]."""
        B, T, C = x.shape
        parts = self.qkv(x).split(C, dim=-1)  # three of [B, T, C]
        q, k, v = (part.view(B, T, self.h, -1).transpose(1, 2) for part in parts)  # each [B, H, T, D]
        dropout = self.weight_dropout if self.training else 0.0
        # Mask, scale, softmax and sum as SelfAttention spells them out, in one kernel.
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)  # [B, H, T, D]
        attended = attended.transpose(1, 2).reshape(B, T, C)  # heads side by side again
        mixed: Tensor = self.dropout(self.proj(attended))
        return mixed


class FeedForwardNetwork(nn.Module):
    """Two linear layers with a nonlinearity between, four times as wide inside, at each position by itself.

    Attention gathers, this computes (Vaswani et al. 2017, section 3.3).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, 4 * config.d_model, bias=config.bias)
        self.down = nn.Linear(4 * config.d_model, config.d_model, bias=config.bias)
        self.activation = _ACTIVATIONS[config.activation]
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, T, C] -> [B, T, C]."""
        out: Tensor = self.dropout(self.down(self.activation(self.up(x))))
        return out


class Block(nn.Module):
    """Attention, then the feed-forward network, each added to its own input.

    The sums are residual connections (He et al., arXiv:1512.03385): the gradient reaches every layer
    undiminished through the identity. The norm stands in front of each sublayer and not, as in Vaswani et al.
    2017, behind the sum: so nothing lies on the identity's way, and deep models train without long warm-up
    (Radford et al. 2019, section 2.3; Xiong et al., arXiv:2002.04745).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPSILON, bias=config.bias)
        self.attn = MultiHeadAttention(config)
        self.ln_2 = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPSILON, bias=config.bias)
        self.ffn = FeedForwardNetwork(config)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, T, C] -> [B, T, C]."""
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.ffn(self.ln_2(x))
        return out


class Model(nn.Module):
    """A GPT: token ids in, a score for every possible next token out.

    `Model()` is the lecture's: 6 blocks of 6 heads, width 384. Parameters are named `wte`, `wpe`,
    `blocks.{i}.{ln_1,attn.qkv,attn.proj,ln_2,ffn.up,ffn.down}`, `ln_f`, `head`.

    Raises:
        InvalidRequestError: see `ModelConfig`.
    """

    def __init__(
        self,
        context_length: int = 8,
        d_model: int = 384,
        h: int = 6,
        n_layers: int = 6,
        n_vocab: int = 65,
        dropout: float = 0.2,
        *,
        activation: Activation = "relu",
        bias: bool = True,
        tie_weights: bool = False,
    ) -> None:
        super().__init__()
        config = ModelConfig(
            context_length, d_model, h, n_layers, n_vocab, dropout, activation, bias, tie_weights
        )
        self.config = config
        self.wte = nn.Embedding(n_vocab, d_model)  # what the token is
        self.wpe = nn.Embedding(context_length, d_model)  # where it stands: attention knows no order
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(n_layers))
        self.ln_f = nn.LayerNorm(d_model, eps=LAYER_NORM_EPSILON, bias=bias)
        self.head = nn.Linear(d_model, n_vocab, bias=bias)
        if tie_weights:
            self.head.weight = self.wte.weight
        self.reset_parameters()

    @classmethod
    def from_config(cls, config: ModelConfig) -> Model:
        """A model of this architecture with fresh weights."""
        return cls(**asdict(config))

    def reset_parameters(self) -> None:
        """Start anew: small weights, so that all logits are near 0 and the first loss is ln(vocabulary).

        The two layers of a block that write to the residual stream start smaller by sqrt(2 n_layers), so that
        the stream does not grow with depth (Radford et al. 2019, section 2.3). A head of its own starts so
        that the logits are equally small at every width.
        """
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1:
                nn.init.constant_(parameter, 1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0)
            elif name.endswith(("attn.proj.weight", "ffn.down.weight")):
                nn.init.normal_(parameter, std=INITIAL_STD / math.sqrt(2 * self.config.n_layers))
            elif name == "head.weight":  # not listed when it is the embedding's
                nn.init.normal_(parameter, std=INITIAL_LOGIT_STD / math.sqrt(self.config.d_model))
            else:
                nn.init.normal_(parameter, std=INITIAL_STD)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits for the token after each position. input_ids: integers [B, T] -> [B, T, V].

        Raises:
            InvalidRequestError: input_ids is not a [B, T] tensor of at least one position.
            ContextLengthError: T is more than the context.
        """
        if input_ids.ndim != 2 or input_ids.shape[1] == 0:
            raise InvalidRequestError(
                "input_ids", f"must be [batch, time] with time >= 1, got {list(input_ids.shape)}"
            )
        T, context = input_ids.shape[1], self.config.context_length
        if context < T:
            raise ContextLengthError(
                "input_ids",
                f"{T} positions do not fit into the context of {context}; pass the last ones: "
                f"input_ids[:, -{context}:]",
            )
        positions = torch.arange(T, device=input_ids.device)
        x = self.dropout(self.wte(input_ids) + self.wpe(positions))  # [B, T, C]
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.ln_f(x))  # [B, T, V]
        return logits

    @torch.no_grad()
    def generate(
        self,
        start_tokens: Tensor,
        max_length: int = 100,
        *,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Continue each row by `max_length` new tokens, one at a time, each seeing the last `context_length`.

        Args:
            start_tokens: integers [B, T], T >= 1, of any length.
            max_length: tokens to add.
            temperature: divides the logits; below 1 is more certain, 0 always takes the likeliest.
            top_k: sample among the k likeliest only (and those tied with the k-th), or None for all.
            generator: source of randomness, or None for torch's own.

        Returns:
            Integers [B, T + max_length]: the start tokens and their continuation.

        Raises:
            InvalidRequestError: an argument out of its range.
        """
        if max_length < 0:
            raise InvalidRequestError("max_length", f"must be >= 0, got {max_length}")
        if not temperature >= 0 or math.isinf(temperature):
            raise InvalidRequestError("temperature", f"must be a finite number >= 0, got {temperature}")
        if top_k is not None and top_k < 1:
            raise InvalidRequestError("top_k", f"must be >= 1 or None, got {top_k}")
        was_training = self.training
        self.eval()  # dropout is for training only
        try:
            tokens = start_tokens
            for _ in range(max_length):
                window = tokens[:, -self.config.context_length :]
                logits = self(window)[:, -1].float()  # [B, V]: the last position's
                following = _choose(logits, temperature, top_k, generator)  # [B, 1]
                tokens = torch.cat((tokens, following), dim=1)
        finally:
            self.train(was_training)
        return tokens


def _choose(
    logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None
) -> Tensor:
    """The next token of each row. logits: [B, V] -> integers [B, 1]."""
    if temperature == 0:
        return logits.argmax(dim=-1, keepdim=True)
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]  # [B, 1]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    # Subtracting the maximum first keeps a tiny temperature from making inf - inf.
    probabilities = ((logits - logits.amax(-1, keepdim=True)) / temperature).softmax(dim=-1)
    return torch.multinomial(probabilities, 1, generator=generator)
