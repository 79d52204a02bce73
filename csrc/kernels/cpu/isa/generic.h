#pragma once
// The plain machine: four lanes of compiler vectors, no intrinsics. First class: what every other ISA is checked
// against, and what runs where nothing better is there.

#include <cstddef>

#include "base/half.h"
#include "formats/panel.h"

namespace pygpt {
namespace {

struct Simd {
  static constexpr const char* kName = "generic";
  static constexpr int kLanes = 4;
  static constexpr int kPanelVecs = kPanel / kLanes;
  static constexpr int kTileRows = 2;  // rows of a tile of one panel: with its weights it fits the registers
  static constexpr int kByteTileRows = 2;
  static constexpr int kStreamPanels = 2;  // panels that one row streams at once from a cache
  static constexpr int kByteStreamPanels = 2;
  using Vec = float __attribute__((vector_size(16)));
  using Int = int32_t __attribute__((vector_size(16)));
  struct Bytes {  // 4 neighbours in k of each of 4 columns
    uint8_t byte[16];
  };
  struct Panel {
    Vec v[kPanelVecs];
  };
  struct IntPanel {
    Int v[kPanelVecs];
  };

  static bool supported() { return true; }

  static Vec broadcast(float value) { return Vec{value, value, value, value}; }
  static Vec load(const float* from) {
    Vec value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
  }
  static Vec load(const Half* from) {
    return Vec{to_float(from[0]), to_float(from[1]), to_float(from[2]), to_float(from[3])};
  }
  static Vec load(const BFloat16* from) {
    return Vec{to_float(from[0]), to_float(from[1]), to_float(from[2]), to_float(from[3])};
  }
  static void load_pairs(const BFloat16* from, Vec& even, Vec& odd) {
    even = Vec{to_float(from[0]), to_float(from[2]), to_float(from[4]), to_float(from[6])};
    odd = Vec{to_float(from[1]), to_float(from[3]), to_float(from[5]), to_float(from[7])};
  }
  static void store(float* to, Vec value) { __builtin_memcpy(to, &value, sizeof value); }
  static void store(Half* to, Vec value) {
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = to_half(value[lane]);
  }
  static void store(BFloat16* to, Vec value) {
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = to_bfloat16(value[lane]);
  }
  static Vec load(const int8_t* from) {
    return Vec{static_cast<float>(from[0]), static_cast<float>(from[1]), static_cast<float>(from[2]),
               static_cast<float>(from[3])};
  }
  static void store(int8_t* to, Vec value) {
    for (int lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<int8_t>(static_cast<int32_t>(value[lane]));
  }
  static void prefetch(const std::byte*) {}

  static Bytes load_bytes(const std::byte* from) {
    Bytes value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
  }
  static void store_bytes(std::byte* to, Bytes value) { __builtin_memcpy(to, &value, sizeof value); }
  static void load_nibbles(const std::byte* from, const uint8_t (&levels)[16], Bytes& low, Bytes& high) {
    const Bytes both = load_bytes(from);
    for (int i = 0; i < 16; ++i) {
      low.byte[i] = levels[both.byte[i] & 15];
      high.byte[i] = levels[both.byte[i] >> 4];
    }
  }
  static Bytes broadcast_quad(const int8_t* from) {
    Bytes value;
    for (int i = 0; i < 16; ++i) value.byte[i] = static_cast<uint8_t>(from[i % 4]);
    return value;
  }
  static Int broadcast(int32_t value) { return Int{value, value, value, value}; }
  /// sums + the products of 4 unsigned weights and 4 signed activations a lane.
  static Int dot(Int sums, Bytes weights, Bytes x) {
    for (int i = 0; i < 16; ++i) sums[i / 4] += weights.byte[i] * static_cast<int8_t>(x.byte[i]);
    return sums;
  }
  /// a * b + c. Without an FMA instruction the product is rounded first; a library call per lane would cost 50 times
  /// more.
  static Vec fma(Vec a, Vec b, Vec c) { return a * b + c; }
};

}  // namespace
}  // namespace pygpt
