#pragma once
// Random numbers as a pure function: no state, so a request's numbers do not depend on what else runs.

#include <cstdint>

#include "sampling/device.h"

namespace pygpt::sampling {

struct Philox {
  uint32_t word[4];
};

/// Philox4x32-10 of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
PYGPT_HOST_DEVICE inline Philox philox(const uint32_t (&counter)[4], uint64_t key) {
  uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xd2511f53u} * c0;
    const uint64_t p1 = uint64_t{0xcd9e8d57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9e3779b9u;  // the golden ratio
    k1 += 0xbb67ae85u;  // sqrt(3) - 1
  }
  return {{c0, c1, c2, c3}};
}

/// A number in [0, 1) with 53 random bits, for token `index` of sample `sample` of a request.
PYGPT_HOST_DEVICE inline double uniform(uint64_t seed, uint32_t sample, uint64_t index) {
  const uint32_t counter[4] = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), sample, 0};
  const Philox random = philox(counter, seed);
  const uint64_t bits = uint64_t{random.word[1]} << 32 | random.word[0];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

}  // namespace pygpt::sampling
