// Every access of the kernels to global and shared memory, so that a run on the host can observe them all.
#pragma once

#include <cuda_pipeline.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#ifndef EVENCONV_OBSERVE
#define EVENCONV_OBSERVE(pointer, bytes, write)
#endif

namespace evenconv::cuda {

// Some elements that lie side by side and are moved by one instruction.
template <class T, int n>
struct alignas(n * sizeof(T)) Pack {
  T value[n];
};

// The words that the hardware moves, whatever lies there (the host compiles this with -fno-strict-aliasing).
template <int bytes>
struct WordOf;
template <>
struct WordOf<2> {
  using type = uint16_t;
};
template <>
struct WordOf<4> {
  using type = uint32_t;
};
template <>
struct WordOf<8> {
  using type = uint2;
};
template <>
struct WordOf<16> {
  using type = uint4;
};
template <class P>
using Word = typename WordOf<sizeof(P)>::type;

template <class P>
__device__ __forceinline__ P load(const void* from) {
  EVENCONV_OBSERVE(from, sizeof(P), false);
  const Word<P> word = *static_cast<const Word<P>*>(from);
  P value;
  memcpy(&value, &word, sizeof(P));
  return value;
}

template <class P>
__device__ __forceinline__ void store(void* to, const P& value) {
  EVENCONV_OBSERVE(to, sizeof(P), true);
  Word<P> word;
  memcpy(&word, &value, sizeof(P));
  *static_cast<Word<P>*>(to) = word;
}

// So many bytes further on.
template <class T>
__device__ __forceinline__ const T* advance(const T* pointer, int bytes) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(pointer) + bytes);
}
template <class T>
__device__ __forceinline__ T* advance(T* pointer, int bytes) {
  return reinterpret_cast<T*>(reinterpret_cast<char*>(pointer) + bytes);
}

// Holds a value in its register: a compiler may prefer to compute it again at each use.
__device__ __forceinline__ void hold(int& value) { asm volatile("" : "+r"(value)); }

// What is behind a branch with this stays there, and costs nothing where it is not taken.
__device__ __forceinline__ void stay_behind_branch() { asm volatile(""); }

// The shared memory of the launch, as many bytes as it asked for.
__device__ __forceinline__ char* dynamic_shared() {
#ifdef EVENCONV_CUDA_ON_HOST
  return host::dynamic_shared();
#else
  extern __shared__ uint4 bytes[];
  return reinterpret_cast<char*>(bytes);
#endif
}

}  // namespace evenconv::cuda
