// Appending to the cache and attending to it, against float64: odd head sizes, contexts of more than one partial
// softmax, windows, groups of heads, norms and turns of q and k, every type of cache.

#include <cstring>

#include "base/half.h"
#include "check.h"
#include "emulated/numbers.h"
#include "emulated/test_device.h"
#include "model/kv_cache.h"

namespace pygpt::test {
namespace {

using cuda::TurnAndNorm;

struct Case {
  const char* name;
  int kv_type = 0;
  int n_kv_head = 1;
  int heads_per_group = 1;
  int head_dim = 16;
  int length = 20;
  int64_t window = 1 << 20;
  bool turns = false;
  bool norms = false;
  TurnAndNorm order = TurnAndNorm::norm_turn;
};

/// One sequence, all of its positions appended and attended to.
class Sequence {
 public:
  Sequence(cuda::Device& device, const Case& shape)
      : device_(device),
        shape_(shape),
        config_(config_of(shape)),
        layout_(config_, shape.kv_type),
        qkv_(numbers(shape.length * config_.qkv_rows(), 3)),
        angles_(numbers(shape.length * shape.head_dim, 4)),
        q_gain_(numbers(shape.head_dim, 5)),
        k_gain_(numbers(shape.head_dim, 6)),
        device_qkv_(device, shape.length, config_.qkv_rows(), qkv_),
        device_angles_(device, 1, std::ssize(angles_), angles_),
        device_q_gain_(device, 1, shape.head_dim, q_gain_),
        device_k_gain_(device, 1, shape.head_dim, k_gain_),
        pool_(device, pages_for(shape.length) * layout_.page_bytes),
        infos_(device, shape.length),
        page_numbers_(device, pages_for(shape.length) + 1) {
    std::vector<cuda::RowInfo> infos;
    for (int i = 0; i < shape.length; ++i) infos.push_back({0, -1, i, 1});
    std::vector<int32_t> pages = {-1};  // not ours
    for (int32_t i = static_cast<int32_t>(pages_for(shape.length)) - 1; i >= 0; --i) pages.push_back(i);
    device_.copy(infos_.data(), infos.data(), infos_.size() * static_cast<int64_t>(sizeof(cuda::RowInfo)));
    device_.copy(page_numbers_.data(), pages.data(), page_numbers_.size() * 4);
    device_.clear(pool_.data(), pool_.size());
    device_.synchronise();
  }

  void append() {
    cuda::AppendArgs args{};
    args.rows = infos_.data();
    args.count = shape_.length;
    args.qkv = device_qkv_.rows();
    args.n_kv_head = shape_.n_kv_head;
    args.heads_per_group = shape_.heads_per_group;
    args.cache = cache();
    args.angles = shape_.turns ? device_angles_.data() : nullptr;
    args.order = shape_.order;
    args.q_gain = shape_.norms ? device_q_gain_.data() : nullptr;
    args.k_gain = shape_.norms ? device_k_gain_.data() : nullptr;
    args.epsilon = 1e-5f;
    device_.check(device_.kernels().append[shape_.kv_type](args, device_.stream()));
  }

  /// What rows [first, first + count) get: [count, n_head, head_dim]; or, of all, the weights [n_head, length, length].
  std::vector<float> attend(int first, int count, bool weights = false) {
    const int n_head = shape_.n_kv_head * shape_.heads_per_group;
    const OnDevice out(device_, count, n_head * shape_.head_dim);
    const OnDevice seen(device_, n_head * shape_.length, shape_.length,
                        std::vector<float>(static_cast<size_t>(n_head * shape_.length * shape_.length)));
    const cuda::AttendArgs args{infos_.data() + first,
                                count,
                                {device_qkv_.data() + first * config_.qkv_rows(), config_.qkv_rows()},
                                n_head,
                                shape_.heads_per_group,
                                cache(),
                                shape_.window,
                                0.3f,
                                out.rows(),
                                weights ? seen.data() : nullptr,
                                shape_.length};
    device_.check(device_.kernels().attend[shape_.kv_type](args, device_.stream()));
    return weights ? seen.values() : out.values();
  }

  /// The weights of a row and head in float64, [length].
  std::vector<double> naive_weights(int row, int head) const {
    const auto q = head_of(row, head / shape_.heads_per_group, head % shape_.heads_per_group);
    std::vector<double> weights(static_cast<size_t>(shape_.length));
    double largest = -1e300, sum = 0;
    const int64_t begin = std::max<int64_t>(0, row + 1 - shape_.window);
    std::vector<double> scores;
    for (int64_t p = begin; p <= row; ++p) {
      const auto k = stored(head_of(static_cast<int>(p), head / shape_.heads_per_group, shape_.heads_per_group));
      double score = 0;
      for (size_t d = 0; d < k.size(); ++d) score += q[d] * k[d];
      scores.push_back(score * static_cast<double>(0.3f));
      largest = std::max(largest, scores.back());
    }
    for (double& score : scores) sum += score = std::exp(score - largest);
    for (size_t i = 0; i < scores.size(); ++i) weights[static_cast<size_t>(begin) + i] = scores[i] / sum;
    return weights;
  }

  std::vector<double> naive(int row, int head) const {
    const auto weights = naive_weights(row, head);
    std::vector<double> out(static_cast<size_t>(shape_.head_dim));
    for (int p = 0; p <= row; ++p) {
      const auto v = stored(head_of(p, head / shape_.heads_per_group, shape_.heads_per_group + 1));
      for (size_t d = 0; d < v.size(); ++d) out[d] += weights[static_cast<size_t>(p)] * v[d];
    }
    return out;
  }

 private:
  static ModelConfig config_of(const Case& shape) {
    ModelConfig config;
    config.n_layer = 1;
    config.n_kv_head = shape.n_kv_head;
    config.n_head = shape.n_kv_head * shape.heads_per_group;
    config.head_dim = shape.head_dim;
    return config;
  }

  cuda::CacheOf cache() const {
    return {pool_.data(),    layout_.page_bytes, page_numbers_.data(), 0, layout_.k_bytes + layout_.v_bytes,
            layout_.k_bytes, shape_.head_dim};
  }

  /// Head `head` of a group: those of q, then k, then v, normed and turned.
  std::vector<double> head_of(int row, int group, int head) const {
    const int64_t padded = config_.padded_head_dim();
    const auto* from = qkv_.data() + row * config_.qkv_rows() + group * config_.group_rows() + head * padded;
    std::vector<float> x(from, from + shape_.head_dim);
    std::vector<double> values(x.begin(), x.end());
    if (head > shape_.heads_per_group) return values;
    const auto& gain = head < shape_.heads_per_group ? q_gain_ : k_gain_;
    const auto normed = [&] {
      if (!shape_.norms) return;
      double squares = 0;
      for (const double value : values) squares += value * value / static_cast<double>(shape_.head_dim);
      for (size_t d = 0; d < values.size(); ++d) values[d] *= static_cast<double>(gain[d]) / std::sqrt(squares + 1e-5);
    };
    if (shape_.order == TurnAndNorm::norm_turn) normed();
    if (shape_.turns) turn(values, row);
    if (shape_.order == TurnAndNorm::turn_norm) normed();
    return values;
  }

  void turn(std::vector<double>& x, int row) const {
    const size_t pairs = x.size() / 2;
    for (size_t i = 0; i < pairs; ++i) {
      const double cos = static_cast<double>(angles_[static_cast<size_t>(row) * x.size() + i]);
      const double sin = static_cast<double>(angles_[static_cast<size_t>(row) * x.size() + i + pairs]);
      const double a = x[i], b = x[i + pairs];
      x[i] = a * cos - b * sin;
      x[i + pairs] = b * cos + a * sin;
    }
  }

  /// As the cache rounds it.
  std::vector<double> stored(std::vector<double> x) const {
    double largest = 0;
    for (const double value : x) largest = std::max(largest, std::fabs(value));
    for (double& value : x) {
      const auto f = static_cast<float>(value);
      if (shape_.kv_type == 1) value = static_cast<double>(to_float(to_half(f)));
      if (shape_.kv_type == 2) value = static_cast<double>(to_float(to_bfloat16(f)));
      if (shape_.kv_type == 3) value = largest == 0 ? 0 : std::nearbyint(value * 127 / largest) * largest / 127;
    }
    return x;
  }

  cuda::Device& device_;
  Case shape_;
  ModelConfig config_;
  PageLayout layout_;
  std::vector<float> qkv_, angles_, q_gain_, k_gain_;
  OnDevice device_qkv_, device_angles_, device_q_gain_, device_k_gain_;
  cuda::DeviceArray<std::byte> pool_;
  cuda::DeviceArray<cuda::RowInfo> infos_;
  cuda::DeviceArray<int32_t> page_numbers_;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {.name = "one number", .head_dim = 1, .length = 3},
      {.name = "odd heads", .n_kv_head = 3, .head_dim = 5, .length = 40},
      {.name = "f16, two partials", .kv_type = 1, .head_dim = 24, .length = 270},
      {.name = "bf16, groups", .kv_type = 2, .n_kv_head = 2, .heads_per_group = 3, .head_dim = 8, .length = 35},
      {.name = "int8", .kv_type = 3, .n_kv_head = 2, .head_dim = 20, .length = 70},
      {.name = "a wide head", .kv_type = 1, .head_dim = 300, .length = 4},
      {.name = "a window", .kv_type = 1, .head_dim = 16, .length = 300, .window = 37},
      {.name = "turned", .heads_per_group = 2, .head_dim = 10, .length = 20, .turns = true},
      {.name = "normed, then turned", .n_kv_head = 2, .head_dim = 10, .length = 10, .turns = true, .norms = true},
      {.name = "turned, then normed",
       .heads_per_group = 2,
       .head_dim = 66,
       .length = 10,
       .turns = true,
       .norms = true,
       .order = TurnAndNorm::turn_norm},
  };
  return all;
}

/// Rounding ties of bytes may fall the other way in float32: one step of the largest, at one of many positions.
double tolerance(const Case& shape) { return shape.kv_type == 3 ? 1e-2 : shape.kv_type == 0 ? 2e-5 : 2e-3; }

std::vector<int> some_rows(int length) {
  std::vector<int> rows = {0, length / 2, length - 1};
  if (length > 258) rows.insert(rows.end(), {255, 256, 257});
  return rows;
}

void against_float64() {
  const auto device = open_test_device();
  for (const Case& shape : cases()) {
    Sequence sequence(*device, shape);
    sequence.append();
    const int n_head = shape.n_kv_head * shape.heads_per_group;
    for (const int row : some_rows(shape.length)) {
      const auto got = sequence.attend(row, 1);
      for (int head = 0; head < n_head; ++head) {
        const auto wanted = sequence.naive(row, head);
        for (size_t d = 0; d < wanted.size(); ++d)
          expect_near(got[static_cast<size_t>(head * shape.head_dim) + d], wanted[d], tolerance(shape),
                      join(shape.name, ", row ", row, ", head ", head));
      }
    }
  }
}
const Test against_float64_test{"attention is within rounding of float64, whatever the cache holds it in",
                                against_float64};

void any_batch() {
  const auto device = open_test_device();
  const Case shape{.name = "", .kv_type = 1, .n_kv_head = 1, .heads_per_group = 2, .head_dim = 12, .length = 262};
  Sequence sequence(*device, shape);
  sequence.append();
  const auto together = sequence.attend(250, 12);
  for (int i = 0; i < 12; ++i) {
    const auto alone = sequence.attend(250 + i, 1);
    expect(std::memcmp(alone.data(), together.data() + i * 24, 24 * sizeof(float)) == 0, join("row ", 250 + i));
  }
}
const Test any_batch_test{"a row attends to the same bits beside any number of other rows", any_batch};

void weights() {
  const auto device = open_test_device();
  for (const int64_t window : {1 << 20, 30}) {
    const Case shape{.name = "", .kv_type = 1, .heads_per_group = 2, .head_dim = 8, .length = 263, .window = window};
    Sequence sequence(*device, shape);
    sequence.append();
    const auto got = sequence.attend(0, shape.length, true);
    for (int head = 0; head < 2; ++head) {
      for (const int row : {0, 31, 200, 255, 256, 262}) {
        const auto wanted = sequence.naive_weights(row, head);
        for (int p = 0; p < shape.length; ++p)
          expect_near(got[static_cast<size_t>((head * shape.length + row) * shape.length + p)],
                      wanted[static_cast<size_t>(p)], 1e-4, join("window ", window, " row ", row, " position ", p));
      }
    }
  }
}
const Test weights_test{"the weights themselves, where somebody wants to see them", weights};

}  // namespace
}  // namespace pygpt::test
