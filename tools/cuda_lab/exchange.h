#pragma once
// How thread blocks hand a vector to each other, round after round: each block makes a share of it, all read the whole.
//
// The protocols are written once over a Machine, which is a GPU's thread in handover.cu and a CPU's in
// tests/tools/exchange_twin.cpp, where ThreadSanitizer watches them. A Machine offers
//   block() blocks() rank() threads()      who this thread is: its block, and its rank in the block
//   block_barrier()  block_sum(float)      the block's own barrier; the sum over its threads, which is a barrier too
//   until(ready)                           waiting that ends
//   load_acquire store_release add_release u32 of all blocks
//   load_2x64 store_64 load_4x32 store_32  relaxed; each word by itself is never torn
//   load_4_plain                           four floats that a barrier has made safe to read
//   fence()                                what was stored before is seen before what is stored after

#include <cstdint>

#ifdef __CUDACC__
#define LAB_BOTH __host__ __device__ __forceinline__
#else
#define LAB_BOTH inline
#endif

namespace lab {

constexpr uint32_t kNever = 0xffffffff;  // the bits of a NaN: no value yet

LAB_BOTH uint32_t bits_of(float value) {
  union {
    float f;
    uint32_t u;
  } both{value};
  return both.u;
}

LAB_BOTH float float_of(uint32_t bits) {
  union {
    uint32_t u;
    float f;
  } both{bits};
  return both.f;
}

/// Element i of round r. It depends on everything that was handed over before, and small integers keep every sum exact:
/// a word that is lost, torn or of another round changes all that follows.
LAB_BOTH float element(uint32_t round, uint32_t i, uint32_t last_sum) {
  return static_cast<float>((i * 7 + round * 13 + last_sum) & 1023);
}

LAB_BOTH uint32_t mix(uint32_t history, uint32_t sum) { return (history ^ sum) * 0x9e3779b1u; }

struct Pair {
  uint64_t a, b;
};
struct Quad {
  uint32_t a, b, c, d;
};
struct Floats {
  float a, b, c, d;
};

/// No exchange: every block makes all of the vector. What is left is the price of a round without a hand-over.
struct Local {
  template <class Machine>
  LAB_BOTH void put(Machine&, uint32_t, int, float) const {}

  template <class Machine>
  LAB_BOTH float gather(Machine& m, uint32_t round, int width, uint32_t last_sum) const {
    float sum = 0;
    for (int i = m.rank(); i < width; i += m.threads()) sum += element(round, static_cast<uint32_t>(i), last_sum);
    return sum;
  }
};

/// Plain stores, a barrier of all blocks, plain loads. Two slots do: who is past the barrier of a round knows that all
/// have read the round before. slots: [2, width].
template <class Barrier>
struct Behind {
  float* slots;
  int width;
  Barrier barrier;

  template <class Machine>
  LAB_BOTH void put(Machine&, uint32_t round, int i, float value) const {
    slots[(round % 2) * static_cast<uint32_t>(width) + static_cast<uint32_t>(i)] = value;
  }

  template <class Machine>
  LAB_BOTH float gather(Machine& m, uint32_t round, int, uint32_t) const {
    barrier.wait(m, round);
    const float* slot = slots + (round % 2) * static_cast<uint32_t>(width);
    float sum = 0;
    for (int i = 4 * m.rank(); i < width; i += 4 * m.threads()) {
      const Floats four = m.load_4_plain(slot + i);
      sum += four.a + four.b + four.c + four.d;
    }
    return sum;
  }
};

/// One counter that every block raises and one thread of every block watches.
struct Counter {
  uint32_t* count;

  template <class Machine>
  LAB_BOTH void wait(Machine& m, uint32_t round) const {
    const uint32_t all = (round + 1) * static_cast<uint32_t>(m.blocks());
    m.block_barrier();
    if (m.rank() == 0) {
      m.add_release(count);
      m.until([&] { return m.load_acquire(count) >= all; });
    }
    m.block_barrier();
  }
};

/// A flag a block, `stride` words apart; thread b of every block watches block b's.
struct Flags {
  uint32_t* flags;
  int stride;

  template <class Machine>
  LAB_BOTH void wait(Machine& m, uint32_t round) const {
    m.block_barrier();
    if (m.rank() == 0) m.store_release(flags + m.block() * stride, round + 1);
    for (int b = m.rank(); b < m.blocks(); b += m.threads()) {
      m.until([&] { return m.load_acquire(flags + b * stride) >= round + 1; });
    }
    m.block_barrier();
  }
};

LAB_BOTH uint64_t with_epoch(float value, uint32_t round) {
  return static_cast<uint64_t>(round + 1) << 32 | bits_of(value);
}
LAB_BOTH bool is_of(uint64_t word, uint32_t round) { return static_cast<uint32_t>(word >> 32) == round + 1; }
LAB_BOTH float value_of(uint64_t word) { return float_of(static_cast<uint32_t>(word)); }

/// Each value travels with its round in one 8-byte word, and readers poll the words themselves: no fence, no second
/// load. Two slots do: who has all of a round knows that all had the one before. slots: [2, width], zeroed.
struct Words {
  uint64_t* slots;
  int width;

  template <class Machine>
  LAB_BOTH void put(Machine& m, uint32_t round, int i, float value) const {
    m.store_64(slots + (round % 2) * static_cast<uint32_t>(width) + i, with_epoch(value, round));
  }

  /// Two 16-byte loads are under way at once: one after the other would cost a second way to L2 and back.
  template <class Machine>
  LAB_BOTH float gather(Machine& m, uint32_t round, int, uint32_t) const {
    const uint64_t* slot = slots + (round % 2) * static_cast<uint32_t>(width);
    const int apart = 2 * m.threads();
    float sum = 0;
    for (int i = 2 * m.rank(); i < width; i += 2 * apart) {
      const bool two = i + apart < width;
      Pair first{}, second{};
      m.until([&] {
        first = m.load_2x64(slot + i);
        if (two) second = m.load_2x64(slot + i + apart);
        const bool here = is_of(first.a, round) && is_of(first.b, round);
        return here && (!two || (is_of(second.a, round) && is_of(second.b, round)));
      });
      sum += value_of(first.a) + value_of(first.b);
      if (two) sum += value_of(second.a) + value_of(second.b);
    }
    return sum;
  }
};

/// The values alone, half the bytes: a word that holds no value yet holds a NaN. When a block puts round r, all have
/// read round r - 2 (they have published r - 1), so it takes its own words of that round back for the slot's next turn.
/// Nobody may see that later than the values of the round before that turn. Without a fence nothing promises it but
/// distance: the ring's length in rounds, at least 3. A fence after each round promises it to rings of 4 and more.
/// slots: [kRing, width], all NaN.
template <uint32_t kRing, bool kFenced>
struct Sentinels {
  uint32_t* slots;
  int width;

  template <class Machine>
  LAB_BOTH void put(Machine& m, uint32_t round, int i, float value) const {
    if (round >= 2) m.store_32(at(round - 2) + i, kNever);
    m.store_32(at(round) + i, bits_of(value));
    if constexpr (kFenced) m.fence();
  }

  template <class Machine>
  LAB_BOTH float gather(Machine& m, uint32_t round, int, uint32_t) const {
    float sum = 0;
    for (int i = 4 * m.rank(); i < width; i += 4 * m.threads()) {
      Quad four{};
      m.until([&] {
        four = m.load_4x32(at(round) + i);
        return four.a != kNever && four.b != kNever && four.c != kNever && four.d != kNever;
      });
      sum += float_of(four.a) + float_of(four.b) + float_of(four.c) + float_of(four.d);
    }
    return sum;
  }

 private:
  LAB_BOTH uint32_t* at(uint32_t round) const { return slots + (round % kRing) * static_cast<uint32_t>(width); }
};

/// The rounds of one thread: its block's share of each vector goes out, the whole comes in. What comes back stands for
/// every sum that the block has seen; it is the same for all.
template <class Machine, class Exchange>
LAB_BOTH uint32_t hand_over(Machine& m, const Exchange& exchange, int width, uint32_t rounds) {
  const int first = static_cast<int>(static_cast<int64_t>(width) * m.block() / m.blocks());
  const int last = static_cast<int>(static_cast<int64_t>(width) * (m.block() + 1) / m.blocks());
  uint32_t history = 0, sum = 0;
  for (uint32_t round = 0; round < rounds; ++round) {
#ifdef __CUDA_ARCH__
#pragma unroll 1  // there are more threads than elements of a share: it runs once at most
#endif
    for (int i = first + m.rank(); i < last; i += m.threads()) {
      exchange.put(m, round, i, element(round, static_cast<uint32_t>(i), sum));
    }
    sum = static_cast<uint32_t>(m.block_sum(exchange.gather(m, round, width, sum)));
    history = mix(history, sum);
  }
  return history;
}

/// What hand_over must return.
inline uint32_t expected_history(int width, uint32_t rounds) {
  uint32_t history = 0, sum = 0;
  for (uint32_t round = 0; round < rounds; ++round) {
    uint32_t next = 0;
    for (uint32_t i = 0; i < static_cast<uint32_t>(width); ++i) next += (i * 7 + round * 13 + sum) & 1023;
    sum = next;
    history = mix(history, sum);
  }
  return history;
}

}  // namespace lab
