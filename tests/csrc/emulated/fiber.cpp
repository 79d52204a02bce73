#include "emulated/fiber.h"

#include <cstdint>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace pygpt::emulated {
namespace {

thread_local Fiber* entered = nullptr;

void before_switch([[maybe_unused]] void** fake, [[maybe_unused]] const void* bottom, [[maybe_unused]] size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake, bottom, bytes);
#endif
}

void after_switch([[maybe_unused]] void* fake, [[maybe_unused]] const void** bottom, [[maybe_unused]] size_t* bytes) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake, bottom, bytes);
#endif
}

}  // namespace

#if defined(__x86_64__)
// swapcontext asks the system for the signal mask at each turn, which takes a hundred times as long. What the System V
// ABI lets a callee keep is saved on the stack that is left, and taken from the one that is entered.
extern "C" void pygpt_switch_stack(void** leave, void* enter);
asm(R"(
.text
.globl pygpt_switch_stack
.hidden pygpt_switch_stack
.type pygpt_switch_stack, @function
pygpt_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size pygpt_switch_stack, .-pygpt_switch_stack
)");
#endif

Fiber::Fiber() : stack_(new std::byte[kStackBytes]) {
#if defined(__x86_64__)
  const auto top = reinterpret_cast<uintptr_t>(stack_.get() + kStackBytes) / 16 * 16;
  auto* words = reinterpret_cast<uintptr_t*>(top);
  *--words = 0;  // where a call would have left its return address, so that the stack is aligned as after one
  *--words = reinterpret_cast<uintptr_t>(&Fiber::enter);
  for (int i = 0; i < 6; ++i) *--words = 0;  // the saved registers
  inside_ = words;
#else
  getcontext(&inside_);
  inside_.uc_stack.ss_sp = stack_.get();
  inside_.uc_stack.ss_size = kStackBytes;
  inside_.uc_link = nullptr;
  makecontext(&inside_, &Fiber::enter, 0);
#endif
}

Fiber::~Fiber() = default;

void Fiber::swap(bool inwards) {
#if defined(__x86_64__)
  inwards ? pygpt_switch_stack(&outside_, inside_) : pygpt_switch_stack(&inside_, outside_);
#else
  inwards ? swapcontext(&outside_, &inside_) : swapcontext(&inside_, &outside_);
#endif
}

bool Fiber::run(const std::function<void()>& work) {
  if (ended_) {
    work_ = &work;
    ended_ = false;
  }
  entered = this;
  before_switch(&fake_outside_, stack_.get(), kStackBytes);
  swap(true);
  after_switch(fake_outside_, nullptr, nullptr);
  return ended_;
}

void Fiber::pause() {
  before_switch(&fake_inside_, outside_bottom_, outside_bytes_);
  swap(false);
  after_switch(fake_inside_, &outside_bottom_, &outside_bytes_);
}

/// Where a fiber's stack begins: one piece of work after the other, for ever.
void Fiber::enter() {
  Fiber& self = *entered;
  after_switch(nullptr, &self.outside_bottom_, &self.outside_bytes_);
  while (true) {
    (*self.work_)();
    self.ended_ = true;
    self.pause();
  }
}

}  // namespace pygpt::emulated
