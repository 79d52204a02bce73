#include "emulated/grid.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

#include "emulated/fiber.h"

namespace pygpt::emulated {
namespace {

constexpr int kWarpLanes = 32;

enum class State { ready, in_warp, in_block, done };

struct Lane {
  std::unique_ptr<Fiber> fiber = std::make_unique<Fiber>();
  State state = State::done;
  int bits = 0;  // of its exchange; -1: it only waits for its warp
  uint32_t value = 0;
};

/// One block at a time.
class Block {
 public:
  void run(const Shape& shape, int x, int y, Order order, const std::function<void()>& kernel) {
    shape_ = shape;
    x_ = x;
    y_ = y;
    while (std::ssize(lanes_) < shape.block) lanes_.emplace_back();
    shared_.reset(new (std::align_val_t{16}) std::byte[static_cast<size_t>(shape.shared)]);
    std::memset(shared_.get(), 0xff, static_cast<size_t>(shape.shared));  // NaNs, for who reads what nobody wrote
    for (int i = 0; i < shape.block; ++i) lane(i).state = State::ready;
    const int warps = shape.block / kWarpLanes;
    do {
      for (int i = 0; i < warps; ++i) run_warp(order == Order::ascending ? i : warps - 1 - i, order, kernel);
    } while (pass_barrier());
  }

  /// A block that went wrong has lanes in the middle of a kernel.
  void give_up() { lanes_.clear(); }

  /// What the running thread does wrong: thrown where the block was started, for nothing unwinds a fiber's stack.
  void fail(const char* fault) {
    fault_ = fault;
    lane(running_).fiber->pause();
  }

  void wait(State state, int bits, uint32_t value) {
    Lane& self = lane(running_);
    self.state = state;
    self.bits = bits;
    self.value = value;
    self.fiber->pause();
  }

  Lane& lane(int i) { return lanes_[static_cast<size_t>(i)]; }
  uint32_t value() { return lane(running_).value; }
  int running() const { return running_; }
  const Shape& shape() const { return shape_; }
  int x() const { return x_; }
  int y() const { return y_; }
  std::byte* shared() { return shared_.get(); }

 private:
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete[](memory, std::align_val_t{16}); }
  };

  /// Until all of its lanes wait for the block, or are done.
  void run_warp(int warp, Order order, const std::function<void()>& kernel) {
    const int first = warp * kWarpLanes;
    do {
      for (int i = 0; i < kWarpLanes; ++i) {
        running_ = first + (order == Order::ascending ? i : kWarpLanes - 1 - i);
        Lane& self = lane(running_);
        if (self.state == State::ready && self.fiber->run(kernel)) self.state = State::done;
        if (fault_ != nullptr) throw std::logic_error(std::exchange(fault_, nullptr));
      }
    } while (meet(first));
  }

  /// Lets the lanes of a warp exchange what they brought; false if none waits for that.
  bool meet(int first) {
    int waiting = 0;
    for (int i = 0; i < kWarpLanes; ++i) waiting += lane(first + i).state == State::in_warp ? 1 : 0;
    if (waiting == 0) return false;
    uint32_t values[kWarpLanes];
    const int bits = lane(first).bits;
    for (int i = 0; i < kWarpLanes; ++i) {
      if (lane(first + i).state != State::in_warp || lane(first + i).bits != bits)
        throw std::logic_error("the lanes of a warp do not meet");
      values[i] = lane(first + (bits < 0 ? i : i ^ bits)).value;
    }
    for (int i = 0; i < kWarpLanes; ++i) {
      lane(first + i).value = values[i];
      lane(first + i).state = State::ready;
    }
    return true;
  }

  /// Every thread waits, or every thread is done: then false.
  bool pass_barrier() {
    int waiting = 0;
    for (int i = 0; i < shape_.block; ++i) waiting += lane(i).state == State::in_block ? 1 : 0;
    if (waiting == 0) return false;
    if (waiting < shape_.block) throw std::logic_error("some threads of a block leave while others wait for them");
    for (int i = 0; i < shape_.block; ++i) lane(i).state = State::ready;
    return true;
  }

  Shape shape_{};
  int x_ = 0;
  int y_ = 0;
  int running_ = 0;
  const char* fault_ = nullptr;
  std::vector<Lane> lanes_;
  std::unique_ptr<std::byte[], Free> shared_;
};

thread_local Block block;

/// What the lanes of a warp bring to a product of tiles.
thread_local float tile_a[16][8];
thread_local float tile_b[8][8];

float as_tf32(float value) {
  if ((std::bit_cast<uint32_t>(value) & 0x1fffu) != 0 && std::isfinite(value))
    block.fail("tensor cores take no number with more than ten bits of mantissa");
  return value;
}

}  // namespace

void Stream::submit(std::function<void()> work) {
  if (capturing) {
    recorded.push_back(std::move(work));
  } else {
    work();
  }
}

void run_grid(const Shape& shape, Order order, const std::function<void()>& kernel) {
  if (shape.grid_x < 1 || shape.grid_y < 1 || shape.grid_y > 65535 || shape.block < 1 || shape.block > 1024 ||
      shape.block % kWarpLanes != 0 || shape.shared > 48 << 10)
    throw std::logic_error("no GPU launches such a grid");
  const int blocks = shape.grid_x * shape.grid_y;
  try {
    for (int i = 0; i < blocks; ++i) {
      const int at = order == Order::ascending ? i : blocks - 1 - i;
      block.run(shape, at % shape.grid_x, at / shape.grid_x, order, kernel);
    }
  } catch (...) {
    block.give_up();
    throw;
  }
}

int thread() { return block.running(); }
int threads() { return block.shape().block; }
int block_x() { return block.x(); }
int block_y() { return block.y(); }
std::byte* shared_memory() { return block.shared(); }
void sync_block() { block.wait(State::in_block, 0, 0); }
void sync_warp() { block.wait(State::in_warp, -1, 0); }

void multiply_tiles(const float (&a)[4], float b0, float b1, float* sums) {
  const int g = block.running() % kWarpLanes / 4;
  const int t = block.running() % 4;
  for (int i = 0; i < 4; ++i) tile_a[g + i % 2 * 8][t + i / 2 * 4] = as_tf32(a[i]);
  tile_b[t][g] = as_tf32(b0);
  tile_b[t + 4][g] = as_tf32(b1);
  sync_warp();
  for (int i = 0; i < 4; ++i) {
    for (int k = 0; k < 8; ++k) sums[i] += tile_a[g + i / 2 * 8][k] * tile_b[k][2 * t + i % 2];
  }
  sync_warp();  // before the next one writes
}

uint32_t exchange(uint32_t value, int bits) {
  block.wait(State::in_warp, bits, value);
  return block.value();
}

}  // namespace pygpt::emulated
