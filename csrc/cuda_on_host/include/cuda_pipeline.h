// Stands in for CUDA's header of the same name on the CPU: copies from global to shared memory that arrive only when
// they are waited for.
#pragma once

#include "cuda_runtime.h"

// Inlined so that each place of a kernel that copies is a place of its own to the counters.
__forceinline__ void __pipeline_memcpy_async(void* shared, const void* global, size_t size, size_t zfill = 0) {
  evenconv::host::copy_async(shared, global, size, zfill);
}
inline void __pipeline_commit() { evenconv::host::commit_copies(); }
inline void __pipeline_wait_prior(size_t newest) { evenconv::host::wait_copies(newest); }
