// Counts the memory requests of a block's warps between two barriers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "emulator.h"

namespace evenconv::host {

class Traffic {
 public:
  static constexpr int kLanes = 32;

  // An access of no bytes still counts as a pass of its lane.
  void record(int thread, const void* site, bool shared, bool is_write, uintptr_t address, size_t bytes) {
    Site& of_warp = sites_[{thread / kLanes, site, shared, is_write}];
    const int lane = thread % kLanes;
    const size_t pass = of_warp.passes[lane]++;
    if (pass == of_warp.requests.size()) of_warp.requests.emplace_back();
    of_warp.requests[pass].address[lane] = address;
    of_warp.requests[pass].bytes[lane] = static_cast<uint8_t>(bytes);
  }

  void clear() { sites_.clear(); }

  void count_into(Counters& counters) {
    for (const auto& [key, site] : sites_) {
      const bool shared = std::get<2>(key), is_write = std::get<3>(key);
      for (const Request& request : site.requests) {
        if (request.width() == 0) continue;
        if (shared) {
          ++counters.shared_requests;
          counters.shared_conflicts += request.conflicts();
        } else {
          ++(is_write ? counters.requests_written : counters.requests_read);
          (is_write ? counters.bytes_written : counters.bytes_read) += request.sum();
          (is_write ? counters.sectors_written : counters.sectors_read) += request.sectors();
        }
      }
    }
    clear();
  }

 private:
  struct Request {
    uintptr_t address[kLanes];
    uint8_t bytes[kLanes] = {};

    int width() const { return *std::max_element(bytes, bytes + kLanes); }

    int64_t sum() const {
      int64_t total = 0;
      for (uint8_t of_lane : bytes) total += of_lane;
      return total;
    }

    // An access is aligned and of at most 16 bytes, so it lies within one sector.
    int64_t sectors() const {
      std::vector<uintptr_t> touched;
      for (int lane = 0; lane < kLanes; ++lane)
        if (bytes[lane]) touched.push_back(address[lane] / 32);
      return keep_distinct(touched);
    }

    // A wavefront serves one word of 4 bytes from each of 32 banks, to any number of lanes. Accesses of 8 bytes go by
    // half warps and those of 16 by quarters.
    int64_t conflicts() const {
      const int together = width() <= 4 ? kLanes : 4 * kLanes / width();
      int64_t extra = 0;
      for (int first = 0; first < kLanes; first += together) {
        std::vector<uintptr_t> words;
        for (int lane = first; lane < first + together; ++lane)
          for (int byte = 0; byte < bytes[lane]; byte += 4) words.push_back((address[lane] + byte) / 4);
        keep_distinct(words);
        int64_t of_bank[32] = {};
        for (uintptr_t word : words) ++of_bank[word % 32];
        extra += std::max<int64_t>(*std::max_element(of_bank, of_bank + 32) - 1, 0);
      }
      return extra;
    }

    static int64_t keep_distinct(std::vector<uintptr_t>& values) {
      std::sort(values.begin(), values.end());
      values.erase(std::unique(values.begin(), values.end()), values.end());
      return static_cast<int64_t>(values.size());
    }
  };

  struct Site {
    size_t passes[kLanes] = {};
    std::vector<Request> requests;
  };

  std::map<std::tuple<int, const void*, bool, bool>, Site> sites_;
};

}  // namespace evenconv::host
