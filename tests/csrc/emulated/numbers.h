#pragma once
// Random numbers for kernels, and naive float64 twins of what kernels do.

#include <algorithm>
#include <cmath>
#include <vector>

#include "check.h"
#include "formats/byte_row.h"
#include "kernels/shapes.h"

namespace pygpt::test {

/// Reproducible numbers in [-1, 1), another series for each seed.
inline std::vector<float> numbers(int64_t count, uint32_t seed) {
  std::vector<float> values;
  uint32_t state = seed * 2654435761u + 12345u;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    values.push_back(static_cast<float>(state >> 8) / 8388608.0f - 1.0f);
  }
  return values;
}

inline void expect_near(double got, double wanted, double tolerance, const std::string& what,
                        Where where = Where::current()) {
  if (!(std::fabs(got - wanted) <= tolerance)) fail(join(what, ": got ", got, ", wanted ", wanted), where);
}

/// A row as bytes in groups of 64 with a scale each, and back; or as it is.
inline std::vector<double> rounded_row(std::vector<double> row, bool bytes) {
  if (!bytes) return row;
  for (size_t first = 0; first < row.size(); first += kGroup) {
    const size_t last = std::min(row.size(), first + kGroup);
    double largest = 0;
    for (size_t i = first; i < last; ++i) largest = std::max(largest, std::fabs(row[i]));
    for (size_t i = first; i < last && largest > 0; ++i)
      row[i] = std::nearbyint(row[i] * 127 / largest) * largest / 127;
  }
  return row;
}

inline double naive_activation(Activation kind, double x) {
  switch (kind) {
    case Activation::relu: return std::max(x, 0.0);
    case Activation::gelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::relu_squared: return std::max(x, 0.0) * std::max(x, 0.0);
    case Activation::tanh: return std::tanh(x);
  }
  fail("unknown activation");
}

inline std::vector<double> naive_norm(const std::vector<float>& x, const std::vector<float>& gain,
                                      const std::vector<float>& bias, Norm kind) {
  const auto width = static_cast<double>(x.size());
  double mean = 0;
  for (const float value : x) mean += kind == Norm::layer_norm ? static_cast<double>(value) / width : 0.0;
  double variance = 0;
  for (const float value : x)
    variance += (static_cast<double>(value) - mean) * (static_cast<double>(value) - mean) / width;
  std::vector<double> out;
  for (size_t i = 0; i < x.size(); ++i) {
    const double normed = (static_cast<double>(x[i]) - mean) / std::sqrt(variance + 1e-5);
    out.push_back(normed * static_cast<double>(gain[i]) + (bias.empty() ? 0.0 : static_cast<double>(bias[i])));
  }
  return out;
}

}  // namespace pygpt::test
