#include "model/rotary.h"

#include <cmath>

namespace pygpt {

Rotary::Rotary(const ModelConfig& config, const float* frequencies) {
  if (config.position != Position::rotary) return;
  for (int64_t i = 0; i < config.head_dim / 2; ++i) {
    const double exponent = -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim);
    frequencies_.push_back(frequencies != nullptr ? frequencies[i] : std::pow(config.rope_theta, exponent));
  }
}

void Rotary::angles(int64_t position, float* out) const noexcept {
  for (int64_t i = 0; i < pairs(); ++i) {
    const double angle = static_cast<double>(position) * frequencies_[static_cast<size_t>(i)];
    out[i] = static_cast<float>(std::cos(angle));
    out[i + pairs()] = static_cast<float>(std::sin(angle));
  }
}

}  // namespace pygpt
