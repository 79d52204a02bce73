#include "kernels/cpu/select.h"

#include "base/error.h"

namespace pygpt {

// One function an ISA, defined in that ISA's table.cpp object. CMake writes the list, best first, from its add_isa
// lines.
#define PYGPT_ISA(name) extern "C" const KernelTable* pygpt_kernels_##name();
#include "isa_list.h"
#undef PYGPT_ISA

const std::vector<const KernelTable*>& available_kernels() {
  static const std::vector<const KernelTable*> tables = [] {
    std::vector<const KernelTable*> found;
#define PYGPT_ISA(name) \
  if (const KernelTable* table = pygpt_kernels_##name()) found.push_back(table);
#include "isa_list.h"
#undef PYGPT_ISA
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
