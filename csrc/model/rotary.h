#pragma once
// Rotary positions: a head's q and k are turned by angles that grow with the position (Su et al., arXiv:2104.09864).

#include <cstdint>
#include <vector>

#include "model/config.h"

namespace pygpt {

/// Pair i of a head of D numbers, (x[i], x[i + D/2]), turns by position * frequency i, which is theta^(-2i/D) where no
/// others are given.
class Rotary {
 public:
  /// No pairs where positions are learned. frequencies: [head_dim / 2] in radians, or null.
  explicit Rotary(const ModelConfig& config, const float* frequencies = nullptr);

  int64_t pairs() const noexcept { return static_cast<int64_t>(frequencies_.size()); }

  /// The cosine of every pair's angle, then the sine: out[2 * pairs]. Angles are float64: in float32, position 10000
  /// would be off by 1e-3. A function of the position alone, so that a prompt and a decode step see the same.
  void angles(int64_t position, float* out) const noexcept;

 private:
  std::vector<double> frequencies_;  // radians for each position
};

}  // namespace pygpt
