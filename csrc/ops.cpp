// Where PyTorch meets the kernels: schemas, checks, allocation and registration, through the LibTorch stable ABI, so
// that one binary serves every PyTorch from 2.11 on.
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <exception>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "device.h"

#ifdef EVENCONV_CUDA
extern "C" AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device_index, void** stream);
#endif

namespace evenconv {
namespace {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using OptionalTensor = std::optional<Tensor>;
using Ints = std::vector<int64_t>;

Ints sizes_of(const Tensor& t) {
  Ints sizes;
  for (int64_t d = 0; d < t.dim(); ++d) sizes.push_back(t.size(d));
  return sizes;
}

std::string text_of(const Ints& sizes) {
  std::string text = "(";
  for (size_t d = 0; d < sizes.size(); ++d) text += (d ? ", " : "") + std::to_string(sizes[d]);
  return text + ")";
}

std::string shape_of(const Tensor& t) { return text_of(sizes_of(t)); }

const char* name_of(const Tensor& t) { return torch::headeronly::toString(t.scalar_type()); }

Dtype dtype_of(const Tensor& t, const char* name) {
  switch (t.scalar_type()) {
    case ScalarType::Float: return Dtype::float32;
    case ScalarType::Double: return Dtype::float64;
    case ScalarType::Half: return Dtype::float16;
    case ScalarType::BFloat16: return Dtype::bfloat16;
    default: break;
  }
  STD_TORCH_CHECK(false, name, " has dtype ", name_of(t), "; accepted are float32, float64, float16 and bfloat16");
}

View view_of(const Tensor& t, void* data) { return {data, {t.stride(0), t.stride(1), t.stride(2), t.stride(3)}}; }

// A storage can be resized under its tensors.
void check_storage(const Tensor& t, const std::string& name) {
  if (t.numel() == 0) return;
  int64_t last = t.storage_offset(), stored = 0;
  for (int64_t d = 0; d < t.dim(); ++d) last += (t.size(d) - 1) * t.stride(d);
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(t.get(), &stored));
  const int64_t needed = (last + 1) * static_cast<int64_t>(t.element_size());
  STD_TORCH_CHECK(needed <= stored, name, " has a storage of ", stored, " bytes; accepted are at least ", needed);
}

// An input is only read; asking for its mutable pointer would copy a copy-on-write tensor.
View input(const Tensor& t, const char* name) {
  check_storage(t, name);
  return view_of(t, const_cast<void*>(t.const_data_ptr()));
}
View output(const Tensor& t) { return view_of(t, t.mutable_data_ptr()); }

constexpr int64_t kMostSize = int64_t{1} << 40;  // what plans multiply such sizes to stays within 64 bits

void check_map(const Tensor& t, const char* name) {
  STD_TORCH_CHECK(t.dim() == 4, name, " has shape ", shape_of(t), "; accepted is (N, C, H, W)");
  for (int64_t d = 1; d < 4; ++d)
    STD_TORCH_CHECK(t.size(d) > 0 && t.size(d) <= kMostSize, name, " has shape ", shape_of(t),
                    "; accepted are C, H and W of at least 1 and at most ", kMostSize);
}

// Bytes that this thread was refused last, 0 once they were asked for: PyTorch's exception does not pass the stable
// ABI, and so ops.py asks for the same memory again.
thread_local int64_t refused = 0;

int64_t take_refused_bytes() { return std::exchange(refused, 0); }

template <class Make>
Tensor allocate(const Ints& sizes, ScalarType dtype, const Make& make) {
  try {
    return make();
  } catch (const std::exception&) {
    refused = static_cast<int64_t>(aoti_torch_dtype_element_size(static_cast<int32_t>(dtype)));
    for (int64_t size : sizes)
      if (__builtin_mul_overflow(refused, size, &refused)) {
        refused = std::numeric_limits<int64_t>::max();
        break;
      }
    throw;
  }
}

// Memory where x is.
Tensor empty_beside(const Tensor& x, const Ints& sizes, ScalarType dtype, bool channels_last = false) {
  return allocate(sizes, dtype, [&] {
    return torch::stable::empty(sizes, dtype, torch::headeronly::Layout::Strided, x.device(), false,
                                channels_last ? MemoryFormat::ChannelsLast : MemoryFormat::Contiguous);
  });
}

// A result of these sizes in x's memory format.
Tensor empty_like_format(const Tensor& x, const Ints& sizes) {
  return empty_beside(x, sizes, x.scalar_type(), x.stride(1) == 1 && x.stride(3) != 1);
}

bool same_device(const Tensor& a, const Tensor& b) {
  return a.device().type() == b.device().type() && a.device().index() == b.device().index();
}

// A weight's gradient, in its memory format.
Tensor empty_gradient(const Tensor& weight) {
  return empty_beside(weight, sizes_of(weight), weight.scalar_type(), weight.dim() == 4 && weight.stride(1) == 1);
}

// An exception of the body does not pass the stable ABI.
void parallel_for(int64_t count, int64_t grain, const Runtime::Body& body) {
  std::mutex mutex;
  std::exception_ptr thrown;
  torch::stable::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    try {
      body(begin, end);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(mutex);
      thrown = std::current_exception();
    }
  });
  if (thrown) std::rethrow_exception(thrown);
}

// Where x is: the device that runs its kernels, which is the current one as long as a Place lives.
class Place {
 public:
  explicit Place(const Tensor& x) : device_(&host_device()), runtime_{parallel_for, nullptr} {
#ifdef EVENCONV_CUDA
    if (!x.is_cuda()) return;
    device_ = &kCudaDevice;
    guard_.emplace(x.get_device_index());
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &runtime_.stream));
#else
    STD_TORCH_CHECK(x.is_cpu(), "this build of evenconv_cuda has no CUDA kernels");
#endif
  }
  const Device& device() const { return *device_; }
  const Runtime& runtime() const { return runtime_; }

 private:
  const Device* device_;
  Runtime runtime_;
#ifdef EVENCONV_CUDA
  std::optional<torch::stable::accelerator::DeviceGuard> guard_;
#endif
};

void set_directions(Direction (&to)[4], const Ints& directions) {
  STD_TORCH_CHECK(directions.size() == 4, "directions has ", directions.size(), " entries; accepted are 4");
  for (int i = 0; i < 4; ++i) {
    STD_TORCH_CHECK(directions[i] >= 0 && directions[i] < 4, "directions holds ", directions[i],
                    "; accepted are 0 (BR), 1 (TL), 2 (BL) and 3 (TR)");
    to[i] = static_cast<Direction>(directions[i]);
  }
}

// A depthwise convolution of the chain as the schema names it.
struct Link {
  const char* name;
  OptionalTensor weight;
  OptionalTensor bias;
  enum Kind { even, row, column } kind;
};

using Chain = std::vector<Link>;

class ChainCall {
 public:
  ChainCall(const Tensor& x, const Chain& links, const Ints& stride, const Ints& directions) : x_(x) {
    check_map(x, "x");
    params_.N = x.size(0), params_.C = x.size(1), params_.H = x.size(2), params_.W = x.size(3);
    params_.dtype = params_.weight_dtype = dtype_of(x, "x");
    STD_TORCH_CHECK(stride.size() == 2, "stride has ", stride.size(), " entries; accepted are 2");
    for (int64_t s : stride) STD_TORCH_CHECK(s == 1 || s == 2, "stride is ", s, "; accepted are 1 and 2");
    params_.stride_h = static_cast<int32_t>(stride[0]), params_.stride_w = static_cast<int32_t>(stride[1]);
    set_directions(params_.direction, directions);
    params_.x = input(x, "x");
    for (const Link& link : links) add(link);
    STD_TORCH_CHECK(params_.stages > 0, "weight_row and weight_col are both None; accepted is at least one weight");
  }

  Tensor forward() {
    Tensor y = empty_like_format(x_, result_sizes());
    params_.y = output(y);
    const Place place(x_);
    place.device().forward(params_, place.runtime());
    return y;
  }

  // dx, the gradients of the weights and those of the biases, in the links' order; empty where not wanted or absent.
  std::vector<Tensor> backward(const Tensor& grad, const std::vector<bool>& wanted) {
    check_map(grad, "grad");
    STD_TORCH_CHECK(same_device(grad, x_), "grad is on another device than x");
    STD_TORCH_CHECK(sizes_of(grad) == result_sizes(), "grad has shape ", shape_of(grad), "; accepted is ",
                    text_of(result_sizes()));
    STD_TORCH_CHECK(grad.scalar_type() == x_.scalar_type(), "grad has dtype ", name_of(grad), "; accepted is x's, ",
                    name_of(x_));
    const size_t count = links_.size();
    STD_TORCH_CHECK(wanted.size() == 1 + 2 * count, "wanted has ", wanted.size(), " entries; accepted are ",
                    1 + 2 * count);
    params_.y = input(grad, "grad");
    std::vector<Tensor> gradients;
    while (gradients.size() < wanted.size()) gradients.push_back(torch::stable::new_empty(x_, {0}));
    if (wanted[0]) {
      gradients[0] = empty_like_format(x_, {params_.N, params_.C, params_.H, params_.W});
      params_.dx = output(gradients[0]);
    }
    for (size_t i = 0, s = 0; i < count; ++i) {
      if (!links_[i].weight) continue;
      Stage& stage = params_.stage[s++];
      if (wanted[1 + i]) {
        gradients[1 + i] = empty_gradient(*links_[i].weight);
        stage.grad_weight = gradients[1 + i].mutable_data_ptr();
      }
      if (wanted[1 + count + i] && links_[i].bias) {
        gradients[1 + count + i] = empty_gradient(*links_[i].bias);
        stage.grad_bias = gradients[1 + count + i].mutable_data_ptr();
      }
    }

    const Place place(x_);
    Tensor workspace = empty_beside(x_, {place.device().workspace_bytes(params_)}, ScalarType::Byte);
    place.device().backward(params_, workspace.mutable_data_ptr(), place.runtime());
    return gradients;
  }

 private:
  Ints result_sizes() const {
    return {params_.N, params_.C, (params_.H + params_.stride_h - 1) / params_.stride_h,
            (params_.W + params_.stride_w - 1) / params_.stride_w};
  }

  void add(Link link) {
    links_.push_back(link);
    const std::string C = std::to_string(params_.C), name = link.name;
    STD_TORCH_CHECK(link.weight || !link.bias, "bias of ", name, " is given without ", name, "; accepted is None");
    if (!link.weight) return;
    const Tensor& weight = *link.weight;
    STD_TORCH_CHECK(same_device(weight, x_), name, " is on another device than x");
    const char* form = link.kind == Link::even  ? ", 1, k, k) with k = 2 or 4"
                       : link.kind == Link::row ? ", 1, 1, K) with K odd, 1 to 31"
                                                : ", 1, K, 1) with K odd, 1 to 31";
    bool fits = weight.dim() == 4 && weight.size(0) == params_.C && weight.size(1) == 1;
    if (fits) {
      const int64_t kh = weight.size(2), kw = weight.size(3);
      const auto [K, other] = link.kind == Link::row ? std::pair(kw, kh) : std::pair(kh, kw);
      fits = link.kind == Link::even ? kh == kw && (kh == 2 || kh == 4) : other == 1 && K % 2 == 1 && K <= kMaxKernel;
    }
    STD_TORCH_CHECK(fits, name, " has shape ", shape_of(weight), "; accepted is (", C, form);
    check_dtype(weight, name);
    Stage& stage = params_.stage[params_.stages++];
    stage.kh = static_cast<int32_t>(weight.size(2)), stage.kw = static_cast<int32_t>(weight.size(3));
    stage.weight = keep(weight, name);
    if (!link.bias) return;
    const std::string bias_name = "bias of " + name;
    STD_TORCH_CHECK(same_device(*link.bias, x_), bias_name, " is on another device than x");
    STD_TORCH_CHECK(link.bias->dim() == 1 && link.bias->size(0) == params_.C, bias_name, " has shape ",
                    shape_of(*link.bias), "; accepted is (", C, ")");
    check_dtype(*link.bias, bias_name);
    stage.bias = keep(*link.bias, bias_name);
  }

  // All weights and biases are of x's dtype, or all are float32 beside an x of half precision.
  void check_dtype(const Tensor& t, const std::string& name) {
    const Dtype dtype = dtype_of(t, name.c_str());
    const bool half = params_.dtype == Dtype::float16 || params_.dtype == Dtype::bfloat16;
    STD_TORCH_CHECK(dtype == params_.dtype || (half && dtype == Dtype::float32), name, " has dtype ", name_of(t),
                    "; accepted are x's, ", name_of(x_), ", and, beside a half-precision x, Float");
    const bool first = kept_.empty();
    STD_TORCH_CHECK(first || dtype == params_.weight_dtype, name, " has dtype ", name_of(t),
                    "; accepted is that of the other weights and biases");
    params_.weight_dtype = dtype;
  }

  const void* keep(const Tensor& t, const std::string& name) {
    check_storage(t, name);
    kept_.push_back(allocate(sizes_of(t), t.scalar_type(), [&] { return torch::stable::contiguous(t); }));
    return kept_.back().const_data_ptr();
  }

  Tensor x_;
  Chain links_;
  std::vector<Tensor> kept_;  // contiguous weights and biases, alive as long as params_ points to them
  ChainParams params_{};
};

// What the schemas return: a tensor for each, not a list of them, which vmap could not batch.
template <size_t... I>
auto tuple_of(const std::vector<Tensor>& tensors, std::index_sequence<I...>) {
  return std::make_tuple(tensors[I]...);
}
template <size_t N>
auto to_tuple(const std::vector<Tensor>& tensors) {
  return tuple_of(tensors, std::make_index_sequence<N>());
}
template <size_t N>
using Gradients = decltype(to_tuple<N>({}));

const Ints kNoDirections = {0, 0, 0, 0};

Tensor even_depthwise_conv2d(Tensor x, Tensor weight, OptionalTensor bias, Ints stride, Ints directions) {
  return ChainCall(x, {{"weight", weight, bias, Link::even}}, stride, directions).forward();
}

Gradients<3> even_depthwise_conv2d_backward(Tensor grad, Tensor x, Tensor weight, OptionalTensor bias, Ints stride,
                                            Ints directions, std::vector<bool> wanted) {
  return to_tuple<3>(ChainCall(x, {{"weight", weight, bias, Link::even}}, stride, directions).backward(grad, wanted));
}

Chain separable(OptionalTensor row, OptionalTensor column, OptionalTensor bias_row, OptionalTensor bias_column) {
  return {{"weight_row", row, bias_row, Link::row}, {"weight_col", column, bias_column, Link::column}};
}

Tensor separable_depthwise_conv2d(Tensor x, OptionalTensor row, OptionalTensor column, OptionalTensor bias_row,
                                  OptionalTensor bias_column, Ints stride) {
  return ChainCall(x, separable(row, column, bias_row, bias_column), stride, kNoDirections).forward();
}

Gradients<5> separable_depthwise_conv2d_backward(Tensor grad, Tensor x, OptionalTensor row, OptionalTensor column,
                                                 OptionalTensor bias_row, OptionalTensor bias_column, Ints stride,
                                                 std::vector<bool> wanted) {
  return to_tuple<5>(
      ChainCall(x, separable(row, column, bias_row, bias_column), stride, kNoDirections).backward(grad, wanted));
}

Chain xsep(Tensor even, Tensor row, Tensor column, OptionalTensor bias_even, OptionalTensor bias_row,
           OptionalTensor bias_column) {
  return {{"weight_even", even, bias_even, Link::even},
          {"weight_row", row, bias_row, Link::row},
          {"weight_col", column, bias_column, Link::column}};
}

Tensor xsep_conv2d(Tensor x, Tensor even, Tensor row, Tensor column, OptionalTensor bias_even, OptionalTensor bias_row,
                   OptionalTensor bias_column, Ints stride, Ints directions) {
  return ChainCall(x, xsep(even, row, column, bias_even, bias_row, bias_column), stride, directions).forward();
}

Gradients<7> xsep_conv2d_backward(Tensor grad, Tensor x, Tensor even, Tensor row, Tensor column,
                                  OptionalTensor bias_even, OptionalTensor bias_row, OptionalTensor bias_column,
                                  Ints stride, Ints directions, std::vector<bool> wanted) {
  return to_tuple<7>(ChainCall(x, xsep(even, row, column, bias_even, bias_row, bias_column), stride, directions)
                         .backward(grad, wanted));
}

PadParams pad_params(const Tensor& plain, View plain_view, View padded_view, int64_t kernel_size,
                     const Ints& directions) {
  PadParams params{};
  params.N = plain.size(0), params.C = plain.size(1), params.H = plain.size(2), params.W = plain.size(3);
  params.kernel_size = static_cast<int32_t>(kernel_size);
  params.element_size = static_cast<int32_t>(plain.element_size());
  set_directions(params.direction, directions);
  params.plain = plain_view;
  params.padded = padded_view;
  return params;
}

void check_pad(const Tensor& t, const char* name, int64_t kernel_size) {
  check_map(t, name);
  dtype_of(t, name);
  STD_TORCH_CHECK(kernel_size == 2 || kernel_size == 4, "kernel_size is ", kernel_size, "; accepted are 2 and 4");
}

Tensor symmetric_pad2d(Tensor x, int64_t kernel_size, Ints directions) {
  check_pad(x, "x", kernel_size);
  const int64_t added = kernel_size - 1;
  Tensor y = empty_like_format(x, {x.size(0), x.size(1), x.size(2) + added, x.size(3) + added});
  const PadParams params = pad_params(x, input(x, "x"), output(y), kernel_size, directions);
  const Place place(x);
  place.device().pad(params, place.runtime());
  return y;
}

Tensor symmetric_pad2d_backward(Tensor grad, int64_t kernel_size, Ints directions) {
  check_pad(grad, "grad", kernel_size);
  const int64_t H = grad.size(2) - kernel_size + 1, W = grad.size(3) - kernel_size + 1;
  STD_TORCH_CHECK(H > 0 && W > 0, "grad has shape ", shape_of(grad), "; accepted are H and W of at least kernel_size");
  Tensor dx = empty_like_format(grad, {grad.size(0), grad.size(1), H, W});
  const PadParams params = pad_params(dx, output(dx), input(grad, "grad"), kernel_size, directions);
  const Place place(grad);
  place.device().crop(params, place.runtime());
  return dx;
}

}  // namespace
}  // namespace evenconv

// A backward takes the gradient, what the forward took, and which gradients are wanted: of x, of each weight, of each
// bias. What is not wanted comes back as an empty tensor.
STABLE_TORCH_LIBRARY(evenconv_cuda, m) {
  m.def("symmetric_pad2d(Tensor x, int kernel_size, int[4] directions) -> Tensor");
  m.def("symmetric_pad2d_backward(Tensor grad, int kernel_size, int[4] directions) -> Tensor");
  m.def("even_depthwise_conv2d(Tensor x, Tensor weight, Tensor? bias, int[2] stride, int[4] directions) -> Tensor");
  m.def(
      "even_depthwise_conv2d_backward(Tensor grad, Tensor x, Tensor weight, Tensor? bias, int[2] stride, "
      "int[4] directions, bool[3] wanted) -> (Tensor, Tensor, Tensor)");
  m.def(
      "separable_depthwise_conv2d(Tensor x, Tensor? weight_row, Tensor? weight_col, Tensor? bias_row, "
      "Tensor? bias_col, int[2] stride) -> Tensor");
  m.def(
      "separable_depthwise_conv2d_backward(Tensor grad, Tensor x, Tensor? weight_row, Tensor? weight_col, "
      "Tensor? bias_row, Tensor? bias_col, int[2] stride, bool[5] wanted) -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def(
      "xsep_conv2d(Tensor x, Tensor weight_even, Tensor weight_row, Tensor weight_col, Tensor? bias_even, "
      "Tensor? bias_row, Tensor? bias_col, int[2] stride, int[4] directions) -> Tensor");
  m.def(
      "xsep_conv2d_backward(Tensor grad, Tensor x, Tensor weight_even, Tensor weight_row, Tensor weight_col, "
      "Tensor? bias_even, Tensor? bias_row, Tensor? bias_col, int[2] stride, int[4] directions, bool[7] wanted) "
      "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)");
  m.def("take_refused_bytes() -> int");
}

namespace {

void implement(torch::stable::detail::StableLibrary& m) {
  using namespace evenconv;
  m.impl("symmetric_pad2d", TORCH_BOX(&symmetric_pad2d));
  m.impl("symmetric_pad2d_backward", TORCH_BOX(&symmetric_pad2d_backward));
  m.impl("even_depthwise_conv2d", TORCH_BOX(&even_depthwise_conv2d));
  m.impl("even_depthwise_conv2d_backward", TORCH_BOX(&even_depthwise_conv2d_backward));
  m.impl("separable_depthwise_conv2d", TORCH_BOX(&separable_depthwise_conv2d));
  m.impl("separable_depthwise_conv2d_backward", TORCH_BOX(&separable_depthwise_conv2d_backward));
  m.impl("xsep_conv2d", TORCH_BOX(&xsep_conv2d));
  m.impl("xsep_conv2d_backward", TORCH_BOX(&xsep_conv2d_backward));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(evenconv_cuda, CompositeExplicitAutograd, m) {
  m.impl("take_refused_bytes", TORCH_BOX(&evenconv::take_refused_bytes));
}
STABLE_TORCH_LIBRARY_IMPL(evenconv_cuda, CPU, m) { implement(m); }
#ifdef EVENCONV_CUDA
STABLE_TORCH_LIBRARY_IMPL(evenconv_cuda, CUDA, m) { implement(m); }
#endif
