#include "kernels/cpu/select.h"

#include "base/error.h"

namespace pygpt {

// One function an ISA, defined in that ISA's table.cpp object. CMake writes the list, best first, from its add_isa
// lines.
#define PYGPT_ISA(name) extern "C" const KernelTable* pygpt_kernels_##name();
#include "isa_list.h"
#undef PYGPT_ISA

namespace {

/// Lets avx512 multiply f16 weights with avx2's kernel: Zen 4 converts halves faster eight at a time (80 GB/s against
/// 52 from its second cache), and a chain of fused steps has the same bits at any width.
void lend_halves(std::vector<const KernelTable*>& tables) {
  if (tables.size() < 2 || tables[0]->isa != std::string("avx512") || tables[1]->isa != std::string("avx2")) return;
  static KernelTable mixed = *tables[0];
  const auto f16 = static_cast<size_t>(WeightFormats::find(F16::kName).value());
  mixed.matmul[f16] = tables[1]->matmul[f16];
  tables[0] = &mixed;
}

}  // namespace

const std::vector<const KernelTable*>& available_kernels() {
  static const std::vector<const KernelTable*> tables = [] {
    std::vector<const KernelTable*> found;
#define PYGPT_ISA(name) \
  if (const KernelTable* table = pygpt_kernels_##name()) found.push_back(table);
#include "isa_list.h"
#undef PYGPT_ISA
    lend_halves(found);
    return found;
  }();
  return tables;
}

const KernelTable& select_kernels(const std::string& isa) {
  std::string names;
  for (const KernelTable* table : available_kernels()) {
    if (isa.empty() || isa == table->isa) return *table;
    names += (names.empty() ? "" : ", ") + std::string(table->isa);
  }
  throw DeviceError(join("this machine cannot run the ISA \"", isa, "\"; it can run: ", names));
}

}  // namespace pygpt
