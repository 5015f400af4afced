// The scheduler of the fibers, the checks on what they do, and the runtime's functions.
#include "emulator.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "fiber.h"
#include "include/cuda_runtime.h"
#include "memory.h"
#include "traffic.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace evenconv::host {
namespace {

constexpr size_t kDynamicSharedUnasked = 48 << 10;
constexpr unsigned kMaxThreads = 1024;

struct Copy {
  char* to;
  size_t bytes, group;
  char data[16];
};

enum class State { ready, at_barrier, in_shuffle, in_warp_barrier, returned };

struct Thread {
  Fiber fiber;
  State state;
  uint3 index;
  Line line;  // of the barrier or shuffle at which it waits
  unsigned mask;
  uint64_t value;  // what it gives to a shuffle, then what it gets
  int source_lane;
  std::vector<Copy> copies;  // not yet arrived, oldest first
  size_t groups;
};

std::string text_of(const uint3& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

std::string waiting(const Thread& thread) {
  const std::string line = " of line " + std::to_string(thread.line.number);
  switch (thread.state) {
    case State::ready: break;
    case State::at_barrier: return "waits at the __syncthreads" + line;
    case State::in_shuffle: return "waits in the shuffle" + line;
    case State::in_warp_barrier: return "waits at the __syncwarp" + line;
    case State::returned: return "returned";
  }
  return "runs";
}

class Emulator {
 public:
  std::mutex mutex;  // held during a launch
  Order order = Order::forward;
  uint64_t seed = 0;
  Memory memory;
  std::map<const void*, size_t> allowed_shared;
  Counters counters{};
  bool counting = false;

  void run(const cudaLaunchConfig_t& config, const std::function<void()>& body) {
    body_ = &body;
    fault_.clear();
    traffic_.clear();
    random_.seed(seed);
    gridDim = config.gridDim, blockDim = config.blockDim;
    memory.set_dynamic_shared(config.dynamicSmemBytes);
    threads_.resize(blockDim.x * blockDim.y * blockDim.z);
    if (counting) ++counters.launches;
    for (int64_t block : arranged(static_cast<int64_t>(gridDim.x) * gridDim.y * gridDim.z)) run_block(block);
  }

  Thread& current() { return *current_; }

  // The access of the calling thread, which ends the launch if it is a fault.
  const Region& check(const void* pointer, size_t bytes, size_t alignment, bool is_write) {
    if (const Region* region = memory.find(pointer, bytes, alignment, is_write)) return *region;
    fault_ = memory.fault(pointer, bytes, alignment, is_write);
    abandon();
  }

  // Ends the launch with a fault of the calling thread. The caller's frames are not unwound.
  [[noreturn]] void abandon(const char* what = "") {
    fault_ += what;
    current_->fiber.suspend();
    std::abort();
  }

  void record(const Region& region, const void* site, uintptr_t address, size_t bytes, bool is_write) {
    if (counting) traffic_.record(number_of(*current_), site, region.shared, is_write, address, bytes);
  }

  void wait_at(State state, Line line) {
    current_->state = state;
    current_->line = line;
    current_->fiber.suspend();
  }

  // Once all lanes of the mask are here, each gets its source's value; a source that is not of the mask has none.
  void meet_warp(State state, unsigned mask, Line line) {
    const int own = number_of(*current_) % warpSize;
    Thread* const lanes = current_ - own;
    if (!(mask >> own & 1)) abandon("shuffle or __syncwarp whose mask lacks the calling lane");
    current_->state = state;
    current_->mask = mask;
    if (missing_lane(*current_) >= 0) return wait_at(state, line);
    uint64_t values[warpSize];
    std::fill(values, values + warpSize, ~uint64_t{0});
    for (int lane = 0; lane < warpSize; ++lane)
      if (mask >> lane & 1) values[lane] = lanes[lane].value;
    for (int lane = 0; lane < warpSize; ++lane) {
      if (!(mask >> lane & 1)) continue;
      lanes[lane].value = values[lanes[lane].source_lane];
      lanes[lane].state = State::ready;
    }
  }

 private:
  int number_of(const Thread& thread) const { return static_cast<int>(&thread - threads_.data()); }

  std::vector<int64_t> arranged(int64_t count) {
    std::vector<int64_t> numbers(count);
    std::iota(numbers.begin(), numbers.end(), 0);
    if (order == Order::reverse) std::reverse(numbers.begin(), numbers.end());
    if (order == Order::shuffled) std::shuffle(numbers.begin(), numbers.end(), random_);
    return numbers;
  }

  static uint3 index_in(int64_t number, const dim3& sizes) {
    return {static_cast<unsigned>(number % sizes.x), static_cast<unsigned>(number / sizes.x % sizes.y),
            static_cast<unsigned>(number / sizes.x / sizes.y)};
  }

  static void enter();

  void run_block(int64_t block) {
    blockIdx = index_in(block, gridDim);
    memory.spoil_shared();
    for (size_t i = 0; i < threads_.size(); ++i) {
      Thread& thread = threads_[i];
      thread.fiber.start(stacks_[i], enter);
      thread.state = State::ready;
      thread.index = index_in(i, blockDim);
      thread.copies.clear();
      thread.groups = 0;
    }
    do {
      run_interval();
      if (counting) traffic_.count_into(counters);
    } while (pass_barrier());
  }

  // Until every thread has returned, waits at a barrier, or waits for lanes that do not come.
  void run_interval() {
    const std::vector<int64_t> order_now = arranged(static_cast<int64_t>(threads_.size()));
    for (bool progress = true; progress;) {
      progress = false;
      for (int64_t i : order_now) {
        current_ = &threads_[i];
        if (current_->state != State::ready) continue;
        progress = true;
        threadIdx = current_->index;
        current_->fiber.resume();
        if (!fault_.empty()) fail(*current_, fault_);
      }
    }
  }

  // False when the block is done.
  bool pass_barrier() {
    const Thread* at_barrier = nullptr;
    for (const Thread& thread : threads_) {
      if (thread.state == State::at_barrier) at_barrier = &thread;
      if (thread.state != State::in_shuffle && thread.state != State::in_warp_barrier) continue;
      const int lane = missing_lane(thread), missing = number_of(thread) / warpSize * warpSize + lane;
      fail(thread, waiting(thread) + " for lane " + std::to_string(lane) + ", which " +
                       (missing < static_cast<int>(threads_.size()) ? waiting(threads_[missing]) : "does not exist"));
    }
    if (!at_barrier) return false;
    for (Thread& thread : threads_) {
      if (thread.state != State::at_barrier || thread.line.number != at_barrier->line.number)
        fail(*at_barrier, waiting(*at_barrier) + ", but thread " + text_of(thread.index) + " " + waiting(thread));
    }
    for (Thread& thread : threads_) thread.state = State::ready;
    if (counting) ++counters.barriers;
    return true;
  }

  // The first lane of the thread's mask that is not at the same operation, with the same mask; -1 if there is none.
  int missing_lane(const Thread& thread) const {
    const int first = number_of(thread) / warpSize * warpSize, count = static_cast<int>(threads_.size());
    for (int lane = 0; lane < warpSize; ++lane) {
      if (!(thread.mask >> lane & 1)) continue;
      if (first + lane >= count) return lane;
      const Thread& other = threads_[first + lane];
      if (other.state != thread.state || other.mask != thread.mask) return lane;
    }
    return -1;
  }

  [[noreturn]] static void fail(const Thread& thread, const std::string& what) {
    throw std::runtime_error("block " + text_of(blockIdx) + ", thread " + text_of(thread.index) + ": " + what);
  }

  Stacks stacks_;
  std::vector<Thread> threads_;
  Thread* current_ = nullptr;
  const std::function<void()>* body_ = nullptr;
  std::string fault_;  // of the current thread
  Traffic traffic_;
  std::mt19937_64 random_;
};

Emulator& emulator() {
  static Emulator emulator;
  return emulator;
}

void Emulator::enter() {
  Emulator& self = emulator();
  Thread& thread = *self.current_;
  thread.fiber.entered();
  (*self.body_)();
  thread.state = State::returned;
  thread.fiber.suspend();
  std::abort();
}

using Lock = std::lock_guard<std::mutex>;

thread_local cudaError_t last_error = cudaSuccess;

cudaError_t report(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

cudaError_t check(const cudaLaunchConfig_t& config, size_t allowed_shared) {
  const dim3 &grid = config.gridDim, &block = config.blockDim;
  const uint64_t blocks = static_cast<uint64_t>(grid.x) * grid.y * grid.z;
  const uint64_t threads = static_cast<uint64_t>(block.x) * block.y * block.z;
  if (blocks == 0 || grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
  if (threads == 0 || threads > kMaxThreads || block.z > 64) return cudaErrorInvalidConfiguration;
  return config.dynamicSmemBytes > allowed_shared ? cudaErrorInvalidValue : cudaSuccess;
}

}  // namespace

void set_order(Order order, uint64_t seed) {
  const Lock lock(emulator().mutex);
  emulator().order = order;
  emulator().seed = seed;
}

void add_buffer(const char* name, const void* begin, int64_t bytes, bool writable) {
  const Lock lock(emulator().mutex);
  emulator().memory.add(name, begin, bytes, writable);
}

void clear_buffers() {
  const Lock lock(emulator().mutex);
  emulator().memory.clear();
}

Counters counters() {
  const Lock lock(emulator().mutex);
  return emulator().counters;
}

void reset_counters() {
  const Lock lock(emulator().mutex);
  emulator().counters = {};
}

void set_counting(bool counting) {
  const Lock lock(emulator().mutex);
  emulator().counting = counting;
}

__attribute__((noinline)) void observe(const void* pointer, size_t bytes, bool is_write) {
  const Region& region = emulator().check(pointer, bytes, bytes, is_write);
  emulator().record(region, __builtin_return_address(0), reinterpret_cast<uintptr_t>(pointer), bytes, is_write);
}

char* dynamic_shared() { return emulator().memory.dynamic_shared(); }

void block_barrier(Line line) { emulator().wait_at(State::at_barrier, line); }

void warp_barrier(unsigned mask, Line line) { emulator().meet_warp(State::in_warp_barrier, mask, line); }

uint64_t exchange(unsigned mask, uint64_t value, int source_lane, Line line) {
  Thread& thread = emulator().current();
  thread.value = value;
  thread.source_lane = source_lane;
  emulator().meet_warp(State::in_shuffle, mask, line);
  return thread.value;
}

__attribute__((noinline)) void copy_async(void* to, const void* from, size_t bytes, size_t zero_filled) {
  Emulator& self = emulator();
  if ((bytes != 4 && bytes != 8 && bytes != 16) || zero_filled > bytes)
    self.abandon("asynchronous copy of a size other than 4, 8 and 16, or filled beyond it");
  const size_t read = bytes - zero_filled;
  const Region& source = self.check(from, read, bytes, false);
  const Region& target = self.check(to, bytes, bytes, true);
  if (source.shared || !target.shared) self.abandon("asynchronous copy other than from global to shared memory");
  const void* site = __builtin_return_address(0);
  self.record(source, site, reinterpret_cast<uintptr_t>(from), read, false);
  self.record(target, site, reinterpret_cast<uintptr_t>(to), bytes, true);

  Copy copy{static_cast<char*>(to), bytes, self.current().groups, {}};
  if (read) std::memcpy(copy.data, from, read);
  std::memset(to, kNaN, bytes);  // neither the old nor the new value may be relied on before the copy is waited for
  self.current().copies.push_back(copy);
}

void commit_copies() { ++emulator().current().groups; }

void wait_copies(size_t newest) {
  Thread& thread = emulator().current();
  auto copy = thread.copies.begin();
  for (; copy != thread.copies.end() && copy->group + newest < thread.groups; ++copy)
    std::memcpy(copy->to, copy->data, copy->bytes);
  thread.copies.erase(thread.copies.begin(), copy);
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& body) {
  Emulator& self = emulator();
  const Lock lock(self.mutex);
  const auto asked = self.allowed_shared.find(kernel);
  const size_t allowed = asked == self.allowed_shared.end() ? kDynamicSharedUnasked : asked->second;
  const cudaError_t error = report(check(config, allowed));
  if (error == cudaSuccess) self.run(config, body);
  return error;
}

cudaError_t allow_dynamic_shared(const void* kernel, int bytes) {
  if (bytes < 0 || static_cast<size_t>(bytes) > kMaxDynamicShared) return report(cudaErrorInvalidValue);
  const Lock lock(emulator().mutex);
  size_t& allowed = emulator().allowed_shared[kernel];
  allowed = std::max(static_cast<size_t>(bytes), kDynamicSharedUnasked);
  return cudaSuccess;
}

}  // namespace evenconv::host

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
  }
  return "unrecognized error code";
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = evenconv::host::last_error;
  evenconv::host::last_error = cudaSuccess;
  return error;
}
