#include "backend/cuda/device_layout.h"

#include "base/machine.h"
#include "base/team.h"
#include "formats/formats.h"
#include "kernels/cuda/fragments.h"

namespace pygpt::cuda {
namespace {

constexpr int64_t kFewWeights = 1 << 16;  // packed sooner than a thread has started

template <class Format>
void pack_panel(const std::byte* from, int64_t k, std::byte* to) {
  const auto* weights = reinterpret_cast<const typename Format::Element*>(from);
  auto* places = reinterpret_cast<typename Format::Element*>(to);
  for (int64_t at = 0; at < k; ++at) {
    for (int column = 0; column < kPanel; ++column)
      places[fragment_index(column, at)] = weights[Format::index(column, at)];
  }
}

}  // namespace

bool is_packed_anew(const Matrix& matrix) {
  return matrix.kind == TensorKind::matrix && WeightFormats::visit(matrix.format, []<class Format>() {
           return std::is_same_v<Format, F16> || std::is_same_v<Format, BF16>;
         });
}

AlignedArray<std::byte> device_layout(const Matrix& matrix) {
  AlignedArray<std::byte> packed(matrix.panels() * fragment_panel(matrix.k) * 2);
  Team team(matrix.n * matrix.k <= kFewWeights ? 1 : available_cpus());
  WeightFormats::visit(matrix.format, [&]<class Format>() {
    if constexpr (Format::kIsPlain) {
      team.run([&](int worker) noexcept {
        const int64_t last = matrix.panels() * (worker + 1) / team.size();
        for (int64_t panel = matrix.panels() * worker / team.size(); panel < last; ++panel) {
          pack_panel<Format>(matrix.data + panel * Format::panel_bytes(matrix.k), matrix.k,
                             packed.data() + panel * fragment_panel(matrix.k) * 2);
        }
      });
    }
  });
  return packed;
}

}  // namespace pygpt::cuda
