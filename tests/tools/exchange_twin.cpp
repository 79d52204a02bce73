// The hand-over protocols of the CUDA laboratory between threads of a CPU, where ThreadSanitizer sees what is ordered
// and what only happened to work. Prints "right" or "wrong"; a protocol is named by the first argument.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "exchange.h"

namespace {

constexpr int kBlocks = 3, kThreads = 2, kWidth = 44;
constexpr uint32_t kRounds = 200;
constexpr std::chrono::seconds kLimit{50};

/// What the threads of a block share.
struct Block {
  std::atomic<uint32_t> arrived{0};
  std::vector<float> sums = std::vector<float>(2 * kThreads);
};

/// Stores of one thread that the others do not see yet. Those to one address keep their order, and time passes with
/// every poll; few are late, but those very much so.
class LateStores {
 public:
  explicit LateStores(unsigned seed) : random_(seed) {}

  void add(const void* address, std::function<void()> store) {
    int polls = random_() % kOneOf == 0 ? static_cast<int>(random_() % kMostPolls) : 0;
    for (const auto& each : waiting_) {
      if (each.address == address) polls = std::max(polls, each.polls);
    }
    if (polls == 0) return store();
    waiting_.push_back({address, std::move(store), polls});
  }

  void pass(int polls) {
    for (auto& each : waiting_) {
      if ((each.polls -= polls) <= 0) each.store();
    }
    std::erase_if(waiting_, [](const auto& each) { return each.polls <= 0; });
  }

  void drain() { pass(kMostPolls); }

 private:
  static constexpr unsigned kOneOf = 500;
  static constexpr int kMostPolls = 2000;

  struct Waiting {
    const void* address;
    std::function<void()> store;
    int polls;
  };
  std::vector<Waiting> waiting_;
  std::minstd_rand random_;
};

/// The Machine of exchange.h: one thread of a CPU as one thread of a block.
class Twin {
 public:
  Twin(Block& shared, int block, int rank, bool late)
      : shared_(shared), block_(block), rank_(rank), late_(late), stores_(1u + block * kThreads + rank) {}
  ~Twin() { stores_.drain(); }

  int block() const { return block_; }
  int blocks() const { return kBlocks; }
  int rank() const { return rank_; }
  int threads() const { return kThreads; }
  void block_barrier() {
    all_ += kThreads;
    shared_.arrived.fetch_add(1, std::memory_order_acq_rel);
    until([&] { return shared_.arrived.load(std::memory_order_acquire) >= all_; });
  }

  float block_sum(float mine) {
    turn_ ^= 1;
    shared_.sums[turn_ * kThreads + rank_] = mine;
    block_barrier();
    float sum = 0;
    for (int rank = 0; rank < kThreads; ++rank) sum += shared_.sums[turn_ * kThreads + rank];
    return sum;
  }

  template <class Ready>
  void until(Ready ready) {
    while (!ready() && !lost_) {
      stores_.pass(1);
      lost_ = std::chrono::steady_clock::now() > deadline_;
      std::this_thread::yield();
    }
  }

  uint32_t load_acquire(uint32_t* from) const { return std::atomic_ref(*from).load(std::memory_order_acquire); }
  uint32_t load_relaxed(uint32_t* from) const { return std::atomic_ref(*from).load(std::memory_order_relaxed); }
  void store_release(uint32_t* to, uint32_t value) { std::atomic_ref(*to).store(value, std::memory_order_release); }
  void add_release(uint32_t* to) { std::atomic_ref(*to).fetch_add(1, std::memory_order_release); }
  void add_relaxed(uint32_t* to) { std::atomic_ref(*to).fetch_add(1, std::memory_order_relaxed); }
  void store_64(uint64_t* to, uint64_t value) { store(to, value); }
  void store_32(uint32_t* to, uint32_t value) { store(to, value); }
  lab::Pair load_2x64(const uint64_t* from) const { return {word(from), word(from + 1)}; }
  lab::Quad load_4x32(const uint32_t* from) const {
    return {word(from), word(from + 1), word(from + 2), word(from + 3)};
  }
  lab::Floats load_4_plain(const float* from) const { return {from[0], from[1], from[2], from[3]}; }
  /// ThreadSanitizer does not know fences; what one does to late stores is drain them.
  void fence() { stores_.drain(); }

 private:
  template <class Word>
  void store(Word* to, Word value) {
    const auto now = [to, value] { std::atomic_ref(*to).store(value, std::memory_order_relaxed); };
    late_ ? stores_.add(to, now) : now();
  }

  template <class Word>
  static Word word(const Word* from) {
    return std::atomic_ref(*const_cast<Word*>(from)).load(std::memory_order_relaxed);
  }

  Block& shared_;
  int block_, rank_, turn_ = 0;
  uint32_t all_ = 0;  // arrivals at the block's barrier that the next one waits for
  bool late_, lost_ = false;
  LateStores stores_;
  std::chrono::steady_clock::time_point deadline_ = std::chrono::steady_clock::now() + kLimit;
};

/// A counter that orders nothing: the fault that ThreadSanitizer must find.
struct Unordered {
  uint32_t* count;
  void wait(Twin& m, uint32_t round) const {
    m.block_barrier();
    if (m.rank() == 0) {
      m.add_relaxed(count);
      m.until([&] { return m.load_relaxed(count) >= (round + 1) * kBlocks; });
    }
    m.block_barrier();
  }
};

/// Whether every thread saw every sum.
template <class Exchange>
bool right(const Exchange& exchange, bool late) {
  std::vector<std::unique_ptr<Block>> blocks;
  std::vector<uint32_t> histories(kBlocks * kThreads);
  std::vector<std::thread> threads;
  for (int block = 0; block < kBlocks; ++block) {
    blocks.push_back(std::make_unique<Block>());
    for (int rank = 0; rank < kThreads; ++rank) {
      threads.emplace_back([&histories, &exchange, late, shared = blocks.back().get(), block, rank] {
        Twin twin(*shared, block, rank, late);
        histories[block * kThreads + rank] = lab::hand_over(twin, exchange, kWidth, kRounds);
      });
    }
  }
  for (auto& each : threads) each.join();
  bool all = true;
  for (const uint32_t each : histories) all = all && each == lab::expected_history(kWidth, kRounds);
  return all;
}

bool run(const std::string& name, bool late) {
  std::vector<float> floats(2 * kWidth);
  std::vector<uint32_t> flags(32 * kBlocks), words(8 * kWidth, lab::kNever);
  alignas(16) static uint64_t pairs[2 * kWidth];
  if (name == "local") return right(lab::Local{}, late);
  if (name == "counter") return right(lab::Behind<lab::Counter>{floats.data(), kWidth, {flags.data()}}, late);
  if (name == "flags") return right(lab::Behind<lab::Flags>{floats.data(), kWidth, {flags.data(), 32}}, late);
  if (name == "words") return right(lab::Words{pairs, kWidth}, late);
  if (name == "sentinels") return right(lab::Sentinels<8, false>{words.data(), kWidth}, late);
  if (name == "fenced sentinels") return right(lab::Sentinels<4, true>{words.data(), kWidth}, late);
  if (name == "ring of two") return right(lab::Sentinels<2, false>{words.data(), kWidth}, late);
  if (name == "unordered") return right(lab::Behind<Unordered>{floats.data(), kWidth, {flags.data()}}, late);
  return false;
}

}  // namespace

int main(int count, char** words) {
  const bool late = count == 3 && std::string(words[2]) == "late";
  std::puts(count > 1 && run(words[1], late) ? "right" : "wrong");
  return 0;
}
