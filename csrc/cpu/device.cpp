// The CPU's kernels over all tasks of a plan.
#include "../device.h"

#include <algorithm>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "isa.h"
#include "pad.h"

namespace evenconv {
namespace {

constexpr int64_t kPadGrain = 16, kReduceGrain = 64;

// Scratch memory of the calling thread. It is kept for the next call, as a fresh one would cost its page faults again,
// unless it is large.
class Scratch {
 public:
  explicit Scratch(size_t bytes) {
    if (bytes + kAlignment <= capacity_) return;
    buffer_.reset();
    capacity_ = 0;  // should there be no memory, there is no buffer
    buffer_.reset(new (std::nothrow) char[bytes + kAlignment]);
    if (!buffer_)
      throw std::runtime_error("evenconv_cuda: not enough memory: a thread needs " + std::to_string(bytes) +
                               " bytes of scratch memory");
    capacity_ = bytes + kAlignment;
  }
  ~Scratch() {
    if (capacity_ <= kKept) return;
    buffer_.reset();
    capacity_ = 0;
  }
  void* data() const {
    const auto address = reinterpret_cast<uintptr_t>(buffer_.get());
    return reinterpret_cast<void*>((address + kAlignment - 1) / kAlignment * kAlignment);
  }

 private:
  static constexpr size_t kAlignment = 64, kKept = 32 << 20;
  static thread_local std::unique_ptr<char[]> buffer_;
  static thread_local size_t capacity_;
};
thread_local std::unique_ptr<char[]> Scratch::buffer_;
thread_local size_t Scratch::capacity_ = 0;

template <class F>
void run(const ChainParams& p, const Plan& plan, const Runtime& runtime, const F& task_of) {
  if (p.N == 0) return;
  runtime.parallel_for(plan.tasks(), 1, [&](int64_t begin, int64_t end) {
    const Scratch scratch(plan.scratch_bytes);
    for (int64_t task = begin; task < end; ++task) task_of(task, scratch.data());
  });
}

void forward(const ChainParams& p, const Runtime& runtime) {
  const Plan plan = make_plan(p, false);
  const Kernels& with = kernels();
  run(p, plan, runtime, [&](int64_t task, void* scratch) { with.forward(p, plan, task, scratch); });
}

int64_t partials(const ChainParams& p, const Plan& plan) { return plan.chunks * plan.bands * p.C * plan.gradients; }

int64_t workspace_bytes(const ChainParams& p) {
  return partials(p, make_plan(p, true)) * static_cast<int64_t>(sizeof(double));
}

void backward(const ChainParams& p, void* workspace, const Runtime& runtime) {
  const Plan plan = make_plan(p, true);
  const Kernels& with = kernels();
  double* const sums = static_cast<double*>(workspace);
  std::fill_n(sums, partials(p, plan), 0.0);
  run(p, plan, runtime, [&](int64_t task, void* scratch) { with.backward(p, plan, task, scratch, sums); });
  runtime.parallel_for(p.C, kReduceGrain, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) with.reduce(p, plan, c, sums);
  });
}

void run_pad(const PadParams& p, const Runtime& runtime) {
  runtime.parallel_for(pad_tasks(p), kPadGrain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) pad(p, task);
  });
}

void run_crop(const PadParams& p, const Runtime& runtime) {
  runtime.parallel_for(crop_tasks(p), kPadGrain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) crop(p, task);
  });
}

}  // namespace

const Device kCpuDevice = {forward, workspace_bytes, backward, run_pad, run_crop};

}  // namespace evenconv
