// Fibers: stacks of their own, and the switch between one of them and the scheduler that resumed it. For emulator.cpp
// alone. A fiber may be left where it is suspended; its stack is then simply used again.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define EVENCONV_SWITCH_BY_ASSEMBLY 1
// Saves on the old stack what a callee has to, then goes on where the new one was left. swapcontext would call the
// kernel for the signal mask.
extern "C" void evenconv_switch_stack(void** from, void* to);
asm(R"(
.pushsection .text
.type evenconv_switch_stack, @function
evenconv_switch_stack:
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
.size evenconv_switch_stack, .-evenconv_switch_stack
.popsection
)");
#else
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace evenconv::host {

struct Stack {
  const void* begin;
  size_t bytes;
};

// One stack for each thread that a block can have, all in one mapping; only the pages in use take memory.
class Stacks {
 public:
  Stacks() : memory_(mmap(nullptr, kCount * kStride, PROT_NONE, kFlags, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::runtime_error("no address space for the stacks of a block");
    for (size_t i = 0; i < kCount; ++i)
      if (mprotect(stack(i), kBytes, PROT_READ | PROT_WRITE)) throw std::runtime_error("no memory for a stack");
  }
  ~Stacks() { munmap(memory_, kCount * kStride); }
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  // The upper ends are spread over the cache's sets.
  Stack operator[](size_t index) const { return {stack(index), kBytes - index % 16 * 256}; }

 private:
  static constexpr size_t kCount = 1024, kGuard = 4096, kBytes = 256 << 10, kStride = kGuard + kBytes;
  static constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

  // Above a page that cannot be touched.
  char* stack(size_t index) const { return static_cast<char*>(memory_) + index * kStride + kGuard; }

  void* memory_;
};

class Fiber {
 public:
  // The first resume calls entry, which calls entered at once and never returns.
  void start(Stack stack, void (*entry)()) {
    stack_ = stack;
#if defined(EVENCONV_SWITCH_BY_ASSEMBLY)
    // As evenconv_switch_stack leaves a stack: six registers, where to go on, and where the entry would return to.
    auto top = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(stack.begin) + stack.bytes);
    *--top = 0;
    *--top = reinterpret_cast<uintptr_t>(entry);
    for (int i = 0; i < 6; ++i) *--top = 0;
    own_ = top;
#else
    getcontext(&own_);
    own_.uc_stack.ss_sp = const_cast<void*>(stack.begin);
    own_.uc_stack.ss_size = stack.bytes;
    own_.uc_link = nullptr;
    makecontext(&own_, entry, 0);
#endif
  }

  // Called by the scheduler; returns when the fiber suspends.
  void resume() {
    void* fake_stack = announce(stack_);
    switch_context(scheduler_, own_);
    arrive(fake_stack);
  }

  // Called by the fiber.
  void entered() { scheduler_stack_ = arrive(nullptr); }

  // Called by the fiber; returns when it is resumed.
  void suspend() {
    void* fake_stack = announce(scheduler_stack_);
    switch_context(own_, scheduler_);
    scheduler_stack_ = arrive(fake_stack);
  }

 private:
#if defined(EVENCONV_SWITCH_BY_ASSEMBLY)
  using Context = void*;
  static void switch_context(Context& from, Context& to) { evenconv_switch_stack(&from, to); }
#else
  using Context = ucontext_t;
  static void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }
#endif

  // AddressSanitizer has to be told of every switch, before and after it.
#if defined(__SANITIZE_ADDRESS__)
  static void* announce(Stack to) {
    void* fake_stack;
    __sanitizer_start_switch_fiber(&fake_stack, to.begin, to.bytes);
    return fake_stack;
  }
  static Stack arrive(void* fake_stack) {
    Stack from;
    __sanitizer_finish_switch_fiber(fake_stack, &from.begin, &from.bytes);
    return from;
  }
#else
  static void* announce(Stack) { return nullptr; }
  static Stack arrive(void*) { return {}; }
#endif

  inline static Context scheduler_;
  inline static Stack scheduler_stack_;
  Stack stack_;
  Context own_;
};

}  // namespace evenconv::host
