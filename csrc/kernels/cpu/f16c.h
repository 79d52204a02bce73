#pragma once
// Clang knows "f16c" for __builtin_cpu_supports from version 17 on; this is for all.

#include <cpuid.h>

namespace pygpt {
namespace {

/// Whether the processor converts between f32 and f16 (bit 29 of ecx, Intel's manual, CPUID leaf 1). That the system
/// keeps the registers it needs is what a question for AVX answers.
bool supports_f16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 29 & 1) != 0;
}

}  // namespace
}  // namespace pygpt
