#pragma once
// Where a position's k and v lie: in a page, for each layer and head, k as [head_dim][32] and v as [32][padded
// head_dim], each followed by f32 scales [32] where the type has them (model/kv_cache.h).

#include "formats/kv_types.h"
#include "kernels/cuda/numbers.cuh"
#include "kernels/cuda/table.h"

namespace pygpt::cuda {
namespace {

template <class Kv>
struct HeadPage {
  typename Kv::Element* k;
  typename Kv::Element* v;
  float* k_scales;  // [32], where the type has scales
  float* v_scales;
};

template <class Kv>
PYGPT_DEVICE HeadPage<Kv> head_page(const CacheOf& cache, const RowInfo& row, int64_t position, int group) {
  using Element = typename Kv::Element;
  const int64_t page = cache.pages[row.pages + position / kPageRows];
  std::byte* at = cache.pool + page * cache.page_bytes + cache.layer_offset + group * cache.group_bytes;
  const int64_t k_numbers = int64_t{cache.head_dim} * kPageRows;
  const int64_t v_numbers = round_up(cache.head_dim, kPanel) * kPageRows;
  auto* k = reinterpret_cast<Element*>(at);
  auto* v = reinterpret_cast<Element*>(at + cache.v_offset);
  return {k, v, reinterpret_cast<float*>(k + k_numbers), reinterpret_cast<float*>(v + v_numbers)};
}

}  // namespace
}  // namespace pygpt::cuda
