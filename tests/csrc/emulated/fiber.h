#pragma once
// Functions that can stop in the middle and go on later, on stacks of their own.

#include <cstddef>
#include <functional>
#include <memory>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace pygpt::emulated {

/// Runs a function each time that it is started; while it runs it may pause(). Not to be destroyed in between, but when
/// the function is given up for ever.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// Begins `work`, or goes on with it, until it pauses or ends. True if it has ended.
  bool run(const std::function<void()>& work);

  /// Called by what runs: back to who called run().
  void pause();

 private:
  static constexpr size_t kStackBytes = 128 << 10;
  static void enter();
  void swap(bool inwards);

  std::unique_ptr<std::byte[]> stack_;
  const std::function<void()>* work_ = nullptr;
  bool ended_ = true;
#if defined(__x86_64__)
  void* inside_ = nullptr;  // stack pointers of who does not run
  void* outside_ = nullptr;
#else
  ucontext_t inside_;
  ucontext_t outside_;
#endif
  // For AddressSanitizer, which must know whose stack is in use.
  void* fake_inside_ = nullptr;
  void* fake_outside_ = nullptr;
  const void* outside_bottom_ = nullptr;
  size_t outside_bytes_ = 0;
};

}  // namespace pygpt::emulated
