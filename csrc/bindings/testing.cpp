// Every kernel, offered to numpy with a named ISA: what the tests hold against naive float64 twins.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/aligned.h"
#include "base/machine.h"
#include "bindings/module.h"
#include "engine/request.h"
#include "formats/pack.h"
#include "kernels/cpu/select.h"
#include "model/kv_cache.h"
#include "model/rotary.h"
#include "sampling/chain.h"
#include "sampling/exp.h"
#include "sampling/philox.h"

namespace pygpt {
namespace py = pybind11;
namespace {

using Floats = py::array_t<float, py::array::c_style | py::array::forcecast>;

void want(bool ok, const char* message) {
  if (!ok) throw py::value_error(message);
}

int format_id(const std::string& name) {
  const auto format = WeightFormats::find(name);
  want(format.has_value(), "unknown format");
  return *format;
}

/// Rows filled up with zeros as the engine's are.
struct PaddedRows {
  explicit PaddedRows(const Floats& array)
      : rows(array.ndim() == 1 ? 1 : array.shape(0)),
        width(array.shape(array.ndim() - 1)),
        stride(round_up(width, kGroup)),
        memory(rows * stride) {
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(memory.data() + r * stride, array.data() + r * width, static_cast<size_t>(width) * sizeof(float));
  }
  const float* row(int64_t r) const { return memory.data() + r * stride; }

  int64_t rows, width, stride;
  AlignedArray<float> memory;
};

/// The rows as a matrix of this format reads them.
struct InputRows {
  InputRows(const PaddedRows& rows, int format, const KernelTable& kernels) {
    if (is_plain(format)) {
      memory = AlignedArray<std::byte>(rows.memory.size() * static_cast<int64_t>(sizeof(float)));
      std::memcpy(memory.data(), rows.memory.data(), static_cast<size_t>(memory.size()));
      stride = rows.stride * static_cast<int64_t>(sizeof(float));
      return;
    }
    stride = round_up(ByteRow(rows.width).size(), kAlignment);
    memory = AlignedArray<std::byte>(rows.rows * stride);
    for (int64_t r = 0; r < rows.rows; ++r)
      kernels.quantise({rows.row(r), rows.width, 0, group_count(rows.width), memory.data() + r * stride});
  }

  AlignedArray<std::byte> memory;
  int64_t stride = 0;
};

Floats without_padding(const float* rows, int64_t count, int64_t width, int64_t stride) {
  Floats out({count, width});
  for (int64_t r = 0; r < count; ++r)
    std::memcpy(out.mutable_data(r, 0), rows + r * stride, static_cast<size_t>(width) * sizeof(float));
  return out;
}

/// x w^T + bias (+ y), in the range of panels [first, last); the rest of the result is y or zero.
Floats matmul(const Floats& x, const Floats& w, const std::string& format_name, const std::string& isa,
              const std::optional<Floats>& bias, const std::optional<Floats>& y, int64_t first, int64_t last,
              bool far) {
  want(x.ndim() == 2 && w.ndim() == 2 && x.shape(1) == w.shape(1), "x [rows, k] and w [n, k] must agree in k");
  const int64_t n = w.shape(0);
  const int64_t k = w.shape(1);
  const int format = format_id(format_name);
  AlignedArray<std::byte> packed(packed_bytes(TensorKind::matrix, format, n, k).value());
  pack(TensorKind::matrix, format, w.data(), n, k, packed.data());
  const KernelTable& kernels = select_kernels(isa);
  const PaddedRows rows(x);
  const InputRows input(rows, format, kernels);
  AlignedArray<float> padded_bias(round_up(n, kPanel));
  if (bias) std::memcpy(padded_bias.data(), bias->data(), static_cast<size_t>(n) * sizeof(float));
  PaddedRows out(y ? *y : Floats(py::array_t<float>(py::array::ShapeContainer{x.shape(0), n})));
  if (!y) std::memset(out.memory.data(), 0, static_cast<size_t>(out.memory.size()) * sizeof(float));
  want(out.rows == rows.rows && out.width == n, "y must be [rows, n]");
  kernels.matmul[format]({
      .x = input.memory.data(),
      .x_stride = input.stride,
      .rows = rows.rows,
      .w = packed.data(),
      .k = k,
      .first = first,
      .last = last < 0 ? panel_count(n) : last,
      .bias = bias ? padded_bias.data() : nullptr,
      .y = out.memory.data(),
      .y_stride = out.stride,
      .add = y.has_value(),
      .far = far,
  });
  return without_padding(out.memory.data(), out.rows, n, out.stride);
}

/// Seconds of each of `repeats` products x w^T, the first ones left out. `matrices` matrices [n, k] take turns, so that
/// the caller decides which cache holds them.
std::vector<double> time_matmul(const std::string& format_name, int64_t rows, int64_t n, int64_t k, int64_t matrices,
                                int repeats, const std::string& isa) {
  want(rows > 0 && n > 0 && k > 0 && matrices > 0 && repeats > 0, "sizes must be positive");
  const KernelTable& kernels = select_kernels(isa);
  const int format = format_id(format_name);
  const int64_t bytes = round_up(packed_bytes(TensorKind::matrix, format, n, k).value(), kAlignment);
  AlignedArray<std::byte> w(bytes * matrices);
  const std::vector<float> weights(static_cast<size_t>(n * k), 0.01f);
  pack(TensorKind::matrix, format, weights.data(), n, k, w.data());
  for (int64_t i = 1; i < matrices; ++i) std::memcpy(w.data() + i * bytes, w.data(), static_cast<size_t>(bytes));
  const Floats x(py::array::ShapeContainer{rows, k});
  const PaddedRows padded(x);
  const InputRows input(padded, format, kernels);
  AlignedArray<float> y(rows * round_up(n, kGroup));
  std::vector<double> seconds;
  const py::gil_scoped_release release;
  for (int i = -1; i < repeats; ++i) {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t matrix = 0; matrix < matrices; ++matrix) {
      kernels.matmul[format]({input.memory.data(), input.stride, rows, w.data() + matrix * bytes, k, 0, panel_count(n),
                              nullptr, y.data(), round_up(n, kGroup), false, w.size() > last_level_cache()});
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (i >= 0) seconds.push_back(taken.count() / static_cast<double>(matrices));
  }
  return seconds;
}

Floats norm(Norm kind, const Floats& x, const Floats& gain, const std::optional<Floats>& bias, float epsilon,
            const std::string& isa) {
  want(x.ndim() == 2 && gain.size() == x.shape(1), "x [rows, width] and gain [width] must agree");
  const PaddedRows rows(x);
  const PaddedRows padded_gain(gain);
  const PaddedRows padded_bias(bias ? *bias : gain);
  AlignedArray<float> out(rows.memory.size());
  for (int64_t r = 0; r < rows.rows; ++r) {
    select_kernels(isa).norm[static_cast<size_t>(kind)]({rows.row(r), padded_gain.row(0),
                                                         bias ? padded_bias.row(0) : nullptr, epsilon, rows.width,
                                                         out.data() + r * rows.stride});
  }
  return without_padding(out.data(), rows.rows, rows.width, rows.stride);
}

Floats layer_norm(const Floats& x, const Floats& gain, const std::optional<Floats>& bias, float epsilon,
                  const std::string& isa) {
  return norm(Norm::layer_norm, x, gain, bias, epsilon, isa);
}

Floats rms_norm(const Floats& x, const Floats& gain, float epsilon, const std::string& isa) {
  return norm(Norm::rms_norm, x, gain, std::nullopt, epsilon, isa);
}

/// Rows of one head of q or k at rotary positions `first`, `first` + 1, ...
Floats rotate(const Floats& x, double theta, int64_t first, const std::string& isa) {
  want(x.ndim() == 2 && x.shape(1) % 2 == 0 && theta > 0, "x must be [rows, an even number]");
  ModelConfig config;
  config.position = Position::rotary;
  config.rope_theta = theta;
  config.head_dim = x.shape(1);
  const Rotary rotary(config);
  std::vector<float> angles(static_cast<size_t>(config.head_dim));
  Floats out({x.shape(0), x.shape(1)});
  std::memcpy(out.mutable_data(), x.data(), static_cast<size_t>(x.size()) * sizeof(float));
  for (int64_t row = 0; row < x.shape(0); ++row) {
    rotary.angles(first + row, angles.data());
    select_kernels(isa).rotate(
        {out.mutable_data(row, 0), angles.data(), angles.data() + rotary.pairs(), rotary.pairs()});
  }
  return out;
}

/// What the quantised formats make of rows of activations [rows, k]: (bytes [rows, k], scales [rows, groups], starts
/// [rows, groups]).
py::tuple quantise(const Floats& x, const std::string& isa) {
  want(x.ndim() == 2, "x must be [rows, k]");
  const PaddedRows rows(x);
  const ByteRow row(rows.width);
  AlignedArray<std::byte> memory(row.size());
  py::array_t<int8_t> bytes({rows.rows, rows.width});
  Floats scales({rows.rows, row.groups});
  py::array_t<int32_t> starts({rows.rows, row.groups});
  for (int64_t r = 0; r < rows.rows; ++r) {
    select_kernels(isa).quantise({rows.row(r), rows.width, 0, row.groups, memory.data()});
    const auto groups = static_cast<size_t>(row.groups);
    std::memcpy(bytes.mutable_data(r, 0), memory.data(), static_cast<size_t>(rows.width));
    std::memcpy(scales.mutable_data(r, 0), memory.data() + row.scales(), groups * sizeof(float));
    std::memcpy(starts.mutable_data(r, 0), memory.data() + row.starts(), groups * sizeof(int32_t));
  }
  return py::make_tuple(bytes, scales, starts);
}

template <class Function>
Floats elementwise(const Floats& x, Function&& function) {
  AlignedArray<float> padded(round_up(x.size(), kPanel));
  std::memcpy(padded.data(), x.data(), static_cast<size_t>(x.size()) * sizeof(float));
  function(padded.data(), padded.size());
  Floats out(x.size());
  std::memcpy(out.mutable_data(), padded.data(), static_cast<size_t>(x.size()) * sizeof(float));
  return out;
}

int activation_id(const std::string& name) {
  for (int i = 0; i < kActivationCount; ++i) {
    if (name == kActivationNames[i]) return i;
  }
  throw py::value_error("unknown activation");
}

Floats activate(const Floats& x, const std::string& name, const std::string& isa) {
  return elementwise(x, select_kernels(isa).activate[activation_id(name)]);
}

/// activation(x[..., 0, :]) * x[..., 1, :] of panels [panels, 2, 16].
Floats gate(const Floats& x, const std::string& name, const std::string& isa) {
  want(x.ndim() == 3 && x.shape(1) == 2 && x.shape(2) == kPanel, "x must be [panels, 2, 16]");
  Floats out({x.shape(0), x.shape(2)});
  select_kernels(isa).gate[activation_id(name)]({x.data(), out.mutable_data(), x.shape(0)});
  return out;
}

/// One head: q [rows, d] at the positions after those of k, v [count - rows, ...]: k and v hold `count` positions, row
/// r of q sees the first count - rows + r + 1 of them; `together` rows are attended in one call. What lies in the pages
/// behind is `filler`.
Floats attend(const Floats& q, const Floats& k, const Floats& v, float scale, const std::string& kv_dtype,
              const std::string& isa, float filler, int together) {
  want(together >= 1 && together <= kAttendRows, "together must be from 1 to the kernel's rows");
  want(q.ndim() == 2 && k.ndim() == 2 && v.ndim() == 2 && q.shape(1) == k.shape(1) && k.shape(0) == v.shape(0),
       "q, k, v must be [positions, head_dim]");
  const KernelTable& kernels = select_kernels(isa);
  ModelConfig config;
  config.n_layer = config.n_head = config.n_kv_head = 1;
  config.head_dim = q.shape(1);
  const auto type = KvTypes::find(kv_dtype);
  want(type.has_value(), "unknown kv_dtype");
  const PageLayout layout(config, *type);
  const int64_t count = k.shape(0);
  std::vector<AlignedArray<std::byte>> memory;
  std::vector<const std::byte*> pages;
  const PaddedRows keys(k);
  const PaddedRows values(v);
  for (int64_t page = 0; page < pages_for(count); ++page) {
    memory.emplace_back(layout.page_bytes);
    pages.push_back(memory.back().data());
    const AlignedArray<float> zeros(config.padded_head_dim());
    std::vector<float> fill(static_cast<size_t>(config.padded_head_dim()), filler);
    for (int column = 0; column < kPageRows; ++column) {
      const int64_t position = page * kPageRows + column;
      const bool real = position < count;
      kernels.append[layout.type]({real ? keys.row(position) : fill.data(), real ? values.row(position) : fill.data(),
                                   static_cast<int>(config.head_dim), column, memory.back().data(),
                                   memory.back().data() + layout.v_offset(0, 0)});
    }
  }
  Floats out({q.shape(0), q.shape(1)});
  for (py::ssize_t first = 0; first < q.shape(0); first += together) {
    AttendArgs args{static_cast<int>(std::min<py::ssize_t>(together, q.shape(0) - first)),
                    {},
                    {},
                    {},
                    pages.data(),
                    0,
                    layout.v_offset(0, 0),
                    static_cast<int>(config.head_dim),
                    scale};
    for (int i = 0; i < args.rows; ++i) {
      args.q[i] = q.data(first + i, 0);
      args.out[i] = out.mutable_data(first + i, 0);
      args.counts[i] = count - q.shape(0) + first + i + 1;
    }
    kernels.attend[layout.type](args);
  }
  return out;
}

/// The token that the rules of `request` choose from logits, after `output` was chosen.
int32_t choose_token(const Floats& logits, const Request& request, const std::vector<int32_t>& output) {
  const auto vocab_size = static_cast<int32_t>(logits.size());
  want(vocab_size > 0, "logits are empty");
  Sampler sampler(request.sampling, vocab_size, request.prompt);
  for (const int32_t token : output) sampler.accept(token);
  SamplingScratch scratch(vocab_size);
  return choose({logits.data(), static_cast<size_t>(vocab_size)}, sampler, scratch);
}

std::vector<uint32_t> philox_words(const std::array<uint32_t, 4>& counter, uint64_t key) {
  const uint32_t words[4] = {counter[0], counter[1], counter[2], counter[3]};
  const sampling::Philox random = sampling::philox(words, key);
  return {random.word, random.word + 4};
}

}  // namespace

void bind_testing(py::module_& module) {
  module.def("matmul", &matmul, py::arg("x"), py::arg("w"), py::arg("format"), py::kw_only(), py::arg("isa") = "",
             py::arg("bias") = py::none(), py::arg("y") = py::none(), py::arg("first") = 0, py::arg("last") = -1,
             py::arg("far") = false);
  module.def("time_matmul", &time_matmul, py::arg("format"), py::arg("rows"), py::arg("n"), py::arg("k"), py::kw_only(),
             py::arg("matrices") = 1, py::arg("repeats") = 10, py::arg("isa") = "");
  module.def("layer_norm", &layer_norm, py::arg("x"), py::arg("gain"), py::arg("bias") = py::none(),
             py::arg("epsilon") = 1e-5f, py::kw_only(), py::arg("isa") = "");
  module.def("rms_norm", &rms_norm, py::arg("x"), py::arg("gain"), py::arg("epsilon") = 1e-5f, py::kw_only(),
             py::arg("isa") = "");
  module.def("rotate", &rotate, py::arg("x"), py::arg("theta"), py::arg("first") = 0, py::kw_only(),
             py::arg("isa") = "");
  module.def("activate", &activate, py::arg("x"), py::arg("activation"), py::kw_only(), py::arg("isa") = "");
  module.def("gate", &gate, py::arg("x"), py::arg("activation"), py::kw_only(), py::arg("isa") = "");
  module.def(
      "exp", [](const Floats& x, const std::string& isa) { return elementwise(x, select_kernels(isa).exp); },
      py::arg("x"), py::kw_only(), py::arg("isa") = "");
  module.def("attend", &attend, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("scale"), py::kw_only(),
             py::arg("kv_dtype") = "f32", py::arg("isa") = "", py::arg("filler") = 0.0f, py::arg("together") = 1);
  module.def("quantise", &quantise, py::arg("x"), py::kw_only(), py::arg("isa") = "");
  module.def("choose", &choose_token, py::arg("logits"), py::arg("request"),
             py::arg("output") = std::vector<int32_t>{});
  module.def("philox", &philox_words, py::arg("counter"), py::arg("key"));
  module.def("uniform", &sampling::uniform, py::arg("seed"), py::arg("sample"), py::arg("index"));
  module.def("sampling_exp", &sampling::exp_nonpositive, py::arg("x"));
}

}  // namespace pygpt
