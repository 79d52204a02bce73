#pragma once
// A model file of any architecture, with reproducible weights of which every one matters.

#include <memory>
#include <string>

#include "model/file.h"

namespace pygpt::test {

/// GPT-2's shape: learned positions, layer norms, biases. Sizes that divide by nothing.
ModelConfig gpt2_shape();

/// Llama's: rotary positions, groups of heads, RMS norms, a gate, no biases.
ModelConfig llama_shape();

/// nanochat's: all that is mixed into the residual stream and into v, a soft cap, windows, normed q and k.
ModelConfig nanochat_shape();

/// `format`: of the matrices; tables have f16 where it is no format for them.
std::shared_ptr<const ModelFile> any_model(const ModelConfig& config, const std::string& format);

}  // namespace pygpt::test
