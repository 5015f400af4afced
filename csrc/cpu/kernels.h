// From the parameters' dtypes to the kernels' template arguments.
#pragma once

#include "chain.h"

namespace evenconv::EVENCONV_ISA {

// A weight is of the map's dtype, or float32 beside a map of half precision.
template <class F>
void with_types(const ChainParams& p, F&& f) {
  const bool same = p.weight_dtype == p.dtype;
  switch (p.dtype) {
    case Dtype::float32: return f(float{}, float{}, float{});
    case Dtype::float64: return f(double{}, double{}, double{});
    case Dtype::float16: return same ? f(float{}, Half{}, Half{}) : f(float{}, Half{}, float{});
    case Dtype::bfloat16: return same ? f(float{}, BFloat16{}, BFloat16{}) : f(float{}, BFloat16{}, float{});
  }
}

inline void forward(const ChainParams& p, const Plan& plan, int64_t task, void* scratch) {
  with_types(p, [&](auto sum, auto map, auto weight) {
    chain_forward<decltype(sum), decltype(map), decltype(weight)>(p, plan, task, scratch);
  });
}

inline void backward(const ChainParams& p, const Plan& plan, int64_t task, void* scratch, double* partials) {
  with_types(p, [&](auto sum, auto map, auto weight) {
    chain_backward<decltype(sum), decltype(map), decltype(weight)>(p, plan, task, scratch, partials);
  });
}

inline void reduce(const ChainParams& p, const Plan& plan, int64_t channel, const double* partials) {
  with_types(p, [&](auto, auto, auto weight) { chain_reduce<decltype(weight)>(p, plan, channel, partials); });
}

}  // namespace evenconv::EVENCONV_ISA
