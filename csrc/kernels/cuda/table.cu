// The kernels of a GPU: compiled once by nvcc for every target, and once by a C++ compiler for the tests, which run
// them on the processor (tests/csrc/emulated). Exports one symbol.

#include "kernels/cuda/append.cuh"
#include "kernels/cuda/attend.cuh"
#include "kernels/cuda/choose.cuh"
#include "kernels/cuda/embed.cuh"
#include "kernels/cuda/matmul.cuh"

namespace pygpt::cuda {
namespace {

template <class... Formats>
constexpr void fill_matmul(KernelTable& table, FormatList<Formats...>) {
  int (*const all[])(const MatmulArgs&, void*) = {&matmul<Formats>...};
  for (int i = 0; i < WeightFormats::kCount; ++i) table.matmul[i] = all[i];
}

template <class... Kvs>
constexpr void fill_cache(KernelTable& table, FormatList<Kvs...>) {
  int (*const appends[])(const AppendArgs&, void*) = {&append<Kvs>...};
  int (*const attends[])(const AttendArgs&, void*) = {&attend<Kvs>...};
  for (int i = 0; i < KvTypes::kCount; ++i) {
    table.append[i] = appends[i];
    table.attend[i] = attends[i];
  }
}

KernelTable all_kernels() {
  KernelTable table{};
  table.embed = &embed;
  table.mix = &mix;
  table.norm = &norm;
  table.choose = &choose;
  fill_matmul(table, WeightFormats{});
  fill_cache(table, KvTypes{});
  return table;
}

}  // namespace

extern const KernelTable PYGPT_CUDA_SYMBOL;
const KernelTable PYGPT_CUDA_SYMBOL = all_kernels();

}  // namespace pygpt::cuda
