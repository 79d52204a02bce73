// Products against float64, for every format, odd sizes, and everything that may become of the sums.

#include <cmath>
#include <cstring>

#include "backend/cuda/device_layout.h"
#include "check.h"
#include "emulated/numbers.h"
#include "emulated/test_device.h"
#include "formats/pack.h"

namespace pygpt::test {
namespace {

using cuda::After;

/// What is multiplied, on the host and on the device.
struct Product {
  Product(cuda::Device& device, int format, int64_t rows, int64_t n, int64_t k, uint32_t seed = 1)
      : format(format),
        rows(rows),
        n(n),
        k(k),
        x(numbers(rows * k, seed)),
        bias(numbers(round_up(n, kPanel), seed + 2)),
        packed(packed_bytes(TensorKind::matrix, format, n, k).value()),
        device_x(device, rows, k, x),
        device_bias(device, 1, round_up(n, kPanel), bias) {
    pack(TensorKind::matrix, format, numbers(n * k, seed + 1).data(), n, k, packed.data());
    const Matrix matrix{.data = packed.data(), .kind = TensorKind::matrix, .format = format, .n = n, .k = k};
    const auto anew = cuda::is_packed_anew(matrix) ? cuda::device_layout(matrix) : AlignedArray<std::byte>();
    const auto& bytes = cuda::is_packed_anew(matrix) ? anew : packed;
    device_w = cuda::DeviceArray<std::byte>(device, bytes.size());
    device.copy(device_w.data(), bytes.data(), bytes.size());
    device.synchronise();
  }

  cuda::MatmulArgs args(const OnDevice& y, After after) const {
    cuda::MatmulArgs made{};
    made.x = device_x.rows();
    made.rows = static_cast<int>(rows);
    made.w = device_w.data();
    made.bias = device_bias.data();
    made.n = n;
    made.k = k;
    made.y = y.rows();
    made.after = after;
    made.activation = Activation::gelu;
    return made;
  }

  /// Row `row` of x as the format's products see it: quantised formats round it to bytes.
  std::vector<double> seen(int64_t row) const {
    return rounded_row(std::vector<double>(x.begin() + row * k, x.begin() + (row + 1) * k), !is_plain(format));
  }

  double exact(const std::vector<double>& row, int64_t column) const {
    std::vector<float> w(static_cast<size_t>(k));
    unpack_row(TensorKind::matrix, format, packed.data(), k, column, w.data());
    double sum = static_cast<double>(bias[static_cast<size_t>(column)]);
    for (size_t i = 0; i < w.size(); ++i) sum += row[i] * static_cast<double>(w[i]);
    return sum;
  }

  int format;
  int64_t rows, n, k;
  std::vector<float> x, bias;
  AlignedArray<std::byte> packed;
  OnDevice device_x, device_bias;
  cuda::DeviceArray<std::byte> device_w;
};

/// k additions of products of about 1, each rounded once; and what a rounding tie of an activation may add.
double tolerance(int64_t k) { return 1e-6 * static_cast<double>(k) + 1e-6; }

void against_float64() {
  const auto device = open_test_device();
  for (int format = 0; format < WeightFormats::kCount; ++format) {
    for (const int64_t k : {1, 7, 64, 65, 200, 1030}) {
      for (const int64_t rows : {1, 3}) {
        const int64_t n = k % 2 == 0 ? 16 : 37;
        const Product product(*device, format, rows, n, k);
        const OnDevice y(*device, rows, n, numbers(rows * n, 9));
        const auto before = y.values();
        device->check(device->kernels().matmul[format](product.args(y, After::add), device->stream()));
        const auto got = y.values();
        for (int64_t i = 0; i < rows * n; ++i) {
          const auto at = static_cast<size_t>(i);
          const double wanted = static_cast<double>(before[at]) + product.exact(product.seen(i / n), i % n);
          expect_near(
              got[at], wanted, tolerance(k),
              join(WeightFormats::kNames[static_cast<size_t>(format)], " k ", k, " row ", i / n, " column ", i % n));
        }
      }
    }
  }
}
const Test against_float64_test{"x w^T + bias is within rounding of float64 in every format", against_float64};

void without_tensor_cores() {
  set_tensor_cores(false);
  against_float64();
  set_tensor_cores(true);
}
const Test without_tensor_cores_test{"and where there are no tensor cores", without_tensor_cores};

void any_batch() {
  const auto device = open_test_device();
  for (int format = 0; format < WeightFormats::kCount; ++format) {
    const Product product(*device, format, 35, 33, 300);
    const OnDevice together(*device, 35, 33);
    device->check(device->kernels().matmul[format](product.args(together, After::store), device->stream()));
    const auto wanted = together.values();
    for (const int64_t rows : {1, 2, 3, 4, 5, 8, 9, 17, 33}) {
      const OnDevice some(*device, rows, 33);
      auto args = product.args(some, After::store);
      args.rows = static_cast<int>(rows);
      device->check(device->kernels().matmul[format](args, device->stream()));
      const auto got = some.values();
      expect(std::memcmp(got.data(), wanted.data(), got.size() * sizeof(float)) == 0,
             join(WeightFormats::kNames[static_cast<size_t>(format)], ", ", rows, " rows"));
    }
  }
}
const Test any_batch_test{"a row's product is the same bits beside any number of other rows", any_batch};

void afterwards() {
  const auto device = open_test_device();
  const int64_t n = 21, k = 40;
  for (const int format : {0, 3}) {
    const Product product(*device, format, 2, n, k);
    const OnDevice y(*device, 2, n);
    for (int kind = 0; kind < kActivationCount; ++kind) {
      auto args = product.args(y, After::activate);
      args.activation = static_cast<Activation>(kind);
      device->check(device->kernels().matmul[format](args, device->stream()));
      const auto got = y.values();
      for (int64_t i = 0; i < 2 * n; ++i) {
        const double wanted = naive_activation(args.activation, product.exact(product.seen(i / n), i % n));
        expect_near(got[static_cast<size_t>(i)], wanted, 3e-4, kActivationNames[kind]);
      }
    }
    auto capped = product.args(y, After::store);
    capped.cap = 1.5f;
    device->check(device->kernels().matmul[format](capped, device->stream()));
    const auto got = y.values();
    for (int64_t i = 0; i < 2 * n; ++i)
      expect_near(got[static_cast<size_t>(i)], 1.5 * std::tanh(product.exact(product.seen(i / n), i % n) / 1.5), 1e-4,
                  "cap");
  }
}
const Test afterwards_test{"every activation, and the soft cap of logits", afterwards};

void gates() {
  const auto device = open_test_device();
  for (int format = 0; format < WeightFormats::kCount; ++format) {
    const int64_t d_ff = 21, k = 70;
    const Product product(*device, format, 3, 2 * round_up(d_ff, kPanel), k);
    const OnDevice y(*device, 3, d_ff);
    auto args = product.args(y, After::gate);
    args.n = d_ff;
    args.activation = Activation::silu;
    device->check(device->kernels().matmul[format](args, device->stream()));
    const auto got = y.values();
    for (int64_t i = 0; i < 3 * d_ff; ++i) {
      const auto row = product.seen(i / d_ff);
      const int64_t panel = i % d_ff / kPanel * 2 * kPanel + i % d_ff % kPanel;
      const double wanted =
          naive_activation(Activation::silu, product.exact(row, panel)) * product.exact(row, panel + kPanel);
      expect_near(got[static_cast<size_t>(i)], wanted, 1e-3, join("format ", format, " at ", i));
    }
  }
}
const Test gates_test{"panels of gate and of up take turns", gates};

void normed_and_picked() {
  const auto device = open_test_device();
  const auto gain = numbers(90, 5), shift = numbers(90, 6);
  const OnDevice device_gain(*device, 1, 90, gain), device_shift(*device, 1, 90, shift);
  const std::vector<int32_t> places = {4, 1};
  cuda::DeviceArray<int32_t> device_places(*device, 2);
  device->copy(device_places.data(), places.data(), 2 * sizeof(int32_t));
  for (const Norm kind : {Norm::layer_norm, Norm::rms_norm}) {
    for (const int format : {1, 3}) {
      const Product product(*device, format, 5, 18, 90);
      const OnDevice y(*device, 2, 18);
      auto args = product.args(y, After::store);
      args.rows = 2;
      args.places = device_places.data();
      args.norm = {device_gain.data(), device_shift.data(), 1e-5f, kind};
      device->check(device->kernels().matmul[format](args, device->stream()));
      const auto got = y.values();
      for (size_t i = 0; i < got.size(); ++i) {
        const auto* x = product.x.data() + places[i / 18] * 90;
        const auto row = rounded_row(naive_norm({x, x + 90}, gain, shift, kind), !is_plain(format));
        expect_near(got[i], product.exact(row, static_cast<int64_t>(i % 18)), 2e-3, "a normed product");
      }
    }
  }
}
const Test normed_and_picked_test{"rows are picked and normed on the way", normed_and_picked};

}  // namespace
}  // namespace pygpt::test
