// Compiled once for each ISA, with PYGPT_ISA_HEADER naming its Simd and the compiler told that it may use the ISA.
// Exports one symbol, the table; all else is internal, so that no linker can mix code of two ISAs
// (docs/architecture.md).

#include PYGPT_ISA_HEADER

#include "kernels/cpu/attention.h"
#include "kernels/cpu/gate.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/norm.h"
#include "kernels/cpu/probe.h"
#include "kernels/cpu/quantise.h"
#include "kernels/cpu/rotate.h"

namespace pygpt {
namespace {

template <Vec (*function)(Vec)>
void apply(float* x, int64_t count) noexcept {
  for (int64_t i = 0; i < count; i += Simd::kLanes) Simd::store(x + i, function(Simd::load(x + i)));
}

void soft_cap(float* x, int64_t count, float cap) noexcept {
  const Vec limit = Simd::broadcast(cap);
  for (int64_t i = 0; i < count; i += Simd::kLanes) Simd::store(x + i, limit * vec_tanh(Simd::load(x + i) / limit));
}

template <class... Formats, class... Kvs>
constexpr KernelTable make_table(FormatList<Formats...>, FormatList<Kvs...>) {
  return {
      .isa = Simd::kName,
      .matmul = {matmul<Formats>...},
      .quantise = quantise,
      .norm = {layer_norm, rms_norm},
      .rotate = rotate,
      .activate = {apply<relu>, apply<gelu>, apply<gelu_tanh>, apply<silu>, apply<relu_squared>, apply<vec_tanh>},
      .gate = {gate<relu>, gate<gelu>, gate<gelu_tanh>, gate<silu>, gate<relu_squared>, gate<vec_tanh>},
      .soft_cap = soft_cap,
      .append = {append<Kvs>...},
      .attend = {attend<Kvs>...},
      .attention_weights = {attention_weights<Kvs>...},
      .exp = apply<vec_exp>,
      .probe = kProbes,
  };
}

constexpr KernelTable kTable = make_table(WeightFormats{}, KvTypes{});

}  // namespace

/// The kernels of this ISA, or null where the machine lacks it.
extern "C" const KernelTable* PYGPT_ISA_SYMBOL() { return Simd::supported() ? &kTable : nullptr; }

}  // namespace pygpt
