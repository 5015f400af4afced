// Runs CUDA kernels on the CPU, each thread as a fiber and one block after the other. It checks what the kernels do,
// counts their memory traffic and can run threads and blocks in any order. The first part is for the tests, the second
// for the stand-in headers.
#pragma once

#include <cstddef>
#include <cstdint>

namespace evenconv::host {

// Of the blocks of a grid, and of the threads of a block between two barriers. Shuffled is another order for each block
// and each interval between barriers, the same for the same seed at every launch.
enum class Order { forward, reverse, shuffled };
void set_order(Order order, uint64_t seed = 0);

// The global memory that kernels may touch. Any other access is a fault, and the launch throws.
void add_buffer(const char* name, const void* begin, int64_t bytes, bool writable);
void clear_buffers();

// A request is what the lanes of a warp access at one place of the kernel at the same pass of it since the last
// barrier.
struct Counters {
  int64_t launches;
  int64_t bytes_read, bytes_written;        // of global memory
  int64_t sectors_read, sectors_written;    // distinct sectors of 32 bytes, counted for each request
  int64_t requests_read, requests_written;  // of global memory
  int64_t shared_requests;
  int64_t shared_conflicts;  // wavefronts beyond those that a request of its width takes at best
  int64_t barriers;          // counted once for each block
};
Counters counters();
void reset_counters();
void set_counting(bool counting);  // off at first, as it takes time

// The line of the kernel that calls. A type of its own, so that no number is taken for it.
struct Line {
  int number;
};
constexpr Line here(int number = __builtin_LINE()) { return {number}; }

// An access of the calling thread, before it takes place. The caller's address names the place of the kernel.
void observe(const void* pointer, size_t bytes, bool is_write);
char* dynamic_shared();
void block_barrier(Line line);
void warp_barrier(unsigned mask, Line line);
uint64_t exchange(unsigned mask, uint64_t value, int source_lane, Line line);
void copy_async(void* to, const void* from, size_t bytes, size_t zero_filled);
void commit_copies();
void wait_copies(size_t newest);

}  // namespace evenconv::host
