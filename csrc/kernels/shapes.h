#pragma once
// What the kernels of every device have in common: facts of the cache's pages, and the functions that a model names.

namespace pygpt {

inline constexpr int kPageRows = 32;      // positions in a page of the KV cache
inline constexpr int kPartialRows = 256;  // positions of one partial softmax, at absolute multiples
inline constexpr int kMaxHeadDim = 1024;

enum class Activation : int { relu, gelu, gelu_tanh, silu, relu_squared, tanh };
inline constexpr int kActivationCount = 6;
inline constexpr const char* kActivationNames[kActivationCount] = {"relu", "gelu",         "gelu_tanh",
                                                                   "silu", "relu_squared", "tanh"};

enum class Norm : int { layer_norm, rms_norm };
inline constexpr int kNormCount = 2;
inline constexpr const char* kNormNames[kNormCount] = {"layer_norm", "rms_norm"};

}  // namespace pygpt
