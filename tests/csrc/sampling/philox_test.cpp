#include "sampling/philox.h"

#include <cstdint>

#include "check.h"

namespace pygpt::test {
namespace {

void expect_words(const uint32_t (&counter)[4], uint64_t key, const uint32_t (&wanted)[4]) {
  const sampling::Philox random = sampling::philox(counter, key);
  for (int i = 0; i < 4; ++i) expect_equal(random.word[i], wanted[i], join("word ", i));
}

// Random123, tests/kat_vectors, philox4x32 with 10 rounds.
void known_answers() {
  expect_words({0, 0, 0, 0}, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  expect_words({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffffffffffff,
               {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  expect_words({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822,
               {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}
const Test known_answers_test{"known answers of Random123", known_answers};

void uniform() {
  constexpr int kCount = 20000;
  double sum = 0;
  for (uint64_t index = 0; index < kCount; ++index) {
    const double value = sampling::uniform(7, 0, index);
    expect(value >= 0 && value < 1, "in [0, 1)");
    sum += value;
  }
  // The mean of n uniform numbers has a standard deviation of sqrt(1 / 12 n) = 0.002; six of them.
  expect(std::abs(sum / kCount - 0.5) < 0.0123, join("mean ", sum / kCount));
  expect(sampling::uniform(7, 0, 0) != sampling::uniform(7, 1, 0), "sample matters");
  expect(sampling::uniform(7, 0, 1) != sampling::uniform(7, 0, uint64_t{1} << 32), "all of the index matters");
  expect(sampling::uniform(7, 0, 0) != sampling::uniform(7 + (uint64_t{1} << 32), 0, 0), "all of the seed matters");
}
const Test uniform_test{"numbers are uniform in [0, 1) and depend on seed, sample and index", uniform};

}  // namespace
}  // namespace pygpt::test
