#pragma once
// softmax(scale q k^T) v for rows that read the same pages: neighbours in a prompt, heads of a group, or one alone.
// A row's result does not depend on the rows beside it: each score is one chain over head_dim, each output one chain
// over the positions that the row may see.

#include "kernels/cpu/append.h"
#include "kernels/cpu/math.h"
#include "kernels/cpu/table.h"

namespace pygpt {
namespace {

/// The state of a softmax that sees its scores piece by piece.
struct Softmax {
  float largest = -__builtin_inff();
  float sum = 0;
};

/// The first position that row r sees.
inline int64_t beginning(const AttendArgs& args, int r) {
  return args.counts[r] > args.window ? args.counts[r] - args.window : 0;
}

/// The part of the cache that a partial softmax covers: positions [first, first + count), first a multiple of 256, of
/// which the rows see nothing before first + start.
template <class Kv>
struct Span {
  const AttendArgs& args;
  int64_t first;
  int64_t count;
  int64_t start;

  const typename Kv::Element* k(int64_t i) const { return element(i, args.k_offset); }
  const typename Kv::Element* v(int64_t i) const { return element(i, args.v_offset); }
  int64_t v_width() const { return round_up(args.head_dim, kPanel); }
  int64_t padded() const { return round_up(count, kPageRows); }
  int64_t first_page() const { return start / kPageRows * kPageRows; }

 private:
  const typename Kv::Element* element(int64_t i, int64_t offset) const {
    return reinterpret_cast<const typename Kv::Element*>(args.pages[(first + i) / kPageRows] + offset);
  }
};

using Scores = float[kPartialRows];

inline constexpr int kPageVecs = kPageRows / Simd::kLanes;

/// scores[r][at .. at + kVecs lanes] = scale * q[r] . k: broadcasts over head_dim, so that no sum crosses lanes.
template <class Kv, int kRows, int kVecs>
inline void score(const Span<Kv>& span, int64_t at, Scores* scores) {
  const typename Kv::Element* k[kVecs];
  for (int v = 0; v < kVecs; ++v) k[v] = span.k(at + v * Simd::kLanes) + (at + v * Simd::kLanes) % kPageRows;
  Vec sums[kRows][kVecs] = {};
  for (int d = 0; d < span.args.head_dim; ++d) {
    for (int v = 0; v < kVecs; ++v) {
      const Vec keys = Simd::load(k[v] + d * kPageRows);
      for (int r = 0; r < kRows; ++r) sums[r][v] = Simd::fma(Simd::broadcast(span.args.q[r][d]), keys, sums[r][v]);
    }
  }
  for (int v = 0; v < kVecs; ++v) {
    const int64_t place = at + v * Simd::kLanes;
    Vec scale = Simd::broadcast(span.args.scale);
    if constexpr (Kv::kHasScales)
      scale = scale * Simd::load(scales_of<Kv>(span.k(place), span.args.head_dim) + place % kPageRows);
    for (int r = 0; r < kRows; ++r) Simd::store(scores[r] + place, sums[r][v] * scale);
  }
}

template <class Kv, int kRows>
inline void score_all(const Span<Kv>& span, Scores* scores) {
  // One row alone reads several pages at once: its sums would otherwise wait for each other.
  constexpr int kPages = kRows > 1 ? 1 : kPageVecs >= 8 ? 1 : 8 / kPageVecs;
  constexpr int kVecs = kRows <= 2 ? kPages * kPageVecs : 2;
  int64_t at = span.first_page();
  for (; at + kVecs * Simd::kLanes <= span.padded(); at += kVecs * Simd::kLanes)
    score<Kv, kRows, kVecs>(span, at, scores);
  for (; at < span.padded(); at += kPageRows) score<Kv, kRows, kPageVecs>(span, at, scores);
}

/// scores[first_page .. padded] to e^(score - largest), in place; the weight is 0 outside of [seen, seen_end).
template <class Kv>
inline Softmax exponentiate(const Span<Kv>& span, float* scores, int64_t seen, int64_t seen_end) {
  const int64_t begin = span.first_page();
  const int64_t padded = span.padded();
  for (int64_t i = begin; i < seen; ++i) scores[i] = -__builtin_inff();
  for (int64_t i = seen_end; i < padded; ++i) scores[i] = -__builtin_inff();
  Vec largest = Simd::load(scores + begin);
  for (int64_t i = begin + Simd::kLanes; i < padded; i += Simd::kLanes)
    largest = vec_max(largest, Simd::load(scores + i));
  Softmax state{max_lanes(largest), 0};
  Vec sums = Simd::broadcast(0.0f);
  for (int64_t i = begin; i < padded; i += Simd::kLanes) {
    const Vec weight = vec_exp(Simd::load(scores + i) - Simd::broadcast(state.largest));
    Simd::store(scores + i, weight);
    sums = sums + weight;
  }
  state.sum = sum_lanes(sums);
  return state;
}

/// weights[r][i] *= the scale of v at position i.
template <class Kv, int kRows>
inline void scale_weights(const Span<Kv>& span, Scores* weights) {
  for (int64_t i = span.first_page(); i < span.padded(); i += Simd::kLanes) {
    const Vec scale = Simd::load(scales_of<Kv>(span.v(i), span.v_width()) + i % kPageRows);
    for (int r = 0; r < kRows; ++r) Simd::store(weights[r] + i, Simd::load(weights[r] + i) * scale);
  }
}

/// Adds one position for the rows that see it.
template <class Kv, int kRows, int kVecs>
[[gnu::always_inline]] inline void weigh_own(const Span<Kv>& span, const Scores* weights, int64_t position,
                                             int64_t column, Vec (&sums)[kRows][kVecs]) {
  const auto* v = span.v(position) + position % kPageRows * span.v_width() + column;
  for (int r = 0; r < kRows; ++r) {
    const int64_t behind = span.args.counts[r] - (span.first + position);  // 1: the row's own position
    if (behind < 1 || behind > span.args.window) continue;
    for (int x = 0; x < kVecs; ++x)
      sums[r][x] = Simd::fma(Simd::broadcast(weights[r][position]), Simd::load(v + x * Simd::kLanes), sums[r][x]);
  }
}

/// out[r][column .. column + kVecs lanes] = sum over positions of weight * v, in ascending order of position. No row
/// touches a v that it may not see: that could be infinite.
template <class Kv, int kRows, int kVecs>
inline void weigh_values(const Span<Kv>& span, const Scores* weights, int64_t column, float (*out)[kMaxHeadDim]) {
  Vec sums[kRows][kVecs] = {};
  const int64_t common = beginning(span.args, kRows - 1) - span.first;  // from here to common_end, every row sees all
  const int64_t common_end = span.args.counts[0] - span.first;
  for (int64_t page = span.first_page(); page < span.count; page += kPageRows) {
    const auto* v = span.v(page) + column;
    const int64_t rows = span.count - page < kPageRows ? span.count - page : kPageRows;
    for (int64_t i = span.start > page ? span.start - page : 0; i < rows; ++i) {
      if (kRows > 1 && (page + i < common || page + i >= common_end)) {
        weigh_own<Kv, kRows, kVecs>(span, weights, page + i, column, sums);
        continue;
      }
      for (int x = 0; x < kVecs; ++x) {
        const Vec values = Simd::load(v + i * span.v_width() + x * Simd::kLanes);
        for (int r = 0; r < kRows; ++r)
          sums[r][x] = Simd::fma(Simd::broadcast(weights[r][page + i]), values, sums[r][x]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int x = 0; x < kVecs; ++x) Simd::store(out[r] + column + x * Simd::kLanes, sums[r][x]);
  }
}

template <class Kv, int kRows>
inline void weigh_all(const Span<Kv>& span, const Scores* weights, float (*out)[kMaxHeadDim]) {
  constexpr int64_t kWide = 4 * kPanel;
  int64_t column = 0;
  if constexpr (kRows <= 2 && kWide / Simd::kLanes <= 8) {
    for (; column + kWide <= span.v_width(); column += kWide)
      weigh_values<Kv, kRows, kWide / Simd::kLanes>(span, weights, column, out);
  }
  for (; column < span.v_width(); column += kPanel)
    weigh_values<Kv, kRows, Simd::kPanelVecs>(span, weights, column, out);
}

inline float exp_scalar(float x) {
  float lane[Simd::kLanes];
  Simd::store(lane, vec_exp(Simd::broadcast(x)));
  return lane[0];
}

/// Joins a row's next partial with what came before it.
inline void merge(Softmax& state, const Softmax& next, const float* partial, int64_t width, bool first, float* total) {
  if (first) {
    for (int64_t d = 0; d < width; ++d) total[d] = partial[d];
    state = next;
    return;
  }
  const float largest = next.largest > state.largest ? next.largest : state.largest;
  const float old_scale = exp_scalar(state.largest - largest);
  const float new_scale = exp_scalar(next.largest - largest);
  for (int64_t d = 0; d < width; ++d) total[d] = total[d] * old_scale + partial[d] * new_scale;
  state = {largest, state.sum * old_scale + next.sum * new_scale};
}

template <class Kv, int kRows>
inline void attend_rows(const AttendArgs& args) {
  float total[kRows][kMaxHeadDim];
  float partial[kRows][kMaxHeadDim];
  Scores weights[kRows];
  Softmax states[kRows];
  const int64_t count = args.counts[kRows - 1];
  const int64_t start = beginning(args, 0);
  for (int64_t first = start / kPartialRows * kPartialRows; first < count; first += kPartialRows) {
    const Span<Kv> span{args, first, count - first < kPartialRows ? count - first : kPartialRows,
                        start > first ? start - first : 0};
    const auto within = [&](int64_t position) {
      return position < first ? 0 : position - first < span.count ? position - first : span.count;
    };
    score_all<Kv, kRows>(span, weights);
    Softmax next[kRows];
    for (int r = 0; r < kRows; ++r)
      next[r] = exponentiate(span, weights[r], within(beginning(args, r)), within(args.counts[r]));
    if constexpr (Kv::kHasScales) scale_weights<Kv, kRows>(span, weights);
    weigh_all<Kv, kRows>(span, weights, partial);
    for (int r = 0; r < kRows; ++r) {
      const int64_t begin = beginning(args, r);
      if (args.counts[r] > first && begin < first + span.count)
        merge(states[r], next[r], partial[r], args.head_dim, first <= begin, total[r]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    const float scale = 1.0f / states[r].sum;
    for (int d = 0; d < args.head_dim; ++d) args.out[r][d] = total[r][d] * scale;
  }
}

template <class Kv, int kRows>
inline void attend_exactly(const AttendArgs& args) {
  if constexpr (kRows > 1) {
    if (args.rows < kRows) return attend_exactly<Kv, kRows - 1>(args);
  }
  attend_rows<Kv, kRows>(args);
}

template <class Kv>
void attend(const AttendArgs& args) noexcept {
  attend_exactly<Kv, kAttendRows>(args);
}

/// The weights of one row: its partials, as attend merges them, say how large the whole is; then each is made anew.
template <class Kv>
inline void weigh_row(const AttendArgs& row) {
  Scores weights[1];
  Softmax whole;
  const int64_t begin = beginning(row, 0);
  const int64_t origin = begin / kPartialRows * kPartialRows;
  const auto span_at = [&](int64_t first) {
    const int64_t left = row.counts[0] - first;
    return Span<Kv>{row, first, left < kPartialRows ? left : kPartialRows, begin > first ? begin - first : 0};
  };
  const auto partial = [&](const Span<Kv>& span) {
    score_all<Kv, 1>(span, weights);
    return exponentiate(span, weights[0], span.start, span.count);
  };
  for (int64_t first = origin; first < row.counts[0]; first += kPartialRows)
    merge(whole, partial(span_at(first)), nullptr, 0, first == origin, nullptr);
  for (int64_t first = origin; first < row.counts[0]; first += kPartialRows) {
    const Span<Kv> span = span_at(first);
    const float scale = exp_scalar(partial(span).largest - whole.largest) / whole.sum;
    for (int64_t i = span.start; i < span.count; ++i) row.out[0][first + i] = weights[0][i] * scale;
  }
}

template <class Kv>
void attention_weights(const AttendArgs& args) noexcept {
  for (int r = 0; r < args.rows; ++r) {
    AttendArgs row = args;
    row.rows = 1;
    row.q[0] = args.q[r];
    row.out[0] = args.out[r];
    row.counts[0] = args.counts[r];
    weigh_row<Kv>(row);
  }
}

}  // namespace
}  // namespace pygpt
