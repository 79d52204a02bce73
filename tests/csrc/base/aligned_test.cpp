#include "base/aligned.h"

#include <cstdint>
#include <limits>

#include "base/checked.h"
#include "base/machine.h"
#include "check.h"

namespace pygpt::test {
namespace {

constexpr int64_t kMost = std::numeric_limits<int64_t>::max();

void zeroed() {
  for (const int64_t count : {1, 15, 16, 17, 1000}) {
    AlignedArray<float> array(count);
    expect_equal(reinterpret_cast<uintptr_t>(array.data()) % 64, 0u);
    expect_equal(array.size(), count);
    for (int64_t i = 0; i < round_up(count, 16); ++i) expect_equal(array[i], 0.0f);
  }
  expect(AlignedArray<float>(0).data() == nullptr, "an empty array has no memory");
}
const Test zeroed_test{"an array is zeroed, and begins and ends on cache lines", zeroed};

void impossible() {
  for (const int64_t count : {kMost, kMost / 4, kMost / 4 - 16, int64_t{1} << 46, int64_t{-1}}) {
    expect_throws<OutOfMemory>([&] { AlignedArray<float> array(count); }, join(count));
  }
}
const Test impossible_test{"a size that no memory holds is OutOfMemory", impossible};

void arithmetic() {
  expect(!checked_add(kMost, 1) && !checked_add(-kMost, -2) && !checked_multiply(kMost, 2) &&
             !checked_multiply(int64_t{1} << 32, int64_t{1} << 32),
         "overflow");
  expect_equal(checked_add(kMost - 1, 1).value(), kMost);
  expect_equal(checked_multiply(int64_t{1} << 31, int64_t{1} << 31).value(), int64_t{1} << 62);
  for (int64_t value = 0; value < 200; ++value) {
    int64_t multiple = 0;
    while (multiple < value) multiple += 64;
    expect_equal(round_up(value, 64), multiple);
    expect_equal(ceil_div(value, 64), multiple / 64);
  }
}
const Test arithmetic_test{"checked arithmetic says when a result does not fit", arithmetic};

void machine() {
  expect(available_cpus() >= 1, "CPUs");
  expect(available_memory() > 0, "memory");
}
const Test machine_test{"the machine has at least one CPU and some memory", machine};

}  // namespace
}  // namespace pygpt::test
