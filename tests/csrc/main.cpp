#include <cstdio>
#include <exception>

#include "check.h"

// An allocation of an impossible size fails, as without a sanitizer, instead of ending the program.
extern "C" [[gnu::visibility("default")]] const char* __asan_default_options() { return "allocator_may_return_null=1"; }
extern "C" [[gnu::visibility("default")]] const char* __tsan_default_options() { return "allocator_may_return_null=1"; }

int main() {
  int failed = 0;
  for (const auto* test : pygpt::test::Test::all()) {
    try {
      test->proof();
      std::printf("ok    %s\n", test->claim);
    } catch (const std::exception& error) {
      ++failed;
      std::printf("FAIL  %s\n      %s\n", test->claim, error.what());
    }
    std::fflush(stdout);
  }
  return failed == 0 ? 0 : 1;
}
