// Kernels whose faults and memory traffic are known beforehand, to see that CUDA on the host reports them. The program
// runs the toy that its first argument names, in the order that the others name, and prints results, counters or the
// fault.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#include <sys/mman.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

namespace host = evenconv::host;

template <class T>
__device__ __forceinline__ T load(const T* from) {
  EVENCONV_OBSERVE(from, sizeof(T), false);
  return *from;
}

template <class T>
__device__ __forceinline__ void store(T* to, T value) {
  EVENCONV_OBSERVE(to, sizeof(T), true);
  *to = value;
}

template <class T>
__device__ T* shared_array() {
  return reinterpret_cast<T*>(host::dynamic_shared());
}

__device__ int global_thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

__global__ void __launch_bounds__(256) copy(const float4* __restrict__ in, float4* out) {
  store(out + global_thread(), load(in + global_thread()));
}

__global__ void gather(const float* in, float* out, int stride) {
  store(out + threadIdx.x, load(in + threadIdx.x * stride));
}

template <class T>
__global__ void read_shared(int stride) {
  load(shared_array<T>() + threadIdx.x * stride);
}

__global__ void reverse_each_block(const float* in, float* out, bool barrier) {
  __shared__ float values[256];
  store(values + threadIdx.x, load(in + global_thread()));
  if (barrier) __syncthreads();
  store(out + global_thread(), load(values + blockDim.x - 1 - threadIdx.x));
}

__global__ void barrier_for_some() {
  if (threadIdx.x < 48) __syncthreads();
}

__global__ void one_pass_more_for_some() {
  for (unsigned i = threadIdx.x < 48 ? 0 : 1; i < 2; ++i) __syncthreads();
}

__global__ void two_barriers() {
  if (threadIdx.x < 48)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void shuffle_of_some(float* out) {
  if (threadIdx.x < 16) store(out + threadIdx.x, __shfl_down_sync(~0u, 1.0f, 1));
}

__global__ void shuffle_beside_a_barrier(float* out) {
  if (threadIdx.x < 16) store(out + threadIdx.x, __shfl_down_sync(~0u, 1.0f, 1));
  __syncthreads();
}

__global__ void shuffle_without_oneself() { __shfl_xor_sync(0xffff, threadIdx.x, 1); }

__global__ void write_where_told(float* out, int index) { store(out + index, 1.0f); }
__global__ void read_where_told(const float* in, int index) { load(in + index); }
__global__ void read_vector_where_told(const float* in, int index) {
  load(reinterpret_cast<const float4*>(in + index));
}
__global__ void read_shared_where_told(int index) { load(shared_array<float>() + index); }

__global__ void read_row(const float* in, unsigned row, unsigned width) { load(in + static_cast<int>(row * width)); }

__global__ void copy_in_stages(const float4* in, float4* out, int groups_left, size_t zeroed) {
  float4* stage = shared_array<float4>();
  for (int i = 0; i < 2; ++i) {
    __pipeline_memcpy_async(stage + 32 * i + threadIdx.x, in + 32 * i + threadIdx.x, sizeof(float4), zeroed);
    __pipeline_commit();
  }
  __pipeline_wait_prior(groups_left);
  for (int i = 0; i < 2; ++i) store(out + 32 * i + threadIdx.x, load(stage + 32 * i + threadIdx.x));
}

__global__ void copy_async_where_told(const char* in, int offset, size_t bytes) {
  __pipeline_memcpy_async(shared_array<char>(), in + offset, bytes);
}

__global__ void copy_async_to_global(const float* in, float* out) { __pipeline_memcpy_async(out, in, 4); }

__global__ void read_unwritten(float* out) {
  __shared__ float values[1];
  store(out, load(values));
  store(out + 1, load(shared_array<float>()));
}

__global__ void write_then_next_block_reads(float* out) {
  if (blockIdx.x == 0) store(shared_array<float>(), 1.0f);
  store(out + blockIdx.x, load(shared_array<float>()));
}

__global__ void sum_warp(float* out) {
  const float lane = threadIdx.x;
  float down = lane;
  for (int delta = 16; delta; delta /= 2) down += __shfl_down_sync(~0u, down, delta);
  double across = lane;
  for (int bit = 16; bit; bit /= 2) across += __shfl_xor_sync(~0u, across, bit);
  float up = lane;
  for (int delta = 1; delta < 32; delta *= 2) {
    const float other = __shfl_up_sync(~0u, up, delta);
    if (threadIdx.x >= static_cast<unsigned>(delta)) up += other;
  }
  const float last = __shfl_sync(~0u, up, 31);
  float half_warp = 0;
  if (threadIdx.x < 16) half_warp = __shfl_xor_sync(0xffffu, lane, 15);
  __syncwarp();
  if (threadIdx.x == 0) {
    store(out, down), store(out + 1, static_cast<float>(across)), store(out + 2, last), store(out + 3, half_warp);
  }
}

std::vector<int> visited;
__global__ void visit() {
  visited.push_back(global_thread());
  __syncthreads();
  visited.push_back(global_thread());
}

__global__ void sum_indices(float* out) {
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  store(out + block * blockDim.x * blockDim.y * blockDim.z + thread, static_cast<float>(thread));
}

__global__ void many_barriers() {
  for (int i = 0; i < 50; ++i) __syncthreads();
}

// Global memory with the values 0, 1, 2, ...
template <class T>
class Buffer {
 public:
  Buffer(const char* name, int count, bool writable = true)
      : values_(static_cast<T*>(std::aligned_alloc(256, (count * sizeof(T) + 255) / 256 * 256)), std::free) {
    for (int i = 0; i < count; ++i) values_.get()[i] = static_cast<T>(i);
    host::add_buffer(name, values_.get(), count * sizeof(T), writable);
  }
  template <class U = T>
  U* as() const {
    return reinterpret_cast<U*>(values_.get());
  }
  void print(int count) const {
    for (int i = 0; i < count; ++i) std::printf("%g ", static_cast<double>(values_.get()[i]));
    std::printf("\n");
  }

 private:
  std::unique_ptr<T, void (*)(void*)> values_;
};

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, size_t shared, Args... args) {
  const cudaLaunchConfig_t config{grid, block, shared, nullptr, nullptr, 0};
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, args...);
  if (error != cudaGetLastError() || cudaGetLastError() != cudaSuccess) std::printf("the last error is another\n");
  if (error != cudaSuccess) std::printf("error: %s\n", cudaGetErrorString(error));
}

void print_fault(const std::function<void()>& toy) {
  try {
    toy();
  } catch (const std::runtime_error& fault) {
    std::printf("fault: %s\n", fault.what());
  }
}

template <class... Args>
void count(Args... args) {
  host::set_counting(true);
  host::reset_counters();
  launch(args...);
  const host::Counters c = host::counters();
  std::printf("{\"launches\": %ld, \"bytes_read\": %ld, \"bytes_written\": %ld, ", c.launches, c.bytes_read,
              c.bytes_written);
  std::printf("\"sectors_read\": %ld, \"sectors_written\": %ld, ", c.sectors_read, c.sectors_written);
  std::printf("\"requests_read\": %ld, \"requests_written\": %ld, ", c.requests_read, c.requests_written);
  std::printf("\"shared_requests\": %ld, \"shared_conflicts\": %ld, \"barriers\": %ld}\n", c.shared_requests,
              c.shared_conflicts, c.barriers);
  host::set_counting(false);
}

void reserve_and_read(unsigned row, unsigned width) {
  constexpr size_t kBytes = size_t{12} << 30;
  void* reserved = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) throw std::runtime_error("no address space");
  host::add_buffer("large", reserved, kBytes, false);
  print_fault([&] { launch(read_row, 1, 1, 0, static_cast<const float*>(reserved), row, width); });
  host::clear_buffers();
  munmap(reserved, kBytes);
}

void take_turns() {
  const Buffer<float> in("in", 1024, false), out("out", 2048);
  const auto run = [&](float* to) {
    for (int i = 0; i < 50; ++i) launch(reverse_each_block, 4, 256, 0, in.as(), to, true);
  };
  std::thread other([&] { run(out.as() + 1024); });
  run(out.as());
  other.join();
  int wrong = 0;
  for (int i = 0; i < 2048; ++i) wrong += out.as()[i] != i % 1024 / 256 * 256 + 255 - i % 256;
  std::printf("%d wrong\n", wrong);
  host::clear_buffers();
}

void run_stages(const float4* in, const Buffer<float>& out, int groups_left, size_t zeroed) {
  count(copy_in_stages, 1, 32, 1024, in, out.as<float4>(), groups_left, zeroed);
  out.print(256);
}

void time_barriers() {
  const auto begin = std::chrono::steady_clock::now();
  launch(many_barriers, 20, 256, 0);
  const std::chrono::duration<double, std::milli> spent = std::chrono::steady_clock::now() - begin;
  std::printf("%g\n", spent.count() / 20);
}

// Every pattern of 16 bits as a float, then the floats of the standard input as half and as bfloat16.
void convert() {
  for (int i = 0; i < 1 << 16; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float2 values = make_float2(__half2float({bits}), __bfloat162float({bits}));
    std::fwrite(&values, sizeof values, 1, stdout);
  }
  float value;
  while (std::fread(&value, sizeof value, 1, stdin) == 1) {
    const __half2 halves = __float22half2_rn({value, -value});
    const __nv_bfloat162 bfloats = __float22bfloat162_rn({value, -value});
    std::fwrite(&halves, sizeof halves, 1, stdout);
    std::fwrite(&bfloats, sizeof bfloats, 1, stdout);
  }
}

using Buffers = const Buffer<float>&;
const std::map<std::string, void (*)(Buffers in, Buffers out)> kToys = {
    {"copy",
     [](Buffers in, Buffers out) {
       count(copy, 2, 128, 0, in.as<const float4>(), out.as<float4>());
       out.print(1024);
     }},
    {"gather 8", [](Buffers in, Buffers out) { count(gather, 1, 32, 0, in.as(), out.as(), 8); }},
    {"gather 0", [](Buffers in, Buffers out) { count(gather, 1, 32, 0, in.as(), out.as(), 0); }},
    {"shared column", [](Buffers, Buffers) { count(read_shared<float>, 1, 32, 4096, 32); }},
    {"shared broadcast", [](Buffers, Buffers) { count(read_shared<float>, 1, 32, 4096, 0); }},
    {"shared row", [](Buffers, Buffers) { count(read_shared<float>, 1, 32, 4096, 1); }},
    {"shared row of 2", [](Buffers, Buffers) { count(read_shared<float2>, 1, 32, 4096, 1); }},
    {"shared row of 4", [](Buffers, Buffers) { count(read_shared<float4>, 1, 32, 4096, 1); }},
    {"shared row of halves", [](Buffers, Buffers) { count(read_shared<__half>, 1, 32, 4096, 1); }},
    {"shared every second of 4", [](Buffers, Buffers) { count(read_shared<float4>, 1, 32, 4096, 2); }},
    {"reverse",
     [](Buffers in, Buffers out) {
       count(reverse_each_block, 4, 256, 0, in.as(), out.as(), true);
       out.print(1024);
     }},
    {"reverse without barrier",
     [](Buffers in, Buffers out) {
       launch(reverse_each_block, 4, 256, 0, in.as(), out.as(), false);
       out.print(1024);
     }},
    {"barrier for some", [](Buffers, Buffers) { launch(barrier_for_some, 1, 64, 0); }},
    {"one pass more for some", [](Buffers, Buffers) { launch(one_pass_more_for_some, 1, 64, 0); }},
    {"two barriers", [](Buffers, Buffers) { launch(two_barriers, 1, 64, 0); }},
    {"shuffle of some", [](Buffers, Buffers out) { launch(shuffle_of_some, 1, 32, 0, out.as()); }},
    {"shuffle beside a barrier", [](Buffers, Buffers out) { launch(shuffle_beside_a_barrier, 1, 32, 0, out.as()); }},
    {"shuffle in a short block", [](Buffers, Buffers out) { launch(sum_warp, 1, 20, 0, out.as()); }},
    {"shuffle without oneself", [](Buffers, Buffers) { launch(shuffle_without_oneself, 1, 32, 0); }},
    {"sum",
     [](Buffers, Buffers out) {
       launch(sum_warp, 1, 32, 0, out.as());
       out.print(4);
     }},
    {"misaligned", [](Buffers in, Buffers) { launch(read_vector_where_told, 1, 1, 0, in.as(), 1); }},
    {"read after", [](Buffers in, Buffers) { launch(read_where_told, 1, 1, 0, in.as(), 1024); }},
    {"read before", [](Buffers in, Buffers) { launch(read_where_told, 1, 1, 0, in.as(), -1); }},
    {"read across the end",
     [](Buffers in, Buffers) {
       host::clear_buffers();
       host::add_buffer("in", in.as(), 4088, false);
       launch(read_vector_where_told, 1, 1, 0, in.as(), 1020);
     }},
    {"write after", [](Buffers, Buffers out) { launch(write_where_told, 1, 1, 0, out.as(), 1024); }},
    {"write to the input", [](Buffers in, Buffers) { launch(write_where_told, 1, 1, 0, in.as(), 3); }},
    {"read after shared", [](Buffers, Buffers) { launch(read_shared_where_told, 1, 1, 64, 16); }},
    {"row 40000", [](Buffers, Buffers) { reserve_and_read(40000, 60000); }},
    {"stages", [](Buffers in, Buffers out) { run_stages(in.as<const float4>(), out, 0, 0); }},
    {"stages with zeros", [](Buffers in, Buffers out) { run_stages(in.as<const float4>(), out, 0, 4); }},
    {"stages of zeros only", [](Buffers, Buffers out) { run_stages(nullptr, out, 0, 16); }},
    {"stages not waited for", [](Buffers in, Buffers out) { run_stages(in.as<const float4>(), out, 1, 0); }},
    {"async of 12", [](Buffers in, Buffers) { launch(copy_async_where_told, 1, 1, 64, in.as<const char>(), 0, 12); }},
    {"async misaligned",
     [](Buffers in, Buffers) { launch(copy_async_where_told, 1, 1, 64, in.as<const char>(), 4, 8); }},
    {"async after", [](Buffers in, Buffers) { launch(copy_async_where_told, 1, 1, 64, in.as<const char>(), 4096, 8); }},
    {"async to global memory",
     [](Buffers in, Buffers out) { launch(copy_async_to_global, 1, 1, 0, in.as(), out.as()); }},
    {"unwritten",
     [](Buffers, Buffers out) {
       launch(read_unwritten, 1, 1, 4, out.as());
       out.print(2);
     }},
    {"blocks apart",
     [](Buffers, Buffers out) {
       launch(write_then_next_block_reads, 2, 1, 4, out.as());
       out.print(2);
     }},
    {"shared unasked", [](Buffers, Buffers) { launch(read_shared<float>, 1, 1, (48 << 10) + 4, 1); }},
    {"shared asked",
     [](Buffers, Buffers) {
       const auto kernel = read_shared<double>;
       std::printf("%s\n", cudaGetErrorString(
                               cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 227 << 10)));
       launch(kernel, 1, 32, 227 << 10, 900);
       launch(kernel, 1, 1, (227 << 10) + 4, 0);
       std::printf("%s\n", cudaGetErrorString(
                               cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 << 10)));
       cudaGetLastError();
     }},
    {"large block", [](Buffers, Buffers) { launch(many_barriers, 1, 1025, 0); }},
    {"high grid", [](Buffers, Buffers) { launch(many_barriers, dim3(1, 65536), 1, 0); }},
    {"deep grid", [](Buffers, Buffers) { launch(many_barriers, dim3(1, 1, 65536), 1, 0); }},
    {"empty grid", [](Buffers, Buffers) { launch(many_barriers, 0, 1, 0); }},
    {"empty block", [](Buffers, Buffers) { launch(many_barriers, 1, 0, 0); }},
    {"order",
     [](Buffers, Buffers) {
       for (int run = 0; run < 2; ++run) {
         visited.clear();
         launch(visit, 3, 8, 0);
         for (int thread : visited) std::printf("%d ", thread);
         std::printf("\n");
       }
     }},
    {"indices",
     [](Buffers, Buffers out) {
       launch(sum_indices, dim3(2, 3, 4), dim3(4, 3, 2), 0, out.as());
       out.print(2 * 3 * 4 * 24);
     }},
    {"after faults",
     [](Buffers in, Buffers out) {
       for (int i = 0; i < 200; ++i) {
         try {
           launch(write_where_told, 1, 1024, 0, out.as(), 4096);
         } catch (const std::runtime_error&) {
         }
       }
       launch(copy, 2, 128, 0, in.as<const float4>(), out.as<float4>());
       out.print(1024);
     }},
    {"turns", [](Buffers, Buffers) { take_turns(); }},
    {"time", [](Buffers, Buffers) { time_barriers(); }},
    {"convert", [](Buffers, Buffers) { convert(); }},
};

}  // namespace

int main(int argc, char** argv) {
  const std::string order = argc > 2 ? argv[2] : "forward";
  host::set_order(order == "forward"   ? host::Order::forward
                  : order == "reverse" ? host::Order::reverse
                                       : host::Order::shuffled,
                  argc > 3 ? std::atoi(argv[3]) : 0);
  const Buffer<float> in("in", 1024, false), out("out", 1024);
  print_fault([&] { kToys.at(argv[1])(in, out); });
}
