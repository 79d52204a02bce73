#pragma once
// A GPU on the processor: the threads of a block are fibers that take turns, blocks come one after the other. It finds
// what a GPU hides: lanes that do not meet, shared memory that nobody wrote (it begins as NaNs), and, with
// AddressSanitizer, reads and writes behind the end. Order::descending lets the last thread go first, so that a missing
// barrier changes the result.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace pygpt::emulated {

enum class Order { ascending, descending };

/// What a launch is given as its stream: runs the work at once, or records it.
struct Stream {
  void submit(std::function<void()> work);

  Order order = Order::ascending;
  bool capturing = false;
  std::vector<std::function<void()>> recorded;
};

struct Shape {
  int grid_x;
  int grid_y;
  int block;       // threads
  int64_t shared;  // bytes
};

/// Runs `kernel` for every thread of the grid. Throws std::logic_error where threads do not meet as CUDA demands.
void run_grid(const Shape& shape, Order order, const std::function<void()>& kernel);

// For the thread that runs.
int thread();
int threads();
int block_x();
int block_y();
std::byte* shared_memory();
void sync_block();
void sync_warp();
uint32_t exchange(uint32_t value, int bits);

/// PTX's mma.m16n8k8 of tf32, as kernels/cuda/lang.cuh says. A number with more than ten bits of mantissa is an error.
void multiply_tiles(const float (&a)[4], float b0, float b1, float* sums);

/// Whether the GPU that is played has them.
inline bool has_tiles = true;

}  // namespace pygpt::emulated
