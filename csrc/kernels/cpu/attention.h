#pragma once

#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

template <class Element>
void append(const AppendArgs& args) noexcept {
  auto* k = reinterpret_cast<Element*>(args.k_page) + args.column;
  const int64_t padded = round_up(args.head_dim, kPanel);
  auto* v = reinterpret_cast<Element*>(args.v_page) + args.column * padded;
  for (int d = 0; d < args.head_dim; ++d) convert(args.k[d], k[d * kPageRows]);
  for (int64_t d = 0; d < padded; d += Simd::kLanes) Simd::store(v + d, Simd::load(args.v + d));
}

/// The state of a softmax that sees its scores piece by piece.
struct Softmax {
  float largest = -__builtin_inff();
  float sum = 0;
};

/// scores[32] = scale * q . k for the 32 positions of a page: broadcasts over d, so that no sum crosses lanes.
template <class Element>
inline void score_page(const AttendArgs& args, const Element* k, float* scores) {
  constexpr int kVecs = kPageRows / Simd::kLanes;
  Vec sums[kVecs] = {};
  for (int d = 0; d < args.head_dim; ++d) {
    const Vec q = Simd::broadcast(args.q[d]);
    for (int v = 0; v < kVecs; ++v) sums[v] = Simd::fma(q, Simd::load(k + d * kPageRows + v * Simd::kLanes), sums[v]);
  }
  for (int v = 0; v < kVecs; ++v) Simd::store(scores + v * Simd::kLanes, sums[v] * Simd::broadcast(args.scale));
}

/// scores[count] to e^(score - largest), in place. The rest of the last page has weight 0.
inline Softmax exponentiate(float* scores, int64_t count) {
  const int64_t padded = round_up(count, kPageRows);
  for (int64_t i = count; i < padded; ++i) scores[i] = -__builtin_inff();
  Vec largest = Simd::load(scores);
  for (int64_t i = Simd::kLanes; i < padded; i += Simd::kLanes) largest = vec_max(largest, Simd::load(scores + i));
  Softmax state{max_lanes(largest), 0};
  Vec sums = Simd::broadcast(0.0f);
  for (int64_t i = 0; i < padded; i += Simd::kLanes) {
    const Vec weight = vec_exp(Simd::load(scores + i) - Simd::broadcast(state.largest));
    Simd::store(scores + i, weight);
    sums = sums + weight;
  }
  state.sum = sum_lanes(sums);
  return state;
}

/// out[kVecs * lanes] = sum over positions of weight * v, in ascending order of position.
template <class Element, int kVecs>
inline void weigh_values(const AttendArgs& args, int64_t first_page, int64_t count, const float* weights,
                         int64_t column, float* out) {
  const int64_t padded = round_up(args.head_dim, kPanel);
  Vec sums[kVecs] = {};
  for (int64_t i = 0; i < count; i += kPageRows) {
    const auto* v = reinterpret_cast<const Element*>(args.pages[first_page + i / kPageRows] + args.v_offset) + column;
    const int64_t rows = count - i < kPageRows ? count - i : kPageRows;
    for (int64_t row = 0; row < rows; ++row) {
      const Vec weight = Simd::broadcast(weights[i + row]);
      for (int x = 0; x < kVecs; ++x)
        sums[x] = Simd::fma(weight, Simd::load(v + row * padded + x * Simd::kLanes), sums[x]);
    }
  }
  for (int x = 0; x < kVecs; ++x) Simd::store(out + column + x * Simd::kLanes, sums[x]);
}

/// One partial: positions [first, first + count) of at most 256, first a multiple of 256.
template <class Element>
inline Softmax attend_partial(const AttendArgs& args, int64_t first, int64_t count, float* out) {
  float weights[kPartialRows];
  for (int64_t i = 0; i < count; i += kPageRows) {
    score_page(args, reinterpret_cast<const Element*>(args.pages[(first + i) / kPageRows] + args.k_offset),
               weights + i);
  }
  const Softmax state = exponentiate(weights, count);
  const int64_t padded = round_up(args.head_dim, kPanel);
  int64_t column = 0;
  for (; column + 4 * kPanel <= padded; column += 4 * kPanel) {
    weigh_values<Element, 4 * Simd::kPanelVecs>(args, first / kPageRows, count, weights, column, out);
  }
  for (; column < padded; column += kPanel)
    weigh_values<Element, Simd::kPanelVecs>(args, first / kPageRows, count, weights, column, out);
  return state;
}

inline float exp_scalar(float x) {
  float lane[Simd::kLanes];
  Simd::store(lane, vec_exp(Simd::broadcast(x)));
  return lane[0];
}

template <class Element>
void attend(const AttendArgs& args) noexcept {
  float total[kMaxHeadDim];
  float partial[kMaxHeadDim];
  Softmax state;
  for (int64_t first = 0; first < args.count; first += kPartialRows) {
    const int64_t count = args.count - first < kPartialRows ? args.count - first : kPartialRows;
    const Softmax next = attend_partial<Element>(args, first, count, partial);
    const float largest = next.largest > state.largest ? next.largest : state.largest;
    const float old_scale = exp_scalar(state.largest - largest);
    const float new_scale = exp_scalar(next.largest - largest);
    for (int d = 0; d < args.head_dim; ++d) {
      total[d] = first == 0 ? partial[d] : total[d] * old_scale + partial[d] * new_scale;
    }
    state = first == 0 ? next : Softmax{largest, state.sum * old_scale + next.sum * new_scale};
  }
  const float scale = 1.0f / state.sum;
  for (int d = 0; d < args.head_dim; ++d) args.out[d] = total[d] * scale;
}

}  // namespace
}  // namespace pygpt
