// The CUDA kernels on copies of a call's tensors, each between guard zones. What a strided tensor leaves out is NaN, as
// are results before they are written; whatever a kernel writes besides them is an error.
#include "device.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <mutex>
#include <stdexcept>
#include <vector>

#include "emulator.h"

namespace evenconv {
namespace {

constexpr int64_t kGuard = 256;     // bytes on each side
constexpr int64_t kMost = 1 << 28;  // bytes; a larger tensor is used where it is
constexpr char kNothing = '\xff';   // NaN in every type

class Guarded {
 public:
  Guarded(const char* name, void* data, const int64_t (&size)[4], const int64_t (&stride)[4], int64_t element,
          bool writable)
      : name_(name), original_(static_cast<char*>(data)), element_(element), writable_(writable) {
    int64_t span = 1;
    for (int d = 0; d < 4; ++d) {
      size_[d] = size[d];
      stride_[d] = stride[d];
      span = size[d] ? span + (size[d] - 1) * stride[d] : 0;
      if (!size[d]) break;
    }
    span *= element;
    data_ = original_;
    if (span <= kMost) {
      memory_.assign(span + 3 * kGuard, kNothing);
      // As well aligned as the original, and no better.
      const auto address = reinterpret_cast<intptr_t>(memory_.data() + kGuard),
                 wanted = reinterpret_cast<intptr_t>(data);
      data_ = memory_.data() + kGuard + ((wanted - address) % kGuard + kGuard) % kGuard;
      if (!writable) for_each([&](int64_t at) { std::memcpy(data_ + at, original_ + at, element_); });
    }
    host::add_buffer(name, data_, span, writable);
  }
  Guarded(const Guarded&) = delete;

  void* data() const { return data_; }

  // Results to where they belong.
  void finish() {
    if (!writable_ || memory_.empty()) return;
    for_each([&](int64_t at) {
      std::memcpy(original_ + at, data_ + at, element_);
      std::memset(data_ + at, kNothing, element_);
    });
    if (std::any_of(memory_.begin(), memory_.end(), [](char c) { return c != kNothing; }))
      throw std::runtime_error(std::string("cuda_on_host: memory beside ") + name_ + " was written");
  }

 private:
  template <class F>
  void for_each(F&& f) const {
    for (int64_t n = 0; n < size_[0]; ++n)
      for (int64_t c = 0; c < size_[1]; ++c)
        for (int64_t h = 0; h < size_[2]; ++h)
          for (int64_t w = 0; w < size_[3]; ++w)
            f((n * stride_[0] + c * stride_[1] + h * stride_[2] + w * stride_[3]) * element_);
  }

  const char* name_;
  char* original_;
  char* data_;
  int64_t size_[4] = {}, stride_[4] = {}, element_;
  bool writable_;
  std::vector<char> memory_;
};

std::mutex one_at_a_time;  // the emulator's memory is one for all

// The tensors of one call.
class Call {
 public:
  Call() : lock_(one_at_a_time) { host::clear_buffers(); }
  ~Call() { host::clear_buffers(); }

  View view(const char* name, const View& view, const int64_t (&size)[4], int64_t element, bool writable) {
    if (!view.data) return view;
    View copy = view;
    copy.data = tensors_.emplace_back(name, view.data, size, view.stride, element, writable).data();
    return copy;
  }
  void* dense(const char* name, const void* data, int64_t count, int64_t element, bool writable) {
    if (!data) return nullptr;
    return view(name, {const_cast<void*>(data), {0, 0, 0, 1}}, {1, 1, 1, count}, element, writable).data;
  }
  void finish() {
    for (Guarded& tensor : tensors_) tensor.finish();
  }

 private:
  std::lock_guard<std::mutex> lock_;
  std::deque<Guarded> tensors_;
};

int64_t size_of(Dtype dtype) { return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2; }

ChainParams guarded(Call& call, ChainParams p, bool backward) {
  const int64_t element = size_of(p.dtype), weight = size_of(p.weight_dtype);
  const int64_t x[] = {p.N, p.C, p.H, p.W};
  const int64_t y[] = {p.N, p.C, (p.H + p.stride_h - 1) / p.stride_h, (p.W + p.stride_w - 1) / p.stride_w};
  p.x = call.view("x", p.x, x, element, false);
  p.y = call.view(backward ? "grad" : "y", p.y, y, element, !backward);
  p.dx = call.view("dx", p.dx, x, element, true);
  for (int s = 0; s < p.stages; ++s) {
    Stage& stage = p.stage[s];
    const int64_t count = p.C * stage.kh * stage.kw;
    stage.weight = call.dense("weight", stage.weight, count, weight, false);
    stage.bias = call.dense("bias", stage.bias, p.C, weight, false);
    stage.grad_weight = call.dense("weight's gradient", stage.grad_weight, count, weight, true);
    stage.grad_bias = call.dense("bias's gradient", stage.grad_bias, p.C, weight, true);
  }
  return p;
}

void forward(const ChainParams& p, const Runtime& runtime) {
  Call call;
  kCudaDevice.forward(guarded(call, p, false), runtime);
  call.finish();
}

int64_t workspace_bytes(const ChainParams& p) { return kCudaDevice.workspace_bytes(p); }

void backward(const ChainParams& p, void* workspace, const Runtime& runtime) {
  Call call;
  const ChainParams copy = guarded(call, p, true);
  kCudaDevice.backward(copy, call.dense("workspace", workspace, workspace_bytes(p) / 4, 4, true), runtime);
  call.finish();
}

PadParams guarded(Call& call, PadParams p, bool crop) {
  const int64_t added = p.kernel_size - 1;
  p.plain = call.view("plain", p.plain, {p.N, p.C, p.H, p.W}, p.element_size, crop);
  p.padded = call.view("padded", p.padded, {p.N, p.C, p.H + added, p.W + added}, p.element_size, !crop);
  return p;
}

void pad(const PadParams& p, const Runtime& runtime) {
  Call call;
  kCudaDevice.pad(guarded(call, p, false), runtime);
  call.finish();
}

void crop(const PadParams& p, const Runtime& runtime) {
  Call call;
  kCudaDevice.crop(guarded(call, p, true), runtime);
  call.finish();
}

}  // namespace

const Device kCudaOnHostDevice = {forward, workspace_bytes, backward, pad, crop};

}  // namespace evenconv
