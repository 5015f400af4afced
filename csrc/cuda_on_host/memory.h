// The memory that a kernel may touch: the buffers that were named and the shared memory of the running block.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

// The linker's names for the ends of the section that holds the static shared arrays; null where there are none.
extern "C" {
extern char __start_evenconv_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_evenconv_shared[] __attribute__((weak, visibility("hidden")));
}

namespace evenconv::host {

constexpr size_t kMaxDynamicShared = 227 << 10;
constexpr int kNaN = 0xFF;  // the byte that makes a NaN of every floating-point type

struct Region {
  std::string name;
  uintptr_t begin;
  uint64_t bytes;
  bool writable, shared;

  bool holds(uintptr_t address, size_t count) const {
    return address >= begin && address - begin <= bytes && count <= bytes - (address - begin);
  }
  uint64_t distance(uintptr_t address) const {
    if (address < begin) return begin - address;
    return address - begin <= bytes ? 0 : address - begin - bytes;
  }
};

class Memory {
 public:
  Memory() : dynamic_shared_(static_cast<char*>(std::aligned_alloc(128, kMaxDynamicShared))) { clear(); }
  ~Memory() { std::free(dynamic_shared_); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  char* dynamic_shared() const { return dynamic_shared_; }
  void set_dynamic_shared(size_t bytes) { regions_[0].bytes = bytes; }

  void clear() {
    const auto begin = reinterpret_cast<uintptr_t>(__start_evenconv_shared);
    const auto end = reinterpret_cast<uintptr_t>(__stop_evenconv_shared);
    regions_ = {{"dynamic shared memory", reinterpret_cast<uintptr_t>(dynamic_shared_), 0, true, true},
                {"static shared memory", begin, end - begin, true, true}};
  }
  void add(const char* name, const void* begin, int64_t bytes, bool writable) {
    regions_.push_back({name, reinterpret_cast<uintptr_t>(begin), static_cast<uint64_t>(bytes), writable, false});
  }

  // A block finds nothing of what the block before it left.
  void spoil_shared() const {
    for (const Region& region : regions_)
      if (region.shared && region.bytes) std::memset(reinterpret_cast<void*>(region.begin), kNaN, region.bytes);
  }

  // Where the access lies, or null if it is a fault. An access of no bytes is allowed anywhere.
  const Region* find(const void* pointer, size_t bytes, size_t alignment, bool is_write) const {
    static const Region nowhere{};
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    if (!is_width(alignment) || address % alignment) return nullptr;
    if (bytes == 0) return &nowhere;
    for (const Region& region : regions_)
      if (region.holds(address, bytes) && (region.writable || !is_write)) return &region;
    return nullptr;
  }

  // Why find gave null.
  std::string fault(const void* pointer, size_t bytes, size_t alignment, bool is_write) const {
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    const Region* nearest = &regions_[0];
    for (const Region& region : regions_) {
      if (region.distance(address) < nearest->distance(address) || region.holds(address, bytes)) nearest = &region;
    }
    std::string text = is_write ? "write" : "read";
    if (!is_width(alignment))
      text += " of a width that no instruction has";
    else if (address % alignment)
      text += " that is misaligned";
    else
      text += nearest->holds(address, bytes) ? " to memory that may only be read" : " out of bounds";
    return text + ": " + std::to_string(bytes) + " bytes at " + nearest->name + " + " +
           std::to_string(static_cast<int64_t>(address - nearest->begin)) + ", which has " +
           std::to_string(nearest->bytes) + " bytes";
  }

 private:
  static bool is_width(size_t bytes) { return bytes && bytes <= 16 && (bytes & (bytes - 1)) == 0; }

  char* const dynamic_shared_;
  std::vector<Region> regions_;  // shared memory, dynamic and static, then the buffers
};

}  // namespace evenconv::host
