// That the emulated GPU finds what it is there to find.

#include "emulated/grid.h"

#include <cmath>
#include <cstring>
#include <stdexcept>

#include "check.h"

namespace pygpt::test {
namespace {

using namespace emulated;

void every_thread() {
  std::vector<int> seen(6 * 64);
  run_grid({3, 2, 64, 0}, Order::ascending,
           [&] { ++seen[static_cast<size_t>((block_y() * 3 + block_x()) * threads() + thread())]; });
  for (const int times : seen) expect_equal(times, 1);
}
const Test every_thread_test{"every thread of every block runs once", every_thread};

void lanes_exchange() {
  for (const Order order : {Order::ascending, Order::descending}) {
    std::vector<uint32_t> got(64);
    run_grid({1, 1, 64, 0}, order, [&] {
      uint32_t sum = static_cast<uint32_t>(thread());
      for (int bits = 16; bits > 0; bits /= 2) sum += exchange(sum, bits);
      got[static_cast<size_t>(thread())] = sum;
    });
    for (size_t i = 0; i < 64; ++i) expect_equal(got[i], i < 32 ? 496u : 1520u);
  }
}
const Test lanes_exchange_test{"lanes of a warp exchange what they have", lanes_exchange};

void tiles() {
  float a[16][8], b[8][8], wanted[16][8] = {}, got[16][8] = {};
  for (int i = 0; i < 16 * 8; ++i) a[i / 8][i % 8] = static_cast<float>(i * 37 % 64 - 32);
  for (int i = 0; i < 8 * 8; ++i) b[i / 8][i % 8] = static_cast<float>(i * 29 % 64 - 32);
  for (int i = 0; i < 16 * 8 * 8; ++i) wanted[i / 64][i / 8 % 8] += a[i / 64][i % 8] * b[i % 8][i / 8 % 8];
  run_grid({1, 1, 32, 0}, Order::descending, [&] {
    const int g = thread() / 4, t = thread() % 4;
    const float own[4] = {a[g][t], a[g + 8][t], a[g][t + 4], a[g + 8][t + 4]};
    float sums[4] = {};
    multiply_tiles(own, b[t][g], b[t + 4][g], sums);
    for (int i = 0; i < 4; ++i) got[g + i / 2 * 8][2 * t + i % 2] = sums[i];
  });
  expect(std::memcmp(got, wanted, sizeof got) == 0, "the product of two matrices");
  expect_throws<std::logic_error>(
      [] {
        run_grid({1, 1, 32, 0}, Order::ascending, [] {
          float sums[4] = {};
          multiply_tiles({1 + 0x1p-11f, 0, 0, 0}, 0, 0, sums);
        });
      },
      "a number with more than ten bits");
}
const Test tiles_test{"a warp multiplies matrices, whose elements lie as PTX says", tiles};

/// Whether the last thread sees what the others have written to shared memory.
int sum_of_all(Order order, bool with_barrier) {
  int sum = 0;
  run_grid({1, 1, 64, 64 * 4}, order, [&] {
    auto* numbers = reinterpret_cast<int*>(shared_memory());
    numbers[thread()] = 1;
    if (with_barrier) sync_block();
    if (thread() != 63) return;
    for (int i = 0; i < 64; ++i) sum += numbers[i];
  });
  return sum;
}

void missing_barriers_show() {
  expect_equal(sum_of_all(Order::ascending, true), 64);
  expect_equal(sum_of_all(Order::descending, true), 64);
  expect(sum_of_all(Order::ascending, false) != sum_of_all(Order::descending, false), "the order of the threads shows");
}
const Test missing_barriers_test{"without a barrier, the order of the threads changes the result",
                                 missing_barriers_show};

void faults() {
  expect_throws<std::logic_error>(
      [] {
        run_grid({1, 1, 64, 0}, Order::ascending, [] {
          if (thread() < 40) sync_block();
        });
      },
      "a barrier that some threads do not reach");
  expect_throws<std::logic_error>(
      [] {
        run_grid({1, 1, 32, 0}, Order::ascending, [] {
          if (thread() > 3) exchange(0, 1);
        });
      },
      "an exchange that some lanes do not come to");
  for (const Shape& shape : {Shape{1, 1, 33, 0}, Shape{1, 1, 2048, 0}, Shape{0, 1, 32, 0}, Shape{1, 1 << 16, 32, 0},
                             Shape{1, 1, 32, 64 << 10}})
    expect_throws<std::logic_error>([&] { run_grid(shape, Order::ascending, [] {}); }, "a grid that no GPU launches");
  every_thread();  // after a fault, too
}
const Test faults_test{"what a GPU would do anything at is an error", faults};

void unwritten_memory() {
  float seen = 0;
  run_grid({1, 1, 32, 4}, Order::ascending, [&] { std::memcpy(&seen, shared_memory(), 4); });
  expect(std::isnan(seen), "shared memory begins as NaNs");
}
const Test unwritten_memory_test{"shared memory that nobody wrote is NaNs", unwritten_memory};

}  // namespace
}  // namespace pygpt::test
