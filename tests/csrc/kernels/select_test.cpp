#include "kernels/cpu/select.h"

#include <string>

#include "check.h"

namespace pygpt::test {
namespace {

void best_first() {
  const auto& tables = available_kernels();
  expect(!tables.empty(), "some ISA runs everywhere");
  expect_equal(std::string(tables.back()->isa), std::string("generic"));
  expect(&select_kernels("") == tables.front(), "no name means the best");
  for (const KernelTable* table : tables) expect(&select_kernels(table->isa) == table, table->isa);
}
const Test best_first_test{"the kernels are listed best first and found by name", best_first};

void unknown() {
  const auto error = expect_throws<DeviceError>([] { select_kernels("vax"); });
  expect(std::string(error.what()).find("generic") != std::string::npos, error.what());
}
const Test unknown_test{"an ISA that this machine cannot run is an error that lists what it can", unknown};

void complete() {
  for (const KernelTable* table : available_kernels()) {
    bool all = table->exp != nullptr && table->quantise != nullptr;
    for (const auto entry : table->norm) all = all && entry != nullptr;
    for (const auto entry : table->matmul) all = all && entry != nullptr;
    for (const auto entry : table->activate) all = all && entry != nullptr;
    for (const auto entry : table->append) all = all && entry != nullptr;
    for (const auto entry : table->attend) all = all && entry != nullptr;
    for (const auto entry : table->attention_weights) all = all && entry != nullptr;
    expect(all, table->isa);
  }
}
const Test complete_test{"every ISA has every kernel", complete};

}  // namespace
}  // namespace pygpt::test
